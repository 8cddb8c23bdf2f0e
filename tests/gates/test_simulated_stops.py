"""A part of tools/simulate_stopping.py with fixed seeds: what early gates ask, and how often they are wrong."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "simulate_stopping.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_stopping", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("rule", "min_scored", "most"), [("exact", 0.0, 0.75), ("exact", 0.95, 0.78), (0.05, 0.95, 0.35)]
)
def test_published_scores_need_a_part_of_their_answers(tool: ModuleType, rule, min_scored, most) -> None:
    outcomes = tool.published(rule, random.Random(1), min_scored=min_scored)
    assert len(outcomes) == 292
    assert tool.share_asked(outcomes) <= most
    assert sum(stopped.differs for _, stopped in outcomes) <= (0 if rule == "exact" else 1)


@pytest.mark.parametrize("cluster", [1, 5])
@pytest.mark.parametrize(("bound", "rate"), [(0.8, 0.79), (0.8, 0.81), (0.5, 0.45), (0.95, 0.96)])
@pytest.mark.parametrize("size", [30, 200])
def test_few_verdicts_differ_and_limits_hold(tool: ModuleType, size, bound, rate, cluster) -> None:
    outcomes = tool.cell(size, bound, rate, cluster, 0.05, 60, 1)
    assert sum(stopped.differs for stopped in outcomes) <= 3  # 5 % of 60
    held = [stopped.holds for stopped in outcomes if stopped.holds is not None]
    assert sum(held) >= 0.95 * len(held)


@pytest.mark.parametrize("size", [30, 200])
@pytest.mark.parametrize("bound", [0.2, 0.8])
def test_an_exact_stop_never_differs(tool: ModuleType, size, bound) -> None:
    for distance in (-0.2, -0.01, 0.01, 0.2):
        outcomes = tool.cell(size, bound, bound + distance, 1, "exact", 10, 1)
        assert not any(stopped.differs for stopped in outcomes)


def test_the_picture_of_the_docs_is_what_the_tool_draws(tool: ModuleType) -> None:
    committed = TOOL.parents[1] / "docs" / "images" / "sequence.svg"
    assert committed.read_text(encoding="ascii") == tool.picture()


@pytest.mark.parametrize("cluster", [1, 5])
@pytest.mark.parametrize(("rate", "flips"), [(0.85, 0.02), (0.75, 0.05), (0.79, 0.05), (0.85, 0.3)])
def test_a_baseline_saves_answers_and_spoils_no_verdict(tool: ModuleType, rate, flips, cluster) -> None:
    helped = tool.helped_cell(300, 0.8, rate, cluster, flips, 20, 1)
    alone = tool.cell(300, 0.8, rate, cluster, 0.05, 20, 1)
    assert sum(stopped.differs for stopped in helped) <= 2
    held = [stopped.holds for stopped in helped if stopped.holds is not None]
    assert sum(held) >= 0.95 * len(held)
    asked, asked_alone = (sum(stopped.asked for stopped in every) for every in (helped, alone))
    few_flips = flips < 0.1 and rate != 0.79 and cluster == 1
    # a baseline that flipped too much, or of few clusters, costs little
    assert asked < (0.9 if few_flips else 1.08) * asked_alone
