from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, pearsonr

from pytest_trustllm.metrics.association import ChiSquareP, Pearson


def answers(*found):
    return [{"value": v, "human": h} for v, h in found]


def test_pearson_by_hand():
    assert Pearson().compute(answers((1.0, 2.0), (2.0, 4.0), (3.0, 6.0))) == pytest.approx(1.0)
    assert Pearson().compute(answers((1.0, 1.0), (2.0, 3.0), (3.0, 2.0))) == pytest.approx(0.5)


@pytest.mark.parametrize("found", [[(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)], [(1.0, 2.0), (2.0, 2.0)]])
def test_pearson_needs_two_sides_that_vary(found):
    assert Pearson().compute(answers(*found)) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=60), st.randoms())
def test_pearson_is_scipys_in_any_order(found, random):
    ours, theirs = zip(*found, strict=True)
    if len({*ours}) < 2 or len({*theirs}) < 2:
        return
    pearson = Pearson().compute(answers(*found))
    assert pearson == pytest.approx(pearsonr(ours, theirs).statistic, abs=1e-12)
    random.shuffle(found)
    assert Pearson().compute(answers(*found)) == pearson


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=2, max_size=60))
def test_chi_square_is_scipys(found):
    counts = Counter(found)
    rows, columns = sorted({a for a, _ in found}), sorted({v for _, v in found})
    if len(rows) < 2 or len(columns) < 2:
        return
    theirs = chi2_contingency([[counts[r, c] for c in columns] for r in rows]).pvalue
    ours = ChiSquareP("sex").compute([{"value": float(v), "sex": a} for a, v in found])
    assert ours == pytest.approx(theirs, rel=1e-10)


def people(*found):
    return [{"value": float(v), "sex": s} for s, v, n in found for _ in range(n)]


def test_chi_square_of_two_by_two_is_corrected_by_yates():
    # |ad - bc| = 300, n = 40: (300 - 20)^2 * 40 / (20^4) = 19.6; one degree of freedom
    p = ChiSquareP("sex").compute(people(("f", 1, 5), ("f", 2, 15), ("m", 1, 15), ("m", 2, 5)))
    chi = (abs(5 * 5 - 15 * 15) - 20) ** 2 * 40 / 20**4
    assert p == pytest.approx(math.erfc(math.sqrt(chi / 2)))


def test_chi_square_of_two_by_three_has_two_degrees_of_freedom():
    p = ChiSquareP("sex").compute(
        people(("f", 0, 10), ("f", 1, 20), ("f", 3, 30), ("m", 0, 20), ("m", 1, 20), ("m", 3, 20))
    )
    chi = 2 * 5**2 / 15 + 0 + 2 * 5**2 / 25
    assert p == pytest.approx(math.exp(-chi / 2))


def test_constant_answers_depend_on_nothing():
    assert ChiSquareP("sex").compute(people(("f", 2, 3), ("m", 2, 4))) == 1.0


def test_one_group_has_nothing_to_compare_with():
    assert ChiSquareP("sex").compute(people(("f", 1, 3), ("f", 2, 4))) is None
