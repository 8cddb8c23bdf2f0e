"""How far a number that was counted over samples may lie from the true one.

Observations come in *clusters*: those of one cluster (variants of one question, epochs of one sample) depend on each
other, clusters do not. Limits are a lower and an upper one; a method is named, with its source, as people will read it.

scipy's special functions give quantiles, numpy draws; both are imported where they are needed, and plain rates, which
most metrics are, need neither. ``scipy.stats`` has Wilson's interval and a bootstrap too, but takes a second to import,
and its bootstrap resamples one row at a time without clusters or groups.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

CONFIDENCE = 0.95
DRAWS = 2000
PARTS = 40
Limits = tuple[float, float]
Estimated = tuple[Limits, str]
"""Limits and the method that found them."""

_CLUSTERED = ", clustered (arXiv:2411.00640)"
_SQUARE_AND_ADD = ", per group, square-and-add (Zou et al. 2009)"


@dataclass(slots=True)
class Tally:
    """Weighted numbers in [0, 1] of one group, summed as they come.

    Attributes:
        clusters: Cluster -> sum of weighted numbers, sum of weights.
        seen: Observations, those without weight too.
        count: Observations with a weight.
        binary: Every number is 0 or 1, every weight too.
        squares: Sums of number², number * weight and weight².
    """

    clusters: dict[Hashable, tuple[float, float]] = field(default_factory=dict)
    seen: int = 0
    count: int = 0
    binary: bool = True
    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def add(self, cluster: Hashable, number: float, weight: float) -> None:
        """Take one observation.

        Args:
            cluster: It depends on the others of the same.
            number: In [0, ``weight``].
            weight: 0 leaves it out.
        """
        self.seen += 1
        if weight == 0:
            return
        total, weights = self.clusters.get(cluster, (0.0, 0.0))
        self.clusters[cluster] = total + number, weights + weight
        self.count += 1
        self.binary = self.binary and weight == 1 and number in (0, 1)
        a, b, c = self.squares
        self.squares = a + number * number, b + number * weight, c + weight * weight

    @property
    def weight(self) -> float:
        """Sum of weights."""
        return math.fsum(w for _, w in self.clusters.values())

    @property
    def mean(self) -> float:
        """Weighted mean, in [0, 1]."""
        return min(1.0, max(0.0, math.fsum(s for s, _ in self.clusters.values()) / self.weight))


def z(confidence: float) -> float:
    """Return the normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def upper_tail(distance: float, error: float) -> float:
    """Return the probability that a normal number with this standard error exceeds its mean by the distance."""
    if error <= 0:
        return 0.0 if distance > 0 else 1.0
    return 1 - NormalDist().cdf(distance / error)


def t(confidence: float, freedom: int) -> float:
    """Return the quantile of Student's t of a two-sided interval; the normal one without a degree of freedom."""
    if freedom < 1:
        return z(confidence)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def wilson(share: float, n: float, quantile: float) -> Limits:
    """Return Wilson's limits of a share.

    Args:
        share: In [0, 1].
        n: Trials, or what they are worth if they depend on each other.
        quantile: Of the confidence.

    Source:
        Wilson (1927), Journal of the American Statistical Association 22:209-212.
    """
    over = quantile * quantile / n
    middle = (share + over / 2) / (1 + over)
    half = math.sqrt(over * (share * (1 - share) + over / 4)) / (1 + over)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def square_and_add(parts: Sequence[tuple[float, Limits]]) -> Limits:
    """Return limits of the mean of independent numbers from each one's own limits.

    Args:
        parts: Number and its limits.

    Source:
        Zou, Huang and Zhang (2009), Computational Statistics and Data Analysis 53:1080-1085 (MOVER).
    """
    mean = math.fsum(v for v, _ in parts) / len(parts)
    below = math.sqrt(math.fsum((v - low) ** 2 for v, (low, _) in parts)) / len(parts)
    above = math.sqrt(math.fsum((high - v) ** 2 for v, (_, high) in parts)) / len(parts)
    return mean - below, mean + above


def mean_of(parts: Iterable[tuple[Hashable, float, Limits]]) -> Limits:
    """Return limits of the mean of numbers that may belong together.

    Args:
        parts: Source, number and its limits. Numbers of one source may err together, so that their distances to the
            limits add up as they are; those of several sources are independent, and theirs add up in squares.
    """
    sources: dict[Hashable, tuple[float, float, float]] = {}
    count = 0
    for source, value, (low, high) in parts:
        count += 1
        a, b, c = sources.get(source, (0.0, 0.0, 0.0))
        sources[source] = a + value, b + low, c + high
    low, high = square_and_add([(value, (low, high)) for value, low, high in sources.values()])
    return low * len(sources) / count, high * len(sources) / count


def mean_limits(groups: Sequence[Tally], confidence: float, fixed: int = 0) -> Estimated | None:
    """Return limits of a mean, or of the mean over groups of each one's mean.

    Every group gets Wilson's interval, for as many trials as its observations are worth. One design effect tells how
    many: the variance between clusters over that of independent shares. It is at least 1 for shares, and is drawn
    towards complete dependence within clusters by one cluster's worth, because few clusters, or few that differ, do
    not show their dependence. Numbers between 0 and 1 vary less than shares, so for them it is usually below 1.

    Args:
        groups: One for a plain mean.
        confidence: In (0, 1).
        fixed: Further groups without an observation, which count as a fixed number and are certain.

    Returns:
        None without any observation.

    Source:
        Variance between clusters: Miller (2024), arXiv:2411.00640. Effective trials in Wilson's interval: Korn and
        Graubard (1998), Survey Methodology 24:193-201; simulated in docs/gates-coverage.md.
    """
    weighted = [g for g in groups if g.count]
    if not any(g.seen for g in groups):
        return None
    binary = all(g.binary for g in weighted)
    clusters = _union(weighted)
    count = sum(g.count for g in weighted)
    lone = len(clusters) == count
    if binary and lone:
        effect, quantile, method = 1.0, z(confidence), "Wilson"
    else:
        effect = _design_effect(weighted, clusters, binary=binary, lone=lone)
        quantile = t(confidence, len(clusters) - len(weighted))
        method = "Wilson" if binary else "Wilson-shaped for the mean of numbers"
    method += "" if lone else _CLUSTERED
    parts: list[tuple[float, Limits]] = []
    for group in groups:
        if group.count:
            worth = max(group.weight**2 / group.squares[2] / effect, 1.0 if binary else 0.0)
            parts.append((group.mean, wilson(group.mean, worth, quantile)))
        elif group.seen:  # nothing to divide by in so many observations: it cannot happen often
            parts.append((0.0, wilson(0.0, group.seen, z(confidence))))
    if len(parts) == 1 and not fixed:
        return parts[0][1], method
    low, high = square_and_add(parts)
    share = len(parts) / (len(parts) + fixed)
    return (low * share, high * share), method + _SQUARE_AND_ADD


def _union(groups: Iterable[Tally]) -> set[Hashable]:
    return {c for g in groups for c in g.clusters}


def _design_effect(groups: Sequence[Tally], clusters: set[Hashable], *, binary: bool, lone: bool) -> float:
    """Return the variance of the mean over what it would be for independent observations that are 0 or 1."""
    if not groups:
        return 1.0
    means, weights = [g.mean for g in groups], [g.weight for g in groups]
    plain = math.fsum(m * (1 - m) * g.squares[2] / w**2 for g, m, w in zip(groups, means, weights, strict=True))
    parts: dict[Hashable, list[float]] = {c: [] for c in clusters}
    for group, mean, weight in zip(groups, means, weights, strict=True):
        for cluster, (total, share) in group.clusters.items():
            parts[cluster].append((total - mean * share) / weight)
    between = math.fsum(math.fsum(p) ** 2 for p in parts.values())
    between *= len(clusters) / max(len(clusters) - 1, 1)
    whole = _whole(groups)  # the design effect of clusters whose observations are all alike
    if plain == 0 or (between == 0 and not binary):
        return whole
    effect = between / plain
    if not binary:
        return effect if lone else max(effect, _within(groups) / plain)
    rare = _differing(groups, clusters)
    effect = max(effect, 1.0)
    return (effect * rare + max(effect, whole)) / (rare + 1)


def _whole(groups: Sequence[Tally]) -> float:
    """Return the mean size of the clusters, as seen from an observation, over the groups."""
    sizes: dict[Hashable, float] = {}
    for group in groups:
        for cluster, (_, weight) in group.clusters.items():
            sizes[cluster] = sizes.get(cluster, 0.0) + weight
    return math.fsum(s * s for s in sizes.values()) / math.fsum(g.squares[2] for g in groups)


def _within(groups: Sequence[Tally]) -> float:
    """Return the variance of the mean if all observations were independent."""
    found = []
    for group in groups:
        mean, (a, b, c) = group.mean, group.squares
        found.append(max(0.0, a - 2 * mean * b + mean * mean * c) / group.weight**2)
    return math.fsum(found)


def _differing(groups: Sequence[Tally], clusters: set[Hashable]) -> int:
    """Return how many clusters have the rarer outcome."""
    ones = {c for g in groups for c, (total, _) in g.clusters.items() if total > 0}
    zeros = {c for g in groups for c, (total, weight) in g.clusters.items() if total < weight}
    return min(len(ones), len(zeros))


def generator(seed: int, name: str) -> Any:
    """Return a numpy generator that depends on the run's seed and a name alone."""
    import numpy as np

    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big"))


def draws_of(
    outcomes: Sequence[Hashable],
    clusters: Sequence[Hashable],
    prior: Sequence[Hashable],
    of_shares: Callable[[Sequence[Any], Array], Array],
    weights: Mapping[Hashable, Array] | None,
    random: Any,
) -> Array:
    """Draw what a number that depends on the shares of the outcomes could be: the Bayesian bootstrap.

    Args:
        outcomes: One per observation.
        clusters: Likewise.
        prior: Outcomes that may occur; together they count as one observation more (one cluster's worth), so that
            what did not occur is not ruled out.
        of_shares: Takes distinct outcomes and their shares, (draws, outcomes), to numbers, (draws,).
        weights: Cluster -> draws of its weight, from :func:`weights_of`; None: every observation stands for itself.
        random: Draws.

    Source:
        Rubin (1981), Annals of Statistics 9:130-134; of tables of labels and answers: Goutte and Gaussier (2005),
        ECIR, 345-359.
    """
    import numpy as np

    kinds = sorted({*outcomes, *prior}, key=repr)
    at = {kind: i for i, kind in enumerate(kinds)}
    mass = np.zeros((DRAWS, len(kinds)))
    if weights is None:
        counts = np.bincount([at[o] for o in outcomes], minlength=len(kinds))
        seen = np.flatnonzero(counts)
        mass[:, seen] = random.standard_gamma(counts[seen], (DRAWS, len(seen)))
        size = 1.0
    else:
        mine = sorted({*clusters}, key=repr)
        place = {c: i for i, c in enumerate(mine)}
        table = np.zeros((len(mine), len(kinds)))
        np.add.at(table, ([place[c] for c in clusters], [at[o] for o in outcomes]), 1.0)
        mass += np.stack([weights[c] for c in mine], axis=1) @ table
        size = len(outcomes) / len(mine)
    if prior:
        extra = [at[p] for p in prior]
        mass[:, extra] += size * random.standard_gamma(1 / len(prior), (DRAWS, len(prior)))
    return of_shares(kinds, mass / mass.sum(axis=1, keepdims=True))


def weights_of(clusters: Iterable[Hashable], random: Any) -> dict[Hashable, Array]:
    """Return draws of every cluster's weight; one cluster in several groups has the same weight in all."""
    names = sorted({*clusters}, key=repr)
    found = random.standard_exponential((len(names), DRAWS))
    return dict(zip(names, found, strict=True))


def percentiles(draws: Array, confidence: float) -> Limits | None:
    """Return the limits that leave equal shares of the draws outside; None if a draw has no number."""
    import numpy as np

    if not np.isfinite(draws).all():
        return None
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def jackknife(
    clusters: Sequence[Hashable],
    without: Callable[[frozenset[Hashable]], float | None],
    value: float,
    span: Limits,
    confidence: float,
) -> Estimated | None:
    """Return limits of a number of which only the way to compute it is known, such as a user's own metric.

    The clusters are dealt into at most 40 parts; the number is computed once without each.

    Args:
        clusters: Of the observations.
        without: Takes clusters; computes the number without them.
        value: The number of all observations.
        span: Least and greatest possible value.
        confidence: In (0, 1).

    Returns:
        None if a part cannot be left out.

    Source:
        Kott (2001), Journal of Official Statistics 17:521-526 (delete-a-group jackknife).
    """
    names = sorted({*clusters}, key=lambda c: hashlib.sha256(repr(c).encode()).digest())
    parts = [frozenset(names[i::PARTS]) for i in range(min(PARTS, len(names)))]
    if len(parts) < 2:
        return None
    found = [without(part) for part in parts]
    if any(f is None or not math.isfinite(f) for f in found):
        return None
    spread = math.fsum((f - value) ** 2 for f in found if f is not None) * (len(parts) - 1) / len(parts)
    low, high = span
    if not (math.isfinite(low) and math.isfinite(high)):
        half = t(confidence, len(parts) - 1) * math.sqrt(spread)
        return (value - half, value + half), "delete-a-group jackknife (Kott 2001)"
    share, variance = (value - low) / (high - low), spread / (high - low) ** 2
    plain = share * (1 - share)
    worth = max(1.0, plain / variance) if variance > 0 and plain > 0 else float(len(names))
    below, above = wilson(min(1.0, max(0.0, share)), worth, t(confidence, len(parts) - 1))
    return (low + below * (high - low), low + above * (high - low)), "delete-a-group jackknife (Kott 2001)"


def greatest_limits(numbers: Sequence[float], clusters: Sequence[Hashable], confidence: float) -> Estimated | None:
    """Return limits of the greatest number that can occur: not less than the greatest seen, and how much more.

    Args:
        numbers: At least one.
        clusters: Of the numbers; the second greatest is one of another cluster than the greatest.
        confidence: In (0, 1).

    Source:
        Robson and Whitlock (1964), Biometrika 51:33-39. It supposes that numbers near the greatest are not rare;
        where they are, the upper limit is too low.
    """
    top: dict[Hashable, float] = {}
    for number, cluster in zip(numbers, clusters, strict=True):
        top[cluster] = max(number, top.get(cluster, -math.inf))
    if not top:
        return None
    ordered = sorted(top.values(), reverse=True)
    gap = ordered[0] - ordered[1] if len(ordered) > 1 else math.inf
    return (
        ordered[0],
        ordered[0] + confidence / (1 - confidence) * gap,
    ), "spacing of the two greatest (Robson and Whitlock 1964)"


def independence_limits(
    table: Mapping[Hashable, Mapping[tuple[Any, Any], float]], confidence: float
) -> Estimated | None:
    """Return limits of the p-value that a chi-square test of independence typically (in the median) gives.

    Over repeated runs the test's statistic is a noncentral chi-square number; its noncentrality is what one run tells
    about. Clusters scale the statistic by their mean design effect, which is 1 for independent observations.

    Args:
        table: Cluster -> counts of (row, column).
        confidence: In (0, 1).

    Returns:
        None without two rows to compare.

    Source:
        Boos and Stefanski (2011), The American Statistician 65:213-221, on how much p-values vary; Rao and Scott
        (1981), Journal of the American Statistical Association 76:221-230, on clusters.
    """
    import numpy as np
    from scipy.special import chdtrc, chndtr, chndtrinc, chndtrix

    rows, columns = (sorted({key[i] for cells in table.values() for key in cells}) for i in (0, 1))
    counts = np.zeros((len(table), len(rows), len(columns)))
    for i, cells in enumerate(table.values()):
        for (row, column), count in cells.items():
            counts[i, rows.index(row), columns.index(column)] = count
    if len(rows) < 2:
        return None
    freedom = max(1, (len(rows) - 1) * (len(columns) - 1))
    effect = _rao_scott(counts, freedom)
    pooled = counts.sum(axis=0)
    expected = np.outer(pooled.sum(axis=1), pooled.sum(axis=0)) / pooled.sum()
    scaled = float(((pooled - expected) ** 2 / expected).sum()) / effect
    tail = (1 - confidence) / 2
    least = 0.0 if chndtr(scaled, freedom, 0.0) <= 1 - tail else float(chndtrinc(scaled, freedom, 1 - tail))
    most = 0.0 if chndtr(scaled, freedom, 0.0) <= tail else float(chndtrinc(scaled, freedom, tail))
    low, high = (float(chdtrc(freedom, effect * chndtrix(0.5, freedom, nc))) for nc in (most, least))
    return (low, high), "noncentral chi-square" + ("" if effect == 1 else ", clustered (Rao and Scott 1981)")


def _rao_scott(counts: Any, freedom: int) -> float:
    """Return the mean design effect of a table; counts: (clusters, rows, columns)."""
    sizes = counts.sum(axis=(1, 2))
    if (sizes == 1).all():
        return 1.0
    n = sizes.sum()
    rows, columns = counts.sum(axis=(0, 2)) / n, counts.sum(axis=(0, 1)) / n
    # what each cluster adds to observed minus expected counts if rows and columns are independent
    mine_rows, mine_columns = counts.sum(axis=2), counts.sum(axis=1)
    added = (
        counts
        - mine_rows[:, :, None] * columns[None, None, :]
        - rows[None, :, None] * mine_columns[:, None, :]
        + sizes[:, None, None] * rows[None, :, None] * columns[None, None, :]
    )
    variance = ((added - added.mean(axis=0)) ** 2).sum(axis=0) * len(counts) / max(len(counts) - 1, 1)
    effect = float((variance / (n * rows[:, None] * columns[None, :])).sum() / freedom)
    return effect if effect > 1e-6 else 1.0


def further_samples(value: float, bound: float, found: Limits, n: int) -> int | None:
    """Return about how many more samples would put a bound outside the interval if the value stayed where it is.

    The distance from the value to a limit shrinks with the square root of the number of samples, so that
    n * (distance to the limit / distance to the bound)² samples decide.

    Args:
        value: The number that was judged.
        bound: What it was compared with.
        found: Its limits.
        n: Samples that it comes from.

    Returns:
        0 if the bound lies outside the interval; None if the value sits on the bound, so that no number decides.
    """
    low, high = found
    if not low <= bound <= high:
        return 0
    if value == bound or n < 1:
        return None
    reach = (high - value) if bound > value else (value - low)
    return max(1, math.ceil(n * (reach / (bound - value)) ** 2) - n)


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


def drawn_difference(draws: Array, sign: int, margin: float, confidence: float, method: str) -> Difference | None:
    """Return what draws of a difference say.

    Args:
        draws: Of new minus old.
        sign: 1 if higher is better, else -1.
        margin: Loss that is accepted, at least 0.
        confidence: In (0, 1).
        method: How they were drawn.
    """
    limits = percentiles(draws, confidence)
    if limits is None:
        return None
    worse, beyond = (float((sign * draws >= -m).sum() + 1) / (len(draws) + 1) for m in (0.0, margin))
    return Difference(limits, method, worse, beyond, method)


def paired_draws(
    cells: Mapping[Hashable, Mapping[int, tuple[float, float, float, float]]], groups: int, *, binary: bool, random: Any
) -> Array:
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
