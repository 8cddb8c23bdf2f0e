"""Rates of a run, corrected for the mistakes of the judge or classifier that counted them.

What ``pytest-trustllm judge-check`` measured about a model of a role travels with the results. A rate that is a plain
share of that model's verdicts is reported with a corrected one:

- If people labelled responses of this very run, by prediction-powered inference: it takes nothing for granted.
- Otherwise from the sensitivity and specificity that the labels showed elsewhere. That takes for granted that the judge
  errs on these responses as often as it did on those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.formats import CorrectedEntry, DrawnLabels, EstimateEntry, JudgeCheckEntry, SampleLine
from pytest_trustllm.metrics.observations import ObservedSample
from pytest_trustllm.results.judge_check_file import RunFacts, concerned_tasks, why_stale
from pytest_trustllm.results.label_draw import frame_digest, judged_units
from pytest_trustllm.results.metric_inputs import MetricInput
from pytest_trustllm.stats.agreement import Estimate, corrected_rate, with_part_by_rule
from pytest_trustllm.stats.intervals import normal_quantile
from pytest_trustllm.stats.means import Tally, effective_trials
from pytest_trustllm.stats.prediction_powered import METHOD, Unit, powered_share
from pytest_trustllm.stats.shares import wilson
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.verdict_rates import is_verdict_rate
from pytest_trustllm.types import MetricValue, digest

ROGAN_GLADEN = "Rogan and Gladen (1978), Lang and Reiczigel (2014)"
ResponseKey = tuple[str, str, int]
"""Task, sample and epoch of a response."""


# --- which responses people labelled ----------------------------------------------------------------------------------


def response_hash(texts: Sequence[str | None]) -> str:
    """Return the hash of the responses of one epoch of a sample."""
    return digest(list(texts))[:32]


def epoch_texts(line: SampleLine, epoch: int) -> list[str | None]:
    """Return the responses of one epoch of a sample; none if its line lacks them."""
    return [entry["text"] for entry in line.get("responses", ()) if entry.get("epoch", 0) == epoch]


def labelled_samples(judge_checks: Iterable[JudgeCheckEntry]) -> set[tuple[str, str]]:
    """Return task and id of the samples that people labelled responses of."""
    samples: set[tuple[str, str]] = set()
    for judge_check in judge_checks:
        if "drawn" in judge_check and judge_check["task"] is not None:
            task = judge_check["task"]["id"]
            samples.update((task, label["id"]) for label in judge_check["drawn"]["labels"])
    return samples


def response_hashes(judge_checks: Sequence[JudgeCheckEntry], lines: Iterable[SampleLine]) -> dict[ResponseKey, str]:
    """Return the hashes of those responses of a run that people may have labelled.

    Args:
        judge_checks: Of the run.
        lines: Of its samples file; it is not read if no check has labels on responses of a run.
    """
    wanted = labelled_samples(judge_checks)
    hashes: dict[ResponseKey, str] = {}
    if not wanted:
        return hashes
    for line in lines:
        if (line["task"], line["id"]) in wanted:
            for epoch in {entry.get("epoch", 0) for entry in line.get("responses", ())}:
                hashes[line["task"], line["id"], epoch] = response_hash(epoch_texts(line, epoch))
    return hashes


def _why_no_part(
    drawn: DrawnLabels, task: Task, samples: Iterable[ObservedSample], hashes: Mapping[ResponseKey, str]
) -> str | None:
    """Return why the labelled responses are not a random part of those of this run; None if they are."""
    count = len(drawn["labels"])
    own = sum(hashes.get((task.id, label["id"], label["epoch"])) == label["response"] for label in drawn["labels"])
    units = judged_units(samples)
    if frame_digest(units) == drawn["frame"] and own == count:
        return None
    if not own:
        return "labels on other responses"
    if len(units) != drawn["responses"]:
        return f"labels drawn from {drawn['responses']} responses, and {len(units)} of this run have a verdict"
    if own < count:
        return f"labels on {own} responses of this run and {count - own} others"
    return "labels drawn from these responses with other verdicts"


# --- corrections ------------------------------------------------------------------------------------------------------


class Corrections:
    """The corrected rates of a run.

    Args:
        judge_checks: What :func:`~pytest_trustllm.results.judge_check_file.read_judge_check` returned.
        facts: Of the run.
        samples: Task -> its samples.
        metrics: Of the run; those that were not asked whole are left out, since intervals for a fixed number of answers
            do not hold where the answers said when to stop.
        metric_input: Returns what a metric was computed from.
        hashes: What :func:`response_hashes` returned.
    """

    def __init__(
        self,
        judge_checks: Sequence[JudgeCheckEntry],
        facts: RunFacts,
        samples: Mapping[str, Sequence[ObservedSample]],
        metrics: Mapping[str, MetricValue],
        metric_input: Callable[[str], MetricInput | None],
        hashes: Mapping[ResponseKey, str],
    ) -> None:
        self._metric_input = metric_input
        self._checks: dict[str, JudgeCheckEntry] = {}
        self._problems: dict[str, str] = {}
        self._labels: dict[str, Mapping[tuple[str, int], float]] = {}
        self._unused: dict[str, str] = {}
        self._rates: dict[str, float] = {}
        for judge_check in judge_checks:
            problem = why_stale(judge_check, facts)
            for task in concerned_tasks(judge_check, facts.tasks):
                drawn = judge_check.get("drawn")
                labels: Mapping[tuple[str, int], float] | None = None
                unused: str | None = None
                if problem is None and drawn is not None and drawn["labels"]:
                    unused = _why_no_part(drawn, task, samples.get(task.id, ()), hashes)
                    if unused is None:
                        labels = {(label["id"], label["epoch"]): label["label"] for label in drawn["labels"]}
                for id_, rate in _plain_rates(task, metrics):
                    self._checks[id_] = judge_check
                    self._rates[id_] = rate
                    self._problems.pop(id_, None)  # of a check about all tasks, which this one replaces
                    if problem is not None:
                        self._problems[id_] = f"stale judge check: {problem}"
                    if unused is not None:
                        self._unused[id_] = unused
                    if labels is not None:
                        self._labels[id_] = labels

    def entries(self) -> dict[str, CorrectedEntry]:
        """Return metric id -> the corrected rate, for every rate that a check is about."""
        return {id_: self.corrected(id_, check["confidence"]) for id_, check in self._checks.items()}

    def about(self, id_: str) -> bool:
        """Return whether a check is about a metric."""
        return id_ in self._checks

    def corrected(self, id_: str, confidence: float | None = None) -> CorrectedEntry:
        """Return a corrected rate.

        Args:
            id_: Of a metric that a check is about.
            confidence: Of the interval; None: that of the check.
        """
        judge_check = self._checks[id_]
        if confidence is None:
            confidence = judge_check["confidence"]
        if id_ in self._problems:
            none: CorrectedEntry = {"value": None, "ci": None, "confidence": confidence, "method": ROGAN_GLADEN}
            return {**none, "reason": self._problems[id_]}
        by_rates = self._by_rates(id_, judge_check, confidence)
        if id_ not in self._labels:
            if id_ in self._unused:
                by_rates["labels_unused"] = self._unused[id_]
            return by_rates
        entry = self._by_labels(id_, self._labels[id_], confidence)
        entry["rogan_gladen"] = by_rates
        return entry

    def _by_rates(self, id_: str, judge_check: JudgeCheckEntry, confidence: float) -> CorrectedEntry:
        """Correct a rate by the judge's sensitivity and specificity."""
        metric_input = self._input(id_)
        by_rule = _ByRule.of(metric_input.samples)
        if by_rule.count == 0:
            estimate = _corrected(self._rates[id_], metric_input, judge_check, confidence)
        elif by_rule.count == by_rule.total:
            reason = f"all {by_rule.count} responses were counted by a rule, so that no verdict needs a correction"
            estimate = Estimate(None, None, by_rule.count, reason)
        else:
            judged = _corrected(by_rule.judged_rate, metric_input.judged(), judge_check, confidence)
            estimate = by_rule.put_back(judged, confidence)
        entry: CorrectedEntry = {
            "value": estimate.value,
            "ci": None if estimate.ci is None else list(estimate.ci),
            "confidence": confidence,
            "method": ROGAN_GLADEN,
        }
        if estimate.reason is not None:
            entry["reason"] = estimate.reason
        if by_rule.count:
            entry["by_rule"] = by_rule.count
        return entry

    def _by_labels(self, id_: str, labels: Mapping[tuple[str, int], float], confidence: float) -> CorrectedEntry:
        """Correct a rate by labels on some of its responses."""
        units: list[Unit] = []
        for unit in judged_units(self._input(id_).samples):
            units.append(Unit(unit.verdict, labels.get(unit.key), unit.cluster))
        share = powered_share(units, confidence)
        entry: CorrectedEntry = {
            "value": share.value,
            "ci": None if share.ci is None else list(share.ci),
            "confidence": confidence,
            "method": METHOD,
            "labels": share.labels,
        }
        if share.power is not None:
            entry["power"] = share.power
        if share.reason is not None:
            entry["reason"] = share.reason
        return entry

    def _input(self, id_: str) -> MetricInput:
        metric_input = self._metric_input(id_)
        assert metric_input is not None  # noqa: S101 - every metric of the run was computed from something
        return metric_input


@dataclass(frozen=True, slots=True)
class _ByRule:
    """The part of a rate that no judge has seen: prompts that the provider blocked may be counted as refusals.

    Attributes:
        count: Observations that a rule gave.
        total: All observations.
        rate: Share of the counted label among the observations by rule; all have the same score, so 0 or 1.
        judged_rate: The same among the others.
        tally: Of all observations, 1 for those that were judged.
        together: A cluster has observations of both kinds.
    """

    count: int
    total: int
    rate: float
    judged_rate: float
    tally: Tally
    together: bool

    @classmethod
    def of(cls, samples: Iterable[ObservedSample]) -> _ByRule:
        tally = Tally()
        values: dict[bool, list[float]] = {False: [], True: []}
        clusters: dict[bool, set[str]] = {False: set(), True: set()}
        for sample in samples:
            for observation, by_rule in zip(sample.corrected, sample.by_rule, strict=True):
                tally.add(sample.cluster, float(not by_rule), 1.0)
                values[by_rule].append(float(observation["value"]))
                clusters[by_rule].add(sample.cluster)
        together = not clusters[True].isdisjoint(clusters[False])
        rate, judged_rate = (_mean(values[kind]) for kind in (True, False))
        return cls(len(values[True]), tally.observations, rate, judged_rate, tally, together)

    def put_back(self, judged: Estimate, confidence: float) -> Estimate:
        """Return the rate over all observations, from that of the judged ones."""
        share = 1 - self.count / self.total
        limits = wilson(share, effective_trials(self.tally, confidence), normal_quantile(confidence))
        return with_part_by_rule(judged, share, limits, self.rate, together=self.together)


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers) if numbers else 0.0


def _corrected(rate: float, metric_input: MetricInput, judge_check: JudgeCheckEntry, confidence: float) -> Estimate:
    """Return a rate, all of whose observations were judged, without the judge's mistakes."""
    sensitivity = _estimate(judge_check["sensitivity"], "sensitivity")
    specificity = _estimate(judge_check["specificity"], "specificity")
    return corrected_rate(rate, metric_input.effective_trials(confidence), sensitivity, specificity, confidence)


def _plain_rates(task: Task, metrics: Mapping[str, MetricValue]) -> Iterator[tuple[str, float]]:
    """Yield id and value of every metric and sub-metric of a task that is a plain share of verdicts."""
    names = {task.metric_id(spec.name) for spec in task.metrics if is_verdict_rate(task, spec)}
    for id_, metric in metrics.items():
        name = id_.partition("{")[0]
        if name in names and metric.value is not None and metric.stopped is None:
            yield id_, metric.value


def _estimate(entry: EstimateEntry, name: str) -> Estimate:
    ci = entry["ci"]
    limits = None if ci is None else (ci[0], ci[1])
    reason = entry.get("reason")
    if entry["value"] is None and not reason:  # what judge-check writes has one, but a file can be edited
        reason = f"the judge check has no {name}"
    return Estimate(entry["value"], limits, entry["n"], reason)
