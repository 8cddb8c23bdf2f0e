"""What the epochs of a sample come to, by hand."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pytest_trustllm.metrics.epochs import merged
from pytest_trustllm.types import REDUCERS, Reducer


def epoch(value: float | None, met: bool = True, **more: Any) -> Any:
    scored = {"value": value, "answer": f"{value}", "reason": None, "observed": {"n": value}, "parity": "same"}
    return {**scored, "met": met, **more}


HIT, MISS, HALF = epoch(1.0), epoch(0.0, met=False), epoch(0.5, met=False)
UNSCORED = epoch(None, met=False, reason="no response")
FOREIGN = epoch(None, applies=False, reason="a refusal is not rated")


@pytest.mark.parametrize(
    ("reducer", "epochs", "value", "met"),
    [
        ("mean", [HIT, MISS, MISS], 1 / 3, False),
        ("mean", [HIT, HIT], 1.0, True),
        ("any", [MISS, HIT, MISS], 1.0, True),
        ("any", [MISS, HALF], 0.0, False),
        ("all", [HIT, MISS, HIT], 0.0, False),
        ("all", [HIT, HIT], 1.0, True),
        ("max", [MISS, HALF, MISS], 0.5, False),
        ("majority", [HIT, MISS, HIT], 1.0, True),
        ("majority", [MISS, MISS, HIT], 0.0, False),
        ("majority", [HIT, MISS, FOREIGN, HIT], 1.0, True),
    ],
)
def test_reducers(reducer: Reducer, epochs: list[Any], value: float, met: bool) -> None:
    whole = merged(epochs, reducer)
    assert (whole["value"], whole["met"]) == (pytest.approx(value), met)
    assert whole["epochs"] == epochs
    concerned = [each for each in epochs if each.get("applies", True)]
    assert whole["answer"] == f"target met in {sum(each['met'] for each in concerned)} of {len(concerned)} epochs"
    assert ("reducer" in whole) is (reducer != "mean")
    assert whole["observed"] == ({} if reducer == "mean" else {"n": whole["value"]})


@pytest.mark.parametrize("reducer", REDUCERS)
def test_an_unscored_epoch_leaves_the_sample_unscored(reducer: Reducer) -> None:
    whole = merged([HIT, UNSCORED, HIT], reducer)
    assert (whole["value"], whole["reason"]) == (None, "epoch 2 of 3: no response")
    nothing = merged([FOREIGN, FOREIGN], reducer)
    assert (nothing["value"], nothing["applies"], nothing["reason"]) == (None, False, "a refusal is not rated")
    assert merged([HIT], reducer) == HIT


def test_no_majority() -> None:
    whole = merged([HIT, MISS], "majority")
    assert (whole["value"], whole["reason"], whole["answer"]) == (None, "no majority among 2 epochs", None)


def test_the_reducers_are_those_of_the_type() -> None:
    assert get_args(Reducer) == REDUCERS
