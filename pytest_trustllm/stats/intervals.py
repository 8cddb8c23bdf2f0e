"""What all intervals share: their shape, quantiles, and how many more observations would narrow one.

Observations come in *clusters*: those of one cluster depend on each other, those of different clusters do not. Limits
are a lower and an upper one. A method is named as people will read it, with its source.

Quantiles come from ``scipy.special`` and random numbers from numpy. Both are imported where they are needed, because
the interval of a plain share, which is by far the most frequent one, needs neither. ``scipy.stats`` has Wilson's
interval and a bootstrap too, but takes a second to import, and its bootstrap resamples single rows, without clusters.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

CONFIDENCE = 0.95
Limits = tuple[float, float]
LimitsAndMethod = tuple[Limits, str]


def normal_quantile(confidence: float) -> float:
    """Return the z of a two-sided interval: 1.96 at a confidence of 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def student_quantile(confidence: float, freedom: int) -> float:
    """Return Student's t of a two-sided interval; the normal quantile if there is no degree of freedom."""
    if freedom < 1:
        return normal_quantile(confidence)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def upper_tail(distance: float, error: float) -> float:
    """Return the probability that a normal number exceeds its mean by a distance.

    Args:
        distance: Negative below the mean.
        error: Standard error. Without one the number equals its mean.
    """
    if error <= 0:
        return 0.0 if distance > 0 else 1.0
    return 1 - NormalDist().cdf(distance / error)


def further_observations(value: float, bound: float, limits: Limits, n: int) -> int | None:
    """Return about how many more observations would move a bound out of the interval if the value did not change.

    The distance from the value to a limit shrinks with the square root of n. The limit reaches the bound once there are
    n * (distance to the limit / distance to the bound)² observations.

    Args:
        value: The estimate.
        bound: What it is compared with.
        limits: Of the value.
        n: Observations that the value comes from.

    Returns:
        0 if the bound is outside the interval already; None if the value equals the bound, so that no number suffices.
    """
    low, high = limits
    if not low <= bound <= high:
        return 0
    if value == bound or n < 1:
        return None
    to_limit = high - value if bound > value else value - low
    needed = math.ceil(n * (to_limit / (bound - value)) ** 2)
    return max(1, needed - n)
