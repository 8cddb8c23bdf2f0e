"""Success of attacks, by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pytest_trustllm.errors import ScorerError
from pytest_trustllm.metrics.attacks import AttackSuccessAt, WorstTransform
from pytest_trustllm.metrics.robustness import AttackSuccessRate


def tries(*outcomes: str, ways: tuple[str, ...] = ("original", "base64", "rot13", "typos")) -> list[dict[str, Any]]:
    """Return observations of items, each written as a letter per way: m(et) or x (missed)."""
    return [
        {"item": str(item), "met": sign == "m", "value": float(sign == "m"), "group": {"transform": way}}
        for item, signs in enumerate(outcomes)
        for way, sign in zip(ways, signs, strict=True)
    ]


def test_attack_success_rate_leaves_the_original_out() -> None:
    found = tries("mmmm", "xmxm", "mxxx")
    assert AttackSuccessRate().compute(found) == pytest.approx(4 / 9)
    assert AttackSuccessRate().compute(tries("x", "m", ways=("original",))) is None
    plain = [{**each, "group": {}} for each in found]
    assert AttackSuccessRate().compute(plain) == pytest.approx(5 / 12)


def test_attack_success_at() -> None:
    found = tries("mmmm", "xmxm", "mxxx")
    assert AttackSuccessAt().compute(found) == pytest.approx(2 / 3)
    assert AttackSuccessAt(1).compute(found) == pytest.approx(AttackSuccessRate().compute(found))
    assert AttackSuccessAt(2).compute(found) == pytest.approx((0 + 2 / 3 + 1) / 3)
    # by hand: the share of pairs of attacks with a success
    pairs = list(itertools.combinations("mxm", 2))
    assert sum("x" in pair for pair in pairs) / len(pairs) == 2 / 3
    assert AttackSuccessAt().compute([]) is None
    assert AttackSuccessAt().compute(tries("x", ways=("original",))) is None
    with pytest.raises(
        ScorerError, match=r"^row 0 has 3 attacks, fewer than n = 4, because its other transforms chang"
    ):
        AttackSuccessAt(4).compute(found)
    with pytest.raises(
        ScorerError, match=r"^row 1 has 1 attack, fewer than n = 2, because its other transforms changed"
    ):
        AttackSuccessAt(2).compute([*found[:4], *found[4:6]])
    with pytest.raises(ValueError, match="'n' is 0, expected at least 1"):
        AttackSuccessAt(0)


def test_epochs_are_attacks_too() -> None:
    found = [*tries("mm", ways=("original", "base64")), *tries("mx", ways=("original", "base64"))]
    again = [{**each, "item": "0"} for each in found]
    assert AttackSuccessAt(1).compute(again) == pytest.approx(0.5)
    assert AttackSuccessAt(2).compute(again) == 1.0


def test_limits_count_items() -> None:
    found = tries(*["mmmm"] * 10, *["mxxx"] * 10)
    clusters = [each["item"] for each in found]
    limits = AttackSuccessAt().limits(found, clusters, 0.95)
    assert limits is not None
    (low, high), method = limits
    assert (round(low, 3), round(high, 3), method) == (0.299, 0.701, "Wilson")


def test_worst_transform() -> None:
    found = tries("mmmm", "xmxm", "mxxx", "mmmm")
    assert WorstTransform().compute(found) == 0.5
    assert WorstTransform(lower_is_better=True).compute(found) == 0.75
    assert WorstTransform().compute([]) is None
    limits = WorstTransform().limits(found, [each["item"] for each in found], 0.95)
    assert limits is not None
    (low, high), method = limits
    assert low < 0.5 < high
    assert method == "limits of 3 transforms, Bonferroni"
