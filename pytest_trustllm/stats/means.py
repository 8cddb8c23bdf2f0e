"""Limits of a mean, and of the mean of several groups' means, of observations that may depend on each other.

All are limits of a share, such as Wilson's, for a number of *effective trials*: as many independent successes and
failures as would estimate the mean with the same variance. Mean ± error would leave [0, 1], and would be 0 wide where
all observations agree. How that number comes about, with m for a group's mean, w for the weight of an observation and
W for the sum of the weights:

1. Independent observations that are 0 or 1 give m the variance m (1 - m) Σw² / W². That is the variance of a share of
   W² / Σw² trials (Kish 1965, Survey Sampling: effective sample size).
2. Observations that depend on each other, or are not all 0 or 1, give it another variance. The ratio of the two is the
   design effect (Kish 1965); it divides the trials (:func:`_design_effect`).
3. The variance is estimated from a few clusters, so the quantile is Student's t, with a degree of freedom for every
   cluster less one for every group's mean. A quantile t for n trials is about the quantile z for n (z / t)² trials,
   since the width of these intervals goes with quantile / √n (Korn and Graubard 1998).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_trustllm.stats.intervals import Limits, LimitsAndMethod, normal_quantile, student_quantile
from pytest_trustllm.stats.shares import exact_limits, share_limits, wilson


@dataclass(slots=True)
class Tally:
    """Weighted numbers in [0, 1] of one group, summed as they come.

    Attributes:
        clusters: Cluster -> sum of weighted numbers, sum of weights.
        observations: How many there are, those without weight included.
        weighted: How many have a weight.
        binary: Every number is 0 or 1, and every weight too.
        sum_numbers_squared: Of the weighted numbers.
        sum_numbers_by_weight: Of weighted number times weight.
        sum_weights_squared: Of the weights.
    """

    clusters: dict[Hashable, tuple[float, float]] = field(default_factory=dict)
    observations: int = 0
    weighted: int = 0
    binary: bool = True
    sum_numbers_squared: float = 0.0
    sum_numbers_by_weight: float = 0.0
    sum_weights_squared: float = 0.0

    def add(self, cluster: Hashable, number: float, weight: float) -> None:
        """Take one observation.

        Args:
            cluster: It depends on the other observations of this cluster.
            number: Times its weight: in [0, ``weight``].
            weight: 0 leaves it out of the mean.
        """
        self.observations += 1
        if weight == 0:
            return
        total, weights = self.clusters.get(cluster, (0.0, 0.0))
        self.clusters[cluster] = total + number, weights + weight
        self.weighted += 1
        self.binary = self.binary and weight == 1 and number in (0, 1)
        self.sum_numbers_squared += number * number
        self.sum_numbers_by_weight += number * weight
        self.sum_weights_squared += weight * weight

    @property
    def weight(self) -> float:
        """Sum of weights."""
        return math.fsum(weight for _, weight in self.clusters.values())

    @property
    def mean(self) -> float:
        """Weighted mean, in [0, 1]."""
        total = math.fsum(number for number, _ in self.clusters.values())
        return min(1.0, max(0.0, total / self.weight))

    @property
    def trials(self) -> float:
        """Kish's effective number of observations, W² / Σw²; their number if all weigh the same."""
        return self.weight**2 / self.sum_weights_squared


class _Part(NamedTuple):
    """One group's share of a mean of groups' means."""

    mean: float
    trials: float


def square_and_add(parts: Sequence[tuple[float, Limits]]) -> Limits:
    """Return limits of the mean of independent numbers, from the limits of each.

    Distances from the numbers to their limits are added in squares, as standard errors are; each side for itself,
    because limits need not be symmetric.

    Args:
        parts: Each number and its limits.

    Source:
        Zou, Huang and Zhang (2009), Computational Statistics and Data Analysis 53:1080-1085 (MOVER).
    """
    count = len(parts)
    mean = math.fsum(value for value, _ in parts) / count
    below = math.sqrt(math.fsum((value - low) ** 2 for value, (low, _) in parts)) / count
    above = math.sqrt(math.fsum((high - value) ** 2 for value, (_, high) in parts)) / count
    return mean - below, mean + above


def mean_by_source(parts: Iterable[tuple[Hashable, float, Limits]]) -> Limits:
    """Return limits of the mean of numbers some of which come from the same source.

    Args:
        parts: Source, number and its limits. Numbers of one source may err together, so their distances to the limits
            add up as they are; those of different sources are independent, and theirs add up in squares.
    """
    sums: dict[Hashable, tuple[float, float, float]] = {}
    count = 0
    for source, value, (low, high) in parts:
        count += 1
        value_sum, low_sum, high_sum = sums.get(source, (0.0, 0.0, 0.0))
        sums[source] = value_sum + value, low_sum + low, high_sum + high
    low, high = square_and_add([(value, (low, high)) for value, low, high in sums.values()])
    # that is the mean over the sources, of sums of numbers
    return low * len(sums) / count, high * len(sums) / count


def mean_limits(groups: Sequence[Tally], confidence: float, zero_groups: int = 0) -> LimitsAndMethod | None:
    """Return limits of a mean, or of the mean of several groups' means.

    A share of independent trials has :func:`~pytest_trustllm.stats.shares.share_limits`; any other mean Wilson's for
    its effective trials, as the head of this module derives them; a mean of groups' means :func:`_macro_limits`.

    Args:
        groups: One for a plain mean.
        confidence: In (0, 1).
        zero_groups: Further groups without an observation, which count as 0 and are certain.

    Returns:
        None without any observation.

    Source:
        Variance between clusters: Miller (2024), arXiv:2411.00640. Effective trials in an interval for shares: Korn and
        Graubard (1998), Survey Methodology 24:193-201.
    """
    observed = [group for group in groups if group.observations]
    if not observed:
        return None
    design = _design(observed, confidence)
    first = observed[0]
    if len(observed) == 1 and design.plain and first.weighted and not zero_groups:
        successes = round(first.mean * first.weighted)
        return share_limits(successes, first.weighted, confidence), "Wilson"
    parts = [_part(group) for group in observed]
    if len(parts) > 1:
        low, high = _macro_limits(parts, design, confidence)
    else:
        low, high = wilson(parts[0].mean, design.effective(parts[0].trials), design.quantile)
    share_observed = len(observed) / (len(observed) + zero_groups)
    return (low * share_observed, high * share_observed), _method(design, len(parts))


def _part(group: Tally) -> _Part:
    if group.weighted:
        return _Part(group.mean, group.trials)
    # No observation has a weight, such as a share of positives when nothing was positive: the mean counts as 0. What
    # was counted cannot be frequent among so many observations, so each stands for a trial without success.
    return _Part(0.0, float(group.observations))


def _method(design: _Design, groups: int) -> str:
    method = "Wilson" if design.binary else "Wilson-shaped for the mean of numbers"
    if groups > 1:
        method = f"exact limits by group, square-and-add; at least {method}, effective trials of a macro average"
    if not design.independent:
        method += ", clustered (arXiv:2411.00640)"
    return method


@dataclass(frozen=True, slots=True)
class _Design:
    """What observations are worth against as many independent ones that are 0 or 1.

    Attributes:
        binary: All numbers are 0 or 1.
        independent: No two observations share a cluster.
        effect: The design effect, which divides the trials.
        quantile: Normal, or Student's for the number of clusters.
    """

    binary: bool
    independent: bool
    effect: float
    quantile: float

    @property
    def plain(self) -> bool:
        """The observations are successes and failures of independent trials."""
        return self.binary and self.independent

    def effective(self, trials: float) -> float:
        """Return effective trials."""
        effective = trials / self.effect
        # zeros and ones tell at least as much as the first of them, however dependent the others are
        return max(effective, 1.0) if self.binary else effective


def _design(groups: Sequence[Tally], confidence: float) -> _Design:
    weighted = [group for group in groups if group.weighted]
    clusters: set[Hashable] = set()
    for group in weighted:
        clusters.update(group.clusters)
    binary = all(group.binary for group in weighted)
    independent = len(clusters) == sum(group.weighted for group in weighted)
    if binary and independent:
        return _Design(binary, independent, 1.0, normal_quantile(confidence))
    effect = _design_effect(weighted, binary=binary, independent=independent)
    quantile = student_quantile(confidence, len(clusters) - len(weighted))
    return _Design(binary, independent, effect, quantile)


def effective_trials(tally: Tally, confidence: float) -> float:
    """Return how many independent observations would tell as much about a mean as these, which may be dependent.

    Few clusters call for Student's quantile; here that counts as fewer trials, so that the normal quantile is right.
    """
    design = _design([tally], confidence)
    return design.effective(tally.trials) * _as_fewer_trials(design, confidence)


def _as_fewer_trials(design: _Design, confidence: float) -> float:
    """Return the factor of the trials that makes up for the normal quantile in place of the design's: (z / t)²."""
    return (normal_quantile(confidence) / design.quantile) ** 2


def _macro_limits(parts: Sequence[_Part], design: _Design, confidence: float) -> Limits:
    """Return limits of the mean of groups' means: found in two ways, and at each end the wider of the two.

    By group: a tiny group among large ones decides how far the mean may be off, and three observations that agree do
    not show that they always do. Each group's exact limits know that; their distances add up in squares.

    Together: of many small groups each one's limits end at 0 or 1, so that their squares miss what the groups show
    together. There Wilson's limits are right for as many trials of one share as have the variance of the mean.
    ``tools/simulate_intervals.py`` shows how often the wider one holds the true number.

    Args:
        parts: All groups.
        design: What a trial is worth.
        confidence: In (0, 1).
    """
    factor = _as_fewer_trials(design, confidence)
    each: list[tuple[float, Limits]] = []
    for mean, trials in parts:
        each.append((mean, exact_limits(mean, design.effective(trials) * factor, confidence)))
    low, high = square_and_add(each)

    macro_mean = math.fsum(part.mean for part in parts) / len(parts)
    together = design.effective(_trials_of_one_share(parts, design.quantile))
    low_together, high_together = wilson(macro_mean, together, design.quantile)

    # No further than where every group is at its own limit: a group without a failure cannot do better.
    least = math.fsum(limits[0] for _, limits in each) / len(each)
    greatest = math.fsum(limits[1] for _, limits in each) / len(each)
    return min(low, max(low_together, least)), max(high, min(high_together, greatest))


def _trials_of_one_share(parts: Sequence[_Part], quantile: float) -> float:
    """Return how many trials of one share have the variance of the mean of several shares.

    With G groups of shares p and n trials the mean P has the variance Σ p (1 - p) / n / G². One share P of N trials has
    the variance P (1 - P) / N; N solves the equation of the two.

    The shares are first drawn towards one half by quantile² trials, divided among the groups and half of them
    successes, or groups without a failure would seem certain. With one group that is the share in the middle of
    Wilson's interval, as Agresti and Coull (1998), The American Statistician 52:119-126, use it.
    """
    added = quantile * quantile / len(parts)
    shares: list[float] = []
    variances: list[float] = []
    for mean, trials in parts:
        share = (mean * trials + added / 2) / (trials + added)
        shares.append(share)
        variances.append(share * (1 - share) / trials)
    macro_mean = math.fsum(shares) / len(shares)
    return macro_mean * (1 - macro_mean) * len(shares) ** 2 / math.fsum(variances)


def _design_effect(groups: Sequence[Tally], *, binary: bool, independent: bool) -> float:
    """Return the variance of the mean over what it would be for independent observations that are 0 or 1.

    Of the mean of G groups' means both variances have a factor 1 / G², which cancels.

    Few clusters, or few that differ, do not show their dependence: a single failure says nothing about whether failures
    come together. So the estimated effect is averaged with that of complete dependence. The estimate weighs as much as
    the clusters that it rests on: with zeros and ones those that have the rarer outcome, with other numbers all of
    them. Complete dependence weighs as much as one cluster; with other numbers, of which every cluster shows more than
    one of two outcomes, a fourth of one. Both weights are chosen, not derived: ``tools/simulate_intervals.py`` shows
    how often the intervals hold the true number with them.

    Args:
        groups: Each with a weighted observation.
        binary: All numbers are 0 or 1.
        independent: No two observations share a cluster.
    """
    if not groups:
        return 1.0
    independent_variance = math.fsum(_variance_of_trials(group) for group in groups)
    complete_effect = _effect_of_complete_dependence(groups)
    if independent_variance == 0:  # every group's observations agree, so nothing is known of their dependence
        return complete_effect

    # An effect below that of the same observations without clusters is taken for chance. Where there are no clusters,
    # it may be as small as it is: numbers between 0 and 1 vary less than zeros and ones, and are worth more trials.
    if binary:
        least = 1.0
    elif independent:
        least = 0.0
    else:
        least = _variance_without_clusters(groups) / independent_variance
    effect = max(_variance_between_clusters(groups) / independent_variance, least)

    if binary:
        evidence, doubt = _clusters_with_rarer_outcome(groups), 1.0
    else:
        evidence, doubt = len({cluster for group in groups for cluster in group.clusters}), 0.25
    return (effect * evidence + max(effect, complete_effect) * doubt) / (evidence + doubt)


def _variance_of_trials(group: Tally) -> float:
    """Return the variance of the mean of independent observations that are 0 or 1: m (1 - m) Σw² / W²."""
    mean = group.mean
    return mean * (1 - mean) * group.sum_weights_squared / group.weight**2


def _variance_between_clusters(groups: Sequence[Tally]) -> float:
    """Return the variance of the mean as the clusters show it.

    A cluster with the sums T of weighted numbers and S of weights moves its group's mean by (T - m S) / W, to first
    order; with C clusters the variance is C / (C - 1) times the sum of the squares. A cluster in several groups moves
    all of them at once.
    """
    moves: dict[Hashable, list[float]] = {}
    for group in groups:
        mean, group_weight = group.mean, group.weight
        for cluster, (total, weight) in group.clusters.items():
            moves.setdefault(cluster, []).append((total - mean * weight) / group_weight)
    sum_of_squares = math.fsum(math.fsum(of_cluster) ** 2 for of_cluster in moves.values())
    return sum_of_squares * (len(moves) / max(len(moves) - 1, 1))


def _effect_of_complete_dependence(groups: Sequence[Tally]) -> float:
    """Return the design effect of clusters in each of which all observations are alike: ΣS² / Σw².

    A cluster then counts as one observation with the sum S of its weights. If all weights are 1, that is the mean size
    of a cluster as seen from an observation; with clusters of one size b, Kish's 1 + (b - 1) ρ with ρ = 1.
    """
    sizes: dict[Hashable, float] = {}
    for group in groups:
        for cluster, (_, weight) in group.clusters.items():
            sizes[cluster] = sizes.get(cluster, 0.0) + weight
    squares = math.fsum(size * size for size in sizes.values())
    return squares / math.fsum(group.sum_weights_squared for group in groups)


def _variance_without_clusters(groups: Sequence[Tally]) -> float:
    """Return the variance of the mean if the observations, as they are, were independent: Σ(x - m w)² / W².

    The square is expanded, because a tally keeps sums alone; x is the weighted number.
    """
    variances: list[float] = []
    for group in groups:
        mean = group.mean
        squares = (
            group.sum_numbers_squared - 2 * mean * group.sum_numbers_by_weight + mean * mean * group.sum_weights_squared
        )
        variances.append(max(0.0, squares) / group.weight**2)  # rounding can make a sum of 0 negative
    return math.fsum(variances)


def _clusters_with_rarer_outcome(groups: Sequence[Tally]) -> int:
    with_one: set[Hashable] = set()
    with_zero: set[Hashable] = set()
    for group in groups:
        for cluster, (total, weight) in group.clusters.items():
            if total > 0:
                with_one.add(cluster)
            if total < weight:
                with_zero.add(cluster)
    return min(len(with_one), len(with_zero))
