"""What the samples asked so far say about the number that a metric will have when all of them have been asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.formats import Record
from pytest_trustllm.gates.evidence import Control, CoverageEvidence, ValueEvidence, Watcher
from pytest_trustllm.gates.planned import Bounds, Contribution, PlannedSample, Unit
from pytest_trustllm.metrics.base import Bounded
from pytest_trustllm.metrics.observations import ObservedSample, Scoring, observed_sample, task_scores
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import MEAN

_ROUNDING = 1e-9
"""How far, as a share of the range, a sum of fractions may be from the one that the metric computes."""


@dataclass(slots=True)
class _Part:
    """One group of a macro average, or all samples.

    Attributes:
        open: Observations that may still come.
        total: Sum of weight times number.
        weight: Sum of weights.
        measured: A sample has a response and a score.
        fractions: A number or weight was neither 0 nor 1.
    """

    open: float = 0.0
    total: float = 0.0
    weight: float = 0.0
    measured: bool = False
    fractions: bool = False


@dataclass(slots=True)
class _Coverage:
    """How many samples of the metric have a score.

    Attributes:
        expected: Samples asked that the metric is about.
        scored: Those with a response and a score.
        open: Samples of the metric that are still open.
        doubtful: Open samples that may turn out to belong to the metric, or to lose their group.
    """

    expected: int = 0
    scored: int = 0
    open: int = 0
    doubtful: int = 0

    def assured(self, min_scored: float) -> bool:
        """Return whether enough samples have a score even if no further one gets one."""
        most_expected = self.expected + self.doubtful
        return most_expected > 0 and self.scored > 0 and self.scored / most_expected >= min_scored

    def hopeless(self, min_scored: float) -> bool:
        """Return whether too few samples have a score even if every further one gets one."""
        if not self.expected:
            return False
        return (self.scored + self.open) / (self.expected + self.open) < min_scored


def why_unbounded(spec: MetricSpec, scoring: Scoring) -> str | None:
    """Return why nothing can be said about a metric before all samples are asked; None if something can."""
    reading = _reading(spec, scoring)
    if not isinstance(reading.metric, Bounded):
        return "the samples not yet asked can move this metric anywhere"
    return None


def _reading(spec: MetricSpec, scoring: Scoring) -> Reading:
    return spec.value if scoring == "value" else spec.parity


class TrackedMetric:
    """One reading of one metric or sub-metric, while its samples are being asked.

    Args:
        task: Whose metric it is; it may read another task's responses.
        spec: The metric; :func:`why_unbounded` finds nothing against it.
        group: Name and value of the group of a sub-metric; None: the metric itself.
        scoring: Which reading.
        units: All planned samples of the task whose responses are scored, as they are asked together.
        epochs: How often each is asked.

    Attributes:
        problem: Why the metric can no longer be bounded; None if it can.
        coverage: How many samples have a score.
        planned: How many samples the metric is about.
    """

    def __init__(
        self,
        task: Task,
        spec: MetricSpec,
        group: tuple[str, str] | None,
        scoring: Scoring,
        units: Sequence[Unit],
        epochs: int,
    ) -> None:
        self.problem: str | None = None
        self._task = task
        self._spec = spec
        self._group = group
        self._scoring = scoring
        self._reading = _reading(spec, scoring)
        self._epochs = epochs if task.reducer == MEAN else 1
        low, high = self._reading.metric.range
        self._low, self._span = float(low), float(high) - float(low)
        self._by = self._macro_group()
        self._parts: dict[str, _Part] = {}
        self.coverage = _Coverage()
        for unit in units:
            for sample in unit:
                self._plan(sample)
        self.planned = self.coverage.open
        self._watchers: list[Watcher] = []

    # --- the plan -------------------------------------------------------------------------------------------------

    def _macro_group(self) -> str | None:
        """Return the group that a macro average is taken over; None if all samples count alike."""
        if self._reading.average == "pooled" or self._group is not None:
            return None
        names = [name for name in self._task.group if name not in self._spec.where]
        return names[0] if names else None

    def _plan(self, sample: PlannedSample) -> None:
        if self._group is not None:  # an open sample of another group may lose its group to an error
            self.coverage.doubtful += 1
        if not self.counts(sample):
            return
        self.coverage.open += 1
        if self._group is None:
            self.coverage.doubtful += 1
        part = self._part_of(sample)
        if part is not None:
            self._parts.setdefault(part, _Part()).open += self._epochs

    def counts(self, sample: PlannedSample) -> bool:
        """Return whether the metric is about a sample."""
        if self._group is not None:
            name, value = self._group
            if sample.group.get(name) != value:
                return False
        return all(sample.group.get(name) == str(value) for name, value in self._spec.where.items())

    def _part_of(self, sample: PlannedSample) -> str | None:
        if self._by is None:
            return ""
        return sample.group.get(self._by)

    # --- answers --------------------------------------------------------------------------------------------------

    def take(self, unit: Unit, records: Sequence[Record]) -> None:
        """Take the records of a unit, one per sample."""
        contributions: list[Contribution | None] = []
        states: list[ObservedSample | None] = []
        for sample, record in zip(unit, records, strict=True):
            state = self._observed(record)
            states.append(state)
            contributions.append(self._count(sample, state))
        if self.problem is None:
            for watcher in self._watchers:
                watcher.take(unit, contributions, states)

    def _observed(self, record: Record) -> ObservedSample | None:
        """Return what was observed of a sample; None if it may yet be asked again, after an error."""
        if record.get("cut") or record.get("pending"):
            self.problem = "some of its answers are left for the next run"
            return None
        if record["status"] == "error":
            return None
        for task_id, score in task_scores(record):
            if task_id == self._task.id:
                return observed_sample(record, score)
        return None

    def _count(self, sample: PlannedSample, state: ObservedSample | None) -> Contribution | None:
        """Count a sample; None if it stays open or is no part of the metric."""
        if state is None:
            return None
        if self._group is not None:
            self.coverage.doubtful -= 1
        if not self.counts(sample):
            return None
        if self._group is None:
            self.coverage.doubtful -= 1
        self.coverage.open -= 1
        self.coverage.expected += state.applies
        self.coverage.scored += state.counts_as_scored
        name = self._part_of(sample)
        if name is None:
            return None
        part = self._parts[name]
        part.open -= self._epochs
        part.measured = part.measured or state.counts_as_scored
        number, weight = self._sums(state, part)
        part.total += number
        part.weight += weight
        return Contribution(name, number, weight)

    def _sums(self, state: ObservedSample, part: _Part) -> tuple[float, float]:
        """Return the sums of weighted numbers and weights of a sample's observations."""
        if self._scoring == "parity" and state.parity is None:
            self.problem = "the authors' toolkit raises an error on one of its samples"
            return 0.0, 0.0
        try:
            terms = self._reading.metric.terms(state.observations(self._scoring))
        except Exception as e:  # noqa: BLE001 - a user's metric; computed at the end, it reports its error itself
            self.problem = f"the metric raised {type(e).__name__}"
            return 0.0, 0.0
        for number, weight in terms:
            least, most = self._low * weight, (self._low + self._span) * weight
            if not (0 <= weight <= 1 and least - _ROUNDING <= number <= most + _ROUNDING):
                self.problem = "a number is outside the metric's range"
            if not (float(number).is_integer() and float(weight).is_integer()):
                part.fractions = True
        return math.fsum(number for number, _ in terms), math.fsum(weight for _, weight in terms)

    # --- what is certain ------------------------------------------------------------------------------------------

    @property
    def measured(self) -> bool:
        """Whether the metric will have a value whatever comes: every part has a sample that counts."""
        if not self._parts:
            return False
        return all(part.measured and part.weight > 0 for part in self._parts.values())

    def bounds(self) -> Bounds:
        """Return between which numbers the metric will end; only meaningful once it is ``measured``."""
        lows: list[float] = []
        highs: list[float] = []
        margin = 0.0
        for name, part in self._parts.items():
            count = part.weight + part.open
            if not count or not part.weight:
                low, high = self._low, self._low + self._span
            else:
                # further observations of the least number lower a mean most, of the greatest raise it most
                low = (part.total + self._low * part.open) / count
                high = (part.total + (self._low + self._span) * part.open) / count
            if part.fractions:
                margin = _ROUNDING * self._span
            digits = self._reading.digits.get(name or "*", self._reading.digits.get("*"))
            lows.append(low if digits is None else round(low, digits))
            highs.append(high if digits is None else round(high, digits))
        return Bounds(math.fsum(lows) / len(lows) - margin, math.fsum(highs) / len(highs) + margin)

    # --- what is probable -----------------------------------------------------------------------------------------

    def control(self, units: Sequence[Unit], earlier: Mapping[str, float | None]) -> Control | None:
        """Return what a baseline has of the samples, as far as that can help.

        Args:
            units: All units.
            earlier: Id of a planned sample -> its number in the baseline; None: it has no usable score there.

        Returns:
            None if the baseline has fewer than half of the samples, or samples do not weigh the same.
        """
        if not self._reading.metric.equal_weights or self._reading.digits:
            return None
        known = {id_: (number - self._low) / self._span for id_, number in earlier.items() if number is not None}
        if 2 * len(known) < self.planned:
            return None
        usual = math.fsum(known.values()) / max(1, len(known))
        weights = self._weights()
        numbers: dict[str, float] = {}
        total = total_weight = 0.0
        for unit in units:
            for sample in unit:
                part = self._part_of(sample) if self.counts(sample) else None
                if part is not None:
                    numbers[sample.id] = min(1.0, max(0.0, known.get(sample.id, usual)))
                    total += weights[part] * numbers[sample.id]
                    total_weight += weights[part]
        return Control(numbers, total / total_weight) if total_weight else None

    def watch(
        self,
        units: Sequence[Unit],
        low_bound: float,
        high_bound: float,
        *,
        fixed_weights: bool = False,
        control: Control | None = None,
    ) -> ValueEvidence | None:
        """Return evidence about the final value that grows with every unit.

        Args:
            units: All units, in whatever order.
            low_bound: Whether the value is below it will be asked, in the metric's range.
            high_bound: Whether the value exceeds it will be asked; usually the same.
            fixed_weights: Let a sample without a score keep its weight and count as the worst number. A macro average
                always does; limits of any mean need it.
            control: A baseline that helps, from :meth:`control`; None without one.

        Returns:
            None if that is impossible because nobody knows beforehand how much a sample will weigh.
        """
        pooled = self._by is None and not fixed_weights
        if not pooled and not self._reading.metric.equal_weights:
            return None
        members = [unit for unit in units if any(self.counts(sample) for sample in unit)]
        if not members:
            return None
        weights = self._weights()
        capacities = [self._capacity(unit, weights) for unit in members]
        if not max(capacities):
            return None
        evidence = ValueEvidence(
            counts=self.counts,
            part_of=self._part_of,
            weights=weights,
            pooled=pooled,
            epochs=self._epochs,
            scale=(self._low, self._span),
            size=len(members),
            most=max(capacities),
            total=math.fsum(capacities),
            low_bound=(low_bound - self._slack() - self._low) / self._span,
            high_bound=(high_bound + self._slack() - self._low) / self._span,
            slack=self._slack() / self._span,
            control=control,
        )
        self._watchers.append(evidence)
        return evidence

    @property
    def fractions(self) -> bool:
        """Whether any number so far was neither 0 nor 1."""
        return any(part.fractions for part in self._parts.values())

    def watch_with(self, watcher: Watcher) -> None:
        """Show a watcher every unit that is counted from now on."""
        self._watchers.append(watcher)

    @property
    def span(self) -> float:
        """Width of the metric's range."""
        return self._span

    @property
    def is_macro(self) -> bool:
        """Whether it is an average over groups."""
        return self._by is not None

    def watch_coverage(self, units: Sequence[Unit], min_scored: float) -> CoverageEvidence:
        """Return evidence that enough samples will have a score."""
        watcher = CoverageEvidence(self.counts, len(units), max(len(unit) for unit in units), min_scored)
        self._watchers.append(watcher)
        return watcher

    def _weights(self) -> dict[str, float]:
        """Return how much an observation of each part counts: a macro average weighs small groups' samples more."""
        if self._by is None:
            return dict.fromkeys(self._parts, 1.0)
        return {name: 1.0 / (part.open / self._epochs) for name, part in self._parts.items()}

    def _capacity(self, unit: Unit, weights: Mapping[str, float]) -> float:
        capacity = 0.0
        for sample in unit:
            part = self._part_of(sample) if self.counts(sample) else None
            if part is not None:
                capacity += weights[part] * self._epochs
        return capacity

    def _slack(self) -> float:
        """Return how far rounding can move the value: the toolkit rounds some groups' numbers."""
        if not self._reading.digits:
            return 0.0
        return 0.5 * 10.0 ** -min(self._reading.digits.values())
