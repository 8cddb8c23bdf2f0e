"""Flips and pass^k over the epochs of samples."""

from __future__ import annotations

import itertools

import pytest

from pytest_trustllm.results.stability import flip_rate, pass_hat, stability


def record(id_, met, task="d/t", also=None):
    readings = [{"value": None if m is None else float(m), "met": bool(m)} for m in met]
    return {"task": task, "id": id_, "value": 0.5, "epochs": readings, "also": also or {}}


@pytest.mark.parametrize("met", [[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1, 0]])
def test_rates_are_those_of_all_subsets(met):
    n = len(met)
    for k in range(1, n + 1):
        subsets = [all(s) for s in itertools.combinations(met, k)]
        assert pass_hat([(sum(met), n)], k) == pytest.approx(sum(subsets) / len(subsets))
    pairs = [a != b for a, b in itertools.combinations(met, 2)]
    assert flip_rate(sum(met), n) == pytest.approx(sum(pairs) / len(pairs))


def test_one_epoch_has_no_stability():
    assert stability([{"task": "d/t", "id": "0001", "value": 1.0, "also": {}}]) is None
    assert stability([]) is None


def test_a_task_says_how_its_samples_vary_and_which_most():
    found = stability(
        [record("0003", [1, 0]), record("0002", [1, 1]), record("0001", [0, 1]), record("0004", [1, None])]
    )
    assert found == {
        "epochs": 2,
        "tasks": {
            "d/t": {
                "samples": 3,
                "flip_rate": pytest.approx(2 / 3),
                "pass^k": {"1": pytest.approx(2 / 3), "2": pytest.approx(1 / 3)},
                "unstable": [
                    {"id": "0001", "met": 1, "epochs": 2, "flip_rate": 1.0},
                    {"id": "0003", "met": 1, "epochs": 2, "flip_rate": 1.0},
                ],
            }
        },
    }


def test_a_task_that_reads_the_answers_has_its_own():
    reader = {"value": 0.1, "epochs": [{"value": 0.1, "met": True}, {"value": 0.2, "met": False}]}
    found = stability([record("0001", [1, 1], also={"d/reader": reader})])
    assert found is not None
    assert found["tasks"]["d/reader"]["flip_rate"] == 1.0
    assert found["tasks"]["d/t"]["flip_rate"] == 0.0
