"""A mean over all samples of a run that asked a part of them, estimated with the help of an earlier run of all samples.

The earlier run has a number x for every sample, this run a number y for the samples that it asked. Most answers did not
change, so y - x varies less than y. With the mean x̄ of the asked samples, X̄ of all samples and a weight b,

    ȳ + b (X̄ - x̄)

estimates the mean of y over all samples. With b = 1 this is the difference estimator: what all samples scored before,
plus what the asked ones changed by. The weight that leaves the least variance is cov(x, y) / var(x), estimated from the
asked samples and kept in [0, 1].

Limits are those of the mean of y over all N samples, of which n were asked at random without replacement. Its variance
is (1 - n / N) / n times the variance of y - b x. That is right however samples depend on each other: chance decided
nothing but which of them were asked. As for a paired difference of rates
(:func:`~pytest_trustllm.stats.paired.rate_difference`), one sample that was lost and one that was won are added, or a
few samples of which none changed would seem to prove that none of the others did.

Source:
    Cochran (1977), Sampling Techniques, chapter 7 (regression estimator, with a preassigned weight the difference
    estimator) and 5 (strata); the added pair after Bonett and Price (2012), Journal of Educational and Behavioral
    Statistics 37:479-488. ``tools/simulate_assistance.py`` shows how often the limits hold the value of all samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_trustllm.stats.intervals import Limits, normal_quantile, student_quantile

LEAST_PAIRS = 2
"""Samples of a group that must have been asked: one shows no variance."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """The samples of one group, or all of them.

    Attributes:
        old: Earlier number in [0, 1] of every sample that was asked.
        new: Present number of the same samples.
        size: Samples of the group, asked or not; at least as many as were asked.
        earlier: Earlier mean over all of them.
    """

    old: Sequence[float]
    new: Sequence[float]
    size: int
    earlier: float


@dataclass(frozen=True, slots=True)
class Assisted:
    """The estimate for all samples.

    Attributes:
        value: In [0, 1].
        limits: Of the value; within what the samples that were not asked could still make of it.
        weight: Of the earlier run, in [0, 1].
        flips: Mean square of what the asked samples changed by: the share that flipped, if all numbers are 0 or 1.
        spread: Variance of the present numbers: p (1 - p) for a rate p. More flips than this, and the earlier run is no
            help.
        worth: How many answers without the earlier run would have the same standard error.
    """

    value: float
    limits: Limits
    weight: float
    flips: float
    spread: float
    worth: float

    @property
    def helps(self) -> bool:
        """Whether the earlier run is of use: it flipped less than the numbers vary by themselves."""
        return self.flips < self.spread


@dataclass(frozen=True, slots=True)
class _Moments:
    """Means, variances and covariance of one stratum, with the added pair.

    Attributes:
        old: Mean of the earlier numbers.
        new: Mean of the present numbers.
        old_variance: Of the earlier numbers.
        new_variance: Of the present numbers.
        covariance: Of both.
        factor: The variance of one number times this is the variance of the mean.
    """

    old: float
    new: float
    old_variance: float
    new_variance: float
    covariance: float
    factor: float


def assisted_mean(strata: Sequence[Stratum], confidence: float) -> Assisted:
    """Estimate the mean of the groups' means over all samples.

    Args:
        strata: The groups of a macro average, or one for a plain mean. Each has at least ``LEAST_PAIRS`` asked samples.
        confidence: In (0, 1).
    """
    binary = all(number in (0, 1) for stratum in strata for number in (*stratum.old, *stratum.new))
    added = None if binary else math.sqrt(2 * _spread(strata))
    moments = [_moments(stratum, added, 1 / len(strata)) for stratum in strata]
    weight = _best_weight(moments)
    least, greatest = _possible(strata)
    estimated = _estimate(strata, [(_mean(stratum.old), _mean(stratum.new)) for stratum in strata], weight)
    value = min(greatest, max(least, estimated))
    centre = _estimate(strata, [(moment.old, moment.new) for moment in moments], weight)
    variance = _variance(moments, weight)
    plain_variance = _variance(moments, 0.0)
    asked = sum(len(stratum.old) for stratum in strata)
    quantile = normal_quantile(confidence) if binary else student_quantile(confidence, asked - len(strata) - 1)
    half_width = quantile * math.sqrt(variance)
    low = min(value, max(least, centre - half_width))
    high = max(value, min(greatest, centre + half_width))
    ratio = variance / plain_variance if plain_variance else 1.0
    return Assisted(
        value=value,
        limits=(low, high),
        weight=weight,
        flips=_flips(strata),
        spread=_spread(strata),
        worth=_worth(asked, sum(stratum.size for stratum in strata), ratio),
    )


def _moments(stratum: Stratum, added: float | None, share: float) -> _Moments:
    """Return the moments of a stratum with an added pair: one sample that was lost, and one that was won.

    Args:
        stratum: The group.
        added: By how much the pair changed from the mean, for numbers between 0 and 1; None: they are 0 or 1.
        share: Weight of the pair, which the strata share.
    """
    weighted = [(old, new, 1.0) for old, new in zip(stratum.old, stratum.new, strict=True)]
    if added is None:
        weighted += [(1.0, 0.0, share), (0.0, 1.0, share)]
    else:
        old, new = _mean(stratum.old), _mean(stratum.new)
        weighted += [(old, new - added, share), (old, new + added, share)]
    total = len(stratum.old) + 2 * share
    old = math.fsum(weight * x for x, _, weight in weighted) / total
    new = math.fsum(weight * y for _, y, weight in weighted) / total
    return _Moments(
        old=old,
        new=new,
        old_variance=math.fsum(weight * (x - old) ** 2 for x, _, weight in weighted) / total,
        new_variance=math.fsum(weight * (y - new) ** 2 for _, y, weight in weighted) / total,
        covariance=math.fsum(weight * (x - old) * (y - new) for x, y, weight in weighted) / total,
        factor=max(0.0, 1 - len(stratum.old) / stratum.size) / total,
    )


def _best_weight(moments: Sequence[_Moments]) -> float:
    """Return the weight of the earlier run that leaves the least variance."""
    covariance = math.fsum(moment.factor * moment.covariance for moment in moments)
    variance = math.fsum(moment.factor * moment.old_variance for moment in moments)
    if variance <= 0:
        return 1.0
    return min(1.0, max(0.0, covariance / variance))


def _variance(moments: Sequence[_Moments], weight: float) -> float:
    """Return the variance of the estimate."""
    total = 0.0
    for moment in moments:
        residual = moment.new_variance - 2 * weight * moment.covariance + weight * weight * moment.old_variance
        total += moment.factor * max(0.0, residual)
    return total / len(moments) ** 2


def _estimate(strata: Sequence[Stratum], means: Sequence[tuple[float, float]], weight: float) -> float:
    parts = []
    for stratum, (old, new) in zip(strata, means, strict=True):
        parts.append(new + weight * (stratum.earlier - old))
    return math.fsum(parts) / len(parts)


def _possible(strata: Sequence[Stratum]) -> Limits:
    """Return between which numbers the value will be, whatever the samples that were not asked answer."""
    least: list[float] = []
    greatest: list[float] = []
    for stratum in strata:
        known = math.fsum(stratum.new)
        unknown = stratum.size - len(stratum.new)
        least.append(known / stratum.size)
        greatest.append((known + unknown) / stratum.size)
    return math.fsum(least) / len(least), math.fsum(greatest) / len(greatest)


def _worth(asked: int, size: int, ratio: float) -> float:
    """Return the number of answers at which the plain mean has the variance of the assisted one."""
    if ratio <= 0:
        return float(size)
    return 1 / (1 / size + (1 / asked - 1 / size) * ratio)


def _flips(strata: Sequence[Stratum]) -> float:
    flips: list[float] = []
    for stratum in strata:
        flips.append(_mean([(new - old) ** 2 for old, new in zip(stratum.old, stratum.new, strict=True)]))
    return math.fsum(flips) / len(flips)


def _spread(strata: Sequence[Stratum]) -> float:
    spreads: list[float] = []
    for stratum in strata:
        mean = _mean(stratum.new)
        spreads.append(_mean([(number - mean) ** 2 for number in stratum.new]))
    return math.fsum(spreads) / len(spreads)


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)
