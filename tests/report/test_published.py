"""A run among the published models."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.models import catalogue
from pytest_trustllm.report.page import leaderboard
from pytest_trustllm.results.document import _score
from pytest_trustllm.types import MetricValue

JAILBREAK, MISUSE, EXAGGERATED = (*leaderboard.HARMFUL, *leaderboard.HARMLESS)


def as_published(model: str, *ids: str) -> dict[str, Any]:
    """Return metrics of a run that got what a published model got."""
    scores = catalogue.published_scores().scores[model]
    return {id_: metric(id_, scores[id_]) for id_ in ids or scores}


def metric(id_: str, value: float | None, *, higher: bool | None = None) -> dict[str, Any]:
    arrow = catalogue.published_scores().metrics.get(id_, True)
    made = synthetic_run.results()["metrics"]["safety/jailbreak.refusal_rate"]
    return {**made, "value": value, "parity": value, "higher_is_better": arrow if higher is None else higher}


def results(metrics: dict[str, Any], **extra: Any) -> dict[str, Any]:
    made = synthetic_run.results()
    return {**made, "run": {**made["run"], "model": {"name": "mine"}, "extra": extra}, "metrics": metrics, "scores": {}}


def test_a_published_model_takes_its_own_place() -> None:
    board = catalogue.published_scores()
    ids = [JAILBREAK, MISUSE]
    means = {m: (s[JAILBREAK] + s[MISUSE]) / 2 for m, s in board.scores.items()}  # type: ignore[operator]
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    first, last = (leaderboard.dimension(as_published(m, *ids), ids) for m in (best, worst))
    assert first is not None
    assert last is not None
    assert first.place == 1
    assert last.place == len(means)
    assert first.median == last.median
    assert len(first.others) == len(means)


def test_lower_is_better_is_turned() -> None:
    metrics = {EXAGGERATED: metric(EXAGGERATED, 0.0)}
    found = leaderboard.dimension(metrics, [EXAGGERATED])
    assert found is not None
    assert (found.own, found.place) == (1.0, 1)


PERSONA = "truthfulness/sycophancy_persona.similarity_gap"


def test_median_and_place_are_on_the_scale_of_the_trust_score_whatever_the_published_arrow_says() -> None:
    assert catalogue.published_scores().metrics[PERSONA] is False
    metrics = {PERSONA: metric(PERSONA, 0.3, higher=True)}
    found = leaderboard.dimension(metrics, [PERSONA])
    assert found is not None
    values = [min(1.0, max(0.0, v)) for v in leaderboard.values(PERSONA)]
    assert found.own == 0.3
    assert found.median == pytest.approx(statistics.median(values))
    assert found.place == 1 + sum(v > 0.3 for v in values)


def test_a_score_and_its_place_turn_every_headline_alike() -> None:
    """For all shipped headlines: what the trust score makes of a number, the board makes of it too."""
    from pytest_trustllm.config import paths
    from pytest_trustllm.registry import Registry
    from pytest_trustllm.suites.reader import find_suites

    suites = find_suites([], Registry(), root=paths.shipped("suites"))
    specs = {t.metric_id(m.name): m for s in suites for t in s.tasks for m in t.metrics}
    for id_ in catalogue.published_scores().metrics:
        value = MetricValue(id_, 0.3, 0.3, 1, 1, specs[id_].higher_is_better, specs[id_].range)
        found = leaderboard.dimension({id_: metric(id_, 0.3, higher=value.higher_is_better)}, [id_])
        assert found is not None
        score = _score([("task", value)])
        assert found.own == score.value


def test_without_a_metric_in_common_there_is_no_place() -> None:
    assert leaderboard.dimension({"a/b.c": metric("a/b.c", 1.0)}, ["a/b.c"]) is None
    assert leaderboard.dimension({JAILBREAK: metric(JAILBREAK, None)}, [JAILBREAK]) is None


def test_over_alignment_shows_all_published_models_and_this_run_last() -> None:
    chart = leaderboard.over_alignment(results(as_published("gpt-4")))
    assert chart is not None
    assert len(chart.points) == 22
    mine, twin = chart.points[-1], next(p for p in chart.points if p.name == "gpt-4")
    assert (mine.name, mine.kind) == ("mine", "this")
    assert (mine.x, mine.y) == (twin.x, twin.y)
    assert mine.label is not None
    assert twin.kind == "proprietary"
    assert next(p for p in chart.points if p.name == "llama2-7b").kind == "open"
    assert sum(p.kind == "proprietary" for p in chart.points) == 5


def test_axes_contain_every_point_and_labels_cover_none() -> None:
    for chart in (
        f(results(as_published("gpt-4"))) for f in (leaderboard.over_alignment, leaderboard.trust_and_utility)
    ):
        assert chart is not None
        assert all(0 <= p.x <= 400 and 0 <= p.y <= 300 for p in chart.points)
        assert all(0 <= at <= 400 for at, _ in chart.across)
        boxes = [leaderboard._box(*p.label, 6.1 * len(p.name)) for p in chart.points[:-1] if p.label]
        assert len(boxes) > 8
        for at, box in enumerate(boxes):
            assert not any(leaderboard._overlap(box, other) for other in boxes[at + 1 :])


def test_the_name_of_this_run_covers_no_point_in_a_crowded_corner() -> None:
    rates = {JAILBREAK: 0.8125, MISUSE: 0.8571, EXAGGERATED: 0.0667}
    chart = leaderboard.over_alignment(results({m: metric(m, v) for m, v in rates.items()}))
    assert chart is not None
    *others, mine = chart.points
    assert mine.label is not None
    box = leaderboard._box(*mine.label, 7.2 * len(mine.name))
    assert not any(leaderboard._overlap(box, (p.x - 4, p.y - 4, p.x + 4, p.y + 4)) for p in others)


def test_a_run_that_lacks_one_side_is_told_so() -> None:
    chart = leaderboard.over_alignment(results(as_published("gpt-4", JAILBREAK, MISUSE)))
    assert chart is not None
    assert chart.missing == "This run has no value for “harmless questions refused”."
    assert all(p.kind != "this" for p in chart.points)
    assert leaderboard.over_alignment(results({})) is None
    assert leaderboard.trust_and_utility(results({})) is None


def test_utility_leaves_its_metrics_out_of_trust() -> None:
    metrics = as_published("gpt-4")
    chart = leaderboard.trust_and_utility(results(metrics))
    assert chart is not None
    useful = [metrics[id_]["parity"] for id_ in leaderboard.UTILITY]
    assert chart.points[-1].value[0] == pytest.approx(sum(useful) / 5)
    assert chart.y == f"Trust: mean of {sum(m['parity'] is not None for m in metrics.values()) - 5} metrics"


def test_a_given_utility_takes_the_axis() -> None:
    given = {"name": "MMLU", "value": 0.5, "models": {"gpt-4": 0.86, "palm2": "much", "llama2-7b": 46.8}}
    chart = leaderboard.trust_and_utility(results(as_published("gpt-4"), utility=given))
    assert chart is not None
    assert chart.x == "MMLU"
    assert [(p.name, p.value[0]) for p in chart.points] == [("gpt-4", 0.86), ("mine", 0.5)]


def test_utility_metrics_are_headlines_of_the_board() -> None:
    assert set(leaderboard.UTILITY) <= set(catalogue.published_scores().metrics)
    assert {JAILBREAK, MISUSE, EXAGGERATED} <= set(catalogue.published_scores().metrics)


def test_the_cross_is_the_interval_of_each_axis_and_stays_in_the_chart() -> None:
    metrics = {id_: metric(id_, 0.5) for id_ in (JAILBREAK, MISUSE, EXAGGERATED)}
    for id_ in metrics:
        metrics[id_]["ci"] = [0.4, 0.6]
    chart = leaderboard.over_alignment(results(metrics))
    assert chart is not None
    assert chart.cross is not None
    left, right, top, bottom = chart.cross
    own = chart.points[-1]
    scale = abs(chart.across[1][0] - chart.across[0][0]) / abs(chart.across[1][1] - chart.across[0][1])
    assert (right - left) / scale == pytest.approx(0.2, abs=0.01)
    assert left < own.x < right
    assert top < own.y < bottom
    height = abs(chart.up[1][0] - chart.up[0][0]) / abs(chart.up[1][1] - chart.up[0][1])
    assert (bottom - top) / height == pytest.approx(0.2 / 2**0.5, abs=0.01)  # the mean of two
    metrics[EXAGGERATED]["ci"] = [0.0, 1.0]
    wide = leaderboard.over_alignment(results(metrics))
    assert wide is not None
    assert wide.cross is not None
    assert wide.cross[0] >= 0
    assert wide.cross[1] <= 400


@pytest.mark.parametrize("change", [{"ci": None}, {"parity": 0.4}])
def test_no_cross_where_the_interval_is_not_that_of_the_point(change: dict[str, Any]) -> None:
    metrics = {id_: {**metric(id_, 0.5), "ci": [0.4, 0.6]} for id_ in (JAILBREAK, MISUSE, EXAGGERATED)}
    metrics[JAILBREAK] |= change
    chart = leaderboard.over_alignment(results(metrics))
    assert chart is not None
    assert chart.cross is None
