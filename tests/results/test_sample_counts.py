"""What became of every sample of a task, in numbers and in words."""

from __future__ import annotations

from typing import Any

from pytest_trustllm.results.coverage import coverage_of, reasons_of, without_score
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import BLOCKED, REASONING_CUT, Generation, Selection

TASK = Task("s", "d", "t", 1, "", DataSpec(), None, None, Generation(), None, "x", (), {})
READER = Task("s", "d", "reader", 1, "", DataSpec(), None, None, Generation(), None, "x", (), {}, reads="t")


def score(value: float | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"value": value, "reason": reason, **more}


def record(status: str, own: dict[str, Any], also: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"task": "d/t", "status": status, **own, "also": {} if also is None else {"d/reader": also}, **more}


RECORDS = [
    record("passed", score(1.0), score(None, "a refusal", applies=False)),
    record("unscored", score(None, "cannot be read"), score(0.5)),
    record("unscored", score(0.0, "no response"), score(0.0), silent=True),
    record("error", score(None, "it raised"), score(None, "it raised")),
]


def test_every_sample_is_counted_once() -> None:
    counts = coverage_of([TASK, READER], RECORDS, Selection({"d/t": 9}, {"d/t": 5}))
    common = {"expected": 9, "collected": 5, "deselected": 4, "errored": 1, "lost": 1}
    assert counts["d/t"] == {**common, "scored": 1, "unscored": 2, "not_applicable": 0}
    assert counts["d/reader"] == {**common, "scored": 1, "unscored": 1, "not_applicable": 1}


def test_blocked_samples_are_counted_whether_they_have_a_score_or_not() -> None:
    blocked = [
        record("passed", score(1.0), unanswered=BLOCKED),
        record("unscored", score(None, BLOCKED), unanswered=BLOCKED),
    ]
    cut = record("unscored", score(None, REASONING_CUT), unanswered=REASONING_CUT)
    counts = coverage_of([TASK, READER], [*blocked, cut], Selection({"d/t": 3}, {"d/t": 3}))
    assert counts["d/t"]["blocked"] == 2
    assert (counts["d/t"]["scored"], counts["d/t"]["unscored"]) == (1, 2)
    assert "blocked" not in counts["d/reader"]


def test_every_unscored_sample_has_a_reason() -> None:
    counts = coverage_of([TASK, READER], RECORDS, Selection({"d/t": 9}, {"d/t": 5}))
    reasons = sorted(reasons_of(RECORDS, counts))
    assert reasons == [
        ("d/reader", "it raised", 1),
        ("d/reader", "no record: the test did not run to its end", 1),
        ("d/reader", "no response", 1),
        ("d/t", "cannot be read", 1),
        ("d/t", "it raised", 1),
        ("d/t", "no record: the test did not run to its end", 1),
        ("d/t", "no response", 1),
    ]
    assert sum(count for _, _, count in reasons) == without_score(counts)
