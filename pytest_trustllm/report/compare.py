"""Runs side by side: what flipped first, then every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.report import before as earlier
from pytest_trustllm.report import figures, verdicts
from pytest_trustllm.report.before import Before, Changes
from pytest_trustllm.report.pack import Packed

_SETTINGS = (
    ("seed", "seeds"),
    ("epochs", "numbers of epochs"),
    ("roles", "role models"),
    ("judge_votes", "numbers of the judge's votes"),
    ("task_versions", "versions of tasks"),
    ("generation", "generation settings"),
)
"""What may move a number: key of the run, and what people call it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One number in all runs.

    Attributes:
        label: Its name.
        values: One per run, in the order of the names.
        difference: This run's value less the first other one's.
        better: The difference is for the better; None if it is none.
        range: Least and greatest possible value.
    """

    label: str
    values: Sequence[float | None]
    difference: float | None
    better: bool | None
    range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside others.

    Attributes:
        names: The others in their order, then this run.
        verdicts: One per name; empty where only the baseline's flips are known.
        changes: Samples that changed sides since the first other run.
        tasks: (Task, worse, link, better, link), the most worsened first.
        worse: The samples that got worse.
        better: Those that got better.
        scores: Trust scores.
        metrics: Headline metrics.
        notes: What else differs and may move a number.
    """

    names: Sequence[str]
    verdicts: Sequence[verdicts.Verdict]
    changes: Changes
    tasks: Sequence[tuple[str, int, str, int, str]]
    worse: str
    better: str
    scores: Sequence[Line]
    metrics: Sequence[Line]
    notes: Sequence[str]


def comparison(
    results: Mapping[str, Any], packed: Packed, befores: Sequence[Before], others: Sequence[Mapping[str, Any]]
) -> Comparison | None:
    """Return a run beside others; None if there is no other.

    Args:
        results: This run.
        packed: Its samples.
        befores: The others.
        others: Their results documents; none if only the flips of a baseline are known.
    """
    if not befores:
        return None
    changes = earlier.changes_of(befores[0], packed)
    documents = [*others, results] if others else []
    baseline = results.get("baseline") or {}
    return Comparison(
        names=earlier.named(documents) if documents else [befores[0].name, earlier.model_of(results)],
        verdicts=[verdicts.verdict_of(verdicts.gates_of(d)) for d in documents],
        changes=changes,
        tasks=[
            (
                one_line(task, 120),
                w,
                figures.items_link(task, change="worse"),
                b,
                figures.items_link(task, change="better"),
            )
            for task, w, b in changes.tasks
        ],
        worse=figures.items_link(change="worse"),
        better=figures.items_link(change="better"),
        scores=_scores(results, befores) if documents else [],
        metrics=_metrics(results, befores) if documents else [],
        notes=[one_line(note, 300) for note in baseline.get("warnings") or ()] if not others else _notes(documents),
    )


def _scores(results: Mapping[str, Any], befores: Sequence[Before]) -> list[Line]:
    names = dict.fromkeys([*results["scores"], *(name for b in befores for name in b.scores)])
    return [
        _line(name, [*(b.scores.get(name) for b in befores), results["scores"].get(name, {}).get("value")], higher=True)
        for name in names
    ]


def _metrics(results: Mapping[str, Any], befores: Sequence[Before]) -> list[Line]:
    heads = [id_ for score in results["scores"].values() for id_ in (*score["of"], *score["missing"])]
    ordered = [id_ for id_ in results["metrics"] if id_ in heads]
    found = []
    for id_ in ordered:
        metric = results["metrics"][id_]
        low, high = metric.get("range") or (0.0, 1.0)
        values = [*(b.metrics.get(id_) for b in befores), metric["value"]]
        found.append(_line(id_, values, higher=metric["higher_is_better"], range_=(float(low), float(high))))
    return found


def _line(
    label: str, values: Sequence[float | None], *, higher: bool, range_: tuple[float, float] = (0.0, 1.0)
) -> Line:
    first, last = values[0], values[-1]
    difference = None if first is None or last is None else last - first
    better = None if not difference else (difference > 0) == higher
    return Line(one_line(label, 120), values, difference, better, range_)


def _notes(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what of the runs is not alike and may move a number."""
    runs = [d["run"] for d in documents]
    differ = [words for name, words in _SETTINGS if any(run.get(name) != runs[0].get(name) for run in runs)]
    if any((run.get("data") or {}).get("files") != (runs[0].get("data") or {}).get("files") for run in runs):
        differ.append("data files")
    return [f"The runs differ in: {', '.join(differ)}."] if differ else []
