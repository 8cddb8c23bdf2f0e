"""Runs side by side: what flipped first, then every number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report import formatting, gate_verdicts
from pytest_trustllm.report.caveats import left_out
from pytest_trustllm.report.page import other_runs
from pytest_trustllm.report.page.other_runs import Changes, OtherRun
from pytest_trustllm.report.page.sample_data import Packed
from pytest_trustllm.suites import definitions


@dataclass(frozen=True, slots=True)
class DrawnDifference:
    """A difference with its interval on a line, in per cent of its width; 50 is no difference.

    Attributes:
        tone: ``better``, ``worse``, or ``chance`` where chance may explain it.
    """

    value: float
    low: float
    high: float
    tone: str


@dataclass(frozen=True, slots=True)
class NumberLine:
    """One number in all runs.

    Attributes:
        label: Its name.
        values: One per run over all of its samples, in the order of the names.
        change: From the first other run to this one, over the samples that both have; None if it cannot be told.
        range: Least and greatest possible value.
        drawn: The change on a line; None if it has no interval.
        higher_is_better: Of the number.
    """

    label: str
    values: Sequence[float | None]
    change: formatting.Change | None
    range: tuple[float, float] = (0.0, 1.0)
    drawn: DrawnDifference | None = None
    higher_is_better: bool = True

    def step(self, value: float) -> int:
        """Return how good a value is, in fifths of the range: 0 for the worst fifth, 4 for the best one."""
        low, high = self.range
        share = (value - low) / (high - low) if high > low else 1.0
        if not self.higher_is_better:
            share = 1 - share
        return min(4, max(0, int(share * 5)))


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
        reach: How large a difference the ends of the lines stand for, as a share of what a number may be; 0: none is
            drawn.
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
    reach: float


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
        scores, metrics, reach = _drawn(_scores(results, others), _metrics(results, others))
        differing = _differing(runs)
    else:
        names = [first.name, other_runs.model_of(results)]
        verdicts, scores, metrics, reach = [], [], [], 0.0
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
        reach=reach,
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
            better = metric["higher_is_better"]
            range_ = formatting.range_of(metric)
            lines.append(NumberLine(one_line(id_, 120), values, change, range_, higher_is_better=better))
    return lines


def _drawn(
    scores: Sequence[NumberLine], metrics: Sequence[NumberLine]
) -> tuple[list[NumberLine], list[NumberLine], float]:
    """Return the lines with their differences drawn, all on one scale, and how far that reaches."""
    reach = max((_farthest(line) for line in (*scores, *metrics)), default=0.0)
    if not reach:
        return list(scores), list(metrics), 0.0
    reach = math.ceil(reach * 20) / 20  # a round number for the legend
    return [_line_drawn(line, reach) for line in scores], [_line_drawn(line, reach) for line in metrics], reach


def _farthest(line: NumberLine) -> float:
    """Return the farthest end of a difference's interval from 0, as a share of what its number may be."""
    if line.change is None or line.change.limits is None:
        return 0.0
    return min(1.0, max(map(abs, line.change.limits)) / _width(line))


def _width(line: NumberLine) -> float:
    least, most = line.range
    return most - least if most > least else 1.0


def _line_drawn(line: NumberLine, reach: float) -> NumberLine:
    change = line.change
    if change is None or change.limits is None:
        return line

    def place(difference: float) -> float:
        share = difference / _width(line) / reach
        return 50 + 50 * min(1.0, max(-1.0, share))

    tone = "chance"
    if change.sure and change.better is not None:
        tone = "better" if change.better else "worse"
    low, high = change.limits
    return replace(line, drawn=DrawnDifference(place(change.difference), place(low), place(high), tone))


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
