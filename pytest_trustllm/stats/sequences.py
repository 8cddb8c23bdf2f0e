"""Evidence about the mean of a finite population that holds at whatever moment one stops drawing from it.

An interval such as Wilson's is right for a number of observations that was fixed beforehand. Who computes it after
every observation, and stops when it clears a bound, is wrong far more often than it says: chance gets a new try every
time. The evidence here may be looked at after every observation.

It is the capital of a gambler who bets, before each draw, that the next number will be higher than it would be on
average if the mean of the population were ``null``. Where the mean is ``null`` or less, no bet is favourable, so the
capital, 1 at the start, ever reaches 1 / level with a probability of at most ``level`` (Ville's inequality). A gambler
who does get that rich has refuted such a mean. The numbers drawn so far leave fewer for the rest: if the mean of N
numbers is m and the first t add up to S, the rest has the mean (N m - S) / (N - t). That is what the next number is
compared with, and why the evidence becomes certainty when the last number is drawn.

Source:
    Waudby-Smith and Ramdas (2020), Confidence sequences for sampling without replacement, NeurIPS 33; bets as in
    Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86:1-27.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array

STAKES = (0.1, 0.3, 0.7)
"""Shares of the capital that three gamblers bet each time: small ones pay where the mean is close to ``null``."""
HIGH_STAKES = (0.3, 0.99, 0.99)
"""For a mean that is expected to be 1: whoever bets nearly everything each time learns that soonest."""
CHANGE_STAKES = (0.3, 0.6, 0.9)
"""For numbers that hardly vary, such as the changes of answers: much may be bet on them."""
_PRIOR_DRAWS = 10.0
"""Draws at the mean ``null`` that the fourth gambler, who learns from the draws, starts from."""
_LEAST_STAKE, _MOST_STAKE = 0.02, 0.95
_ROUNDING = 1e-9
_STEPS = 40
"""Halvings of [0, 1] when a limit is searched for: it is found to 1e-12."""


class Evidence:
    """Evidence that the mean of a population exceeds ``null``, from numbers that are drawn without replacement.

    Args:
        size: Numbers in the population, at least 1.
        null: In [0, 1].
        stakes: What the gamblers bet who do not learn; all of them, and the one who does, begin with equal capitals.

    Attributes:
        drawn: Numbers drawn so far.
    """

    def __init__(self, size: int, null: float, stakes: Sequence[float] = STAKES) -> None:
        self.drawn = 0
        self._fixed_stakes = tuple(stakes)
        self._size = size
        self._null = null
        self._sum = 0.0
        self._capitals = [1.0 / (len(self._fixed_stakes) + 1)] * (len(self._fixed_stakes) + 1)
        self._greatest = 1.0
        self._numbers: list[float] = []
        self._stakes: list[float] = []

    def add(self, number: float) -> None:
        """Draw one number.

        Args:
            number: In [0, 1].
        """
        expected = self._mean_of_rest()
        stake = self._learned_stake(expected)
        self._numbers.append(number)
        self._stakes.append(stake)
        if expected < -_ROUNDING:  # the numbers drawn so far are more than the whole population would have
            self._greatest = math.inf
        else:
            gain = number / max(expected, _ROUNDING) - 1.0
            for place, share in enumerate((*self._fixed_stakes, stake)):
                self._capitals[place] *= 1.0 + share * gain
            self._greatest = max(self._greatest, math.fsum(self._capitals))
        self._sum += number
        self.drawn += 1

    @property
    def capital(self) -> float:
        """What the gamblers have now, together; infinite once a mean of ``null`` is impossible."""
        return math.inf if math.isinf(self._greatest) else math.fsum(self._capitals)

    @property
    def is_certain(self) -> bool:
        """Whether the mean exceeds ``null`` whatever the rest is."""
        return self._sum > self._size * self._null + _ROUNDING

    def reaches(self, level: float) -> bool:
        """Return whether a mean of ``null`` or less is refuted.

        Args:
            level: Probability of refuting it although it is true, in (0, 1).
        """
        if self.is_certain:
            return True
        return self._greatest >= 1.0 / level

    def lower_limit(self, level: float, drawn: int | None = None, steps: int = _STEPS) -> float:
        """Return the greatest number that the mean is known to exceed; 0 if there is none.

        The limit is the ``null`` up to which the same bets would have refuted the mean.

        Args:
            level: Probability that the mean is below the limit, at whatever moment one looks, in (0, 1).
            drawn: After so many draws; None: after all so far.
            steps: How often the space that is left for the limit is halved.
        """
        numbers = self._numbers[:drawn]
        low, high = math.fsum(numbers) / self._size, 1.0  # the rest can be 0
        for _ in range(steps):
            middle = (low + high) / 2
            if self._refutes(middle, level, len(numbers)):
                low = middle
            else:
                high = middle
        return low

    def _mean_of_rest(self) -> float:
        """Return the mean that the numbers not yet drawn would have if that of the population were ``null``."""
        return (self._size * self._null - self._sum) / (self._size - self.drawn)

    def _learned_stake(self, expected: float) -> float:
        """Return the share of the capital that grows fastest if the rest is like what was drawn (Kelly's bet)."""
        seen = (self._sum + _PRIOR_DRAWS * self._null) / (self.drawn + _PRIOR_DRAWS)
        room = max(1.0 - expected, _ROUNDING)
        return min(_MOST_STAKE, max(_LEAST_STAKE, (seen - expected) / room))

    def _refutes(self, null: float, level: float, drawn: int) -> bool:
        """Return whether the bets that were made would have refuted another ``null``."""
        capitals = self.capitals(null, drawn)
        return bool(len(capitals) and capitals.max() >= 1.0 / level)

    def capitals(self, null: float, drawn: int | None = None) -> Array:
        """Return what the bets that were made would have come to after every draw if they were about another ``null``.

        Args:
            null: In [0, 1].
            drawn: After so many draws at most; None: all so far.

        Returns:
            (draws,); infinite from the draw on that makes such a mean impossible.
        """
        import numpy as np

        numbers = np.array(self._numbers[:drawn])
        if not len(numbers):
            return numbers
        before = np.concatenate([[0.0], np.cumsum(numbers)[:-1]])
        expected = (self._size * null - before) / (self._size - np.arange(len(numbers)))
        gains = numbers / np.maximum(expected, _ROUNDING) - 1.0
        learned = np.cumsum(np.log1p(np.array(self._stakes[:drawn]) * gains))
        capitals: Array = np.exp(np.minimum(learned, 700.0))
        for stake in self._fixed_stakes:
            capitals = capitals + np.exp(np.minimum(np.cumsum(np.log1p(stake * gains)), 700.0))
        capitals /= len(self._fixed_stakes) + 1
        impossible = np.flatnonzero(expected < -_ROUNDING)
        if len(impossible):
            capitals[impossible[0] :] = np.inf
        return capitals


class MeanSequence:
    """Limits of the mean of a population on both sides, from numbers that are drawn without replacement.

    Args:
        size: Numbers in the population, at least 1.
        null: The number in [0, 1] that the mean will be compared with: the limits reach it soonest.
    """

    def __init__(self, size: int, null: float) -> None:
        self.above = Evidence(size, null)
        self.below = Evidence(size, 1.0 - null)

    def add(self, number: float) -> None:
        """Draw one number in [0, 1]."""
        self.above.add(number)
        self.below.add(1.0 - number)

    def limits(self, level: float) -> tuple[float, float]:
        """Return limits; each is wrong, at whatever moment one looks, with a probability of at most ``level``."""
        low = self.above.lower_limit(level)
        high = 1.0 - self.below.lower_limit(level)
        if low > high:  # by rounding, once all numbers are drawn
            low = high = (low + high) / 2
        return low, high
