"""What became of every sample of a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_trustllm.records import Selection
from pytest_trustllm.suites import Task

Counts = dict[str, int]


def coverage_of(tasks: Sequence[Task], records: Iterable[Mapping[str, Any]], selection: Selection) -> dict[str, Counts]:
    """Return task -> counts, for all tasks that the selection knows.

    Nothing falls through: ``expected = collected + deselected`` and
    ``collected = scored + unscored + errored + not_applicable + lost``.

    Args:
        tasks: All tasks; one that reads another's answers has the samples of that one.
        records: One per sample that has a record, of one model.
        selection: What was planned, of how much.

    Returns:
        ``expected``: samples that the data has. ``collected``: those that were selected to run; ``deselected``: the
        others. Of the collected: ``scored``; ``unscored``: no response, or nothing readable in it; ``errored``: the
        test raised; ``not_applicable``: the task does not concern the answer; ``lost``: no record, because the test
        never ran to its end.
    """
    found: dict[str, Counts] = {}
    for task in tasks:
        if task.asked in selection.totals:
            expected, collected = selection.totals[task.asked], selection.planned.get(task.asked, 0)
            found[task.id] = {"expected": expected, "collected": collected, "deselected": expected - collected}
            found[task.id].update(dict.fromkeys(("scored", "unscored", "errored", "not_applicable"), 0))
    for record in records:
        for task_id, score in ((record["task"], record), *record["also"].items()):
            if task_id in found:
                found[task_id][_what(record, score)] += 1
    for counts in found.values():
        seen = sum(counts[k] for k in ("scored", "unscored", "errored", "not_applicable"))
        counts["lost"] = max(0, counts["collected"] - seen)
    return found


def _what(record: Mapping[str, Any], score: Mapping[str, Any]) -> str:
    if score["value"] is not None:
        return "scored"
    if not score.get("applies", True):
        return "not_applicable"
    return "errored" if record["status"] == "error" else "unscored"


def selection_from(coverage: Mapping[str, Mapping[str, int]], tasks: Iterable[Task]) -> Selection:
    """Return the selection that a coverage table was made of."""
    asked = {t.id: coverage[t.id] for t in tasks if t.reads is None and t.id in coverage}
    return Selection(
        {task: counts["expected"] for task, counts in asked.items()},
        {task: counts["collected"] for task, counts in asked.items() if counts["collected"]},
    )


def reached(selection: Selection, records: Iterable[Mapping[str, Any]]) -> Selection:
    """Return the selection of a run that stopped early: what it reached."""
    planned: dict[str, int] = {}
    for record in records:
        planned[record["task"]] = planned.get(record["task"], 0) + 1
    return Selection(selection.totals, planned)


def reasons_of(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """Return (task, why, how many) of the unscored samples."""
    found: dict[tuple[str, str], int] = {}
    for record in records:
        for task, score in ((record["task"], record), *record["also"].items()):
            if score["value"] is None and score.get("applies", True):
                found[task, score["reason"]] = found.get((task, score["reason"]), 0) + 1
    return [(task, reason, count) for (task, reason), count in found.items()]
