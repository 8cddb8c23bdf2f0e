"""Paired differences between two measurements of the same observations, new minus old."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_trustllm.stats.bootstrap import DRAWS, percentiles, posterior_widening
from pytest_trustllm.stats.intervals import Limits, normal_quantile, upper_tail

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array

FLIPS = 10000
PairedSums = Mapping[Hashable, Mapping[int, tuple[float, float, float, float]]]
"""Cluster -> group -> old sum, old weight, new sum, new weight."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference, new minus old.

    Attributes:
        limits: Of the difference.
        method: How they were found.
        p_worse: Probability of so large a loss, or a larger one, if the true number is no worse than before.
        p_margin: The same if it is worse by just the margin.
        test: How ``p_worse`` was found.
    """

    limits: Limits
    method: str
    p_worse: float
    p_margin: float
    test: str


def rate_difference(lost: int, won: int, n: int, margin: float, confidence: float) -> Difference:
    """Compare two shares of the same observations, which do not depend on each other.

    Args:
        lost: Observations that went from 1 to 0.
        won: Observations that went from 0 to 1.
        n: All observations, at least 1.
        margin: Loss that is accepted, at least 0.
        confidence: In (0, 1).

    Source:
        Exact test: McNemar (1947), Psychometrika 12:153-157, with the binomial distribution, one-sided. Interval:
        Bonett and Price (2012), Journal of Educational and Behavioral Statistics 37:479-488.
    """
    # Bonett and Price add one observation that was lost and one that was won
    lost_share = (lost + 1) / (n + 2)
    won_share = (won + 1) / (n + 2)
    error = math.sqrt((lost_share + won_share - (lost_share - won_share) ** 2) / (n + 2))
    half_width = normal_quantile(confidence) * error
    discordant = lost + won
    p_worse = math.fsum(_fair_coin_probability(heads, discordant) for heads in range(lost, discordant + 1))
    return Difference(
        limits=(won_share - lost_share - half_width, won_share - lost_share + half_width),
        method="paired difference of rates (Bonett and Price 2012)",
        p_worse=min(1.0, p_worse),
        p_margin=upper_tail(lost_share - won_share - margin, error),
        test="exact McNemar test, one-sided",
    )


def _fair_coin_probability(heads: int, tosses: int) -> float:
    # by logarithms: the binomial coefficient of a few thousand tosses is too large for a float
    log_ways = math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1)
    return math.exp(log_ways - tosses * math.log(2))


def drawn_difference(
    draws: Array, value: float, clusters: int, sign: int, margin: float, confidence: float, method: str
) -> Difference | None:
    """Return a difference with the limits and the error of its draws.

    Args:
        draws: Of new minus old.
        value: The difference itself.
        clusters: How many were weighted.
        sign: 1 if higher is better, else -1.
        margin: Loss that is accepted, at least 0.
        confidence: In (0, 1).
        method: How they were drawn.

    Returns:
        None if the draws have no percentiles.
    """
    limits = percentiles(draws, clusters, confidence)
    if limits is None:
        return None
    error = float(draws.std()) * posterior_widening(clusters)
    loss = -sign * value
    return Difference(limits, method, upper_tail(loss, error), upper_tail(loss - margin, error), method)


def with_counts_as_weights(cells: PairedSums, counts: Mapping[Hashable, Mapping[int, int]]) -> PairedSums:
    """Return the sums, with the number of observations as weight wherever a group of one side has no weight at all.

    A share among the positives counts as 0 where there is no positive. What is counted cannot be frequent among so many
    observations, so each stands for one without it, as in the interval of a single mean.

    Args:
        cells: Cluster -> group -> old sum, old weight, new sum, new weight.
        counts: Cluster -> group -> observations.
    """
    old_weights: dict[int, float] = {}
    new_weights: dict[int, float] = {}
    for groups in cells.values():
        for group, (_, old_weight, _, new_weight) in groups.items():
            old_weights[group] = old_weights.get(group, 0.0) + old_weight
            new_weights[group] = new_weights.get(group, 0.0) + new_weight
    if all(old_weights.values()) and all(new_weights.values()):
        return cells
    filled: dict[Hashable, dict[int, tuple[float, float, float, float]]] = {}
    for cluster, groups in cells.items():
        filled[cluster] = {}
        for group, (old_sum, old_weight, new_sum, new_weight) in groups.items():
            count = float(counts[cluster][group])
            if not old_weights[group]:
                old_weight = count
            if not new_weights[group]:
                new_weight = count
            filled[cluster][group] = (old_sum, old_weight, new_sum, new_weight)
    return filled


def sign_flips(cells: PairedSums, groups: int, sign: int, random: Any) -> float:
    """Return the probability of so large a loss if nothing changed: then a cluster's old and new could be swapped.

    For clusters of one observation and a plain share this is McNemar's test.

    Args:
        cells: Cluster -> group -> old sum, old weight, new sum, new weight.
        groups: Number of groups.
        sign: 1 if higher is better, else -1.
        random: Numpy generator.

    Source:
        Fisher's (1935) randomization test of paired differences.
    """
    import numpy as np

    losses = _losses(cells, groups, sign)
    losses.pop(0.0, None)  # swapping changes nothing
    if not losses:
        return 1.0
    steps = np.array(sorted(losses))
    counts = np.array([losses[step] for step in sorted(losses)])
    observed = math.fsum(step * count for step, count in losses.items())
    # of n clusters with the same loss, those that keep their sign are a binomial number
    kept = random.binomial(counts, 0.5, (FLIPS, len(counts)))
    flipped = (2 * kept - counts) @ steps
    at_least_as_large = (flipped >= observed - 1e-12).sum()
    # the data themselves are one of the arrangements, so the probability is never 0
    return float(at_least_as_large + 1) / (FLIPS + 1)


def _losses(cells: PairedSums, groups: int, sign: int) -> Counter[float]:
    """Return the clusters' contributions to the loss, each with the number of clusters that have it.

    A cluster contributes what its sums changed by, less what they would change by from its change of weight alone at
    the group's level, the mean of both sides. They are rounded, so that equal ones can be counted.
    """
    import numpy as np

    totals = np.zeros((groups, 4))
    for of_cluster in cells.values():
        for group, sums in of_cluster.items():
            totals[group] += sums
    weights = totals[:, 1] + totals[:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = (totals[:, 0] + totals[:, 2]) / weights
    scale = weights / 2 * groups
    losses: Counter[float] = Counter()
    for of_cluster in cells.values():
        gains: list[float] = []
        for group, (old_sum, old_weight, new_sum, new_weight) in of_cluster.items():
            gain = new_sum - old_sum - float(levels[group]) * (new_weight - old_weight)
            gains.append(gain / float(scale[group]))
        losses[round(-sign * math.fsum(gains), 12)] += 1
    return losses


def paired_draws(cells: PairedSums, groups: int, *, binary: bool, random: Any) -> Array:
    """Draw differences of two means, or macro averages of means, over the same clusters.

    For shares one cluster that lost everything and one that won everything are added with the weight of one each, over
    all groups, as Bonett and Price's interval does: a difference that did not occur is not ruled out.

    Args:
        cells: Cluster -> group -> old sum, old weight, new sum, new weight.
        groups: Number of groups; 1 for a plain mean.
        binary: All numbers are 0 or 1.
        random: Numpy generator.

    Returns:
        The differences, (draws,); not a number where a draw has no weight in a group.
    """
    import numpy as np

    # clusters with the same sums need no weights of their own: the sum of n exponential weights is a gamma number
    alike = Counter(tuple(sorted(of_cluster.items())) for of_cluster in cells.values())
    distinct = sorted(alike)
    table = np.zeros((len(distinct), groups, 4))
    for number, of_cluster in enumerate(distinct):
        for group, sums in of_cluster:
            table[number, group] = sums
    weights = random.standard_gamma([alike[of_cluster] for of_cluster in distinct], (DRAWS, len(distinct)))
    totals = np.tensordot(weights, table, axes=(1, 0))
    if binary:
        old_weight = sum(old for groups_ in cells.values() for _, old, _, _ in groups_.values())
        mean_size = old_weight / len(cells)
        lost, won = mean_size * random.standard_gamma(1 / groups, (2, DRAWS, groups))
        totals += np.stack([lost, lost + won, won, lost + won], axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        old_means = totals[:, :, 0] / totals[:, :, 1]
        new_means = totals[:, :, 2] / totals[:, :, 3]
        differences: Array = (new_means - old_means).mean(axis=1)
    return differences
