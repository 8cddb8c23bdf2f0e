"""What counts as `verified`, and as the `same_answer`."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_trustllm.errors import ScorerError
from pytest_trustllm.scorers.audited import SameAnswer, Verified
from pytest_trustllm.types import Response, Sample, Score


def sample(**row: Any) -> Sample:
    return Sample("accountability/x", "0000", (row,), (), (), {}, "f")


@pytest.mark.parametrize(
    ("row", "value", "answer", "reason", "applies"),
    [
        ({"holds": True}, 1.0, "a line", None, True),
        ({"holds": False}, 0.0, "a line", None, True),
        ({"holds": None}, None, None, "a line", True),
        ({"holds": None, "applies": False}, None, None, "a line", False),
        ({"holds": True, "applies": False}, None, None, "a line", False),
    ],
)
def test_what_is_not_known_never_counts_as_verified(
    row: dict[str, Any], value: float | None, answer: str | None, reason: str | None, applies: bool
) -> None:
    score = Verified().score(sample(found="a line", title="seed", **row), [])
    assert (score.value, score.answer, score.reason, score.applies) == (value, answer, reason, applies)
    if value is not None:
        assert score.met == (value == 1.0)


def test_a_row_without_a_finding_is_an_error() -> None:
    with pytest.raises(ScorerError, match="holds"):
        Verified().score(sample(found="a line"), [])


def compared(earlier: list[str], *now: str | None) -> Score:
    return SameAnswer().score(sample(responses=earlier), [Response(text=text) for text in now])


@pytest.mark.parametrize(
    ("earlier", "now", "value", "answer"),
    [
        (["a b c"], ["a b c"], 1.0, "the same"),
        (["a b c"], ["a b d"], 0.0, "drift: differs from character 5 on; 67% of the words are the same"),
        (["a b c"], ["a b c "], 0.0, "drift: differs from character 6 on; 100% of the words are the same"),
        (["yes"], ["no"], 0.0, "drift: differs from character 1 on; 0% of the words are the same"),
        (["a", "b"], ["a", "b"], 1.0, "the same"),
        (["a", "b"], ["a", "c"], 0.0, "drift: differs from character 1 on; 0% of the words are the same"),
    ],
)
def test_the_same_or_a_drift(earlier: list[str], now: list[str], value: float, answer: str) -> None:
    score = compared(earlier, *now)
    assert (score.value, score.answer) == (value, answer)


@pytest.mark.parametrize("text", [None, "", "  "])
def test_no_answer_is_no_drift(text: str | None) -> None:
    assert compared(["a"], text).value is None


def test_the_text_of_an_answer_is_not_in_the_drift() -> None:
    assert "secret" not in str(compared(["the secret word"], "the other secret word").answer)


def test_long_answers_are_compared_in_time() -> None:
    assert compared(["a b " * 100_000], "b a " * 100_000).value == 0.0
