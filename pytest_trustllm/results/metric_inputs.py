"""The samples that each metric of a run is computed from, and the number and interval that they yield."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_trustllm.errors import ScorerError, one_line
from pytest_trustllm.metrics.base import Averaged, Observation, SelfBounded, Tabled
from pytest_trustllm.metrics.observations import ObservedSample, Scoring, group_values, parts_of
from pytest_trustllm.results.readings import compute_reading
from pytest_trustllm.scorers.base import sub_scores_of
from pytest_trustllm.stats import bootstrap, jackknife, means
from pytest_trustllm.stats.intervals import Limits, LimitsAndMethod
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Interval, SubScores

_MEAN_TOLERANCE = 1e-9
"""How far, as a share of the range, a mean may be from the metric's own value: they add up in different orders."""


class Computed(NamedTuple):
    """A computed number.

    Attributes:
        value: None if there is none.
        problem: Why there is no value, if the user should know.
    """

    value: float | None
    problem: str | None = None


@dataclass(slots=True)
class Clustered:
    """Observations with the cluster of each: those of one group of a macro average, or all."""

    observations: list[Observation] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)

    def add(self, observation: Observation, cluster: str) -> None:
        """Append an observation."""
        self.observations.append(observation)
        self.clusters.append(cluster)


@dataclass(frozen=True, slots=True)
class MetricInput:
    """What one metric or sub-metric is computed from.

    Attributes:
        id: Of the metric.
        task: Whose metric it is.
        spec: How to compute it.
        by: Name of the group that a macro average is taken over.
        samples: All that the metric is about, with or without a score.
        seed: Random numbers depend only on it and the metric's id.
    """

    id: str
    task: Task
    spec: MetricSpec
    by: str | None
    samples: Sequence[ObservedSample]
    seed: int

    @property
    def groups(self) -> list[str]:
        """All values of the group, sorted."""
        if self.by is None:
            return []
        return group_values(self.samples, self.by)

    def reading(self, scoring: Scoring) -> Reading:
        """Return how a reading is computed."""
        if scoring == "value":
            return self.spec.value
        return self.spec.parity

    def compute(self, scoring: Scoring = "value") -> Computed:
        """Compute a reading. A metric that raises or returns NaN has no value: it may be the user's own code."""
        if scoring == "parity" and any(sample.parity is None for sample in self.samples):
            return Computed(None)
        if scoring == "value" and self._rests_on_silence():
            return Computed(None, "no sample has a response")
        observations = self._observations(scoring).observations
        try:
            value = compute_reading(self.reading(scoring), observations, self.groups, self.by)
        except ScorerError as e:
            return Computed(None, one_line(e))
        except Exception as e:  # noqa: BLE001 - it costs its own number, with its name, and not the results of the run
            return Computed(None, f"the metric raised {type(e).__name__}: {one_line(e)}")
        if value is None:
            return Computed(None)
        if not math.isfinite(value):
            return Computed(None, f"the metric is {value}, which is not a finite number")
        return Computed(float(value))

    def _rests_on_silence(self) -> bool:
        """Return whether all scores, or all of one group of a macro average, are of samples without a response.

        Such scores come from a rule, so that a model that was never reached would seem to have been measured.
        """
        scored = [sample for sample in self.samples if sample.scored]
        if self.spec.value.average == "pooled" or self.by is None:
            return bool(scored) and not any(sample.answered for sample in scored)
        answered_groups = {sample.group.get(self.by) for sample in scored if sample.answered}
        return any(sample.group.get(self.by) not in answered_groups for sample in scored)

    def interval(self, value: float | None, confidence: float, scoring: Scoring = "value") -> Interval | None:
        """Return the interval of a reading; None if it has none.

        Args:
            value: The reading itself.
            confidence: In (0, 1).
            scoring: Which reading.
        """
        if value is None:
            return None
        try:
            estimated = self._limits(value, confidence, scoring)
        except Exception:  # noqa: BLE001 - a user's metric that breaks on fewer samples has no interval
            return None
        if estimated is None:
            return None
        low, high = self.reading(scoring).metric.range
        return interval_around(value, estimated, (float(low), float(high)), confidence)

    def effective_trials(self, confidence: float) -> float:
        """Return how many independent samples would determine a plain mean as well as these, which may be clustered.

        Args:
            confidence: In (0, 1).
        """
        metric = self.spec.value.metric
        tally = _tally(metric, self._observations("value"), metric.range)
        return means.effective_trials(tally, confidence)

    def judged(self) -> MetricInput:
        """Return the input without the observations that a rule gave and no judge."""
        return dataclasses.replace(self, samples=[sample.judged() for sample in self.samples])

    def share_trials(self, scoring: Scoring, confidence: float) -> float | None:
        """Return how many independent trials a plain share is worth; None if the metric is no share of all samples.

        Args:
            scoring: Which reading.
            confidence: In (0, 1).
        """
        reading = self.reading(scoring)
        metric, limits = reading.metric, reading.metric.range
        if not isinstance(metric, Averaged) or (reading.average == "macro" and len(self.groups) > 1):
            return None
        tally = _tally(metric, self._observations(scoring), limits)
        if not tally.weighted or not tally.binary:
            return None
        return means.effective_trials(tally, confidence)

    def _observations(self, scoring: Scoring) -> Clustered:
        pooled = Clustered()
        for sample in self.samples:
            for observation in sample.observations(scoring):
                pooled.add(observation, sample.cluster)
        return pooled

    def _limits(self, value: float, confidence: float, scoring: Scoring) -> LimitsAndMethod | None:
        """Return limits by the method that suits the metric's kind; for a metric of unknown kind, by the jackknife."""
        reading = self.reading(scoring)
        pooled = self._observations(scoring)
        if not pooled.observations:
            return None
        parts = _parts(reading, pooled, self.groups, self.by)
        metric = reading.metric
        if isinstance(metric, Averaged):
            limits = _mean_limits(reading, metric, parts, value, confidence)
            if limits is not None:
                return limits
        elif isinstance(metric, SelfBounded) and len(parts) == 1:
            return metric.limits(parts[0].observations, parts[0].clusters, confidence)
        elif isinstance(metric, Tabled):
            return self._bootstrap_limits(metric, parts, confidence, scoring)
        return self._jackknife_limits(reading, pooled, value, confidence)

    def _bootstrap_limits(
        self, metric: Tabled, parts: Sequence[Clustered], confidence: float, scoring: Scoring
    ) -> LimitsAndMethod | None:
        random = bootstrap.seeded_generator(self.seed, f"{self.id}/{scoring}")
        clusters = [cluster for part in parts for cluster in part.clusters]
        distinct_clusters = len(set(clusters))
        method = f"Bayesian bootstrap, {bootstrap.DRAWS} draws"
        weights = None
        if distinct_clusters < len(clusters):
            # drawn once for all groups, since a cluster may have samples in several
            weights = bootstrap.cluster_weights(clusters, random)
            method += ", clustered"
        total: Any = 0.0
        for part in parts:
            if part.observations:
                outcomes = metric.outcomes(part.observations)
                total = total + bootstrap.bootstrap_draws(
                    outcomes, part.clusters, metric.prior, metric.of_shares, weights, random
                )
        limits = bootstrap.percentiles(total / len(parts), distinct_clusters - len(parts) + 1, confidence)
        if limits is None:
            return None
        return limits, method

    def _jackknife_limits(
        self, reading: Reading, pooled: Clustered, value: float, confidence: float
    ) -> LimitsAndMethod | None:
        def without(left_out: frozenset[Hashable]) -> float | None:
            rest = []
            for observation, cluster in zip(pooled.observations, pooled.clusters, strict=True):
                if cluster not in left_out:
                    rest.append(observation)
            return compute_reading(reading, rest, self.groups, self.by)

        return jackknife.jackknife_limits(pooled.clusters, without, value, reading.metric.range, confidence)


def _parts(reading: Reading, pooled: Clustered, groups: Sequence[str], by: str | None) -> list[Clustered]:
    """Return the observations of every group of a macro average, or of all samples together."""
    if reading.average == "pooled" or by is None:
        return [pooled]
    parts = {group: Clustered() for group in groups}
    for observation, cluster in zip(pooled.observations, pooled.clusters, strict=True):
        part = parts.get(observation["group"].get(by))
        if part is not None:
            part.add(observation, cluster)
    return list(parts.values())


def _mean_limits(
    reading: Reading, metric: Averaged, parts: Sequence[Clustered], value: float, confidence: float
) -> LimitsAndMethod | None:
    """Return limits of a mean; None if the metric is not the mean that it claims to be."""
    low, high = reading.metric.range
    span = high - low
    tallies = [_tally(metric, part, (low, high)) for part in parts]
    # a group without an observation counts as a fixed number, which adds no doubt
    fixed = sum(not tally.observations for tally in tallies)
    estimated = means.mean_limits(tallies, confidence, fixed)
    if estimated is None:
        return None
    group_means = [tally.mean if tally.weighted else 0.0 for tally in tallies]
    mean = low + span * math.fsum(group_means) / len(group_means)
    # a rounded reading may differ from its mean; any other must not
    if not reading.digits and not math.isclose(mean, value, rel_tol=0, abs_tol=_MEAN_TOLERANCE * span):
        return None
    (below, above), method = estimated
    return (low + span * below, low + span * above), method


def _tally(metric: Averaged, part: Clustered, limits: Limits) -> means.Tally:
    """Return the sums of a mean, with its numbers moved from their range to [0, 1]."""
    low, high = limits
    tally = means.Tally()
    terms = metric.terms(part.observations)
    for cluster, (number, weight) in zip(part.clusters, terms, strict=True):
        tally.add(cluster, (number - low * weight) / (high - low), weight)
    return tally


def interval_around(value: float, estimated: LimitsAndMethod, metric_range: Limits, confidence: float) -> Interval:
    """Return an interval that contains its value and does not exceed the metric's range."""
    (low, high), method = estimated
    least, most = metric_range
    return Interval(min(value, max(low, least)), max(value, min(high, most)), confidence, method)


def metric_inputs(task: Task, samples: Sequence[ObservedSample], seed: int) -> Iterator[MetricInput]:
    """Yield what every metric and sub-metric of a task is computed from; a metric comes before its sub-metrics."""
    for spec in task.metrics:
        chosen = [sample for sample in samples if _matches(sample, spec)]
        names = [name for name in task.group if name not in spec.where]
        whole = MetricInput(task.metric_id(spec.name), task, spec, names[0] if names else None, chosen, seed)
        yield whole
        for name in names:
            for value in group_values(chosen, name):
                members = [sample for sample in chosen if sample.group.get(name) == value]
                yield dataclasses.replace(whole, id=f"{whole.id}{{{name}={value}}}", by=name, samples=members)
        yield from _of_parts(whole)


def _of_parts(whole: MetricInput) -> Iterator[MetricInput]:
    """Yield the sub-metrics of the parts that a score has, if the metric is one of the score itself."""
    sub_scores = _sub_scores(whole)
    if sub_scores is not None:
        for name in parts_of(whole.samples, sub_scores):
            yield _of_part(whole, sub_scores, name)


def whole_of(id_: str) -> str:
    """Return the id of the metric that a sub-metric is of; that of a metric as it is."""
    return id_.partition("{")[0]


def absent_part(whole: MetricInput, id_: str) -> MetricInput | None:
    """Return the sub-metric of a part that no sample has, where the scorer says what it is then.

    A guard that names a category for no response calls every response safe in this way: that is a number, and another
    run's can be compared with it.

    Args:
        whole: The metric.
        id_: Of the sub-metric.

    Returns:
        None if there is no number for such a part.
    """
    sub_scores = _sub_scores(whole)
    if sub_scores is None or sub_scores.absent is None or sub_scores.group in whole.task.group:
        return None
    begin = f"{whole.id}{{{sub_scores.group}="
    if not (id_.startswith(begin) and id_.endswith("}")):
        return None
    return _of_part(whole, sub_scores, id_.removeprefix(begin).removesuffix("}"))


def _sub_scores(whole: MetricInput) -> SubScores | None:
    """Return the parts that are sub-metrics of a metric; None if it is not one of the score itself."""
    if getattr(whole.spec.value.metric, "of", None) != "value":
        return None
    return sub_scores_of(whole.task.scorer)


def _of_part(whole: MetricInput, sub_scores: SubScores, name: str) -> MetricInput:
    samples = [sample.of_part(sub_scores, name) for sample in whole.samples]
    return dataclasses.replace(whole, id=f"{whole.id}{{{sub_scores.group}={name}}}", samples=samples)


def _matches(sample: ObservedSample, spec: MetricSpec) -> bool:
    """Return whether a metric is about a sample: YAML may give the value of a group as a number."""
    return all(sample.group.get(name) == str(value) for name, value in spec.where.items())
