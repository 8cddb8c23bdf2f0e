"""Runs that a run is compared with: their numbers, and which samples changed sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import BaselineEntry, DifferenceEntry, Results
from pytest_trustllm.report.formatting import display_name
from pytest_trustllm.report.page.sample_data import ListEntry, Packed
from pytest_trustllm.suites.pairing import pair_by_task
from pytest_trustllm.types import NOTHING, Status

_TITLED = 3  # models that a title names
_MINUTE = len("2025-01-31T12:00")
_SECOND = len("2025-01-31T12:00:00")
SampleRef = tuple[str, str]
"""(Task, id) of a sample."""


@dataclass(frozen=True, slots=True)
class OtherRun:
    """An earlier run, or another model's.

    Attributes:
        name: For people.
        metrics: Metric id -> value.
        scores: Dimension -> trust score.
        statuses: Sample of this run -> status there, of the samples that both runs have; of a baseline whose samples
            are not at hand, only of those that flipped.
        compared: Samples that both runs have.
        rows: Sample of this run -> its row there.
        packed: All its samples; None if only its numbers are known.
        differences: Of the page's run from this one: metric, or ``dimension/score``, -> its numbers over the samples
            that both have, as ``pytest-trustllm compare`` and gates on a drop see them.
    """

    name: str
    metrics: Mapping[str, float | None]
    scores: Mapping[str, float | None]
    statuses: Mapping[SampleRef, Status]
    compared: int
    rows: Mapping[SampleRef, ListEntry] = field(default_factory=dict)
    packed: Packed | None = None
    differences: Mapping[str, DifferenceEntry] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Changes:
    """How many samples changed sides.

    Attributes:
        worse: Met the target before and miss it now.
        better: The other way round.
        other: Another change of status, such as to unscored.
        compared: Samples that both runs have.
        tasks: (Task, worse, better), where there is any, the most worsened first.
    """

    worse: int
    better: int
    other: int
    compared: int
    tasks: Sequence[tuple[str, int, int]]


def of_run(
    name: str,
    results: Results,
    packed: Packed,
    now: Packed,
    differences: Mapping[str, DifferenceEntry] = NOTHING,
) -> OtherRun:
    """Return a run whose samples are known.

    Args:
        name: For people.
        results: Its results document.
        packed: Its samples.
        now: The samples of the run that it is compared with.
        differences: Of that run from this one: metric, or ``dimension/score``, -> numbers over the shared samples.
    """
    rows: dict[SampleRef, ListEntry] = {}
    for pairing in pair_by_task(packed.rows, now.rows).values():
        for partner, row in pairing.shared:
            rows[row["task"], row["id"]] = partner
    return OtherRun(
        name=name,
        metrics={id_: metric["value"] for id_, metric in results["metrics"].items()},
        scores={dimension: score["value"] for dimension, score in results["scores"].items()},
        statuses={key: row["status"] for key, row in rows.items()},
        compared=len(rows),
        rows=rows,
        packed=packed,
        differences=differences,
    )


def of_document(results: Results) -> OtherRun | None:
    """Return a run's baseline as far as its results document describes it; None if it has none."""
    baseline = results.get("baseline")
    if baseline is None:
        return None
    return OtherRun(
        name=one_line(f"{baseline['model']} ({baseline['file']})", 80),
        metrics={},
        scores={},
        statuses=dict(_flipped(baseline)),
        compared=sum(task["shared"] for task in baseline["tasks"].values()),
        differences=baseline["differences"],
    )


def _flipped(baseline: BaselineEntry) -> Iterator[tuple[SampleRef, Status]]:
    """Yield each sample that flipped, with its status in the baseline."""
    for item in baseline["flipped"]["worse"]:
        yield _key(item), "passed"
    for item in baseline["flipped"]["better"]:
        yield _key(item), "missed"


def _key(item: str) -> SampleRef:
    """Return task and id of an item such as ``safety/jailbreak[0001]``."""
    task, _, id_ = item.removesuffix("]").rpartition("[")
    return task, id_


def changes_of(other: OtherRun, now: Packed) -> Changes:
    """Return how many samples changed sides."""
    worse: Counter[str] = Counter()
    better: Counter[str] = Counter()
    otherwise = 0
    statuses = now.statuses
    for key, status in other.statuses.items():
        kind = change(status, statuses.get(key))
        if kind == "worse":
            worse[key[0]] += 1
        elif kind == "better":
            better[key[0]] += 1
        elif kind == "other":
            otherwise += 1
    tasks = [(task, worse[task], better[task]) for task in {*worse, *better}]
    tasks.sort(key=lambda line: (line[2] - line[1], line[0]))
    return Changes(worse.total(), better.total(), otherwise, other.compared, tasks)


def change(before: Status | None, now: Status | None) -> str:
    """Return ``worse``, ``better``, ``other``, ``same``, or nothing where one side is missing."""
    if before is None or now is None:
        return ""
    if before == now:
        return "same"
    return {("passed", "missed"): "worse", ("missed", "passed"): "better"}.get((before, now), "other")


def named(documents: Sequence[Results]) -> list[str]:
    """Return names of runs that differ: by model, else by model and minute, or second, else by number."""
    models = [model_of(results) for results in documents]
    minutes = [_dated(results, _MINUTE) for results in documents]
    seconds = [_dated(results, _SECOND) for results in documents]
    names: list[str] = []
    for model, minute, second in zip(models, minutes, seconds, strict=True):
        if models.count(model) == 1:
            name = model
        elif minutes.count(minute) == 1:
            name = minute
        else:
            name = second
        names.append(_numbered(name, names))
    return names


def _dated(results: Results, end: int) -> str:
    started = one_line(results["run"]["started"][:end]).replace("T", " ")
    return f"{model_of(results)}, {started}"


def _numbered(name: str, taken: Sequence[str]) -> str:
    """Return a name that is not taken: the name itself, or with the first free number from 2."""
    free, number = name, 2
    while free in taken:
        free = f"{name} ({number})"
        number += 1
    return free


def title_of(documents: Sequence[Results]) -> str:
    """Return what a page is about: its run's model, or how many runs or models it compares.

    Args:
        documents: The last one is the page's run. Beside one earlier run of its model it is still about that run.
    """
    models = list(dict.fromkeys(model_of(results) for results in documents))
    if len(models) > 1:
        shown = ", ".join(models[:_TITLED])
        more = f" and {len(models) - _TITLED} more" if len(models) > _TITLED else ""
        return f"{len(models)} models: {shown}{more}"
    if len(documents) > 2:
        return f"{models[0]}: {len(documents)} runs"
    return models[0]


def model_of(results: Results) -> str:
    """Return the name of a run's model."""
    return display_name(results["run"]["model"]["name"])
