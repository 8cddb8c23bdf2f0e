"""The jackknife: limits of a number of which only the way to compute it is known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence

from pytest_trustllm.stats.intervals import Limits, LimitsAndMethod, student_quantile
from pytest_trustllm.stats.shares import wilson

_PARTS = 40
_METHOD = "delete-a-group jackknife (Kott 2001)"


def jackknife_limits(
    clusters: Sequence[Hashable],
    without: Callable[[frozenset[Hashable]], float | None],
    value: float,
    span: Limits,
    confidence: float,
) -> LimitsAndMethod | None:
    """Return limits of a number from what it becomes without parts of the observations.

    The clusters are dealt into at most 40 parts, and the number is computed once without each.

    Args:
        clusters: Of the observations.
        without: Takes clusters; computes the number without them.
        value: The number of all observations.
        span: Least and greatest possible value; infinite if there is none.
        confidence: In (0, 1).

    Returns:
        None if there is a single cluster, or if the number cannot be computed without some part.

    Source:
        Kott (2001), Journal of Official Statistics 17:521-526 (delete-a-group jackknife).
    """
    parts = _dealt(clusters)
    if len(parts) < 2:
        return None
    replicates: list[float] = []
    for part in parts:
        replicate = without(part)
        if replicate is None or not math.isfinite(replicate):
            return None
        replicates.append(replicate)
    squares = math.fsum((replicate - value) ** 2 for replicate in replicates)
    variance = squares * (len(parts) - 1) / len(parts)
    quantile = student_quantile(confidence, len(parts) - 1)
    if math.isfinite(span[0]) and math.isfinite(span[1]):
        return _bounded_limits(value, variance, span, quantile, len({*clusters})), _METHOD
    half_width = quantile * math.sqrt(variance)
    return (value - half_width, value + half_width), _METHOD


def _dealt(clusters: Sequence[Hashable]) -> list[frozenset[Hashable]]:
    """Return the clusters in at most 40 parts; by their hashes, so that neighbours do not end up in one part."""
    names = sorted({*clusters}, key=lambda cluster: hashlib.sha256(repr(cluster).encode()).digest())
    return [frozenset(names[first::_PARTS]) for first in range(min(_PARTS, len(names)))]


def _bounded_limits(value: float, variance: float, span: Limits, quantile: float, clusters: int) -> Limits:
    """Return limits within the span: Wilson's of as many trials as give a share in its place the same variance.

    Args:
        value: The number.
        variance: Of the number.
        span: Least and greatest possible value.
        quantile: Of the confidence.
        clusters: How many trials there are if the number shows no variance.
    """
    least, greatest = span
    width = greatest - least
    share = (value - least) / width
    share_variance = variance / width**2
    one_trial = share * (1 - share)
    trials = float(clusters)
    if share_variance > 0 and one_trial > 0:
        trials = max(1.0, one_trial / share_variance)
    low, high = wilson(min(1.0, max(0.0, share)), trials, quantile)
    return least + low * width, least + high * width
