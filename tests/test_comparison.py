"""Two runs of the same samples."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scipy.stats import binomtest

from pytest_trustllm.comparison import Comparison, compare
from pytest_trustllm.dataspec import DataSpec
from pytest_trustllm.evidence import rows_by_task
from pytest_trustllm.metricspec import MetricSpec, Reading
from pytest_trustllm.records import Generation, Selection
from pytest_trustllm.registry import METRICS, Registry
from pytest_trustllm.results import Measurement
from pytest_trustllm.suites import Task

PARAMETERS: dict[str, dict[str, Any]] = {
    "share": {"equal_to": 1},
    "macro_f1": {"classes": ["x", "y"]},
    "upstream_macro_f1": {"classes": ["x", "y"]},
    "chi_square_p": {"attribute": "sex"},
}


def task(kind: str = "mean", average: Any = "pooled", name: str = "t", **parameters: Any) -> Task:
    found = Registry().metrics.get(kind)(**{**PARAMETERS.get(kind, {}), **parameters})  # type: ignore[arg-type]
    reading = Reading(found, average, {})
    spec = MetricSpec("m", reading, reading, {})
    return Task("s", "d", name, 1, "", DataSpec(), None, None, Generation(), None, "x", (spec,), {"g": "g"})


def records(values: Sequence[float | None], task: str = "d/t", **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "id": f"{i:04d}",
            "fingerprint": f"f{i}",
            "group": {"g": "ab"[i % 2]},
            "status": "passed",
            "value": v,
            "reason": None,
            "observed": {},
            "parity": "same",
            "also": {},
            **{key: of(i) for key, of in more.items()},
        }
        for i, v in enumerate(values)
    ]


def run(found: Sequence[Mapping[str, Any]], *tasks: Task) -> Measurement:
    counts = Counter(r["task"] for r in found)
    return Measurement(tasks or [task()], rows_by_task(found), Selection(counts, counts))


def compared(old: Sequence[Any], new: Sequence[Any], *tasks: Task, id_: str = "d/t.m", **options: Any) -> Comparison:
    found = compare(run(old, *tasks), run(new, *tasks), id_, **options)
    assert found is not None
    return found


OLD = [1.0] * 80 + [0.0] * 20


def changed(lost: int, won: int) -> list[float]:
    return [0.0] * lost + OLD[lost : 100 - won] + [1.0] * won


def test_a_lost_rate_is_mcnemars():
    found = compared(records(OLD), records(changed(12, 2)), margin=0.05)
    assert (found.old, found.new) == (0.8, 0.7)
    assert found.difference == pytest.approx(-0.1)
    assert found.worse_by == pytest.approx(0.1)
    assert found.p_worse == pytest.approx(binomtest(12, 14, alternative="greater").pvalue)
    assert found.interval is not None
    assert found.interval.low < -0.1 < found.interval.high < 0
    assert found.outcome == "failed"
    assert (found.shared, found.unscored) == (100, 0)
    assert found.lost == tuple(f"{i:04d}" for i in range(12))
    assert found.won == ("0098", "0099")


def test_a_loss_that_chance_explains_is_inconclusive_and_says_how_many_samples_would_tell():
    found = compared(records(OLD), records(changed(5, 2)), margin=0.02)
    assert found.p_worse == pytest.approx(binomtest(5, 7, alternative="greater").pvalue)
    assert found.outcome == "inconclusive"
    assert found.further is not None
    assert 100 < found.further < 500


def test_a_loss_within_the_margin_passes():
    assert compared(records(OLD), records(changed(12, 2)), margin=0.1).outcome == "passed"
    assert compared(records(OLD), records(changed(0, 5))).outcome == "passed"
    assert compared(records(OLD), records(OLD)).outcome == "passed"


def test_confidence_decides_what_chance_explains():
    old, new = records(OLD), records(changed(8, 2))
    assert [compared(old, new, margin=0.02, confidence=c).outcome for c in (0.9, 0.99)] == ["failed", "inconclusive"]


def test_where_lower_is_better_more_is_a_loss():
    found = compared(records(OLD), records(changed(2, 12)), task(lower_is_better=True), margin=0.05)
    assert found.worse_by == pytest.approx(0.1)
    assert found.outcome == "failed"
    assert len(found.lost) == 12
    assert found.interval is not None
    assert 0 < found.interval.low < 0.1 < found.interval.high


def test_only_shared_samples_count_and_the_others_are_named():
    old, new = records(OLD), records([*changed(12, 2), 0.0])
    new[5]["fingerprint"] = "another"
    new[7]["value"] = None
    del old[3]
    found = compared(old, new)
    assert (found.shared, found.unscored) == (97, 1)
    assert (found.changed, found.added, found.removed) == (("0005",), ("0003", "0100"), ())
    back = compared(new, old)
    assert (back.added, back.removed) == ((), ("0003", "0100"))
    assert found.old == pytest.approx(77 / 97)


def test_equal_rows_of_the_data_are_paired_one_by_one():
    same = records([1.0, 0.0, 1.0], fingerprint=lambda i: "f")
    found = compared(same, same)
    assert (found.shared, found.difference) == (3, 0.0)


def test_runs_that_share_nothing_have_no_difference():
    new = records(OLD, fingerprint=lambda i: f"other{i}")
    found = compared(records(OLD), new)
    assert (found.difference, found.interval, found.outcome, found.shared) == (None, None, "no_data", 0)
    assert len(found.changed) == 100
    assert compare(run(records(OLD)), run(records(OLD, task="d/u"), task(name="u")), "d/t.m") is None


def test_clusters_that_flip_together_count_once():
    def clustered(values):
        return records(values, cluster=lambda i: f"c{i // 4}")

    alone = compared(records(OLD), records(changed(8, 0)))
    found = compared(clustered(OLD), clustered(changed(8, 0)))
    assert found.test == "sign-flip test by cluster, 10000 draws"
    assert alone.p_worse == pytest.approx(2**-8)
    assert found.p_worse == pytest.approx(2**-2, abs=0.02)
    assert found.interval is not None
    assert alone.interval is not None
    assert found.interval.low < alone.interval.low


READING = {"met": True, "answer": None, "reason": None, "observed": {}, "parity": "same"}


def asked(*values: Sequence[float]) -> list[dict[str, Any]]:
    """Return records with several epochs each."""
    return records([1.0] * len(values), epochs=lambda i: [{**READING, "value": v} for v in values[i]])


def test_epochs_are_compared_sample_by_sample():
    found = compared(asked(*[(1, 1, 1)] * 60), asked(*[(0, 0, 1)] * 9, *[(1, 1, 1)] * 51))
    assert found.difference == pytest.approx(-9 * 2 / 180)
    assert found.p_worse == pytest.approx(2**-9, abs=2e-3)
    assert found.lost == tuple(f"{i:04d}" for i in range(9))


@pytest.mark.parametrize("average", ["pooled", "macro"])
@pytest.mark.parametrize("epochs", [(1, 4), (4, 1), (2, 3)])
def test_runs_with_different_numbers_of_epochs_are_compared_sample_by_sample_too(epochs, average):
    before, after = epochs

    def many(n, values):
        return asked(*[(v,) * n for v in values]) if n > 1 else records(values)

    same = compared(many(before, OLD), many(after, OLD), task(average=average))
    assert (same.difference, same.p_worse) == (0, 1)
    worse = compared(many(before, OLD), many(after, changed(6, 0)), task(average=average))
    assert worse.difference == pytest.approx(-0.06)
    assert worse.p_worse == pytest.approx(2**-6, abs=5e-3)


def test_a_macro_average_of_few_clusters_has_a_wide_interval_rather_than_none():
    def pair(*values):  # two clusters, each with a sample of either group
        return records(values, cluster=lambda i: f"c{i // 2}")

    found = compared(pair(1.0, 1.0, 0.0, 1.0), pair(1.0, 0.0, 0.0, 1.0), task(average="macro"))
    assert found.interval is not None
    assert found.interval.low < -0.7
    assert found.interval.high > 0.1
    assert found.outcome == "inconclusive"


def test_macro_averages_weigh_groups_alike():
    found = compared(records(OLD), records(changed(12, 2)), task(average="macro"))
    assert found.difference == pytest.approx(-0.1)
    assert found.p_worse == pytest.approx(binomtest(12, 14, alternative="greater").pvalue, abs=0.005)
    assert found.interval is not None
    assert found.interval.method == "paired Bayesian bootstrap by cluster, 2000 draws"


@pytest.mark.parametrize("average", ["pooled", "macro"])
@pytest.mark.parametrize("kind", sorted(set(METRICS) - {"upstream_neighbour_similarity"}))
def test_every_metric_can_be_compared(kind, average):
    dice = random.Random(4)

    def some():
        return [
            {
                **r,
                "cluster": f"c{i % 15}",
                "observed": {
                    "human": float(i * 7 % 30), "gave": 1.0, "hit": float(dice.random() < 0.5),
                    "clean": float(dice.random() < 0.7), "attacked": float(dice.random() < 0.5),
                    "gold": "xy"[i // 2 % 2], "answer": dice.choice("xy"), "sex": "fm"[i % 3 == 0],
                },
            }
            for i, r in enumerate(records([dice.choice((0.0, 1.0, 0.4)) for _ in range(60)]))
        ]  # fmt: skip

    old, new = some(), some()
    found = compared(old, new, task(kind, average))
    assert found.difference is not None
    assert found.new is not None
    assert found.old is not None
    assert found.difference == pytest.approx(found.new - found.old)
    assert found.interval is not None
    assert found.interval.low <= found.difference <= found.interval.high
    assert found.p_worse is not None
    assert 0 <= found.p_worse <= 1
    assert found == compared(list(reversed(old)), list(reversed(new)), task(kind, average))
    same = compared(old, old, task(kind, average))
    assert (same.difference, same.outcome) == (0.0, "passed")


def test_trust_scores_are_compared_through_their_metrics():
    tasks = [task(name="a"), task(name="b", lower_is_better=True)]
    old = [*records(OLD, "d/a"), *records(OLD, "d/b")]
    new = [*records(changed(12, 2), "d/a"), *records(changed(2, 12), "d/b")]
    found = compared(old, new, *tasks, id_="d/score", margin=0.05)
    assert found.difference == pytest.approx(-0.1)
    assert found.outcome == "failed"
    assert found.interval is not None
    assert found.interval.low < -0.1 < found.interval.high < 0
    assert dataclasses.replace(found, margin=0.2).outcome == "passed"
    assert compared(old, old, *tasks, id_="d/score").outcome == "passed"
