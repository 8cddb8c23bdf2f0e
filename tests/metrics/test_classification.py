from __future__ import annotations

import pytest

from pytest_trustllm.metrics.classification import MacroF1, UpstreamMacroF1, UpstreamVerdictF1

CLASSES = ["REFUTE", "SUPPORT"]


def pairs(*found):
    return [{"value": float(g == a), "gold": g, "answer": a} for g, a in found]


S, R = "SUPPORT", "REFUTE"


def test_macro_f1_by_hand():
    # SUPPORT: 2 hits, 3 gold, 3 answered: 4/6. REFUTE: 0 hits, 1 gold, 1 answered: 0
    assert MacroF1(CLASSES).compute(pairs((S, S), (S, S), (S, R), (R, S))) == pytest.approx((4 / 6 + 0) / 2)
    # SUPPORT: 1 hit, 1 gold, 2 answered: 2/3. REFUTE: 1 hit, 2 gold, 1 answered: 2/3
    assert MacroF1(CLASSES).compute(pairs((S, S), (R, S), (R, R))) == pytest.approx(2 / 3)


def test_an_absent_class_contributes_nothing_and_upstream_raises():
    assert MacroF1(CLASSES).compute(pairs((S, S), (S, S))) == 0.5
    assert UpstreamMacroF1(CLASSES).compute(pairs((S, S), (S, S))) is None


def test_both_agree_where_all_classes_occur():
    found = pairs((S, S), (R, S), (R, R))
    assert UpstreamMacroF1(CLASSES).compute(found) == MacroF1(CLASSES).compute(found)


@pytest.mark.parametrize(("right", "all_", "f1"), [(1, 2, 2 / 3), (1, 5, 1 / 3), (0, 3, 0.0), (4, 4, 1.0)])
def test_upstream_f1_of_verdicts_is_not_the_accuracy(right, all_, f1, values):
    found = values(*[1.0] * right, *[0.0] * (all_ - right))
    assert UpstreamVerdictF1().compute(found) == pytest.approx(f1)
