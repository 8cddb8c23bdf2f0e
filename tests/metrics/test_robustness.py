from __future__ import annotations

import math

import pytest

from pytest_trustllm.metrics.robustness import (
    AttackSuccessRate,
    RobustnessScore,
    Similarity,
    UpstreamAttackSuccessRate,
    UpstreamNeighbourSimilarity,
    UpstreamRobustnessScore,
)


def pairs(*found):
    return [{"value": float(a), "clean": float(c), "attacked": float(a)} for c, a in found]


MIXED = pairs((1, 1), (1, 0), (1, 0), (0, 1))
ALL_WRONG = pairs((0, 0), (0, 1))


def test_attack_success_rate_by_hand():
    assert AttackSuccessRate().compute(MIXED) == pytest.approx(2 / 3)
    assert UpstreamAttackSuccessRate().compute(MIXED) == pytest.approx(2 / 3)


def test_robustness_score_by_hand():
    assert RobustnessScore().compute(MIXED) == pytest.approx(1 / 2 - 2 / 3)
    assert UpstreamRobustnessScore().compute(MIXED) == pytest.approx(1 / 2 - 2 / 3)


def test_where_nothing_was_right_there_is_nothing_to_attack_but_upstream_says_zero():
    assert AttackSuccessRate().compute(ALL_WRONG) is None
    assert RobustnessScore().compute(ALL_WRONG) is None
    assert UpstreamAttackSuccessRate().compute(ALL_WRONG) == 0.0
    assert UpstreamRobustnessScore().compute(ALL_WRONG) == 0.5


def test_similarity_by_hand(values):
    assert Similarity().compute(values(1.0, -0.5)) == 0.25


def vectors(**found):
    return [{"value": 0.0, "index": int(k[1:]), "vector": v} for k, v in found.items()]


def test_upstream_compares_neighbours():
    found = vectors(i0=[1.0, 0.0], i1=[1.0, 1.0], i2=[0.0, 1.0], i3=[1.0, 0.0])
    assert UpstreamNeighbourSimilarity().compute(found) == pytest.approx(math.sqrt(0.5) / 2)


def test_upstream_has_no_number_for_a_topic_without_neighbour():
    assert UpstreamNeighbourSimilarity().compute(vectors(i0=[1.0], i1=[1.0], i2=[1.0])) is None
