"""Evidence that holds whenever one stops: certainty at the end, few errors before, whatever the population is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_trustllm.stats.sequences import Evidence, MeanSequence

LEVEL = 0.05


def drawn(numbers, null):
    evidence = Evidence(len(numbers), null)
    for number in numbers:
        evidence.add(number)
    return evidence


def first_refuted(numbers, null, level=LEVEL):
    """Return after how many draws a mean of at most ``null`` is refuted; None: never."""
    evidence = Evidence(len(numbers), null)
    for number in numbers:
        evidence.add(number)
        if evidence.reaches(level):
            return evidence.drawn
    return None


def population(size, ones, rng):
    numbers = [1.0] * ones + [0.0] * (size - ones)
    rng.shuffle(numbers)
    return numbers


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 1))
def test_a_mean_that_exceeds_the_null_is_known_by_the_end(numbers, null):
    mean = sum(numbers) / len(numbers)
    if mean > null + 1e-6:
        assert drawn(numbers, null).reaches(1e-6)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40), st.floats(0.05, 0.95), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_limit_reaches_the_null_exactly_when_the_evidence_does(numbers, null, rng):
    evidence = Evidence(len(numbers) + rng.randrange(20), null)
    for number in numbers:
        evidence.add(number)
        limit = evidence.lower_limit(LEVEL)
        if limit > null + 1e-6:
            assert evidence.reaches(LEVEL)
        if limit < null - 1e-6:
            assert not evidence.reaches(LEVEL)


def test_limits_close_on_the_mean_and_never_widen():
    rng = random.Random(1)
    numbers = [rng.random() for _ in range(300)]
    sequence = MeanSequence(300, 0.4)
    earlier = (0.0, 1.0)
    for number in numbers:
        sequence.add(number)
        if sequence.above.drawn % 50 == 0:
            low, high = sequence.limits(LEVEL)
            assert earlier[0] - 1e-9 <= low <= high <= earlier[1] + 1e-9
            earlier = low, high
    mean = sum(numbers) / 300
    assert earlier == (pytest.approx(mean, abs=1e-6), pytest.approx(mean, abs=1e-6))


@pytest.mark.parametrize(("size", "rate"), [(30, 0.5), (200, 0.8), (200, 0.05), (1000, 0.95)])
def test_who_looks_after_every_draw_is_wrong_no_more_often_than_agreed(size, rate):
    """The true mean is the null itself, the hardest case: Wilson's interval is wrong in a third of such runs."""
    rng = random.Random(size)
    ones = round(size * rate)
    runs = 300
    wrong = sum(first_refuted(population(size, ones, rng), ones / size) is not None for _ in range(runs))
    assert wrong <= LEVEL * runs + 2 * (LEVEL * (1 - LEVEL) * runs) ** 0.5


def test_a_mean_far_above_the_null_is_known_soon():
    rng = random.Random(2)
    draws = [first_refuted(population(1000, 950, rng), 0.8) for _ in range(50)]
    assert sum(draws) / len(draws) < 100  # of 1,000


def test_numbers_that_exceed_the_whole_population_are_certain():
    assert first_refuted([1.0] * 5 + [0.0] * 5, 0.4, level=1e-12) == 5
