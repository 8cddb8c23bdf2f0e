"""What changed over the runs of a history: settings between two runs, and scores of the same samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import HistoryEntry, ModelInfo, Results, RunEntry
from pytest_trustllm.results.identity import identity_of, roles_used
from pytest_trustllm.stats.change_points import ChangePoint, change_points

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array

ALPHA = 0.05
"""Probability that any change is reported although nothing changed; divided by the number of tasks (Bonferroni)."""
_LEAST_SCORED = 0.5
"""A run with scores for less than this share of a task's samples is left out of the task's test."""
SampleKey = tuple[str, str]
"""Fingerprint and id."""


@dataclass(frozen=True, slots=True)
class Event:
    """A setting that differs from the run before.

    Attributes:
        run: Index of the first run with the new setting.
        kind: ``model``, ``data``, ``judge``, another role, ``suite``, ``thresholds`` or ``plugin``.
        text: What differs.
        task: The only task that it concerns; None: any.
    """

    run: int
    kind: str
    text: str
    task: str | None = None


@dataclass(frozen=True, slots=True)
class MovedSample:
    """A sample whose mean score before and after a change differ."""

    id: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Change:
    """A change in the scores of a task's samples.

    Attributes:
        task: ``dimension/task``.
        metric: Id of the task's headline metric.
        run: Index of the first run after the change.
        previous: Index of the run before it, among those that were compared.
        p: Of the test, see :mod:`pytest_trustllm.stats.change_points`.
        before: Mean of the metric over the runs since the change before; None if it had no value.
        after: Likewise until the next change.
        samples: Those that moved, the farthest first.
        compared: Samples that were compared.
        causes: What else differs between the two runs.
    """

    task: str
    metric: str
    run: int
    previous: int
    p: float
    before: float | None
    after: float | None
    samples: Sequence[MovedSample]
    compared: int
    causes: Sequence[Event]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Runs of a task that asked the same samples.

    Attributes:
        runs: Indices in the history.
        keys: Samples with a score in every one of them.
        clusters: One per sample.
        scores: (samples, runs).
    """

    runs: Sequence[int]
    keys: Sequence[SampleKey]
    clusters: Sequence[str]
    scores: Array


# --- settings ---------------------------------------------------------------------------------------------------------


def events_of(entries: Sequence[HistoryEntry]) -> list[Event]:
    """Return what differs between each run and the one before."""
    events: list[Event] = []
    for number in range(1, len(entries)):
        earlier, later = entries[number - 1]["results"]["run"], entries[number]["results"]["run"]
        events += _events_between(earlier, later, number)
    return events


def _events_between(earlier: RunEntry, later: RunEntry, number: int) -> Iterator[Event]:
    difference = _model_difference(earlier["model"], later["model"])
    if difference:
        yield Event(number, "model", difference)
    for role in {**earlier["roles"], **later["roles"]}:
        difference = _model_difference(earlier["roles"].get(role), later["roles"].get(role))
        if difference:
            yield Event(number, role, difference)
    data = _mapping_difference(earlier["data"]["files"], later["data"]["files"])
    if earlier["data"]["source"] != later["data"]["source"]:
        yield Event(number, "data", f"{_quoted(earlier['data']['source'])} to {_quoted(later['data']['source'])}")
    elif data:
        yield Event(number, "data", data)
    yield from _suite_events(earlier, later, number)
    thresholds = _mapping_difference(earlier.get("thresholds", {}), later.get("thresholds", {}))
    if thresholds:
        yield Event(number, "thresholds", thresholds)
    if earlier["plugin_version"] != later["plugin_version"]:
        yield Event(number, "plugin", f"{earlier['plugin_version']} to {later['plugin_version']}")


def _suite_events(earlier: RunEntry, later: RunEntry, number: int) -> Iterator[Event]:
    """Yield the tasks that both runs have and that are defined differently."""
    for task, version in later["task_versions"].items():
        before = earlier["task_versions"].get(task)
        if before is None:
            continue
        if before != version:
            yield Event(number, "suite", f"{one_line(task, 60)} version {before} to {version}", task)
            continue
        hashes_before = earlier.get("tasks", {}).get(task, {"hashes": {}})["hashes"]
        hashes = later.get("tasks", {}).get(task, {"hashes": {}})["hashes"]
        parts = [part for part in {**hashes_before, **hashes} if hashes_before.get(part) != hashes.get(part)]
        if hashes_before and hashes and parts:
            yield Event(number, "suite", f"{', '.join(parts)} of {one_line(task, 60)}", task)


def _model_difference(earlier: ModelInfo | None, later: ModelInfo | None) -> str:
    if earlier is None or later is None:
        if earlier is later:
            return ""
        given = earlier or later
        assert given is not None  # noqa: S101 - one of them is there
        return f"{_quoted(given['name'])} {'added' if earlier is None else 'removed'}"
    parts = []
    if earlier["name"] != later["name"]:
        parts.append(f"{_quoted(earlier['name'])} to {_quoted(later['name'])}")
    before, after = identity_of(earlier), identity_of(later)
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            parts.append(f"{key} {_quoted(before.get(key))} to {_quoted(after.get(key))}")
    return ", ".join(parts)


def _mapping_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the names whose values differ, or that only one of them has, shortened."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not names:
        return ""
    shown = ", ".join(one_line(name, 80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _quoted(value: object) -> str:
    return one_line(str(value), 60)


# --- scores -----------------------------------------------------------------------------------------------------------


def changes_of(
    entries: Sequence[HistoryEntry], tasks: Iterable[str] | None = None, alpha: float = ALPHA
) -> list[Change]:
    """Return the changes in the scores of the same samples, in the order of the runs.

    Args:
        entries: Runs in their order.
        tasks: Only these; None: all.
        alpha: Probability of any false change over all tasks that are looked at.
    """
    events = events_of(entries)
    names = dict.fromkeys(task for entry in entries for task in entry["scores"])
    if tasks is not None:
        wanted = set(tasks)
        names = dict.fromkeys(task for task in names if task in wanted)
    stretches = [(task, stretch) for task in names for stretch in _stretches(entries, task)]
    changes: list[Change] = []
    for task, stretch in stretches:
        points = change_points(stretch.scores, stretch.clusters, alpha / len(stretches), seed=0, name=task)
        changes += _changes_in(entries, task, stretch, points, events)
    return sorted(changes, key=lambda change: (change.run, change.task))


def tested_metrics(entries: Sequence[HistoryEntry]) -> set[str]:
    """Return the metrics whose changes :func:`changes_of` looks for: those of scores that two runs have in common."""
    names = dict.fromkeys(task for entry in entries for task in entry["scores"])
    return {_headline(entries, task) for task in names if any(True for _ in _stretches(entries, task))}


def without_revision(results: Results) -> list[str]:
    """Return ``model`` and roles of which no revision is recorded: they may have changed without a trace."""
    models = {"model": results["run"]["model"], **roles_used(results)}
    return [name for name, model in models.items() if not model.get("revision")]


def _stretches(entries: Sequence[HistoryEntry], task: str) -> Iterator[_Stretch]:
    """Yield runs in a row that asked the same samples of a task; a change of the samples ends a stretch."""
    asked = {number: _keys(entry, task) for number, entry in enumerate(entries) if task in entry["scores"]}
    whole = {number: keys for number, keys in asked.items() if not any(keys < other for other in asked.values())}
    row: list[int] = []
    for number, keys in whole.items():
        if row and keys != whole[row[-1]]:
            yield from _stretch(entries, task, row)
            row = []
        row.append(number)
    yield from _stretch(entries, task, row)


def _keys(entry: HistoryEntry, task: str) -> frozenset[SampleKey]:
    scores = entry["scores"][task]
    return frozenset(zip(scores["fingerprints"], scores["ids"], strict=True))


def _values(entry: HistoryEntry, task: str) -> dict[SampleKey, float]:
    """Return the scores of the samples that have one."""
    scores = entry["scores"][task]
    keys = zip(scores["fingerprints"], scores["ids"], strict=True)
    return {key: value for key, value in zip(keys, scores["values"], strict=True) if value is not None}


def _stretch(entries: Sequence[HistoryEntry], task: str, row: Sequence[int]) -> Iterator[_Stretch]:
    """Yield a stretch if two of its runs have scores to compare."""
    import numpy as np

    if len(row) < 2:
        return
    asked = _keys(entries[row[0]], task)
    values = {number: _values(entries[number], task) for number in row}
    runs = [number for number in row if len(values[number]) >= _LEAST_SCORED * len(asked) and values[number]]
    if len(runs) < 2:
        return
    shared = sorted(set.intersection(*({*values[number]} for number in runs)))
    if not shared:
        return
    scores = np.array([[values[number][key] for number in runs] for key in shared])
    yield _Stretch(runs, shared, _clusters(entries[runs[0]], task, shared), scores)


def _clusters(entry: HistoryEntry, task: str, keys: Sequence[SampleKey]) -> list[str]:
    scores = entry["scores"][task]
    by_key = dict(zip(zip(scores["fingerprints"], scores["ids"], strict=True), scores["clusters"], strict=True))
    # a sample without a cluster is one of its own; its id cannot be that of a cluster because of the prefix
    return [f"cluster {by_key[key]}" if by_key[key] is not None else f"sample {key}" for key in keys]


def _changes_in(
    entries: Sequence[HistoryEntry],
    task: str,
    stretch: _Stretch,
    points: Sequence[ChangePoint],
    events: Sequence[Event],
) -> Iterator[Change]:
    bounds = [0, *(point.first for point in points), len(stretch.runs)]
    metric = _headline(entries, task)
    for number, point in enumerate(points):
        before = slice(bounds[number], point.first)
        after = slice(point.first, bounds[number + 2])
        previous, first = stretch.runs[point.first - 1], stretch.runs[point.first]
        yield Change(
            task=task,
            metric=metric,
            run=first,
            previous=previous,
            p=point.p,
            before=_mean_value(entries, stretch.runs[before], metric),
            after=_mean_value(entries, stretch.runs[after], metric),
            samples=_moved(stretch, before, after),
            compared=len(stretch.keys),
            causes=[event for event in events if previous < event.run <= first and event.task in (None, task)],
        )


def _headline(entries: Sequence[HistoryEntry], task: str) -> str:
    """Return the task's headline metric, as the newest run with it has it; else its first metric."""
    for entry in reversed(entries):
        results: Results = entry["results"]
        headlines = [id_ for score in results["scores"].values() for id_ in [*score["of"], *score["missing"]]]
        for id_ in [*headlines, *results["metrics"]]:
            if task_of(id_) == task:
                return id_
    return task


def task_of(metric: str) -> str:
    """Return ``dimension/task`` of a metric's id."""
    return metric.partition("{")[0].rpartition(".")[0]


def _mean_value(entries: Sequence[HistoryEntry], runs: Iterable[int], metric: str) -> float | None:
    values = []
    for number in runs:
        entry = entries[number]["results"]["metrics"].get(metric)
        if entry is not None and entry["value"] is not None:
            values.append(entry["value"])
    return sum(values) / len(values) if values else None


def _moved(stretch: _Stretch, before: slice, after: slice) -> list[MovedSample]:
    """Return the samples whose means differ, the farthest first."""
    means_before = stretch.scores[:, before].mean(axis=1)
    means_after = stretch.scores[:, after].mean(axis=1)
    moved = []
    for (_, id_), old, new in zip(stretch.keys, means_before, means_after, strict=True):
        if old != new:
            moved.append(MovedSample(id_, float(old), float(new)))
    return sorted(moved, key=lambda sample: (-abs(sample.after - sample.before), sample.id))
