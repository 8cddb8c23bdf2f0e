"""The difference of a metric between two runs of the same samples: its interval and p-values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_trustllm.metrics.base import Averaged, Tabled
from pytest_trustllm.metrics.observations import ObservedSample, Scoring, group_values
from pytest_trustllm.results.metric_inputs import MetricInput
from pytest_trustllm.stats import bootstrap, intervals, jackknife, paired
from pytest_trustllm.stats.paired import Difference
from pytest_trustllm.suites.metric_specs import Reading

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array

Terms = Sequence[tuple[float, float]]
"""Weighted number and weight of every observation of a sample."""
Sums = tuple[float, float, float, float]
"""Old sum, old weight, new sum, new weight."""


@dataclass(frozen=True, slots=True)
class SharedSamples:
    """A metric in two runs, over the samples that both can use.

    Attributes:
        old: The earlier run's samples.
        new: The later run's samples, in the same order.
        scoring: Which reading.
        margin: Loss that is accepted.
        confidence: In (0, 1).
    """

    old: MetricInput
    new: MetricInput
    scoring: Scoring
    margin: float
    confidence: float

    @property
    def reading(self) -> Reading:
        """How the number is computed."""
        return self.new.reading(self.scoring)

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1."""
        return 1 if self.new.spec.higher_is_better else -1

    @property
    def macro_group(self) -> str | None:
        """Name of the group that a macro average is taken over; None for a number over all samples."""
        return self.new.by if self.reading.average == "macro" else None

    def groups(self) -> list[str | None]:
        """Return the values of the group of a macro average; a single None for all samples together."""
        if self.macro_group is None:
            return [None]
        return [*group_values(self.new.samples, self.macro_group)]

    def clusters(self) -> list[str]:
        """Return the cluster of every sample."""
        return [sample.cluster for sample in self.new.samples]

    def pairs(self) -> list[tuple[ObservedSample, ObservedSample]]:
        """Return the earlier and the later of every sample."""
        return list(zip(self.old.samples, self.new.samples, strict=True))


def estimate_difference(shared: SharedSamples, difference: float) -> Difference | None:
    """Return interval and p-values of a difference, by the method that suits the metric's kind.

    Args:
        shared: The metric in both runs.
        difference: New minus old.

    Returns:
        None if there are too few samples.
    """
    metric = shared.reading.metric
    if isinstance(metric, Averaged):
        return _difference_of_means(shared, metric, difference)
    if isinstance(metric, Tabled):
        return _difference_of_tables(shared, metric, difference)
    return _jackknife_difference(shared, difference)


def _random(shared: SharedSamples) -> Any:
    return bootstrap.seeded_generator(shared.new.seed, f"{shared.new.id}/{shared.scoring}/difference")


def _drawn_difference(shared: SharedSamples, draws: Array, difference: float) -> Difference | None:
    method = f"paired Bayesian bootstrap by cluster, {bootstrap.DRAWS} draws"
    clusters = len(set(shared.clusters()))
    # every group takes a mean of its own, and with it one of the clusters' degrees of freedom
    free_clusters = max(clusters - len(shared.groups()) + 1, min(clusters, 2))
    return paired.drawn_difference(
        draws, difference, free_clusters, shared.sign, shared.margin, shared.confidence, method
    )


# --- differences of means ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _PairedSums:
    """What two runs of a mean add up to.

    Attributes:
        cells: Cluster -> number of the group -> sums.
        samples: Cluster -> number of the group -> samples.
        binary: Every number is 0 or 1, and so is every weight.
        lone: Every sample is a cluster of its own, with one observation of weight 1 in each run.
    """

    cells: dict[Hashable, dict[int, Sums]] = field(default_factory=dict)
    samples: dict[Hashable, dict[int, int]] = field(default_factory=dict)
    binary: bool = True
    lone: bool = True

    def inspect(self, terms: Terms) -> None:
        """Look at the numbers and weights of one sample in one run."""
        self.binary = self.binary and all(weight in (0, 1) and number in (0, weight) for number, weight in terms)
        self.lone = self.lone and [weight for _, weight in terms] == [1]

    def add(self, cluster: Hashable, group: int, sums: Sums) -> None:
        """Add the sums of one sample."""
        cells = self.cells.setdefault(cluster, {})
        if cells:
            self.lone = False
        old, old_weight, new, new_weight = cells.get(group, (0.0, 0.0, 0.0, 0.0))
        cells[group] = (old + sums[0], old_weight + sums[1], new + sums[2], new_weight + sums[3])
        samples = self.samples.setdefault(cluster, {})
        samples[group] = samples.get(group, 0) + 1


def _difference_of_means(shared: SharedSamples, metric: Averaged, difference: float) -> Difference | None:
    sums = _paired_sums(shared, metric)
    cells = paired.with_counts_as_weights(sums.cells, sums.samples)
    if sums.lone and sums.binary and shared.macro_group is None:
        return _difference_of_rates(shared, cells)
    groups = len(shared.groups())
    random = _random(shared)
    draws = paired.paired_draws(cells, groups, binary=sums.binary, random=random)
    drawn = _drawn_difference(shared, draws, difference)
    chance = paired.sign_flips(cells, groups, shared.sign, random)
    if drawn is None:
        return None
    # the sign-flip test is exact under "no worse than before"; the draws' p-value only approximates it
    return dataclasses.replace(drawn, p_worse=chance, test=f"sign-flip test by cluster, {paired.FLIPS} draws")


def _difference_of_rates(shared: SharedSamples, cells: paired.PairedSums) -> Difference:
    """Compare two plain rates of samples that do not depend on each other, without drawing."""
    samples = 0
    ones_to_zeros = 0
    zeros_to_ones = 0
    for groups in cells.values():
        for old, _, new, _ in groups.values():
            samples += 1
            if old > new:
                ones_to_zeros += 1
            elif new > old:
                zeros_to_ones += 1
    if shared.sign > 0:
        return paired.rate_difference(ones_to_zeros, zeros_to_ones, samples, shared.margin, shared.confidence)
    # lower is better: a sample that went from 0 to 1 is lost, and the difference has the other sign
    inverted = paired.rate_difference(zeros_to_ones, ones_to_zeros, samples, shared.margin, shared.confidence)
    low, high = inverted.limits
    return dataclasses.replace(inverted, limits=(-high, -low))


def _paired_sums(shared: SharedSamples, metric: Averaged) -> _PairedSums:
    """Return the sums of both runs. A sample weighs the same in both, however many epochs each has."""
    old_epochs = _epochs(shared.old, shared.scoring)
    new_epochs = _epochs(shared.new, shared.scoring)
    numbers = {group: number for number, group in enumerate(shared.groups())}
    sums = _PairedSums()
    macro_group = shared.macro_group
    for before, after in shared.pairs():
        group = None if macro_group is None else after.group.get(macro_group)
        number = numbers.get(group)
        if number is None:  # the sample belongs to no group of the macro average
            continue
        old_terms = metric.terms(before.observations(shared.scoring))
        new_terms = metric.terms(after.observations(shared.scoring))
        sums.inspect(old_terms)
        sums.inspect(new_terms)
        sums.add(after.cluster, number, (*_sum(old_terms, old_epochs), *_sum(new_terms, new_epochs)))
    return sums


def _epochs(metric_input: MetricInput, scoring: Scoring) -> int:
    """Return the most observations that any sample has, at least 1."""
    return max([1, *(len(sample.observations(scoring)) for sample in metric_input.samples)])


def _sum(terms: Terms, epochs: int) -> tuple[float, float]:
    """Return the weighted numbers and the weights of a sample, each as a mean over the epochs."""
    numbers = math.fsum(number for number, _ in terms)
    weights = math.fsum(weight for _, weight in terms)
    return numbers / epochs, weights / epochs


# --- differences of other metrics -------------------------------------------------------------------------------------


def _difference_of_tables(shared: SharedSamples, metric: Tabled, difference: float) -> Difference | None:
    random = _random(shared)
    # the same weights of the clusters for both runs: that is what makes the draws paired
    weights = bootstrap.cluster_weights(shared.clusters(), random)
    old_draws = _table_draws(shared, shared.old, metric, weights, random)
    new_draws = _table_draws(shared, shared.new, metric, weights, random)
    return _drawn_difference(shared, new_draws - old_draws, difference)


def _table_draws(
    shared: SharedSamples,
    metric_input: MetricInput,
    metric: Tabled,
    weights: Mapping[Hashable, Array],
    random: Any,
) -> Array:
    """Draw one run's number, the mean over the groups. A group without an observation counts as ``reading.empty``."""
    import numpy as np

    groups = shared.groups()
    total = np.zeros(bootstrap.DRAWS)
    for group in groups:
        observations = []
        clusters = []
        for sample in metric_input.samples:
            if group is None or sample.group.get(metric_input.by or "") == group:
                for observation in sample.observations(shared.scoring):
                    observations.append(observation)
                    clusters.append(sample.cluster)
        if not observations:
            total += metric_input.reading(shared.scoring).empty or 0.0
            continue
        outcomes = metric.outcomes(observations)
        total += bootstrap.bootstrap_draws(outcomes, clusters, metric.prior, metric.of_shares, weights, random)
    mean: Array = total / len(groups)
    return mean


def _jackknife_difference(shared: SharedSamples, difference: float) -> Difference | None:
    clusters = shared.clusters()

    def compute_without(metric_input: MetricInput, left_out: frozenset[Hashable]) -> float | None:
        # both runs go by the later run's clusters, so that the same samples are left out of both
        rest = []
        for sample, cluster in zip(metric_input.samples, clusters, strict=True):
            if cluster not in left_out:
                rest.append(sample)
        return dataclasses.replace(metric_input, samples=rest).compute(shared.scoring).value

    def difference_without(left_out: frozenset[Hashable]) -> float | None:
        old = compute_without(shared.old, left_out)
        new = compute_without(shared.new, left_out)
        if old is None or new is None:
            return None
        return new - old

    unbounded = (-math.inf, math.inf)
    estimated = jackknife.jackknife_limits(clusters, difference_without, difference, unbounded, shared.confidence)
    if estimated is None:
        return None
    (low, high), method = estimated
    error = (high - low) / 2 / intervals.normal_quantile(shared.confidence)
    loss = -shared.sign * difference
    return Difference(
        limits=(low, high),
        method=method,
        p_worse=intervals.upper_tail(loss, error),
        p_margin=intervals.upper_tail(loss - shared.margin, error),
        test=method,
    )
