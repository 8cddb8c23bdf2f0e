"""Intervals by hand, against scipy, and what always holds of them."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, ncx2
from scipy.stats import t as student

from pytest_trustllm.stats import bootstrap
from pytest_trustllm.stats.dependence import correlation_limits, independence_limits
from pytest_trustllm.stats.intervals import further_observations, normal_quantile
from pytest_trustllm.stats.jackknife import jackknife_limits
from pytest_trustllm.stats.means import Tally, effective_trials, mean_by_source, mean_limits, square_and_add
from pytest_trustllm.stats.paired import rate_difference, sign_flips
from pytest_trustllm.stats.shares import exact_limits, share_limits, wilson


def tally(*numbers, clusters=None):
    found = Tally()
    for i, number in enumerate(numbers):
        found.add(i if clusters is None else clusters[i], float(number), 1.0)
    return found


def limits_of(*groups, confidence=0.95, fixed=0):
    found = mean_limits(groups, confidence, fixed)
    assert found is not None
    return found


@pytest.mark.parametrize(("k", "n"), [(0, 8), (8, 8), (5, 12), (31, 40), (500, 1400)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_shares_away_from_the_edge_have_wilsons_limits(k, n, confidence):
    theirs = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert share_limits(k, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_next_to_the_edge_the_limit_is_a_poisson_numbers():
    low, high = share_limits(1, 8, 0.95)
    assert low == pytest.approx(-math.log(0.95) / 8)
    assert high == pytest.approx(wilson(1 / 8, 8, normal_quantile(0.95))[1])
    assert share_limits(7, 8, 0.95) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("n", [8, 9, 13, 30, 50, 51, 100, 400, 1400])
@pytest.mark.parametrize("p", [0.005, 0.02, 0.05, 0.5, 0.98])
def test_shares_are_covered_by_exact_count(n, p):
    """No simulation: the probability of every possible count, added up where the interval holds the true rate."""
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log(1 - p)
        for k in range(n + 1)
    ]
    found = [share_limits(k, n, 0.95) for k in range(n + 1)]
    assert math.fsum(math.exp(log) for log, (low, high) in zip(logs, found, strict=True) if low <= p <= high) > 0.92


def test_an_independent_share_is_named_and_computed_as_one():
    assert limits_of(tally(1, 0, 1, 1)) == (share_limits(3, 4, 0.95), "Wilson")


def test_clusters_that_agree_within_count_as_one_observation_each():
    values = [v for v in (1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1) for _ in range(5)]
    (low, high), method = limits_of(tally(*values, clusters=[i // 5 for i in range(60)]))
    worth = 12 / (12 / 11)  # the variance between clusters has one degree of freedom less
    worth = 60 / ((60 / worth * 4 + max(60 / worth, 5)) / 5)
    assert (low, high) == pytest.approx(wilson(8 / 12, worth, student(11).ppf(0.975)), abs=1e-12)
    assert method == "Wilson, clustered (arXiv:2411.00640)"


def test_clusters_never_make_a_share_more_certain():
    values = [1, 0] * 30  # every cluster of two has one of each: less variance than independent samples would have
    (low, high), _ = limits_of(tally(*values, clusters=[i // 2 for i in range(60)]))
    alone, _ = limits_of(tally(*values))
    assert low < alone[0]
    assert high > alone[1]


def test_without_a_single_failure_a_cluster_counts_once():
    (low, high), _ = limits_of(tally(*[1] * 60, clusters=[i // 6 for i in range(60)]))
    assert high == 1
    assert low == pytest.approx(wilson(1, 10, student(9).ppf(0.975))[0])


def test_one_cluster_that_failed_does_not_show_that_its_samples_are_independent():
    (low, high), _ = limits_of(tally(0, *[1] * 99, clusters=[i // 5 for i in range(100)]))
    # the variance between clusters is that of independent samples (effect 1.01); full dependence would be 5
    effect = ((0.95**2 + 19 * 0.05**2) * 20 / 19 / 100) / 0.0099
    assert (low, high) == pytest.approx(wilson(0.99, 100 / ((effect + 5) / 2), student(19).ppf(0.975)), abs=1e-12)


MACRO = "exact limits by group, square-and-add; at least Wilson, effective trials of a macro average"


def test_equal_groups_of_a_macro_average_are_worth_about_all_their_samples():
    groups = [tally(*([1] * 5 + [0] * 5), clusters=range(g * 10, g * 10 + 10)) for g in range(4)]
    (low, high), method = limits_of(*groups)
    exact = binomtest(5, 10).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((0.5 - (0.5 - exact.low) / 2, 0.5 + (exact.high - 0.5) / 2))
    assert low < wilson(0.5, 40, normal_quantile(0.95))[0] < low + 0.01
    assert method == MACRO


def test_a_tiny_group_that_agrees_decides_how_far_a_macro_average_may_lie_off():
    tiny, large = tally(1, 1, 1), tally(*[1, 0] * 150, clusters=range(10, 310))
    (low, high), _ = limits_of(tiny, large)
    # three of three: the true rate may be 0.29
    assert low < (0.5 + exact_limits(1.0, 3, 0.95)[0]) / 2
    assert high <= 0.8


def test_many_groups_of_few_samples_are_worth_what_they_show_together():
    groups = [tally(*([1] if g < 6 else [0]), 0, 0, 0, clusters=range(4 * g, 4 * g + 4)) for g in range(12)]
    (low, _), _ = limits_of(*groups)
    by_group = square_and_add([(g.mean, exact_limits(g.mean, 4, 0.95)) for g in groups])
    assert low < by_group[0]


@pytest.mark.parametrize(("k", "n"), [(0, 3), (3, 3), (1, 8), (30, 300)])
def test_exact_limits_are_clopper_and_pearsons(k, n):
    theirs = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert exact_limits(k / n, n, 0.95) == pytest.approx((theirs.low, theirs.high))


RATES = (0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0)


@pytest.mark.parametrize("sizes", [(3, 300), (1, 300), (5, 50), (8, 8), (3, 3, 3)])
def test_macro_averages_are_covered_by_exact_count(sizes):
    """No simulation: every possible result of all groups, for every combination of true rates."""
    counts = list(itertools.product(*(range(n + 1) for n in sizes)))
    shares = {
        (g, k): tally(*[1] * k, *[0] * (n - k), clusters=[(g, i) for i in range(n)])
        for g, n in enumerate(sizes)
        for k in range(n + 1)
    }
    limits = [limits_of(*(shares[g, k] for g, k in enumerate(ks)))[0] for ks in counts]
    low, high = (np.array([limit[side] for limit in limits]) for side in (0, 1))
    at = np.array(counts)
    for rates in itertools.combinations_with_replacement(RATES, len(sizes)):
        for p in {rates, rates[::-1]}:
            chances = [
                binom.pmf(range(n + 1), n, rate)[at[:, g]] for g, (n, rate) in enumerate(zip(sizes, p, strict=True))
            ]
            held = (low <= sum(p) / len(p) + 1e-12) & (sum(p) / len(p) - 1e-12 <= high)
            assert float((np.prod(chances, axis=0) * held).sum()) > 0.93, p


def test_effective_trials_are_the_samples_if_they_are_independent():
    assert effective_trials(tally(1, 0, 1, 1), 0.95) == 4
    alike = [i // 5 for i in range(50)]
    trials = effective_trials(tally(*[float(c % 2) for c in alike], clusters=alike), 0.95)
    assert 5 < trials < 10  # ten clusters whose samples are alike, and a wider quantile for so few


def test_a_group_that_counts_as_fixed_draws_the_interval_to_0():
    one, _ = limits_of(tally(*[1] * 6, *[0] * 4))
    both, _ = limits_of(tally(*[1] * 6, *[0] * 4), fixed=1)
    assert both == pytest.approx(tuple(limit / 2 for limit in wilson(0.6, 10, normal_quantile(0.95))))
    assert one != both


def test_numbers_that_vary_less_than_shares_have_a_narrower_interval():
    dice = random.Random(0)
    numbers = [dice.uniform(0.6, 0.8) for _ in range(50)]
    (low, high), method = limits_of(tally(*numbers))
    mean = math.fsum(numbers) / 50
    error = math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / 49 / 50)
    # the plain interval, a little wider for the quarter of an observation that counts as a share
    assert 1 < (high - low) / (2 * student(49).ppf(0.975) * error) < 1.2
    assert method == "Wilson-shaped for the mean of numbers"


def test_nothing_has_no_limits():
    assert mean_limits([], 0.95) is None
    assert mean_limits([Tally()], 0.95) is None


def test_observations_without_weight_say_that_the_rate_is_low():
    empty = Tally()
    for i in range(10):
        empty.add(i, 0.0, 0.0)
    assert limits_of(empty)[0] == pytest.approx(wilson(0, 10, normal_quantile(0.95)))


observations = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 0.0, 1.0, 0.37]), st.integers(0, 6), st.integers(0, 2)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(observations, st.randoms(use_true_random=False), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_limits_hold_the_mean_keep_in_range_grow_with_confidence_and_ignore_the_order(found, dice, confidence):
    def limits(of, level):
        groups = {g: Tally() for _, _, g in of}
        for number, cluster, group in of:
            groups[group].add(cluster, number, 1.0)
        ordered = [groups[g] for g in sorted(groups)]
        return limits_of(*ordered, confidence=level)[0], math.fsum(g.mean for g in ordered) / len(ordered)

    (low, high), mean = limits(found, confidence)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    (lower, higher), _ = limits(found, 0.9999)
    assert lower <= low
    assert high <= higher
    shuffled = list(found)
    dice.shuffle(shuffled)
    assert limits(shuffled, confidence)[0] == pytest.approx((low, high), abs=1e-12)


def test_square_and_add_by_hand():
    assert square_and_add([(0.5, (0.2, 0.9)), (0.7, (0.3, 0.9))]) == pytest.approx(
        (0.6 - 0.25, 0.6 + math.sqrt(0.2) / 2)
    )


def test_numbers_of_one_source_add_their_distances():
    assert mean_by_source([("a", 0.5, (0.2, 0.9)), ("a", 0.7, (0.3, 0.9))]) == pytest.approx((0.25, 0.9))
    assert mean_by_source([("a", 0.5, (0.2, 0.9)), ("b", 0.7, (0.3, 0.9))])[0] == pytest.approx(0.35)


def test_jackknife_of_a_mean_is_its_classical_interval():
    dice = random.Random(1)
    numbers = [dice.gauss(3, 1) for _ in range(40)]
    found = jackknife_limits(
        range(40),
        lambda out: math.fsum(n for i, n in enumerate(numbers) if i not in out) / (40 - len(out)),
        mean := math.fsum(numbers) / 40,
        (-math.inf, math.inf),
        0.95,
    )
    error = math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / 39 / 40)
    assert found is not None
    assert found[0] == pytest.approx((mean - student(39).ppf(0.975) * error, mean + student(39).ppf(0.975) * error))


def test_jackknife_needs_two_clusters_and_a_number_without_each():
    assert jackknife_limits(["a", "a"], lambda out: 0.5, 0.5, (0.0, 1.0), 0.95) is None
    assert jackknife_limits(["a", "b"], lambda out: None, 0.5, (0.0, 1.0), 0.95) is None
    found = jackknife_limits(["a", "b", "c"], lambda out: 1.0, 1.0, (0.0, 1.0), 0.95)
    assert found is not None
    assert found[0][0] < 1 == found[0][1]


def test_correlation_of_normal_numbers_is_near_fishers_interval():
    dice = random.Random(2)
    x = [dice.gauss(0, 1) for _ in range(2000)]
    pairs = [(v, 0.6 * v + 0.8 * dice.gauss(0, 1)) for v in x]
    found = correlation_limits(pairs, range(2000), 0.95)
    assert found is not None
    assert found[0][1] - found[0][0] == pytest.approx(2 * 1.96 * (1 - 0.36) / math.sqrt(2000), rel=0.1)


@pytest.mark.parametrize("pairs", [[(0, 1), (1, 2), (2, 0)], [(1.0, float(i)) for i in range(9)]])
def test_no_interval_of_a_correlation_of_three_or_of_a_constant(pairs):
    assert correlation_limits(pairs, range(len(pairs)), 0.95) is None


def test_clusters_widen_the_interval_of_a_correlation():
    dice = random.Random(3)
    pairs = [(dice.gauss(0, 1), dice.gauss(0, 1)) for _ in range(50)] * 3
    alone, together = (correlation_limits(pairs, c, 0.95) for c in (range(150), [i % 50 for i in range(150)]))
    assert alone is not None
    assert together is not None
    assert (together[0][1] - together[0][0]) / (alone[0][1] - alone[0][0]) == pytest.approx(math.sqrt(3), rel=0.1)


def test_p_values_interval_is_where_the_noncentral_distribution_puts_it():
    table = {i: {("f" if i % 2 else "m", float(i % 100 < (60 if i % 2 else 40))): 1.0} for i in range(200)}
    found = independence_limits(table, 0.95)
    assert found is not None
    counts = [[sum(cells.get((r, c), 0) for cells in table.values()) for c in (0.0, 1.0)] for r in "fm"]
    columns = [sum(c) for c in zip(*counts, strict=True)]
    statistic = sum(
        (v - 100 * c / 200) ** 2 / (100 * c / 200) for row in counts for v, c in zip(row, columns, strict=True)
    )
    assert statistic > 3
    low, high = found[0]
    least, most = (
        next(n / 100 for n in range(5000) if ncx2.cdf(statistic, 1, n / 100 + 1e-9) < q) for q in (0.975, 0.025)
    )
    assert low == pytest.approx(ncx2.sf(ncx2.median(1, most), 1, 1e-9), rel=0.05)
    assert high == pytest.approx(ncx2.sf(ncx2.median(1, least + 1e-9), 1, 1e-9), rel=0.05)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 0), (9, 3), (3, 9)])
def test_mcnemar_is_exact(lost, won):
    found = rate_difference(lost, won, 40, 0.0, 0.95)
    expected = binomtest(lost, lost + won, alternative="greater").pvalue if lost + won else 1.0
    assert found.p_worse == pytest.approx(expected)
    low, high = found.limits
    assert low < (won - lost) / 40 < high
    assert found.test == "exact McNemar test, one-sided"


def test_sign_flips_of_single_samples_are_mcnemars_test():
    cells = {i: {0: (float(i < 9), 1.0, float(9 <= i < 12), 1.0)} for i in range(40)}
    found = sign_flips(cells, 1, 1, bootstrap.seeded_generator(0, "x"))
    assert found == pytest.approx(binomtest(9, 12, alternative="greater").pvalue, abs=0.01)
    better = sign_flips(cells, 1, -1, bootstrap.seeded_generator(0, "x"))
    assert better > 0.9


def test_random_numbers_depend_on_seed_and_name_alone():
    first, again, other, seeded = (
        bootstrap.seeded_generator(s, n).standard_normal() for s, n in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))
    )
    assert first == again
    assert len({first, other, seeded}) == 3


def test_four_times_the_samples_halve_the_interval():
    assert further_observations(0.5, 0.375, (0.25, 0.875), 100) == 300
    assert further_observations(0.5, 0.625, (0.25, 0.75), 100) == 300
    assert further_observations(0.5, 0.125, (0.25, 0.75), 100) == 0
    assert further_observations(0.5, 0.5, (0.25, 0.75), 100) is None


@pytest.mark.parametrize(
    ("n", "rate", "distance"),
    [(200, 0.1, 0.02), (200, 0.5, 0.03), (200, 0.8, -0.02), (200, 0.95, -0.02), (800, 0.5, -0.02), (800, 0.8, 0.02)],
)
def test_so_many_more_samples_decide_every_second_run_and_twice_as_many_four_in_five(n, rate, distance):
    """By exact count, of a model whose true rate is the value that was inconclusive."""
    bound = rate + distance

    def decided(size):
        limits = {k: share_limits(k, size, 0.95) for k in range(size + 1)}
        return math.fsum(binom.pmf(k, size, rate) for k, (low, high) in limits.items() if not low <= bound <= high)

    found = share_limits(round(rate * n), n, 0.95)
    more = further_observations(rate, bound, found, n)
    assert more is not None
    assert decided(n) < 0.4 < decided(n + more) < 0.61
    assert 0.7 < decided(2 * (n + more)) < 0.91
