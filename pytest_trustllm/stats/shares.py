"""Limits of a share: successes out of trials."""

from __future__ import annotations

import math

from pytest_trustllm.stats.intervals import Limits, normal_quantile


def wilson(share: float, n: float, quantile: float) -> Limits:
    """Return Wilson's limits of a share.

    They are the shares p from which the observed one is just ``quantile`` standard errors away, the error being that of
    p itself: the two solutions of (share - p)² = quantile² p (1 - p) / n.

    Args:
        share: In [0, 1].
        n: Trials; need not be whole.
        quantile: Of the confidence, normal or Student's.

    Source:
        Wilson (1927), Journal of the American Statistical Association 22:209-212.
    """
    squared = quantile * quantile / n
    centre = (share + squared / 2) / (1 + squared)
    half_width = math.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    # rounding can leave a share of 0 or 1 just outside its own limits
    low = max(0.0, min(share, centre - half_width))
    high = min(1.0, max(share, centre + half_width))
    return low, high


def share_limits(successes: int, n: int, confidence: float) -> Limits:
    """Return Wilson's limits of a share of independent trials, widened for very few successes or failures.

    Next to 0 and 1 Wilson's limits hold the truth too seldom. With one success in 8 the lower one is 0.022, but if the
    true share is 0.02, one series of 8 in seven has a success. There the limit of a Poisson count is used instead.

    Args:
        successes: At most ``n``.
        n: Trials, at least 1.
        confidence: In (0, 1).

    Source:
        Brown, Cai and DasGupta (2001), Statistical Science 16:101-133, section 4.1.1, which also says how many
        successes are few.
    """
    low, high = wilson(successes / n, n, normal_quantile(confidence))
    failures = n - successes
    few = 2 if n <= 50 else 3
    if 1 <= successes <= few:
        low = min(low, _least_poisson_mean(successes, confidence) / n)
    if 1 <= failures <= few:
        high = max(high, 1 - _least_poisson_mean(failures, confidence) / n)
    return low, high


def _least_poisson_mean(count: int, confidence: float) -> float:
    """Return the mean at which so large a count, or a larger one, has the probability 1 - confidence.

    For a Poisson number that probability is the regularised incomplete gamma function of the count, at the mean.
    """
    from scipy.special import gammaincinv

    return float(gammaincinv(count, 1 - confidence))


def exact_limits(share: float, n: float, confidence: float) -> Limits:
    """Return limits of a share that hold the truth at least as often as promised, whatever the share is.

    Args:
        share: In [0, 1].
        n: Trials; need not be whole.
        confidence: In (0, 1).

    Source:
        Clopper and Pearson (1934), Biometrika 26:404-413; for trials that are not whole Korn and Graubard (1998),
        Survey Methodology 24:193-201.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    successes = share * n
    failures = (1 - share) * n
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(betaincinv(successes, failures + 1, tail))
    if failures > 0:
        high = float(betaincinv(successes + 1, failures, 1 - tail))
    return min(share, low), max(share, high)


def jeffreys_limits(share: float, n: float, confidence: float) -> Limits:
    """Return limits of a share that are about as wide as they must be: on average over shares they are right.

    They are quantiles of the beta distribution that follows from the trials and Jeffreys' prior. Without a success the
    lower limit is 0, without a failure the upper one is 1.

    Args:
        share: In [0, 1].
        n: Trials, above 0; need not be whole.
        confidence: In (0, 1).

    Source:
        Brown, Cai and DasGupta (2001), Statistical Science 16:101-133, section 3.1.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    successes = share * n
    failures = (1 - share) * n
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(betaincinv(successes + 0.5, failures + 0.5, tail))
    if failures > 0:
        high = float(betaincinv(successes + 0.5, failures + 0.5, 1 - tail))
    return min(share, low), max(share, high)
