"""How likely a number lands on one side of a bound when it is measured again.

Two questions about a run yet to come are answered. *What will the number be?* The measured value is off itself, so the
next one varies by the errors of both: for a share, the beta-binomial distribution with Jeffreys' prior; for any other
number, the normal one with the sum of both variances. *What would it be if the true number were known to be x?* It is
off by its own error alone: the binomial or the normal distribution.

Source:
    Predictive distributions: Gelman et al. (2013), Bayesian Data Analysis, 3rd edition, sections 2.4 and 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pytest_trustllm.stats.intervals import upper_tail

_STEPS = 40
"""Halvings of a range in which a number is searched for."""
_ROUNDING = 1e-9


class Noise(Protocol):
    """How a number varies from run to run."""

    @property
    def value(self) -> float:
        """What was measured."""
        ...

    def again(self, least: float, size: float = 1.0) -> float:
        """Return the probability that the number is ``least`` or more when it is measured again.

        Args:
            least: In the number's range.
            size: Samples of that run, as a multiple of this one's.
        """
        ...

    def given(self, true: float, least: float, size: float = 1.0) -> float:
        """Return the probability of ``least`` or more in a run whose true number is known."""
        ...


@dataclass(frozen=True, slots=True)
class ShareNoise:
    """Of a share of independent trials.

    Attributes:
        value: The share.
        trials: How many there were; need not be whole where they depend on each other.
    """

    value: float
    trials: float

    def again(self, least: float, size: float = 1.0) -> float:
        """Return the probability that the share is ``least`` or more when it is measured again."""
        import numpy as np
        from scipy.special import betaln, gammaln

        successes = self.value * self.trials + 0.5
        failures = (1 - self.value) * self.trials + 0.5
        trials = self._whole(size)
        first = _first_count(trials, least)
        if not 0 < first <= trials:
            return float(first <= 0)
        counts = np.arange(first, trials + 1)
        ways = gammaln(trials + 1) - gammaln(counts + 1) - gammaln(trials - counts + 1)
        logarithms = ways + betaln(counts + successes, trials - counts + failures) - betaln(successes, failures)
        return min(1.0, math.fsum(np.exp(logarithms)))

    def given(self, true: float, least: float, size: float = 1.0) -> float:
        """Return the probability of ``least`` or more if the true share is known."""
        trials = self._whole(size)
        if not 0 < true < 1:
            return float(true >= least)
        first = _first_count(trials, least)
        if not 0 < first <= trials:
            return float(first <= 0)
        from scipy.special import betainc

        # the tail of a binomial distribution in one call: a gate may ask about a thousand times its samples
        return float(betainc(first, trials - first + 1, true))

    def _whole(self, size: float) -> int:
        return max(1, round(self.trials * size))


@dataclass(frozen=True, slots=True)
class NormalNoise:
    """Of any number with a standard error.

    Attributes:
        value: The number.
        error: Its standard error.
        certain: The value is the true number: only the next measurement errs.
    """

    value: float
    error: float
    certain: bool = False

    def again(self, least: float, size: float = 1.0) -> float:
        """Return the probability that the number is ``least`` or more when it is measured again."""
        if self.certain:
            return self.given(self.value, least, size)
        return _normal(self.value, self.error * math.sqrt(1 + 1 / size), least)

    def given(self, true: float, least: float, size: float = 1.0) -> float:
        """Return the probability of ``least`` or more if the true number is known."""
        return _normal(true, self.error / math.sqrt(size), least)


def _normal(mean: float, error: float, least: float) -> float:
    if error <= 0:
        return float(mean >= least - _ROUNDING)
    return upper_tail(least - mean, error)


def _first_count(trials: int, least: float) -> int:
    """Return the least count that is a share of ``least`` or more."""
    return math.ceil(least * trials - _ROUNDING)


def least_with(probability: Callable[[float], float], wanted: float, low: float, high: float) -> float | None:
    """Return the least number at which a probability that rises with it is reached.

    Args:
        probability: Of the number.
        wanted: What it must reach.
        low: The number is not below it.
        high: The number is not above it.

    Returns:
        None if it is not reached at ``high`` either.
    """
    if probability(low) >= wanted:
        return low
    if probability(high) < wanted:
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if probability(middle) >= wanted:
            high = middle
        else:
            low = middle
    return high
