"""Evidence about a metric's final value and coverage, which grows while its samples are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_trustllm.gates.planned import Bounds, Contribution, PlannedSample, Unit
from pytest_trustllm.metrics.observations import ObservedSample
from pytest_trustllm.stats.sequences import HIGH_STAKES, Evidence

_FINE, _COARSE = 40, 14
"""Halvings of the range in which a limit is searched for: to 1e-12 for a verdict, to 1e-4 for a picture."""
_MOMENTS = 12
_BETWEEN_MOMENTS = 0.75
"""Moments that a picture shows, and how many draws each has of those of the next."""


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
