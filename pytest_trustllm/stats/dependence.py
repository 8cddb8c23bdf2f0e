"""Limits of how strongly two things depend on each other: a correlation, a test of independence."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_trustllm.stats.intervals import Limits, LimitsAndMethod, student_quantile

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array


def correlation_limits(
    pairs: Sequence[tuple[float, float]], clusters: Sequence[Hashable], confidence: float
) -> LimitsAndMethod | None:
    """Return limits of Pearson's correlation: Fisher's z, with an error that assumes no normal distribution.

    With x and y standardised, an observation moves the correlation r by (x y - r (x² + y²) / 2) / n, its influence.
    Squares of the clusters' influences add up to the variance of r; divided by (1 - r²)² to that of Fisher's z, which
    is atanh(r). For independent pairs of normal numbers this is Fisher's 1 / (n - 3).

    Args:
        pairs: The two numbers of every observation.
        clusters: Of the observations.
        confidence: In (0, 1).

    Returns:
        None for fewer than four clusters, or if one side is constant.

    Source:
        Fisher (1921), Metron 1:3-32; the error from the influence of each cluster, as in arXiv:2411.00640.
        ``tools/simulate_intervals.py`` shows how often the limits hold the true number; the percentiles of a bootstrap
        hold it less often.
    """
    n = len(pairs)
    left = _standardised([x for x, _ in pairs])
    right = _standardised([y for _, y in pairs])
    if left is None or right is None:
        return None
    correlation = math.fsum(x * y for x, y in zip(left, right, strict=True)) / n
    influences: dict[Hashable, list[float]] = {}
    for x, y, cluster in zip(left, right, clusters, strict=True):
        influences.setdefault(cluster, []).append(x * y - correlation * (x * x + y * y) / 2)
    count = len(influences)
    if count < 4:
        return None
    if abs(correlation) >= 1 - 1e-12:  # all points on a line; atanh of 1 is infinite
        return (correlation, correlation), "Fisher's z"

    independent = math.fsum(influence * influence for of_cluster in influences.values() for influence in of_cluster)
    clustered = math.fsum(math.fsum(of_cluster) ** 2 for of_cluster in influences.values())
    # clusters are never taken to be worth more than as many independent observations
    squares = max(independent, clustered)
    error = math.sqrt(squares * count / (count - 3)) / n / (1 - correlation * correlation)
    centre = math.atanh(correlation)
    half_width = student_quantile(confidence, count - 3) * error
    method = "Fisher's z, robust"
    if count < n:
        method += ", clustered (arXiv:2411.00640)"
    return (math.tanh(centre - half_width), math.tanh(centre + half_width)), method


def _standardised(numbers: Sequence[float]) -> list[float] | None:
    """Return the numbers with mean 0 and variance 1; None if they are all the same."""
    n = len(numbers)
    mean = math.fsum(numbers) / n
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / n)
    if deviation == 0:
        return None
    return [(number - mean) / deviation for number in numbers]


def independence_limits(
    table: Mapping[Hashable, Mapping[tuple[Any, Any], float]], confidence: float
) -> LimitsAndMethod | None:
    """Return limits of the p-value that a chi-square test of independence typically (in the median) gives.

    Over repeated samples the test's statistic is a noncentral chi-square number. One sample gives limits of the
    noncentrality, and each of them a median of the statistic, and so a p-value. Clusters multiply the statistic by
    their mean design effect, which is 1 for independent observations.

    Args:
        table: Cluster -> counts of (row, column).
        confidence: In (0, 1).

    Returns:
        None without two rows to compare.

    Source:
        Boos and Stefanski (2011), The American Statistician 65:213-221, on how much p-values vary; Rao and Scott
        (1981), Journal of the American Statistical Association 76:221-230, on clusters.
    """
    from scipy.special import chdtrc, chndtrix

    counts = _counts(table)
    _, rows, columns = counts.shape
    if rows < 2:
        return None
    freedom = max(1, (rows - 1) * (columns - 1))
    effect = _rao_scott_effect(counts, freedom)
    least, greatest = _noncentrality_limits(_chi_square(counts.sum(axis=0)) / effect, freedom, confidence)
    # the stronger the dependence, the smaller the p-value
    low, high = (
        float(chdtrc(freedom, effect * chndtrix(0.5, freedom, noncentrality))) for noncentrality in (greatest, least)
    )
    method = "noncentral chi-square"
    if effect != 1:
        method += ", clustered (Rao and Scott 1981)"
    return (low, high), method


def _counts(table: Mapping[Hashable, Mapping[tuple[Any, Any], float]]) -> Array:
    """Return the counts of the table: (clusters, rows, columns)."""
    import numpy as np

    rows = sorted({row for cells in table.values() for row, _ in cells})
    columns = sorted({column for cells in table.values() for _, column in cells})
    counts = np.zeros((len(table), len(rows), len(columns)))
    for number, cells in enumerate(table.values()):
        for (row, column), count in cells.items():
            counts[number, rows.index(row), columns.index(column)] = count
    return counts


def _chi_square(counts: Array) -> float:
    """Return Pearson's statistic of a table, (rows, columns)."""
    import numpy as np

    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def _noncentrality_limits(statistic: float, freedom: int, confidence: float) -> Limits:
    """Return the noncentralities under which so large, or so small, a statistic is just not too rare."""
    from scipy.special import chndtr, chndtrinc

    tail = (1 - confidence) / 2
    limits: list[float] = []
    for probability in (1 - tail, tail):
        # not even a statistic without noncentrality is so often below this one: there is nothing to solve
        if chndtr(statistic, freedom, 0.0) <= probability:
            limits.append(0.0)
        else:
            limits.append(float(chndtrinc(statistic, freedom, probability)))
    return limits[0], limits[1]


def _rao_scott_effect(counts: Array, freedom: int) -> float:
    """Return the mean design effect of a table: what the chi-square statistic is on average, over its freedom.

    Args:
        counts: (clusters, rows, columns).
        freedom: Degrees of freedom of the test.
    """
    sizes = counts.sum(axis=(1, 2))
    if (sizes == 1).all():
        return 1.0
    n = sizes.sum()
    clusters = len(counts)
    row_shares = counts.sum(axis=(0, 2)) / n
    column_shares = counts.sum(axis=(0, 1)) / n
    cluster_rows = counts.sum(axis=2)
    cluster_columns = counts.sum(axis=1)
    # what each cluster adds to observed minus expected counts if rows and columns are independent
    added = (
        counts
        - cluster_rows[:, :, None] * column_shares[None, None, :]
        - row_shares[None, :, None] * cluster_columns[:, None, :]
        + sizes[:, None, None] * row_shares[None, :, None] * column_shares[None, None, :]
    )
    variance = ((added - added.mean(axis=0)) ** 2).sum(axis=0) * clusters / max(clusters - 1, 1)
    effect = float((variance / (n * row_shares[:, None] * column_shares[None, :])).sum() / freedom)
    # 0 of a single cluster, or of a table with one column: nothing to correct
    return effect if effect > 1e-6 else 1.0
