"""The numbers of a run, and the results file that holds them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pytest_trustllm.config.files import write_whole
from pytest_trustllm.errors import ResultsError
from pytest_trustllm.formats import (
    CoverageEntry,
    GateEntry,
    MetricEntry,
    RankEntry,
    Results,
    RunEntry,
    ScoresEntry,
    StoppedTaskEntry,
    UsageEntry,
)
from pytest_trustllm.gates.early import STOP_METHODS
from pytest_trustllm.metrics.observations import ObservedSample, Scoring
from pytest_trustllm.models import catalogue
from pytest_trustllm.results.metric_inputs import MetricInput, absent_part, interval_around, metric_inputs, whole_of
from pytest_trustllm.stats.intervals import CONFIDENCE, Limits
from pytest_trustllm.stats.means import mean_by_source
from pytest_trustllm.suites.task import Suite, Task
from pytest_trustllm.types import NOTHING, Interval, MetricValue, Selection, TrustScore, oriented

SCHEMA: Literal["pytest-trustllm/results/1"] = "pytest-trustllm/results/1"
_RANKED = 0.95
"""Share of the samples that must have a score before a metric is ranked; gates require as much by default."""


class RunNumbers:
    """All numbers of one model's run: metrics, trust scores, and their intervals at any confidence.

    Args:
        tasks: All tasks.
        samples: Task -> its samples that have a record, of one model.
        selection: What was planned. A planned sample without a record counts as expected and unscored.
        confidence: Of the intervals in ``metrics`` and ``scores``.
        seed: Of the run; intervals that are drawn depend on it.
        early: Task that sends prompts -> what was not asked of it, because no gate needed it.

    Attributes:
        metrics: Id -> every metric and sub-metric of the tasks that had samples in this run.
        scores: Dimension -> trust score.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        samples: Mapping[str, Sequence[ObservedSample]],
        selection: Selection,
        *,
        confidence: float = CONFIDENCE,
        seed: int = 0,
        early: Mapping[str, StoppedTaskEntry] = NOTHING,
    ) -> None:
        self.confidence = confidence
        self._early = early
        self.metrics: dict[str, MetricValue] = {}
        self._tasks = tasks
        self._inputs: dict[str, MetricInput] = {}
        for task in tasks:
            asked = selection.planned.get(task.answers_from, 0)
            if task.answers_from in early:
                asked -= early[task.answers_from]["unneeded"]
            if asked:
                self._measure(task, samples.get(task.id, []), asked, seed)
        self.scores = scores_of(tasks, self.metrics)

    def _measure(self, task: Task, samples: Sequence[ObservedSample], asked: int, seed: int) -> None:
        for metric_input in metric_inputs(task, samples, seed):
            # the group of a sample without a record is unknown, so that no sub-metric can count it
            is_sub_metric = "{" in metric_input.id
            missing = 0 if is_sub_metric else asked - len(samples)
            self._inputs[metric_input.id] = metric_input
            metric = _metric_value(metric_input, missing, self.confidence)
            if task.answers_from in self._early:
                metric = _stopped_early(metric, self._early[task.answers_from])
            self.metrics[metric_input.id] = metric

    def metric_input(self, id_: str) -> MetricInput | None:
        """Return what a metric was computed from; None if this run does not have it."""
        return self._inputs.get(id_)

    def compared_input(self, id_: str) -> MetricInput | None:
        """Return what a metric, or a part that no sample has, is computed from for a comparison; None without one."""
        found = self._inputs.get(id_)
        whole = self._inputs.get(whole_of(id_))
        if found is not None or whole is None:
            return found
        return absent_part(whole, id_)

    def answers_from(self, id_: str) -> str | None:
        """Return the task whose responses a metric was computed from; None if this run does not have the metric."""
        metric_input = self._inputs.get(id_)
        if metric_input is None:
            return None
        return metric_input.task.answers_from

    def interval(self, id_: str, confidence: float, scoring: Scoring = "value") -> Interval | None:
        """Return an interval; None if there is none.

        Args:
            id_: Of a metric, or ``dimension/score``.
            confidence: In (0, 1).
            scoring: Which reading of the metric.
        """
        if id_.endswith("/score"):
            return self._score_interval(id_.removesuffix("/score"), confidence)
        metric = self.metrics.get(id_)
        if metric is None:
            return None
        if scoring == "value" and confidence == self.confidence:
            return metric.interval
        return self._inputs[id_].interval(getattr(metric, scoring), confidence, scoring)

    def _score_interval(self, dimension: str, confidence: float) -> Interval | None:
        score = self.scores.get(dimension)
        if score is None:
            return None
        if confidence == self.confidence:
            return score.interval
        headlines = {}
        for id_ in (*score.of, *score.missing):
            headlines[id_] = dataclasses.replace(self.metrics[id_], interval=self.interval(id_, confidence))
        return scores_of(self._tasks, headlines)[dimension].interval


def _metric_value(metric_input: MetricInput, missing: int, confidence: float) -> MetricValue:
    """Return a metric's numbers.

    Args:
        metric_input: What it is computed from.
        missing: Planned samples without a record.
        confidence: Of its interval.
    """
    value, problem = metric_input.compute()
    parity, parity_problem = metric_input.compute("parity")
    spec = metric_input.spec
    samples = metric_input.samples
    return MetricValue(
        id=metric_input.id,
        value=value,
        parity=parity,
        expected=sum(sample.applies for sample in samples) + missing,
        scored=sum(sample.counts_as_scored for sample in samples),
        higher_is_better=spec.higher_is_better,
        range=spec.range,
        problem=problem or parity_problem,
        interval=metric_input.interval(value, confidence),
        unmatched=not samples and not missing,
        asked=len(samples) + missing,
        planned=len(samples) + missing,
    )


def _stopped_early(metric: MetricValue, task: StoppedTaskEntry) -> MetricValue:
    """Return a metric that was not asked whole. An interval for a fixed number of samples does not hold for it."""
    interval: Interval | None = None
    limits = task["limits"].get(metric.id)
    if limits is not None:
        low, high, confidence = limits
        interval = Interval(low, high, confidence, STOP_METHODS[task["rule"]])
    planned = task["planned"].get(metric.id, metric.planned)
    return dataclasses.replace(metric, interval=interval, planned=planned, stopped=task["rule"])


def headline_id(task: Task) -> str:
    """Return the id of a task's headline metric, which is the first that its suite names."""
    return task.metric_id(task.metrics[0].name)


def scores_of(tasks: Sequence[Task], metrics: Mapping[str, MetricValue]) -> dict[str, TrustScore]:
    """Return the trust score of every dimension that had samples."""
    headlines: dict[str, list[tuple[str, MetricValue]]] = {}
    for task in tasks:
        metric = metrics.get(headline_id(task))
        if metric is not None:
            headlines.setdefault(task.dimension, []).append((task.answers_from, metric))
    return {dimension: _score(metrics_of_dimension) for dimension, metrics_of_dimension in headlines.items()}


def _score(headlines: Sequence[tuple[str, MetricValue]]) -> TrustScore:
    """Return the mean of the headline metrics that have a value.

    Args:
        headlines: Task whose responses the metric was computed from, and the metric.
    """
    usable: list[tuple[str, MetricValue, float]] = []
    missing: list[str] = []
    for source, metric in headlines:
        if metric.value is None:
            missing.append(metric.id)
        else:
            usable.append((source, metric, metric.value))
    if not usable:
        return TrustScore(value=None, of=(), missing=tuple(missing), interval=None)
    numbers = [oriented(value, higher_is_better=metric.higher_is_better) for _, metric, value in usable]
    mean = sum(numbers) / len(numbers)
    return TrustScore(
        value=mean,
        of=tuple(metric.id for _, metric, _ in usable),
        missing=tuple(missing),
        interval=_score_interval(mean, usable),
    )


def _score_interval(mean: float, headlines: Sequence[tuple[str, MetricValue, float]]) -> Interval | None:
    """Return the interval of a trust score; None if one of its metrics has none."""
    parts: list[tuple[Hashable, float, Limits]] = []
    confidence = CONFIDENCE
    for source, metric, value in headlines:
        # limits of a metric that was not asked whole are of another kind and confidence
        if metric.interval is None or metric.stopped is not None:
            return None
        confidence = metric.interval.confidence
        # where lower is better, the upper limit becomes the lower one
        low, number, high = sorted(
            oriented(limit, higher_is_better=metric.higher_is_better)
            for limit in (metric.interval.low, value, metric.interval.high)
        )
        parts.append((source, number, (low, high)))
    method = "square-and-add of the headline metrics' intervals (Zou et al. 2009)"
    return interval_around(mean, (mean_by_source(parts), method), (0.0, 1.0), confidence)


def results_document(
    *,
    run: RunEntry,
    metrics: Mapping[str, MetricValue],
    scores: Mapping[str, TrustScore],
    gates: Sequence[GateEntry],
    usage: UsageEntry,
    coverage: Mapping[str, CoverageEntry],
    samples: str | None,
    full: Collection[str] = (),
) -> Results:
    """Return the results document (schema ``pytest-trustllm/results/1``).

    Args:
        run: What could change a number of the run.
        metrics: Id -> metric.
        scores: Dimension -> trust score.
        gates: Verdicts.
        usage: Requests, tokens, seconds and cost.
        coverage: Task -> what became of its samples.
        samples: Name of the samples file in the same directory.
        full: Tasks that ran over every row of the published data; only their metrics are ranked.
    """
    metric_entries: dict[str, MetricEntry] = {}
    for metric in metrics.values():
        task = metric.id.rpartition(".")[0]
        metric_entries[metric.id] = _metric_entry(metric, ranked=task in full)
    return {
        "schema": SCHEMA,
        "run": run,
        "metrics": metric_entries,
        "scores": {dimension: _scores_entry(score) for dimension, score in scores.items()},
        "gates": list(gates),
        "usage": usage,
        "samples": samples,
        "coverage": dict(coverage),
    }


def _metric_entry(metric: MetricValue, *, ranked: bool) -> MetricEntry:
    ci, confidence, method = _interval_fields(metric.interval)
    entry: MetricEntry = {
        "value": metric.value,
        "parity": metric.parity,
        "ci": ci,
        "confidence": confidence,
        "method": method,
        "expected": metric.expected,
        "scored": metric.scored,
        "unscored": metric.unscored,
        "higher_is_better": metric.higher_is_better,
        "range": list(metric.range),
        "asked": metric.asked,
        "planned": metric.planned,
        "stopped": metric.stopped,
    }
    if metric.value is None and metric.problem is not None:
        entry["problem"] = metric.problem
    if ranked:
        rank = _rank(metric)
        if rank is not None:
            entry["rank"] = rank
    return entry


def _scores_entry(score: TrustScore) -> ScoresEntry:
    ci, confidence, method = _interval_fields(score.interval)
    return {
        "value": score.value,
        "ci": ci,
        "confidence": confidence,
        "method": method,
        "of": list(score.of),
        "missing": list(score.missing),
    }


def _interval_fields(interval: Interval | None) -> tuple[list[float] | None, float | None, str | None]:
    """Return limits, confidence and method; three times None for a number without an interval."""
    if interval is None:
        return None, None, None
    return [interval.low, interval.high], interval.confidence, interval.method


def _rank(metric: MetricValue) -> RankEntry | None:
    """Return the rank among the published models, by the parity reading; None where it would be misleading.

    The published models answered the whole data set, so only a number over all of it can be ranked among theirs.
    Counted are this run's model and every model of which a number was published, so that the last rank equals the
    count. Equal values share the better rank.
    """
    board = catalogue.published_scores()
    if metric.parity is None or metric.id not in board.metrics or metric.scored < _RANKED * metric.expected:
        return None
    others = 0
    better = 0
    for scores in board.scores.values():
        score = scores.get(metric.id)
        if score is None:
            continue
        others += 1
        is_better = score > metric.parity if metric.higher_is_better else score < metric.parity
        if is_better:
            better += 1
    return {"position": better + 1, "of": others + 1}


def document_text(results: Results) -> str:
    """Return the text of a results file, in ASCII; equal documents have equal texts."""
    return json.dumps(results, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def write_document(path: Path, results: Results) -> None:
    """Write a results file, whole or not at all.

    Raises:
        ResultsError: It cannot be written.
    """
    write_whole(path, [document_text(results)], "--trust-results")


NamedFile = tuple[str, Path]
"""How messages name a file, such as by its flag, and its path."""


def keep_apart(outputs: Sequence[NamedFile], inputs: Sequence[NamedFile]) -> None:
    """Check that no file would be both read and written, or written twice.

    Args:
        outputs: Files that will be written.
        inputs: Files that are read.

    Raises:
        ResultsError: Two paths lead to one file, however they are spelled or linked.
    """
    read: dict[Hashable, str] = {}
    for name, path in inputs:
        read.update(dict.fromkeys(_identities(path) - read.keys(), name))
    written: dict[Hashable, str] = {}
    for flag, output in outputs:
        identities = _identities(output)
        for identity in identities & read.keys():
            raise ResultsError(
                f"{flag}: {output} is also the file of {read[identity]} and would be overwritten; name another file"
            )
        for identity in identities & written.keys():
            raise ResultsError(f"{flag}: {output} is also the file of {written[identity]}; name another file")
        written.update(dict.fromkeys(identities, flag))


def _identities(path: Path) -> set[Hashable]:
    """Return what two paths have in common if they lead to one file: the way without links, and the file's number."""
    identities: set[Hashable] = set()
    with contextlib.suppress(OSError, RuntimeError):  # a link to itself
        identities.add(path.resolve())
    with contextlib.suppress(OSError):  # it does not exist
        status = path.stat()
        identities.add((status.st_dev, status.st_ino))
    return identities


def tasks_of(suites: Iterable[Suite]) -> list[Task]:
    """Return all tasks in suite order."""
    return [task for suite in suites for task in suite.tasks]
