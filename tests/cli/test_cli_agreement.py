"""Statistics of a judge's agreement, against numbers by hand and against independent computations."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from pytest_trustllm.stats.agreement import Estimate, agreement, corrected_rate, kappa, proportion, with_part_by_rule
from pytest_trustllm.stats.intervals import normal_quantile
from pytest_trustllm.stats.shares import wilson


def pairs_of(table: list[list[int]], labels: str = "ab") -> list[tuple[str, str]]:
    return [
        (h, m) for h, row in zip(labels, table, strict=True) for m, n in zip(labels, row, strict=True) for _ in range(n)
    ]


def test_numbers_by_hand() -> None:
    # people say a 50 times: the model 45 of them; people say b 50 times: the model 40 of them
    found = agreement(pairs_of([[45, 5], [10, 40]]), "ab", "a")
    assert found.table == ((45, 5), (10, 40))
    assert (found.sensitivity.value, found.sensitivity.n) == (0.9, 50)
    assert (found.specificity.value, found.specificity.n) == (0.8, 50)
    assert (found.accuracy.value, found.accuracy.n) == (0.85, 100)
    # chance: .5 * .55 + .5 * .45 = .5, so kappa = (.85 - .5) / .5
    assert found.kappa.value == pytest.approx(0.7, abs=1e-15)


def test_the_other_label_as_positive_swaps_sensitivity_and_specificity() -> None:
    pairs = pairs_of([[45, 5], [10, 40]])
    one, other = agreement(pairs, "ab", "a"), agreement(pairs, "ab", "b")
    assert one.sensitivity == other.specificity
    assert one.specificity == other.sensitivity
    assert one.kappa == other.kappa


def test_with_three_labels_one_stands_against_the_rest() -> None:
    found = agreement(pairs_of([[8, 1, 1], [2, 5, 3], [0, 0, 10]], "abc"), "abc", "a")
    assert found.sensitivity.value == 0.8
    assert found.specificity.value == 18 / 20  # b taken for c is no false alarm about a
    assert found.accuracy.value == 23 / 30


def test_wilsons_interval_by_hand() -> None:
    # Wilson (1927) at 45 of 50 with z = 1.959964: centre (p + z²/2n) / (1 + z²/n)
    z, p, n = 1.959963984540054, 0.9, 50
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    found = proportion(45, 50, 0.95)
    assert found.ci == pytest.approx((centre - half, centre + half), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (1, 2)])
def test_an_interval_never_leaves_the_unit_and_is_never_a_point(k: int, n: int) -> None:
    low, high = proportion(k, n, 0.95).ci or (0, 0)
    assert 0 <= low < high <= 1


def test_nothing_is_not_zero() -> None:
    found = agreement([], "ab", "a")
    assert [found.sensitivity.value, found.specificity.value, found.accuracy.value, found.kappa.value] == [None] * 4
    one = agreement([("a", "a")] * 5, "ab", "a")
    assert one.specificity == Estimate(None, None, 0, "every reference label is 'a'")
    assert one.kappa == Estimate(None, None, 5, "only one label occurs")
    assert agreement([("b", "b")], "ab", "a").sensitivity.reason == "no reference label is 'a'"


def test_perfect_agreement_has_a_kappa_but_no_interval() -> None:
    assert kappa([[5, 0], [0, 5]], 0.95) == Estimate(1.0, None, 10, "no interval under perfect agreement")


def test_kappa_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(5)
    for _ in range(50):
        labels = "abcd"[: rng.randint(2, 4)]
        pairs = [(rng.choice(labels), rng.choice(labels)) for _ in range(rng.randint(20, 60))]
        expected = metrics.cohen_kappa_score(*zip(*pairs, strict=True), labels=list(labels))
        assert agreement(pairs, labels, "a").kappa.value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("table", [[[45, 5], [10, 40]], [[20, 5], [10, 15]], [[3, 1, 2], [4, 9, 1], [0, 2, 8]]])
def test_kappas_error_is_the_delta_methods(table: list[list[int]]) -> None:
    """The closed formula against a numerical derivative with the covariance of a multinomial sample."""
    n, size = sum(map(sum, table)), range(len(table))
    flat = [c / n for row in table for c in row]

    def of(shares: list[float]) -> float:
        square = [shares[i * len(size) : (i + 1) * len(size)] for i in size]
        same = sum(square[i][i] for i in size)
        chance = sum(sum(square[i]) * sum(row[i] for row in square) for i in size)
        return (same - chance) / (1 - chance)

    step = 1e-6
    slopes = []
    for at in range(len(flat)):
        up, down = list(flat), list(flat)
        up[at] += step
        down[at] -= step
        slopes.append((of(up) - of(down)) / (2 * step))
    mean = sum(p * s for p, s in zip(flat, slopes, strict=True))
    variance = (sum(p * s * s for p, s in zip(flat, slopes, strict=True)) - mean**2) / n
    found = kappa(table, 0.95)
    assert found.ci is not None
    assert (found.ci[1] - found.ci[0]) / 2 == pytest.approx(1.959963984540054 * math.sqrt(variance), rel=1e-5)


def test_a_rate_is_corrected_by_hand() -> None:
    # of 1000, 60 % are called positive by a model with sensitivity .9 and specificity .8: (.6 + .8 - 1) / .7
    se, sp = Estimate(0.9, None, 100), Estimate(0.8, None, 50)
    found = corrected_rate(0.6, 1000, se, sp, 0.95)
    assert found.value == pytest.approx(0.4 / 0.7)
    # Lang and Reiczigel (2014), step by step
    z = 1.959963984540054
    ap, s, c = (600 + z * z / 2) / (1000 + z * z), 91 / 102, 41 / 52
    tp = (ap + c - 1) / (s + c - 1)
    shift = 2 * z * z * (tp * s * (1 - s) / 102 - (1 - tp) * c * (1 - c) / 52)
    spread = ap * (1 - ap) / (1000 + z * z) + tp**2 * s * (1 - s) / 102 + (1 - tp) ** 2 * c * (1 - c) / 52
    half = z * math.sqrt(spread) / (s + c - 1)
    assert found.ci == pytest.approx((tp + shift - half, tp + shift + half), abs=1e-12)


def test_a_faultless_model_corrects_nothing() -> None:
    huge = Estimate(1.0, None, 10**9)
    found = corrected_rate(0.3, 400, huge, huge, 0.95)
    assert found.value == pytest.approx(0.3)
    # what is left is the sampling error of the rate, by Agresti and Coull
    z = 1.959963984540054
    p = (120 + z * z / 2) / (400 + z * z)
    half = z * math.sqrt(p * (1 - p) / (400 + z * z))
    assert found.ci == pytest.approx((p - half, p + half), abs=1e-6)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_an_impossible_rate_is_clipped(rate: float, expected: float) -> None:
    found = corrected_rate(rate, 50, Estimate(0.9, None, 30), Estimate(0.8, None, 30), 0.95)
    assert found.value == expected
    assert found.ci is not None
    assert 0 <= found.ci[0] <= found.ci[1] <= 1


def test_a_model_that_guesses_corrects_nothing() -> None:
    found = corrected_rate(0.4, 100, Estimate(0.5, None, 20), Estimate(0.5, None, 20), 0.95)
    assert (found.value, found.ci) == (None, None)
    assert found.reason is not None
    assert "carry no information" in found.reason


def test_a_missing_side_corrects_nothing() -> None:
    found = corrected_rate(
        0.4, 100, Estimate(0.5, None, 20), Estimate(None, None, 0, "every reference label is 'x'"), 0.95
    )
    assert found == Estimate(None, None, 100, "every reference label is 'x'")


def test_the_corrected_interval_covers_what_it_promises() -> None:
    rng = random.Random(11)

    def draw(n: int, p: float) -> int:
        return sum(rng.random() < p for _ in range(n))

    hits, runs, true, se, sp = 0, 400, 0.3, 0.85, 0.9
    for _ in range(runs):
        seen = draw(200, true * se + (1 - true) * (1 - sp)) / 200
        found = corrected_rate(
            seen, 200, Estimate(draw(60, se) / 60, None, 60), Estimate(draw(60, sp) / 60, None, 60), 0.95
        )
        hits += found.ci is not None and found.ci[0] <= true <= found.ci[1]
    assert hits / runs > 0.92


def test_fewer_independent_trials_widen_a_corrected_interval_and_move_no_rate() -> None:
    se, sp = Estimate(0.9, None, 100), Estimate(0.8, None, 100)
    many, few = (corrected_rate(0.4, n, se, sp, 0.95) for n in (400, 57.3))
    assert many.value == few.value
    assert many.ci is not None
    assert few.ci is not None
    assert few.ci[1] - few.ci[0] > 1.5 * (many.ci[1] - many.ci[0])
    assert few.n == 57


GRID_RATES = (0.0, 0.01, 0.05, 0.3, 0.5, 0.8, 0.95, 0.99, 1.0)
GRID_LABELS = (1, 2, 3, 5, 20, 50, 200)


def test_a_corrected_interval_always_contains_its_rate() -> None:
    seen = 0
    for positives, negatives in itertools.product(GRID_LABELS, GRID_LABELS):
        for missed, alarms in itertools.product((0, 1, positives // 4), (0, 1, negatives // 4)):
            se = proportion(max(0, positives - missed), positives, 0.95)
            sp = proportion(max(0, negatives - alarms), negatives, 0.95)
            for rate, n, confidence in itertools.product(GRID_RATES, (7.5, 200, 1400), (0.6, 0.9, 0.99)):
                found = corrected_rate(rate, n, se, sp, confidence)
                if found.ci is not None:
                    seen += 1
                    assert found.value is not None
                    assert 0 <= found.ci[0] <= found.value <= found.ci[1] <= 1
    assert seen > 10_000


def test_few_labels_do_not_narrow_an_interval_below_that_of_the_rate_itself() -> None:
    # two labels, both found, and a judge without false alarms: Lang and Reiczigel alone give 1.000 to 1.000
    found = corrected_rate(0.95, 1400, Estimate(1.0, None, 2), Estimate(1.0, None, 200), 0.95)
    assert found.value == pytest.approx(0.95)
    assert found.ci == (pytest.approx(wilson(0.95, 1400, normal_quantile(0.95))[0]), 1.0)


@pytest.mark.parametrize(
    ("by_rule", "together", "limits"),
    [
        (1.0, False, (0.7 - math.hypot(0.05, 0.06), 0.7 + math.hypot(0.1, 0.12))),
        (1.0, True, (0.7 - 0.11, 0.7 + 0.22)),
        (0.0, False, (0.2 - math.hypot(0.05, 0.08), 0.2 + math.hypot(0.1, 0.04))),
    ],
)
def test_a_part_by_rule_is_put_back_by_hand(by_rule: float, together: bool, limits: tuple[float, float]) -> None:
    # half was judged, and is 0.4 (0.3 to 0.6) without the judge's mistakes; it may be 0.3 to 0.6 of all
    judged = Estimate(0.4, (0.3, 0.6), 50)
    found = with_part_by_rule(judged, 0.5, (0.3, 0.6), by_rule, together=together)
    assert found.value == pytest.approx(0.5 * 0.4 + 0.5 * by_rule)
    assert found.ci == pytest.approx(limits)


def test_a_part_that_cannot_be_corrected_stays_without_a_number() -> None:
    missing = Estimate(None, None, 50, "no label")
    assert with_part_by_rule(missing, 0.5, (0.4, 0.6), 1.0, together=False) == missing
