"""Runs side by side: what flipped first, then every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report import formatting, gate_verdicts
from pytest_trustllm.report.caveats import left_out
from pytest_trustllm.report.page import other_runs
from pytest_trustllm.report.page.other_runs import Changes, OtherRun
from pytest_trustllm.report.page.sample_data import Packed
from pytest_trustllm.suites import definitions


@dataclass(frozen=True, slots=True)
class NumberLine:
    """One number in all runs.

    Attributes:
        label: Its name.
        values: One per run over all of its samples, in the order of the names.
        change: From the first other run to this one, over the samples that both have; None if it cannot be told.
        range: Least and greatest possible value.
    """

    label: str
    values: Sequence[float | None]
    change: formatting.Change | None
    range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A run beside others.

    Attributes:
        names: The others in their order, then this run.
        verdicts: One per name; empty where only the baseline's flips are known.
        changes: Samples that changed sides since the first other run.
        tasks: (Task, worse, link, better, link), the most worsened first.
        worse: Address of the samples that got worse.
        better: Address of those that got better.
        scores: Trust scores.
        metrics: Headline metrics.
        notes: What could not be compared, and what else differs and may move a number.
        differences: The differences over the shared samples are known.
    """

    names: Sequence[str]
    verdicts: Sequence[gate_verdicts.Verdict]
    changes: Changes
    tasks: Sequence[tuple[str, int, str, int, str]]
    worse: str
    better: str
    scores: Sequence[NumberLine]
    metrics: Sequence[NumberLine]
    notes: Sequence[str]
    differences: bool


def side_by_side(
    results: Results,
    packed: Packed,
    others: Sequence[OtherRun],
    documents: Sequence[Results],
    notes: Sequence[str] = (),
) -> SideBySide | None:
    """Return a run beside others; None if there is no other.

    Args:
        results: This run.
        packed: Its samples.
        others: The other runs.
        documents: Their results documents; none if only the flips of a baseline are known.
        notes: What could not be compared.
    """
    if not others:
        return None
    first = others[0]
    changes = other_runs.changes_of(first, packed)
    if documents:
        runs = [*documents, results]
        names = other_runs.named(runs)
        verdicts = [gate_verdicts.verdict_of(gate_verdicts.gates_of(run), left_out(run)) for run in runs]
        scores, metrics = _scores(results, others), _metrics(results, others)
        differing = _differing(runs)
    else:
        names = [first.name, other_runs.model_of(results)]
        verdicts, scores, metrics = [], [], []
        baseline = results.get("baseline")
        differing = [] if baseline is None else baseline["warnings"]
    return SideBySide(
        names=names,
        verdicts=verdicts,
        changes=changes,
        tasks=[_task(*line) for line in changes.tasks],
        worse=formatting.items_link(change="worse"),
        better=formatting.items_link(change="better"),
        scores=scores,
        metrics=metrics,
        notes=[one_line(note, 300) for note in (*notes, *differing)],
        differences=bool(first.differences),
    )


def _task(task: str, worse: int, better: int) -> tuple[str, int, str, int, str]:
    worse_link = formatting.items_link(task, change="worse")
    better_link = formatting.items_link(task, change="better")
    return one_line(task, 120), worse, worse_link, better, better_link


def _scores(results: Results, others: Sequence[OtherRun]) -> list[NumberLine]:
    own = {dimension: score["value"] for dimension, score in results["scores"].items()}
    dimensions = dict.fromkeys(own)
    for other in others:
        dimensions |= dict.fromkeys(other.scores)
    lines = []
    for dimension in dimensions:
        values = [scores.get(dimension) for scores in (*(other.scores for other in others), own)]
        change = formatting.change_of(others[0].differences.get(f"{dimension}/score"))
        lines.append(NumberLine(one_line(dimension, 120), values, change))
    return lines


def _metrics(results: Results, others: Sequence[OtherRun]) -> list[NumberLine]:
    headlines: set[str] = set()
    for score in results["scores"].values():
        headlines.update(score["of"], score["missing"])
    lines = []
    for id_, metric in results["metrics"].items():
        if id_ in headlines:
            values = [*(other.metrics.get(id_) for other in others), metric["value"]]
            change = formatting.change_of(others[0].differences.get(id_))
            lines.append(NumberLine(one_line(id_, 120), values, change, formatting.range_of(metric)))
    return lines


def _differing(documents: Sequence[Results]) -> list[str]:
    """Return what of the runs is not alike and may move a number, with changed definitions of tasks by name."""
    runs = [document["run"] for document in documents]
    compared: Mapping[str, Sequence[object]] = {
        "seeds": [run["seed"] for run in runs],
        "numbers of epochs": [run["epochs"] for run in runs],
        "role models": [run["roles"] for run in runs],
        "numbers of the judge's votes": [run.get("judge_votes") for run in runs],
        "versions of tasks": [run["task_versions"] for run in runs],
        "data files": [run["data"]["files"] for run in runs],
    }
    words = [name for name, values in compared.items() if any(value != values[0] for value in values)]
    lines: dict[str, None] = {}  # a set in order: two earlier runs may differ alike
    if words:
        lines[f"The runs differ in: {', '.join(words)}."] = None
    *earlier, last = runs
    for run in earlier:
        for line in definitions.changed(run, last, "between the runs"):
            lines[f"{line[0].upper()}{line[1:]}."] = None
    return list(lines)
