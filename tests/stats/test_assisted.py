"""A mean of all samples, estimated from a part of them and an earlier run."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_trustllm.stats.assisted import Stratum, assisted_mean

TOOL = Path(__file__).parents[2] / "tools" / "simulate_assistance.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_assistance", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def binary(lost: int, won: int, right: int, wrong: int) -> tuple[list[float], list[float]]:
    """Return numbers before and now, of so many that were lost, won, and stayed right or wrong."""
    return [1.0] * lost + [0.0] * won + [1.0] * right + [0.0] * wrong, (
        [0.0] * lost + [1.0] * won + [1.0] * right + [0.0] * wrong
    )


def test_the_estimate_is_the_baselines_value_plus_the_change() -> None:
    # 100 of 1000 asked: 4 lost, 1 won; the asked ones were at 0.75, all of them at 0.80
    old, new = binary(4, 1, 71, 24)
    found = assisted_mean([Stratum(old, new, 1000, 0.80)], 0.95)
    assert found.flips == pytest.approx(0.05)
    assert found.spread == pytest.approx(0.72 * 0.28)
    assert found.helps
    assert 0.8 < found.weight < 1
    assert found.value == pytest.approx(0.72 + found.weight * (0.80 - 0.75))
    assert found.limits[0] < found.value < found.limits[1]
    # 5 % flips at a rate of 0.8: about a third of the answers
    assert 250 < found.worth < 400


def test_an_unchanged_model_is_not_certain() -> None:
    old, new = binary(0, 0, 80, 20)
    low, high = assisted_mean([Stratum(old, new, 1000, 0.80)], 0.95).limits
    assert 0.76 < low < 0.79
    assert 0.81 < high < 0.84


def test_all_samples_asked_are_certain() -> None:
    old, new = binary(4, 1, 71, 24)
    found = assisted_mean([Stratum(old, new, 100, 0.75)], 0.95)
    assert found.value == pytest.approx(0.72)
    assert found.limits == pytest.approx((0.72, 0.72))


def test_more_flips_than_the_rate_varies_are_no_help() -> None:
    old, new = binary(10, 12, 70, 8)
    found = assisted_mean([Stratum(old, new, 1000, 0.80)], 0.95)
    assert found.flips == pytest.approx(0.22)
    assert found.spread == pytest.approx(0.82 * 0.18)
    assert not found.helps


def test_groups_count_alike_whatever_their_size() -> None:
    small, large = Stratum(*binary(1, 0, 3, 6), 20, 0.5), Stratum(*binary(2, 2, 80, 6), 900, 0.9)
    found = assisted_mean([small, large], 0.95)
    alone = [0.3 + found.weight * (0.5 - 0.4), 82 / 90 + found.weight * (0.9 - 82 / 90)]
    assert found.value == pytest.approx(sum(alone) / 2)
    assert assisted_mean([large, small], 0.95).value == pytest.approx(found.value)


def test_numbers_between_0_and_1_have_no_certain_interval() -> None:
    rng = random.Random(1)
    old = [rng.betavariate(2, 8) for _ in range(60)]
    found = assisted_mean([Stratum(old, list(old), 600, 0.2)], 0.95)
    assert found.limits[1] - found.limits[0] > 0.005
    assert found.helps


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=2, max_size=40),
    st.integers(0, 100),
    st.floats(0, 1),
)
def test_limits_hold_the_estimate_and_stay_possible(pairs, more, earlier) -> None:
    old, new = [x for x, _ in pairs], [y for _, y in pairs]
    size = len(pairs) + more
    found = assisted_mean([Stratum(old, new, size, earlier)], 0.95)
    low, high = found.limits
    assert sum(new) / size - 1e-9 <= low <= high <= (sum(new) + more) / size + 1e-9
    assert low - 1e-9 <= found.value <= high + 1e-9
    assert 0 <= found.weight <= 1


@pytest.mark.parametrize(
    ("rate", "flips", "more"),
    [
        (0.8, 0.05, {}),
        (0.8, 0.1, {"lost": 1.0}),
        (0.5, 0.1, {"cluster": 5}),
        (0.8, 0.05, {"groups": 4}),
        (0.95, 0.02, {}),
    ],
)
def test_intervals_hold_the_value_of_all_samples(tool: ModuleType, rate, flips, more) -> None:
    counted = tool.count(tool.Cell(1400, 200, rate, flips, **more), 100, 7)
    assert counted.holds >= 0.92
    assert counted.worth > 200


def test_the_baseline_saves_what_the_docs_say(tool: ModuleType) -> None:
    # at 5 % flips 31 % of the answers are as precise, at 2 % flips 13 %; the added pair costs a little of that
    few = tool.count(tool.Cell(8000, 400, 0.8, 0.05), 20, 1)
    assert 0.25 < 400 / few.worth < 0.40
    fewer = tool.count(tool.Cell(8000, 400, 0.8, 0.02), 20, 1)
    assert 0.10 < 400 / fewer.worth < 0.22
