from __future__ import annotations

import pytest

from pytest_trustllm.metrics.rates import Mean
from pytest_trustllm.results.readings import compute_reading
from pytest_trustllm.suites.metric_specs import Reading


def observations(**groups):
    return [{"value": v, "group": {"source": g}} for g, found in groups.items() for v in found]


THIRDS = observations(a=[1.0, 0.0, 0.0], b=[1.0, 1.0])


def test_pooled_goes_over_all_samples():
    assert compute_reading(Reading(Mean(), "pooled", {}), THIRDS, ["a", "b"], "source") == 0.6


def test_macro_goes_over_groups():
    assert compute_reading(Reading(Mean(), "macro", {}), THIRDS, ["a", "b"], "source") == pytest.approx(2 / 3)


def test_pooled_value_is_rounded():
    assert compute_reading(Reading(Mean(), "pooled", {"*": 1}), observations(a=[0.0, 0.0, 1.0]), [], None) == 0.3


def test_macro_rounds_the_groups_and_not_their_mean():
    assert compute_reading(Reading(Mean(), "macro", {"a": 1}), THIRDS, ["a", "b"], "source") == pytest.approx(1.3 / 2)
    assert compute_reading(Reading(Mean(), "macro", {"*": 1}), THIRDS, ["a", "b"], "source") == pytest.approx(1.3 / 2)


def test_a_group_without_samples_counts_as_said_or_takes_the_value_away():
    groups = ["a", "b", "c"]
    assert compute_reading(Reading(Mean(), "macro", {}), THIRDS, groups, "source") is None
    assert compute_reading(Reading(Mean(), "macro", {}, empty=0.0), THIRDS, groups, "source") == pytest.approx(4 / 9)
    assert compute_reading(Reading(Mean(), "macro", {}, raises_if_empty=True), THIRDS, groups, "source") is None


def test_nothing_is_not_zero_unless_the_reading_says_so():
    for average in ("pooled", "macro"):
        assert compute_reading(Reading(Mean(), average, {}), [], [], "source") is None
    assert compute_reading(Reading(Mean(), "pooled", {}, empty=0.0), [], [], None) == 0.0
    assert compute_reading(Reading(Mean(), "pooled", {}, empty=0.0, raises_if_empty=True), [], [], None) is None
