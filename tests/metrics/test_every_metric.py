"""What every registered metric promises."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter

import numpy
import pytest

from pytest_trustllm.metrics.base import Averaged, Tabled
from pytest_trustllm.registry import METRICS, Registry

PARAMETERS = {
    "share": {"equal_to": 1},
    "macro_f1": {"classes": ["x", "y"]},
    "upstream_macro_f1": {"classes": ["x", "y"]},
    "chi_square_p": {"attribute": "sex"},
}


@pytest.fixture(params=sorted(METRICS))
def metric(request):
    return Registry().metrics.get(request.param)(**PARAMETERS.get(request.param, {}))


def observations(seed):
    dice = random.Random(seed)
    return [
        {
            "value": dice.choice((0.0, 1.0, 0.1, 0.7)),
            "human": dice.uniform(-100, 100),
            "gave": 1.0,
            "hit": float(dice.random() < 0.5),
            "clean": float(dice.random() < 0.5),
            "attacked": float(dice.random() < 0.5),
            "gold": dice.choice("xy"),
            "answer": dice.choice("xy"),
            "sex": dice.choice("fm"),
            "index": i,
            "vector": [dice.gauss(0, 1) for _ in range(5)],
            "group": {},
            "item": f"{i // 4:04d}",
            "met": dice.random() < 0.8,
        }
        for i in range(40)
    ]


def test_nothing_is_none(metric):
    assert metric.compute([]) is None


@pytest.mark.parametrize("seed", range(5))
def test_order_changes_no_bit(metric, seed):
    found = observations(seed)
    number = metric.compute(found)
    for turn in range(5):
        random.Random(turn).shuffle(found)
        assert metric.compute(found) == number
    assert isinstance(number, float)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_stay_in_range(metric, seed):
    low, high = metric.range
    assert low <= metric.compute(observations(seed)) <= high


@pytest.mark.parametrize("seed", range(5))
def test_what_intervals_are_computed_of_gives_the_metric(metric, seed):
    found = observations(seed)
    number = pytest.approx(metric.compute(found))
    if isinstance(metric, Tabled):
        counts = Counter(metric.outcomes(found))
        shares = numpy.array([[count / len(found) for count in counts.values()]])
        assert list(metric.of_shares(list(counts), shares)) == [number]
    if isinstance(metric, Averaged):
        weighted, weights = zip(*metric.terms(found), strict=True)
        assert math.fsum(weighted) / math.fsum(weights) == number


def test_every_metric_is_a_frozen_value_with_a_direction(metric):
    assert isinstance(metric.higher_is_better, bool)
    assert type(metric).__dataclass_params__.frozen
    assert dataclasses.replace(metric) == metric
    assert type(metric).__doc__
