"""A share from verdicts on all responses and labels on some: by hand, and how often its interval is right."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pytest_trustllm.stats.prediction_powered import Unit, powered_share


def units(*cells: tuple[float, float | None, int]) -> list[Unit]:
    """Return independent responses: so many with this verdict and this label."""
    found: list[Unit] = []
    for verdict, label, count in cells:
        found += [Unit(verdict, label, f"c{len(found) + i}") for i in range(count)]
    return found


# 400 responses, 300 of them called positive; 20 and 10 of them labelled
EXAMPLE = units((1.0, 1.0, 18), (1.0, 0.0, 2), (1.0, None, 280), (0.0, 1.0, 3), (0.0, 0.0, 7), (0.0, None, 90))


def test_the_estimate_by_hand() -> None:
    found = powered_share(EXAMPLE, 0.95)
    assert found.value == pytest.approx(0.75 * 0.9 + 0.25 * 0.3)
    assert found.power == pytest.approx(0.9 - 0.3)
    assert found.labels == 30
    assert found.ci is not None
    assert found.ci[0] < 0.75 < found.ci[1]


@pytest.mark.parametrize("power", [0.0, 0.3, 0.6, 1.0])
def test_it_is_the_estimate_of_the_paper_for_every_power(power: float) -> None:
    """power * mean f over all + weighted mean of Y - power * f over the labelled; strata are drawn exactly."""
    weight = {1.0: 300 / 20, 0.0: 100 / 10}
    labelled = [unit for unit in EXAMPLE if unit.label is not None]
    correction = sum(weight[unit.verdict] * (unit.label - power * unit.verdict) for unit in labelled)  # type: ignore[operator]
    assert powered_share(EXAMPLE, 0.95).value == pytest.approx(power * 0.75 + correction / 400)


def test_labels_on_everything_are_a_plain_share() -> None:
    found = powered_share(units((1.0, 1.0, 90), (1.0, 0.0, 10), (0.0, 1.0, 10), (0.0, 0.0, 90)), 0.95)
    assert found.value == 0.5
    assert found.ci == pytest.approx((0.431, 0.569), abs=0.004)  # as of 200 trials


def test_a_perfect_judge_needs_few_labels_and_a_guessing_one_is_of_no_use() -> None:
    perfect = powered_share(units((1.0, 1.0, 50), (1.0, None, 450), (0.0, 0.0, 50), (0.0, None, 450)), 0.95)
    guessing = powered_share(
        units(*((v, y, 25) for v in (1.0, 0.0) for y in (1.0, 0.0)), (1.0, None, 450), (0.0, None, 450)), 0.95
    )
    assert (perfect.value, perfect.power) == (0.5, 1.0)
    assert (guessing.value, guessing.power) == (0.5, 0.0)
    assert perfect.ci is not None
    assert guessing.ci is not None
    assert guessing.ci == pytest.approx((0.4, 0.6), abs=0.015)  # 100 labels alone
    assert perfect.ci[1] - perfect.ci[0] < 0.5 * (guessing.ci[1] - guessing.ci[0])
    assert perfect.ci[0] < 0.48, "fifty labels without a mistake do not show that there is none"


def test_without_a_label_on_a_verdict_there_is_no_number() -> None:
    found = powered_share(units((1.0, 1.0, 5), (0.0, None, 7)), 0.95)
    assert (found.value, found.ci, found.labels) == (None, None, 5)
    assert found.reason == "no label on any of the 7 responses that the judge does not count"
    assert powered_share([], 0.95).reason == "no response has a verdict"


def test_a_judge_that_always_says_the_same() -> None:
    found = powered_share(units((1.0, 1.0, 8), (1.0, 0.0, 2), (1.0, None, 90)), 0.95)
    assert (found.value, found.power) == (pytest.approx(0.8), 0.0)


def test_the_order_does_not_matter_and_clusters_widen_the_interval() -> None:
    shuffled = list(EXAMPLE)
    random.Random(1).shuffle(shuffled)
    assert powered_share(shuffled, 0.95) == powered_share(EXAMPLE, 0.95)
    alike = [unit._replace(cluster=number // 10) for number, unit in enumerate(EXAMPLE)]
    one, other = powered_share(EXAMPLE, 0.95).ci, powered_share(alike, 0.95).ci
    assert one is not None
    assert other is not None
    assert other[0] < one[0]
    assert other[1] > one[1]


def test_a_higher_confidence_is_wider() -> None:
    narrow, wide = powered_share(EXAMPLE, 0.8).ci, powered_share(EXAMPLE, 0.99).ci
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("rate", "sensitivity", "specificity"), [(0.3, 0.95, 0.9), (0.8, 0.8, 0.95), (0.5, 0.7, 0.7)])
def test_the_interval_holds_the_true_share(rate: float, sensitivity: float, specificity: float) -> None:
    """A part of tools/simulate_labels.py; 400 runs are within 93 to 97 %, give or take what chance does to 400."""
    source: Any = random.Random(7)
    held = 0
    for _ in range(400):
        people = [source.random() < rate for _ in range(300)]
        judge = [source.random() < (sensitivity if label else 1 - specificity) for label in people]
        chosen: set[int] = set()
        for verdict in (True, False):
            stratum = [i for i, called in enumerate(judge) if called == verdict]
            chosen.update(source.sample(stratum, min(len(stratum), 40)))
        run = [Unit(float(judge[i]), float(people[i]) if i in chosen else None, i) for i in range(300)]
        low, high = powered_share(run, 0.95).ci or (1.0, 0.0)
        held += low <= rate <= high
    assert 0.92 <= held / 400 <= 0.985
