"""Gates on a drop since the baseline that are decided early: the pairs of answers are the population."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pytest_trustllm.formats import Record
from pytest_trustllm.gates.evidence import Control, Watcher
from pytest_trustllm.gates.planned import Contribution, PlannedSample, Unit
from pytest_trustllm.gates.tracking import TrackedMetric
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.metrics.base import Bounded
from pytest_trustllm.metrics.observations import ObservedSample, Scoring, observed_sample, task_scores
from pytest_trustllm.stats.sequences import HIGH_STAKES, Evidence
from pytest_trustllm.suites.metric_specs import MetricSpec
from pytest_trustllm.suites.pairing import pair


class EarlierSample(NamedTuple):
    """What a baseline has of one sample of a metric.

    Attributes:
        fingerprint: Of the sample.
        id: Of the sample.
        number: Mean of its numbers over the epochs; None: it has no usable score.
    """

    fingerprint: str
    id: str
    number: float | None


def earlier_samples(
    records: Iterable[Record], task_id: str, spec: MetricSpec, group: tuple[str, str] | None, scoring: Scoring
) -> list[EarlierSample]:
    """Return the samples of a metric in a baseline; those that the task did not apply to are left out.

    Args:
        records: Of the baseline.
        task_id: Whose metric it is.
        spec: The metric.
        group: Name and value of the group of a sub-metric.
        scoring: Which reading.
    """
    metric = (spec.value if scoring == "value" else spec.parity).metric
    samples: list[EarlierSample] = []
    for record in records:
        for scored_task, score in task_scores(record):
            if scored_task != task_id or not _counts(record["group"], spec, group):
                continue
            observed = observed_sample(record, score)
            if observed.applies:
                samples.append(EarlierSample(observed.fingerprint, observed.id, _number(metric, observed, scoring)))
    return samples


def _counts(groups: Mapping[str, str], spec: MetricSpec, group: tuple[str, str] | None) -> bool:
    if group is not None and groups.get(group[0]) != group[1]:
        return False
    return all(groups.get(name) == str(value) for name, value in spec.where.items())


def _number(metric: object, sample: ObservedSample, scoring: Scoring) -> float | None:
    observations = sample.observations(scoring)
    if not observations or not isinstance(metric, Bounded):
        return None
    terms = metric.terms(observations)
    return math.fsum(number for number, _ in terms) / len(terms)


class DropEvidence(Watcher):
    """Evidence on which side of the bound a drop will be.

    A pair adds ``bound - loss``, the loss being how much worse the sample has become; a pair without two scores adds
    nothing. The drop is within the bound exactly if all pairs together add up to 0 or more.

    Args:
        gate: On the drop.
        tracked: Its metric.
        units: All units of the task.
        before: The baseline's samples of the metric.
    """

    def __init__(
        self, gate: Gate, tracked: TrackedMetric, units: Sequence[Unit], before: Sequence[EarlierSample]
    ) -> None:
        self.usable = 0
        self._sign = 1.0 if gate.higher_is_better else -1.0
        self._bound = gate.bound
        self._min_scored = gate.policy.min_scored
        self._span = tracked.span
        self._pairs = _paired(tracked, units, before)
        self.pairs = len(self._pairs)
        self._most = max(len(unit) for unit in units)
        self._null = (self._span - self._bound) / (2 * self._span)
        self._within = Evidence(len(units), self._null, HIGH_STAKES)
        self._beyond = Evidence(len(units), 1.0 - self._null)
        self._scored = Evidence(len(units), self._min_scored, HIGH_STAKES)

    def take(
        self, unit: Unit, contributions: Sequence[Contribution | None], states: Sequence[ObservedSample | None]
    ) -> None:
        """Draw a unit."""
        least = most = scored = 0.0
        for sample, contribution, state in zip(unit, contributions, states, strict=True):
            if sample.id not in self._pairs:
                continue
            low, high = self._extremes(self._pairs[sample.id], contribution, state)
            least += low
            most += high
            is_usable = contribution is not None and contribution.weight > 0 and self._pairs[sample.id] is not None
            self.usable += is_usable
            scored += is_usable - self._min_scored
        scale = 2 * self._span * self._most
        self._within.add(_share(self._null + least / scale))
        self._beyond.add(_share(1.0 - self._null - most / scale))
        self._scored.add(_share(self._min_scored + scored / self._most))

    def _extremes(
        self, before: float | None, contribution: Contribution | None, state: ObservedSample | None
    ) -> tuple[float, float]:
        """Return the least and the greatest that a pair can add."""
        if before is None:
            return 0.0, 0.0
        if state is None:  # after an error the sample may be asked again
            return self._bound - self._span, self._bound + self._span
        if contribution is None or not contribution.weight:
            return 0.0, 0.0
        loss = self._sign * (before - contribution.number / contribution.weight)
        return self._bound - loss, self._bound - loss

    def is_within(self, level: float) -> bool:
        """Return whether the drop is within the bound, but for a probability of ``level``."""
        scored = self._min_scored <= 0.0 or self._scored.reaches(level)
        return scored and 0.0 < self._null < 1.0 and self._within.reaches(level)

    def is_beyond(self, level: float) -> bool:
        """Return whether the drop exceeds the bound, but for a probability of ``level``."""
        return 0.0 < self._null < 1.0 and self._beyond.reaches(level)


def _share(number: float) -> float:
    return min(1.0, max(0.0, number))


def _paired(tracked: TrackedMetric, units: Sequence[Unit], before: Sequence[EarlierSample]) -> dict[str, float | None]:
    """Return id of a planned sample -> the number of the same sample in the baseline."""
    planned: list[EarlierSample] = []
    for unit in units:
        planned += [_as_pair(sample) for sample in unit if tracked.counts(sample)]
    pairing = pair(before, planned, lambda sample: (sample.fingerprint, sample.id))
    return {later.id: earlier.number for earlier, later in pairing.shared}


def control_of(tracked: TrackedMetric, units: Sequence[Unit], before: Sequence[EarlierSample] | None) -> Control | None:
    """Return what helps to bound a metric by its changes since the baseline; None if nothing does.

    Args:
        tracked: The metric, before anything was asked.
        units: All units of its task.
        before: The baseline's samples of the metric; None without a baseline.
    """
    if not before:
        return None
    return tracked.control(units, _paired(tracked, units, before))


def _as_pair(sample: PlannedSample) -> EarlierSample:
    return EarlierSample(sample.fingerprint, sample.id, None)
