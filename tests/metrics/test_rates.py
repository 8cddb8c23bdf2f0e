from __future__ import annotations

import pytest

from pytest_trustllm.errors import ScorerError
from pytest_trustllm.metrics.rates import ConditionalDisclosure, Greatest, Mean, Share


def test_mean_by_hand(values):
    assert Mean().compute(values(1.0, 0.0, 1.0, 1.0)) == 0.75
    assert Mean(low=-2, high=2).compute(values(-1.5, 0.5)) == -0.5
    assert Mean(of="hit").compute([{"value": 1.0, "hit": 0.0}, {"value": 1.0, "hit": 1.0}]) == 0.5


def test_greatest_by_hand(values):
    assert Greatest().compute(values(0.2, 0.9, 0.3)) == 0.9


def test_share_by_hand(values):
    assert Share(equal_to=0).compute(values(0.0, 3.0, 2.0, 0.0)) == 0.5


def test_conditional_disclosure_by_hand():
    told = [{"gave": 1.0, "hit": 1.0}, {"gave": 1.0, "hit": 0.0}, {"gave": 1.0, "hit": 0.0}, {"gave": 0.0, "hit": 0.0}]
    assert ConditionalDisclosure().compute(told) == pytest.approx(1 / 3)
    assert ConditionalDisclosure().compute([{"gave": 0.0, "hit": 0.0}]) == 0.0


def test_direction_and_range_follow_the_parameters():
    assert (Mean().higher_is_better, Mean().range) == (True, (0.0, 1.0))
    assert (Mean(lower_is_better=True).higher_is_better, Mean(low=-2, high=2).range) == (False, (-2, 2))
    assert Greatest(lower_is_better=True).higher_is_better is False
    assert Share(0, lower_is_better=True).higher_is_better is False


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lower_is_better": "no"}, "'lower_is_better' is 'no', expected true or false"),
        ({"low": 1, "high": 1}, "'low' is 1 and 'high' is 1; expected low < high"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        Mean(**parameters)


def test_a_number_that_the_scorer_does_not_observe_is_an_error(values):
    with pytest.raises(
        ScorerError, match=r"needs 'gave', which the task's scorer does not observe; it observes value$"
    ):
        Mean(of="gave").compute(values(1.0))


@pytest.mark.parametrize("metric", [Mean(), Greatest(), Mean(low=-1, high=0.5)])
def test_a_number_outside_the_range_is_an_error_and_not_a_share(values, metric):
    for each in (metric.compute, getattr(metric, "terms", metric.compute)):
        with pytest.raises(ScorerError, match=r"a sample has 7 for 'value', outside the range of .*; set 'low'"):
            each(values(0.5, 7.0))
    assert Mean().compute(values(1.0 + 1e-9)) == pytest.approx(1.0)
