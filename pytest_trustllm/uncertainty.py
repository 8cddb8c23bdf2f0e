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


def share_limits(successes: int, n: int, confidence: float) -> Limits:
    """Return Wilson's limits of a share of independent samples, moved outwards where they hold the truth too seldom.

    That is next to 0 and 1: with one success in 8, Wilson's lower limit is 0.022, but with a true rate of 0.02 one run
    in seven has a success. There the limit is that of a Poisson number.

    Args:
        successes: At most ``n``.
        n: At least 1.
        confidence: In (0, 1).

    Source:
        Brown, Cai and DasGupta (2001), Statistical Science 16:101-133, section 4.1.1.
    """
    low, high = wilson(successes / n, n, z(confidence))
    few = 2 if n <= 50 else 3
    if 1 <= successes <= few:
        low = min(low, _least(successes, confidence) / n)
    if 1 <= n - successes <= few:
        high = max(high, 1 - _least(n - successes, confidence) / n)
    return low, high


def _least(count: int, confidence: float) -> float:
    from scipy.special import gammaincinv

    return float(gammaincinv(count, 1 - confidence))


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
    """Return Wilson's limits of a mean, or of the mean of groups' means, for as many trials as it is worth.

    For a share of independent samples these are the samples. For a macro average they are the trials that would have
    the same variance as the mean of the groups' shares; the shares are drawn towards one half for that by z² trials
    among all groups, or groups without a single failure would seem certain. Clusters divide the trials by a design
    effect: the variance between clusters over that of independent samples. It is at least 1, and is drawn towards
    complete dependence by one cluster's worth, because few clusters, or few that differ, do not show their dependence.
    Numbers between 0 and 1 vary less than shares and are worth more trials, held back by a quarter's worth.

    Args:
        groups: One for a plain mean.
        confidence: In (0, 1).
        fixed: Further groups without an observation, which count as 0 and are certain.

    Returns:
        None without any observation.

    Source:
        Variance between clusters: Miller (2024), arXiv:2411.00640. Effective trials in Wilson's interval: Korn and
        Graubard (1998), Survey Methodology 24:193-201, and for macro averages in the same way; docs/gates.md
        shows how often it holds the true number.
    """
    seen = [g for g in groups if g.seen]
    weighted = [g for g in seen if g.count]
    if not seen:
        return None
    binary = all(g.binary for g in weighted)
    clusters = {c for g in weighted for c in g.clusters}
    lone = len(clusters) == sum(g.count for g in weighted)
    effect, quantile = 1.0, z(confidence)
    if binary and lone and len(seen) == 1 and weighted and not fixed:
        return share_limits(round(weighted[0].mean * weighted[0].count), weighted[0].count, confidence), "Wilson"
    if not (binary and lone):
        effect = _design_effect(weighted, clusters, binary=binary, lone=lone)
        quantile = t(confidence, len(clusters) - len(weighted))
    # a group whose observations have no weight: what is counted cannot happen often in so many
    parts = [(g.mean, g.weight**2 / g.squares[2]) if g.count else (0.0, float(g.seen)) for g in seen]
    mean = math.fsum(m for m, _ in parts) / len(parts)
    worth = _trials(parts, quantile) / effect
    low, high = wilson(mean, max(worth, 1.0) if binary else worth, quantile)
    share = len(seen) / (len(seen) + fixed)
    method = "Wilson" if binary else "Wilson-shaped for the mean of numbers"
    method += ", effective trials of a macro average" if len(groups) > 1 else ""
    return (low * share, high * share), method + ("" if lone else ", clustered (arXiv:2411.00640)")


def _trials(parts: Sequence[tuple[float, float]], quantile: float) -> float:
    """Return how many trials of one share vary as much as the mean of several; parts: share, trials."""
    if len(parts) == 1:
        return parts[0][1]
    more = quantile * quantile / len(parts)
    drawn = [((m * n + more / 2) / (n + more), n) for m, n in parts]
    mean = math.fsum(m for m, _ in drawn) / len(drawn)
    return mean * (1 - mean) * len(drawn) ** 2 / math.fsum(m * (1 - m) / n for m, n in drawn)


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
    if plain == 0:
        return whole
    least = 1.0 if binary else 0.0 if lone else _within(groups) / plain
    effect = max(between / plain, least)
    telling, doubt = (_differing(groups), 1.0) if binary else (len(clusters), 0.25)
    return (effect * telling + max(effect, whole) * doubt) / (telling + doubt)


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


def _differing(groups: Sequence[Tally]) -> int:
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


def percentiles(draws: Array, clusters: int, confidence: float) -> Limits | None:
    """Return the limits that leave equal shares of the draws outside, a little less than asked if clusters are few.

    Args:
        draws: One number each.
        clusters: How many were weighted; less the number of groups, if they were weighted by group.
        confidence: In (0, 1).

    Returns:
        None if a draw has no number, or if there is one cluster.

    Source:
        Expanded percentiles: Hesterberg (2015), The American Statistician 69:371-386.
    """
    import numpy as np

    if clusters < 2 or not np.isfinite(draws).all():
        return None
    wide = math.sqrt((clusters + 1) / (clusters - 1)) * t(confidence, clusters - 1)
    tail = max(NormalDist().cdf(-wide), 0.5 / len(draws))
    low, high = np.quantile(draws, [tail, 1 - tail])
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


def correlation_limits(
    pairs: Sequence[tuple[float, float]], clusters: Sequence[Hashable], confidence: float
) -> Estimated | None:
    """Return limits of Pearson's correlation: Fisher's z with a standard error that supposes no normal distribution.

    Args:
        pairs: The two numbers of every observation.
        clusters: Of the observations.
        confidence: In (0, 1).

    Returns:
        None for fewer than four clusters, or if one side is constant.

    Source:
        Fisher (1921), Metron 1:3-32; the error from the influence of each cluster, as in arXiv:2411.00640.
        docs/gates.md shows that the percentiles of a bootstrap hold the true number less often.
    """
    n = len(pairs)
    sides = []
    for side in zip(*pairs, strict=True):
        mean = math.fsum(side) / n
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in side) / n)
        if spread == 0:
            return None
        sides.append([(v - mean) / spread for v in side])
    found = math.fsum(x * y for x, y in zip(*sides, strict=True)) / n
    influence: dict[Hashable, list[float]] = {}
    for x, y, cluster in zip(*sides, clusters, strict=True):
        influence.setdefault(cluster, []).append(x * y - found * (x * x + y * y) / 2)
    many = len(influence)
    if many < 4:
        return None
    if abs(found) >= 1 - 1e-12:
        return (found, found), "Fisher's z"
    alone = math.fsum(i * i for mine in influence.values() for i in mine)
    together = math.fsum(math.fsum(mine) ** 2 for mine in influence.values())
    error = math.sqrt(max(alone, together) * many / (many - 3)) / n / (1 - found * found)
    middle, half = math.atanh(found), t(confidence, many - 3) * error
    method = "Fisher's z, robust" + ("" if many == n else ", clustered (arXiv:2411.00640)")
    return (math.tanh(middle - half), math.tanh(middle + half)), method


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
