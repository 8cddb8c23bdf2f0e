"""What the samples asked so far say about the number that a metric will have when all of them have been asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_trustllm.formats import Record
from pytest_trustllm.metrics.base import Bounded
from pytest_trustllm.metrics.observations import ObservedSample, Scoring, observed_sample, task_scores
from pytest_trustllm.stats.sequences import HIGH_STAKES, Evidence
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.task import Task

_ROUNDING = 1e-9
"""How far, as a share of the range, a sum of fractions may be from the one that the metric computes."""


_FINE, _COARSE = 40, 14
"""Halvings of the range in which a limit is searched for: to 1e-12 for a verdict, to 1e-4 for a picture."""
_MOMENTS = 12
_BETWEEN_MOMENTS = 0.75
"""Moments that a picture shows, and how many draws each has of those of the next."""


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample of the plan.

    Attributes:
        id: Of the sample.
        group: Group name -> value.
        cluster: Samples of the same cluster depend on each other.
        fingerprint: Changes when the sample does; for pairs with a baseline.
    """

    id: str
    group: Mapping[str, str]
    cluster: str
    fingerprint: str = ""


Unit = tuple[PlannedSample, ...]
"""Samples that are asked together: one, or all of a cluster."""


class Bounds(NamedTuple):
    """Between which numbers a metric will end, whatever the samples that are still open answer."""

    low: float
    high: float


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


class Contribution(NamedTuple):
    """What one sample adds to a part."""

    part: str
    number: float
    weight: float


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
        self._epochs = epochs
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

    def watch(
        self, units: Sequence[Unit], low_bound: float, high_bound: float, *, fixed_weights: bool = False
    ) -> ValueEvidence | None:
        """Return evidence about the final value that grows with every unit.

        Args:
            units: All units, in whatever order.
            low_bound: Whether the value is below it will be asked, in the metric's range.
            high_bound: Whether the value exceeds it will be asked; usually the same.
            fixed_weights: Let a sample without a score keep its weight and count as the worst number. A macro average
                always does; limits of any mean need it.

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


class Watcher:
    """Sees every unit as it is counted."""

    def take(
        self, unit: Unit, contributions: Sequence[Contribution | None], states: Sequence[ObservedSample | None]
    ) -> None:
        """Take a unit: what each of its samples adds to the metric, and what was observed of it."""
        raise NotImplementedError


@dataclass(slots=True)
class ValueEvidence(Watcher):
    """Evidence about the value that a metric will have.

    A unit is turned into one number: the sum over its samples of weight times (number - bound), moved and scaled into
    [0, 1] such that the mean of all units equals the bound exactly if the metric does. So a cluster is one draw, the
    groups of a macro average weigh what they will weigh, and what has no score adds nothing. Where that would change
    the weights of others, as in a macro average, it counts as the worst number for either side.

    Attributes:
        counts: Whether the metric is about a sample.
        part_of: Group of a sample.
        weights: Group -> weight of an observation.
        pooled: A sample without a score has no weight.
        epochs: Observations of a sample.
        scale: Least number, and width of the range.
        size: Units in the population.
        most: Greatest sum of weights of a unit.
        total: Sum of weights of all units.
        low_bound: Whether the value is below it is asked, as a share of the range.
        high_bound: Whether the value exceeds it is asked, as a share of the range.
        slack: By how much rounding can move the value, as a share of the range.
    """

    counts: Callable[[PlannedSample], bool]
    part_of: Callable[[PlannedSample], str | None]
    weights: Mapping[str, float]
    pooled: bool
    epochs: int
    scale: tuple[float, float]
    size: int
    most: float
    total: float
    low_bound: float
    high_bound: float
    slack: float
    _asked: list[int] = field(default_factory=list)
    _above: Evidence = field(init=False)
    _below: Evidence = field(init=False)

    def __post_init__(self) -> None:
        self._above = Evidence(self.size, self._above_null)
        self._below = Evidence(self.size, 1.0 - self._below_null)

    @property
    def _above_null(self) -> float:
        return min(1.0, max(0.0, self.high_bound))

    @property
    def _below_null(self) -> float:
        return min(1.0, max(0.0, self.low_bound))

    def take(
        self, unit: Unit, contributions: Sequence[Contribution | None], states: Sequence[ObservedSample | None]
    ) -> None:
        """Draw a unit; one without a sample of the metric is no part of the population."""
        if not any(self.counts(sample) for sample in unit):
            return
        self._asked.append(len(unit) + (self._asked[-1] if self._asked else 0))
        above = below = 0.0
        for sample, contribution, state in zip(unit, contributions, states, strict=True):
            part = self.part_of(sample) if self.counts(sample) else None
            if part is None:
                continue
            low, high, low_weight, high_weight = self._extremes(contribution, is_open=state is None)
            weight = self.weights[part] / self.most
            above += weight * (low - self._above_null * low_weight)
            below += weight * (high - self._below_null * high_weight)
        self._above.add(min(1.0, max(0.0, self._above_null + above)))
        self._below.add(min(1.0, max(0.0, 1.0 - self._below_null - below)))

    def _extremes(self, contribution: Contribution | None, *, is_open: bool) -> tuple[float, float, float, float]:
        """Return least and greatest sum of numbers in [0, 1] that a sample can end with, and the weight of each."""
        whole = float(self.epochs)
        if contribution is None:
            if is_open or not self.pooled:
                return 0.0, whole, whole, whole
            return 0.0, 0.0, 0.0, 0.0
        low, span = self.scale
        number = (contribution.number - low * contribution.weight) / span
        if self.pooled:
            return number, number, contribution.weight, contribution.weight
        return number, number + whole - contribution.weight, whole, whole

    def exceeds(self, level: float) -> bool:
        """Return whether the value exceeds the upper bound, but for a probability of ``level``."""
        return 0.0 < self.high_bound < 1.0 and self._above.reaches(level)

    def falls_below(self, level: float) -> bool:
        """Return whether the value is below the lower bound, but for a probability of ``level``."""
        return 0.0 < self.low_bound < 1.0 and self._below.reaches(level)

    def course(self, level: float) -> list[tuple[int, float, float]]:
        """Return samples asked and the limits at that time, at a few moments until now, for a picture."""
        moments: list[int] = []
        drawn = self._above.drawn
        while drawn >= 1 and len(moments) < _MOMENTS:
            moments.append(drawn)
            drawn = min(drawn - 1, round(drawn * _BETWEEN_MOMENTS))
        course: list[tuple[int, float, float]] = []
        for moment in reversed(moments):
            low, high = self.limits(level, moment, steps=_COARSE)
            course.append((self._asked[moment - 1], low, high))
        return course

    def limits(self, level: float, drawn: int | None = None, steps: int = _FINE) -> Bounds:
        """Return limits of the value; weights must be fixed.

        Args:
            level: Probability that one of them is wrong, at whatever moment one looks.
            drawn: After so many units; None: after all so far.
            steps: How often the space that is left for a limit is halved.
        """
        low = self._value_of(self._above.lower_limit(level, drawn, steps), self._above_null) - self.slack
        high = self._value_of(1.0 - self._below.lower_limit(level, drawn, steps), self._below_null) + self.slack
        least, span = self.scale
        if low > high:  # by rounding, once all units are drawn
            low = high = (low + high) / 2
        return Bounds(least + span * max(0.0, low), least + span * min(1.0, high))

    def _value_of(self, mean: float, null: float) -> float:
        """Return the value, as a share of the range, at which the units have a mean."""
        return null + (mean - null) * self.most * self.size / self.total


class CoverageEvidence(Watcher):
    """Evidence that a share of the samples will have a score.

    Args:
        counts: Whether the metric is about a sample.
        size: Units in the population.
        most: Samples of the greatest unit.
        min_scored: The share, in [0, 1].
    """

    def __init__(self, counts: Callable[[PlannedSample], bool], size: int, most: int, min_scored: float) -> None:
        self._counts = counts
        self._most = most
        self._min_scored = min_scored
        self._evidence = Evidence(size, min_scored, HIGH_STAKES)

    def take(
        self, unit: Unit, contributions: Sequence[Contribution | None], states: Sequence[ObservedSample | None]
    ) -> None:
        """Draw a unit; an open sample counts as one without a score, whatever its group."""
        excess = 0.0
        for sample, state in zip(unit, states, strict=True):
            if state is None:
                excess -= self._min_scored
            elif self._counts(sample):
                excess += state.counts_as_scored - self._min_scored * state.applies
        self._evidence.add(min(1.0, max(0.0, self._min_scored + excess / self._most)))

    def assured(self, level: float) -> bool:
        """Return whether the share will be reached, but for a probability of ``level``."""
        if self._min_scored <= 0.0:
            return True
        return self._min_scored < 1.0 and self._evidence.reaches(level)
