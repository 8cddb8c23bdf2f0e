"""Do intervals hold the true number, and gates catch a loss, as often as they say? A fast part of the full tables.

Bounds are what chance allows: a count of hits below the 1-in-10,000 quantile of a binomial number with the stated rate
(less the one or two points that docs/gates.md admits for small samples) fails.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scipy.stats import binom

TOOL = Path(__file__).parents[2] / "tools" / "simulate_intervals.py"
RUNS = 250


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_intervals", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SIMULATED = load()
CASES = [
    SIMULATED.rate(8, 0.02),
    SIMULATED.rate(30, 0.9),
    SIMULATED.clustered(20, 4, 0.02, 0.2),
    SIMULATED.clustered(20, 4, 0.5, 0.5),
    SIMULATED.epochs(20, 4, 0.9, 0.5),
    SIMULATED.macro(8, (0.5, 0.6, 0.7, 0.8)),
    SIMULATED.macro(20, (0.9, 0.95, 0.98, 0.99)),
    SIMULATED.numbers(30, 9, 1),
    SIMULATED.f1(30, 0.6),
    SIMULATED.robustness(30, 0.8, 0.3),
    SIMULATED.pearson(30, 0.5),
    SIMULATED.p_value(60, 0.1),
    SIMULATED.own(30, 0.5),
    SIMULATED.score(20, (0.5, 0.7, 0.9)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.method}, {c.name}")
def test_intervals_cover(case):
    covered, width = case.coverage(RUNS, seed=11)
    assert covered * RUNS >= binom.ppf(1e-4, RUNS, 0.93)
    assert 0 < width < 2


def test_a_lower_confidence_covers_less():
    case = SIMULATED.rate(100, 0.5)
    covered, _ = case.coverage(RUNS, seed=12, confidence=0.7)
    assert binom.ppf(1e-4, RUNS, 0.68) <= covered * RUNS <= binom.ppf(1 - 1e-4, RUNS, 0.76)


@pytest.mark.parametrize(("flips", "margin"), [(0.05, 0.02), (0.1, 0.05)])
def test_an_equal_model_seldom_fails_and_a_loss_of_twice_the_margin_is_caught(flips, margin):
    runs = 60
    equal = SIMULATED.change(400, 0.8, flips, 0.0, margin).outcomes(runs, seed=13)
    worse = SIMULATED.change(400, 0.8, flips, 2 * margin, margin).outcomes(runs, seed=14)
    assert equal["failed"] * runs <= binom.ppf(1 - 1e-4, runs, 0.05)
    assert worse["failed"] * runs >= binom.ppf(1e-4, runs, 0.9)
    for found in (equal, worse):
        assert found["held"] * runs >= binom.ppf(1e-4, runs, 0.94)


def test_an_equal_model_with_clusters_seldom_fails():
    runs = 80
    found = SIMULATED.change(120, 0.8, 0.2, 0.0, 0.02, size=4).outcomes(runs, seed=15)
    assert found["failed"] * runs <= binom.ppf(1 - 1e-4, runs, 0.05)
