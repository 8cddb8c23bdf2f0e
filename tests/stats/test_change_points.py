"""The test that names the run in which scores changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_trustllm.stats.change_points import change_points


def level(samples: int, runs: int) -> Any:
    return np.zeros((samples, runs))


def found(scores: Any, alpha: float = 0.01, clusters: Any = None) -> list[int]:
    names = range(len(scores)) if clusters is None else clusters
    return [change.first for change in change_points(scores, list(names), alpha, 0, "test")]


def test_a_change_is_named_by_its_first_run() -> None:
    scores = level(16, 40)
    scores[:6, 25:] = 1
    assert found(scores) == [25]


def test_several_samples_that_move_in_the_last_run_are_evidence() -> None:
    scores = level(16, 40)
    scores[:4, 39] = 1
    assert found(scores) == [39]


def test_one_sample_that_moves_is_not() -> None:
    scores = level(16, 40)
    scores[0, 39] = 1
    assert found(scores, alpha=0.05) == []


def test_samples_of_one_cluster_are_one_piece_of_evidence() -> None:
    scores = level(16, 40)
    scores[:4, 39] = 1
    assert found(scores, alpha=0.01, clusters=["a"] * 4 + list(range(12))) == []


def test_two_changes_are_both_named() -> None:
    scores = level(30, 40)
    scores[:12, 10:] = 1
    scores[:12, 30:] = 0
    assert found(scores) == [10, 30]


@pytest.mark.parametrize("scores", [level(5, 1), level(5, 40), level(0, 40)], ids=["one run", "constant", "no sample"])
def test_where_nothing_differs_nothing_changed(scores: Any) -> None:
    assert found(scores, alpha=1.0) == []


def test_two_runs_are_compared_by_signs() -> None:
    scores = level(12, 2)
    scores[:8, 1] = 1
    (change,) = change_points(scores, range(12), 0.05, 0, "test")
    assert change.first == 1
    # of the 2**8 ways to order each pair, the two in which all eight agree are as extreme
    assert change.p == pytest.approx(2 / 256, abs=0.004)


def test_the_same_scores_give_the_same_p() -> None:
    random = np.random.default_rng(5)
    scores = random.normal(size=(20, 12))
    assert change_points(scores, range(20), 1.0, 0, "a") == change_points(scores, range(20), 1.0, 0, "a")


def test_without_a_change_marks_are_as_rare_as_alpha_says() -> None:
    random = np.random.default_rng(1)
    marked = 0
    for history in range(200):
        chances = random.uniform(0.1, 0.9, size=(16, 1))
        scores = (random.uniform(size=(16, 20)) < chances).astype(float)
        marked += bool(change_points(scores, range(16), 0.05, history, "null"))
    # 200 histories at 5 %: more than 20 have a probability of 0.1 %
    assert marked <= 20
