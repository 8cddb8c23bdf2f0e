"""Runs that a run is compared with: their numbers, and which samples changed sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.report.pack import Packed

Key = tuple[str, str]
"""(Task, id) of a sample."""


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier run, or another model's.

    Attributes:
        name: For people.
        metrics: Metric id -> value.
        scores: Dimension -> trust score.
        statuses: Sample of this run -> status there, of the samples that both runs asked alike; of a baseline whose
            samples are not at hand, only of those that flipped.
        compared: Samples that both runs asked alike.
        rows: Sample of this run -> its row there.
        packed: All its samples; None if only its numbers are known.
    """

    name: str
    metrics: Mapping[str, float | None]
    scores: Mapping[str, float | None]
    statuses: Mapping[Key, str]
    compared: int
    rows: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)
    packed: Packed | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """How many samples changed sides.

    Attributes:
        worse: Met the target before and does not now.
        better: The other way.
        other: Another change of status, such as to unscored.
        compared: Samples that both runs asked alike.
        tasks: (Task, worse, better), where there is any, the most worsened first.
    """

    worse: int
    better: int
    other: int
    compared: int
    tasks: Sequence[tuple[str, int, int]]


def of_run(name: str, results: Mapping[str, Any], packed: Packed, now: Packed) -> Before:
    """Return a run whose samples are known.

    Samples are matched by fingerprint, so that a row that was moved keeps its partner and one that was asked in another
    way has none; equal rows of a task are matched in file order.

    Args:
        name: For people.
        results: Its results document.
        packed: Its samples.
        now: The samples of the run that it is compared with.
    """
    waiting: dict[Key, list[Mapping[str, Any]]] = {}
    for row in packed.rows:
        waiting.setdefault(_same(row), []).append(row)
    rows: dict[Key, Mapping[str, Any]] = {}
    for row in now.rows:
        partners = waiting.get(_same(row))
        if partners:
            rows[row["task"], row["id"]] = partners.pop(0)
    statuses = {key: row["status"] for key, row in rows.items()}
    metrics, scores = _values(results["metrics"]), _values(results["scores"])
    return Before(name, metrics, scores, statuses, len(rows), rows, packed)


def of_document(results: Mapping[str, Any]) -> Before | None:
    """Return what a results document says about its baseline; None if it has none."""
    baseline = results.get("baseline")
    if not isinstance(baseline, Mapping):
        return None
    flipped = baseline.get("flipped") or {}
    statuses = {}
    for side, old in (("worse", "passed"), ("better", "missed")):
        for item in flipped.get(side) or ():
            task, _, id_ = str(item).removesuffix("]").rpartition("[")
            statuses[task, id_] = old
    compared = sum(task.get("shared", 0) for task in (baseline.get("tasks") or {}).values())
    name = one_line(f"{baseline.get('model', '')} ({baseline.get('file', 'baseline')})".strip(), 80)
    return Before(name, {}, {}, statuses, compared)


def changes_of(before: Before, now: Packed) -> Changes:
    """Return how many samples changed sides."""
    by_task: dict[str, list[int]] = {}
    counts = {"worse": 0, "better": 0, "other": 0}
    for key, old in before.statuses.items():
        kind = change(old, now.statuses.get(key))
        if kind in counts:
            counts[kind] += 1
        if kind in ("worse", "better"):
            by_task.setdefault(key[0], [0, 0])[kind == "better"] += 1
    tasks = sorted(((task, w, b) for task, (w, b) in by_task.items()), key=lambda t: (t[2] - t[1], t[0]))
    return Changes(counts["worse"], counts["better"], counts["other"], before.compared, tasks)


def change(before: str | None, now: str | None) -> str:
    """Return ``worse``, ``better``, ``other``, ``same``, or nothing where one side is missing."""
    if before is None or now is None:
        return ""
    if before == now:
        return "same"
    return {("passed", "missed"): "worse", ("missed", "passed"): "better"}.get((before, now), "other")


def named(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return names of runs that differ: by model, else by model and minute, or second, else by number."""
    models = [model_of(d) for d in documents]
    minutes, seconds = (
        [f"{model}, {_started(d, end)}".removesuffix(", ") for d, model in zip(documents, models, strict=True)]
        for end in (16, 19)
    )
    found: list[str] = []
    for model, minute, second in zip(models, minutes, seconds, strict=True):
        first = model if models.count(model) == 1 else minute if minutes.count(minute) == 1 else second
        number, name = 2, first
        while name in found:
            name, number = f"{first} ({number})", number + 1
        found.append(name)
    return found


def _started(results: Mapping[str, Any], end: int) -> str:
    return one_line(str(results["run"].get("started", ""))[:end]).replace("T", " ")


def model_of(results: Mapping[str, Any]) -> str:
    """Return the name of a run's model."""
    return one_line(results["run"].get("model", {}).get("name", "unnamed model"), 60)


def _same(row: Mapping[str, Any]) -> Key:
    return row["task"], row["fingerprint"] or row["id"]


def _values(found: Mapping[str, Any]) -> dict[str, float | None]:
    return {id_: v.get("value") if isinstance(v, Mapping) else v for id_, v in found.items()}
