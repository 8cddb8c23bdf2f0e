"""Paired differences between two runs, new minus old: what was lost or won on the same samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_trustllm.uncertainty import DRAWS, Limits, percentiles, upper_tail, z

if TYPE_CHECKING:
    from pytest_trustllm.uncertainty import Array

FLIPS = 10000
PairedSums = Mapping[Hashable, Mapping[int, tuple[float, float, float, float]]]
"""Cluster -> group -> old sum, old weight, new sum, new weight."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference between two runs, new minus old.

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
    """Compare two rates over the same samples, which do not depend on each other.

    Args:
        lost: Samples that went from 1 to 0.
        won: Samples that went from 0 to 1.
        n: All samples, at least 1.
        margin: Loss that is accepted, at least 0.
        confidence: In (0, 1).

    Source:
        Exact test: McNemar (1947), Psychometrika 12:153-157, with the binomial distribution, one-sided. Interval:
        Bonett and Price (2012), Journal of Educational and Behavioral Statistics 37:479-488.
    """
    down, up = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    error = math.sqrt((down + up - (down - up) ** 2) / (n + 2))
    half = z(confidence) * error
    both = lost + won
    tail = math.fsum(_binomial(k, both) for k in range(lost, both + 1))
    return Difference(
        limits=(up - down - half, up - down + half),
        method="paired difference of rates (Bonett and Price 2012)",
        p_worse=min(1.0, tail),
        p_margin=upper_tail(down - up - margin, error),
        test="exact McNemar test, one-sided",
    )


def _binomial(k: int, n: int) -> float:
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))


def drawn_difference(
    draws: Array, value: float, clusters: int, sign: int, margin: float, confidence: float, method: str
) -> Difference | None:
    """Return what draws of a difference say.

    Args:
        draws: Of new minus old.
        value: The difference itself.
        clusters: How many were weighted.
        sign: 1 if higher is better, else -1.
        margin: Loss that is accepted, at least 0.
        confidence: In (0, 1).
        method: How they were drawn.
    """
    limits = percentiles(draws, clusters, confidence)
    if limits is None:
        return None
    error = float(draws.std()) * math.sqrt((clusters + 1) / (clusters - 1))
    worse, beyond = (upper_tail(-sign * value - m, error) for m in (0.0, margin))
    return Difference(limits, method, worse, beyond, method)


def sign_flips(cells: PairedSums, groups: int, sign: int, random: Any) -> float:
    """Return how likely an equal model loses as much: for it, old and new sums of a cluster could as well be swapped.

    For clusters of one sample and a plain rate this is McNemar's test.

    Args:
        cells: Cluster -> group -> old sum, old weight, new sum, new weight.
        groups: Number of groups.
        sign: 1 if higher is better, else -1.
        random: Draws.

    Source:
        Fisher's (1935) randomization test of paired differences.
    """
    import numpy as np

    totals = np.zeros((groups, 4))
    for mine in cells.values():
        for group, sums in mine.items():
            totals[group] += sums
    with np.errstate(divide="ignore", invalid="ignore"):
        level = (totals[:, 0] + totals[:, 2]) / (totals[:, 1] + totals[:, 3])
    weight = (totals[:, 1] + totals[:, 3]) / 2 * groups
    lost = Counter(
        round(
            -sign
            * math.fsum((c - a - float(level[g]) * (d - b)) / float(weight[g]) for g, (a, b, c, d) in mine.items()),
            12,
        )
        for mine in cells.values()
    )
    steps = {step: count for step, count in sorted(lost.items()) if step != 0}
    seen = math.fsum(step * count for step, count in steps.items())
    if not steps:
        return 1.0
    counts = np.array(list(steps.values()))
    flipped = (2 * random.binomial(counts, 0.5, (FLIPS, len(counts))) - counts) @ np.array(list(steps))
    return float((flipped >= seen - 1e-12).sum() + 1) / (FLIPS + 1)


def paired_draws(cells: PairedSums, groups: int, *, binary: bool, random: Any) -> Array:
    """Draw differences of two means, or macro averages of means, over the same clusters.

    For rates one cluster that lost everything and one that won everything are added with the weight of one each, over
    all groups, as Bonett and Price's interval does: a difference that did not occur is not ruled out.

    Args:
        cells: Cluster -> group -> old sum, old weight, new sum, new weight.
        groups: Number of groups; 1 for a plain mean.
        binary: All numbers are 0 or 1.
        random: Draws.
    """
    import numpy as np

    # clusters with the same sums need no weights of their own: the sum of n exponential weights is a gamma number
    kinds = Counter(tuple(sorted(mine.items())) for mine in cells.values())
    table = np.zeros((len(kinds), groups, 4))
    for i, kind in enumerate(sorted(kinds)):
        for group, sums in kind:
            table[i, group] = sums
    weights = random.standard_gamma([kinds[k] for k in sorted(kinds)], (DRAWS, len(kinds)))
    found = np.tensordot(weights, table, axes=(1, 0))
    if binary:
        size = sum(sums[1] for mine in cells.values() for sums in mine.values()) / len(cells)
        lost, won = size * random.standard_gamma(1 / groups, (2, DRAWS, groups))
        found += np.stack([lost, lost + won, won, lost + won], axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn: Array = (found[:, :, 2] / found[:, :, 3] - found[:, :, 0] / found[:, :, 1]).mean(axis=1)
    return drawn
