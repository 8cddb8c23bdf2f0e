"""What became of every sample of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pytest_trustllm.formats import CoverageEntry, Record, Results, ScoreEntry
from pytest_trustllm.metrics.observations import task_scores
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import BLOCKED, NOTHING, Selection

Fate = Literal["scored", "unscored", "errored", "not_applicable"]
NO_RESPONSE = "no response"
NO_RECORD = "no record: the test did not run to its end"


def coverage_of(
    tasks: Sequence[Task], records: Iterable[Record], selection: Selection, unneeded: Mapping[str, int] = NOTHING
) -> dict[str, CoverageEntry]:
    """Return task -> counts, for all tasks of the selection.

    Every sample is counted: ``expected = collected + deselected`` and
    ``collected = scored + unscored + errored + not_applicable + lost + unneeded``.

    Args:
        tasks: All tasks; a task that reads another's responses has the samples of that one.
        records: One per sample that has a record, of one model.
        selection: Which samples were planned, out of how many.
        unneeded: Task that sends prompts -> planned samples that no gate needed, and that were not asked.

    Returns:
        ``expected``: samples in the data. ``collected``: those that were selected to run; ``deselected``: the others.
        Of the collected: ``scored``; ``unscored``: no response, even if a rule counts that as wrong, or nothing
        readable in it; ``errored``: the test raised an exception; ``not_applicable``: the task does not concern the
        answer; ``lost``: no record, because the test did not run to its end; ``unneeded``, only where there are some:
        not asked. ``blocked``, only where there are some: those among them, scored or not, that the provider's filter
        blocked.
    """
    counts: dict[str, Counter[str]] = {}
    for task in tasks:
        if task.answers_from in selection.totals:
            counts[task.id] = Counter()
    for record in records:
        for task_id, score in task_scores(record):
            if task_id in counts:
                counts[task_id][fate_of(record, score)] += 1
        if record.get("unanswered") == BLOCKED and record["task"] in counts:
            counts[record["task"]]["blocked"] += 1
    return {
        task.id: _entry(task, counts[task.id], selection, unneeded.get(task.answers_from, 0))
        for task in tasks
        if task.id in counts
    }


def left_out(results: Results, tasks: Iterable[Task]) -> set[str]:
    """Return the tasks that a saved run could not have: for their licence, or because it had no card or no audited run.

    Args:
        results: The saved run.
        tasks: All tasks.
    """
    run, tasks = results["run"], list(tasks)
    had_card = any(task.data.card for task in tasks if task.id in results["coverage"])
    pointless = {
        task.id
        for task in tasks
        if (task.data.card and not had_card) or (task.data.audit is not None and "audit" not in run)
    }
    return pointless.union(run.get("unlicensed", {}))


def _entry(task: Task, counts: Counter[str], selection: Selection, unneeded: int) -> CoverageEntry:
    expected = selection.totals[task.answers_from]
    collected = selection.planned.get(task.answers_from, 0)
    seen = sum(counts[fate] for fate in ("scored", "unscored", "errored", "not_applicable"))
    entry: CoverageEntry = {
        "expected": expected,
        "collected": collected,
        "deselected": expected - collected,
        "scored": counts["scored"],
        "unscored": counts["unscored"],
        "errored": counts["errored"],
        "not_applicable": counts["not_applicable"],
        "lost": max(0, collected - seen - unneeded),
    }
    if unneeded:
        entry["unneeded"] = unneeded
    if counts["blocked"]:
        entry["blocked"] = counts["blocked"]
    return entry


def fate_of(record: Record, score: ScoreEntry) -> Fate:
    """Return what became of a sample in a task that scores it."""
    # a score without a response comes from a rule; it is not a measurement of the model
    if score["value"] is not None and not record.get("silent"):
        return "scored"
    if not score.get("applies", True):
        return "not_applicable"
    if record["status"] == "error":
        return "errored"
    return "unscored"


def selection_from(coverage: Mapping[str, CoverageEntry], tasks: Iterable[Task]) -> Selection:
    """Return the selection that a coverage table was built from."""
    totals: dict[str, int] = {}
    planned: dict[str, int] = {}
    for task in tasks:
        if task.reads is not None or task.id not in coverage:  # a selection only has tasks that send prompts
            continue
        counts = coverage[task.id]
        totals[task.id] = counts["expected"]
        if counts["collected"]:
            planned[task.id] = counts["collected"]
    return Selection(totals, planned)


def reached(selection: Selection, records: Iterable[Record]) -> Selection:
    """Return the selection of a run that stopped early: only the samples that it reached."""
    return Selection(selection.totals, Counter(record["task"] for record in records))


def uncut(selection: Selection, records: Iterable[Record]) -> Selection:
    """Return the selection without the samples that were left for another run."""
    cut = Counter(record["task"] for record in records if record.get("cut"))
    planned = {task: count - cut[task] for task, count in selection.planned.items()}
    return Selection(selection.totals, planned)


def why_unscored(record: Record, score: ScoreEntry) -> str | None:
    """Return why a sample has no score in a task; None if it has one, or if the task does not concern it."""
    if fate_of(record, score) not in ("unscored", "errored"):
        return None
    return score["reason"] or NO_RESPONSE


def reasons_of(records: Iterable[Record], coverage: Mapping[str, CoverageEntry]) -> list[tuple[str, str, int]]:
    """Return (task, why, how many) of the samples without a score; the counts are those of the coverage.

    Args:
        records: One per sample that has a record, of one model.
        coverage: What :func:`coverage_of` returned for them.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for record in records:
        for task, score in task_scores(record):
            reason = why_unscored(record, score)
            if reason is not None and task in coverage:
                counts[task, reason] += 1
    for task, entry in coverage.items():
        if entry["lost"]:
            counts[task, NO_RECORD] += entry["lost"]
    return [(task, reason, count) for (task, reason), count in counts.items()]


def without_score(coverage: Mapping[str, CoverageEntry]) -> int:
    """Return how many samples that were to have a score have none, task by task."""
    return sum(entry["unscored"] + entry["errored"] + entry["lost"] for entry in coverage.values())
