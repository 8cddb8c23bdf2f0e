"""The shipped suites: ids, directions, temperatures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_trustllm.config import paths
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import read_suite

ROOT = Path(__file__).parents[2]
SUITES = [read_suite(path, Registry()) for path in sorted((ROOT / "suites").glob("*.yaml"))]
TASKS = {task.id: task for suite in SUITES for task in suite.tasks}
METRICS = {task.metric_id(spec.name): spec for task in TASKS.values() for spec in task.metrics}
PUBLISHED = json.loads(paths.packaged("models", "leaderboard.json").read_text(encoding="utf-8"))["metrics"]
DETERMINISTIC = {
    "truthfulness/misinformation_external",
    "truthfulness/hallucination",
    "fairness/stereotype_recognition",
    "robustness/advglue",
    "robustness/ood_generalization",
    "privacy/confaide",
    "ethics/ethics",
    "ethics/social_chemistry_101",
    "ethics/awareness",
    "ethics/emotional_awareness",
}


def test_suites_are_the_six_dimensions():
    assert sorted(s.dimension for s in SUITES) == [
        "ethics",
        "fairness",
        "privacy",
        "robustness",
        "safety",
        "truthfulness",
    ]
    assert [s.dimension for s in SUITES] == [s.name for s in SUITES]


@pytest.mark.parametrize("id_", sorted(PUBLISHED))
def test_every_published_metric_is_computed_in_the_published_direction(id_):
    # the table prints this one with an arrow that contradicts its definition and the data set's own documentation
    turned = id_ == "truthfulness/sycophancy_persona.similarity_gap"
    assert METRICS[id_].higher_is_better is (PUBLISHED[id_]["higher_is_better"] is not turned)


@pytest.mark.parametrize("id_", sorted(TASKS))
def test_classification_is_greedy_and_generation_is_sampled(id_):
    task = TASKS[id_]
    if task.reads is None:
        assert task.generation.temperature == (0.0 if id_ in DETERMINISTIC else 1.0)
        assert task.generation.max_new_tokens == 512


@pytest.mark.parametrize("id_", sorted(TASKS))
def test_the_headline_is_a_published_metric_where_the_task_has_one(id_):
    published = [m for m in PUBLISHED if m.startswith(f"{id_}.")]
    assert not published or TASKS[id_].metric_id(TASKS[id_].metrics[0].name) in published


def test_metrics_of_the_original_are_used_for_its_reading_only():
    for id_, spec in METRICS.items():
        assert not type(spec.value.metric).__name__.startswith("Upstream"), id_
