"""Evidence about a metric's final value and coverage, which grows while its samples are asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pytest_trustllm.gates.planned import Bounds, Contribution, PlannedSample, Unit
from pytest_trustllm.metrics.observations import ObservedSample
from pytest_trustllm.stats.sequences import CHANGE_STAKES, HIGH_STAKES, Evidence

_FINE, _COARSE = 40, 14
"""Halvings of the range in which a limit is searched for: to 1e-12 for a verdict, to 1e-4 for a picture."""
_MOMENTS = 12
_BETWEEN_MOMENTS = 0.75
"""Moments that a picture shows, and how many draws each has of those of the next."""


class Watcher(Protocol):
    """Sees every unit as it is counted."""

    def take(
        self, unit: Unit, contributions: Sequence[Contribution | None], states: Sequence[ObservedSample | None]
    ) -> None:
        """Take a unit: what each of its samples adds to the metric, and what was observed of it."""


@dataclass(frozen=True, slots=True)
class Control:
    """What a baseline has of the samples of a metric: a number for each, known before any is asked.

    Attributes:
        numbers: Id of a sample -> its number in the baseline, as a share of the range; samples that it lacks have the
            mean of the others.
        mean: Of all planned samples, each with its weight.
    """

    numbers: Mapping[str, float]
    mean: float


@dataclass(slots=True)
class _Claim:
    """Evidence for one claim from the numbers of the samples, and from their changes since a baseline.

    A second gambler decides before each draw whom to imitate: who bets on the numbers, or who bets on the changes,
    whoever is richer by then. So he profits from a baseline that changed little, and loses little by any other. None of
    them may expect to win if the claim is false, and neither may all together; he and who bets on the numbers begin
    with half of the capital each.

    Attributes:
        numbers: From the numbers.
        changes: From the changes; None without a baseline.
    """

    numbers: Evidence
    changes: Evidence | None
    _imitator: float = 1.0
    _on_changes: list[bool] = field(default_factory=list)
    _greatest: float = 1.0

    def add(self, number: float, change: float) -> None:
        """Draw a unit: two numbers in [0, 1]."""
        if self.changes is None:
            self.numbers.add(_share(number))
            return
        on_changes = self.changes.capital > self.numbers.capital
        richer = self.changes if on_changes else self.numbers
        before = richer.capital
        self.numbers.add(_share(number))
        self.changes.add(_share(change))
        if before > 0:
            self._imitator *= richer.capital / before if math.isfinite(before) else 1.0
        self._on_changes.append(on_changes)
        self._greatest = max(self._greatest, (self.numbers.capital + self._imitator) / 2)

    def reaches(self, level: float) -> bool:
        """Return whether the claim holds, but for a probability of ``level``."""
        if self.changes is None:
            return self.numbers.reaches(level)
        return self.numbers.is_certain or self._greatest >= 1 / level

    def refutes(self, null: float, null_change: float, level: float, drawn: int | None) -> bool:
        """Return whether the bets that were made would have refuted other nulls."""
        import numpy as np

        numbers = self.numbers.capitals(null, drawn)
        if self.changes is None or not len(numbers):
            return bool(len(numbers) and numbers.max() >= 1 / level)
        changes = self.changes.capitals(null_change, drawn)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            steps = [np.diff(np.log(capitals), prepend=0.0) for capitals in (changes, numbers)]
            chosen = np.where(np.array(self._on_changes[:drawn]), *steps)
            imitator = np.exp(np.cumsum(np.nan_to_num(chosen, nan=0.0, posinf=np.inf, neginf=0.0)))
        return bool(((numbers + imitator) / 2).max() >= 1 / level)


def _share(number: float) -> float:
    return min(1.0, max(0.0, number))


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
        control: A baseline that helps; None without one.
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
    control: Control | None = None
    _asked: list[int] = field(default_factory=list)
    _above: _Claim = field(init=False)
    _below: _Claim = field(init=False)

    def __post_init__(self) -> None:
        above = below = None
        if self.control is not None:
            above = Evidence(self.size, self._change_null(self._above_null), CHANGE_STAKES)
            below = Evidence(self.size, 1.0 - self._change_null(self._below_null), CHANGE_STAKES)
        self._above = _Claim(Evidence(self.size, self._above_null), above)
        self._below = _Claim(Evidence(self.size, 1.0 - self._below_null), below)

    def _change_null(self, value: float) -> float:
        """Return the mean that the changes of the units have, moved into [0, 1], if the metric has a value."""
        assert self.control is not None  # noqa: S101 - else nothing asks
        change = (value - self.control.mean) * self.total / (self.most * self.size)
        return _share((1.0 + change) / 2)

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
        above_before = below_before = 0.0
        for sample, contribution, state in zip(unit, contributions, states, strict=True):
            part = self.part_of(sample) if self.counts(sample) else None
            if part is None:
                continue
            low, high, low_weight, high_weight = self._extremes(contribution, is_open=state is None)
            weight = self.weights[part] / self.most
            above += weight * (low - self._above_null * low_weight)
            below += weight * (high - self._below_null * high_weight)
            if self.control is not None:
                before = self.control.numbers[sample.id]
                above_before += weight * self.epochs * (before - self._above_null)
                below_before += weight * self.epochs * (before - self._below_null)
        self._above.add(self._above_null + above, (1.0 + above - above_before) / 2)
        self._below.add(1.0 - self._below_null - below, (1.0 - below + below_before) / 2)

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
        drawn = self._above.numbers.drawn
        while drawn >= 1 and len(moments) < _MOMENTS:
            moments.append(drawn)
            drawn = min(drawn - 1, round(drawn * _BETWEEN_MOMENTS))
        course: list[tuple[int, float, float]] = []
        for moment in reversed(moments):
            low, high = self.limits(level, moment, steps=_COARSE)
            course.append((self._asked[moment - 1], low, high))
        return course

    def limits(self, level: float, drawn: int | None = None, steps: int = _FINE, *, alone: bool = False) -> Bounds:
        """Return limits of the value; weights must be fixed.

        Args:
            level: Probability that one of them is wrong, at whatever moment one looks.
            drawn: After so many units; None: after all so far.
            steps: How often the space that is left for a limit is halved.
            alone: Without the baseline's help.
        """
        low = self._lower(level, drawn, steps, alone=alone) - self.slack
        high = self._upper(level, drawn, steps, alone=alone) + self.slack
        least, span = self.scale
        if low > high:  # by rounding, once all units are drawn
            low = high = (low + high) / 2
        return Bounds(least + span * max(0.0, low), least + span * min(1.0, high))

    def _lower(self, level: float, drawn: int | None, steps: int, *, alone: bool) -> float:
        """Return the greatest value, as a share of the range, that is refuted."""
        if self.control is None or alone:
            return self._value_of(self._above.numbers.lower_limit(level, drawn, steps), self._above_null)
        low, high = 0.0, 1.0
        for _ in range(steps):
            value = (low + high) / 2
            mean = _share(self._mean_of(value, self._above_null))
            if self._above.refutes(mean, self._change_null(value), level, drawn):
                low = value
            else:
                high = value
        return low

    def _upper(self, level: float, drawn: int | None, steps: int, *, alone: bool) -> float:
        """Return the least value, as a share of the range, that is refuted."""
        if self.control is None or alone:
            return self._value_of(1.0 - self._below.numbers.lower_limit(level, drawn, steps), self._below_null)
        low, high = 0.0, 1.0
        for _ in range(steps):
            value = (low + high) / 2
            mean = _share(1.0 - self._mean_of(value, self._below_null))
            if self._below.refutes(mean, 1.0 - self._change_null(value), level, drawn):
                high = value
            else:
                low = value
        return high

    def _mean_of(self, value: float, null: float) -> float:
        """Return the mean of the units if the metric has a value."""
        return null + (value - null) * self.total / (self.most * self.size)

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
