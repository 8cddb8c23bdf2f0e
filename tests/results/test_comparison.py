"""Two runs of the same samples."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scipy.stats import binomtest

from pytest_trustllm.metrics.observations import observed_by_task
from pytest_trustllm.registry import METRICS, Registry
from pytest_trustllm.results.comparison import Comparison, compare, difference_entries
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Generation, Selection, SubScores

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


def run(found: Sequence[Mapping[str, Any]], *tasks: Task) -> RunNumbers:
    counts = Counter(r["task"] for r in found)
    return RunNumbers(tasks or [task()], observed_by_task(found), Selection(counts, counts))


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


def disclosed(*cells: tuple[float, float], **more: Any) -> list[dict[str, Any]]:
    """Return records that gave something away, and that gave the wanted thing."""
    return records([0.0] * len(cells), observed=lambda i: {"gave": cells[i][0], "hit": cells[i][1]}, **more)


SILENT, TOLD, OTHER = (0.0, 0.0), (1.0, 1.0), (1.0, 0.0)


@pytest.mark.parametrize("average", ["pooled", "macro"])
@pytest.mark.parametrize("cluster", [lambda i: f"{i}", lambda i: f"c{i // 4}"], ids=["alone", "clusters"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([SILENT] * 20, [SILENT] * 20),  # nothing was given away in either run
        ([SILENT] * 20, [TOLD, OTHER] * 10),  # in the earlier one alone
        ([TOLD, OTHER] * 10, [SILENT] * 20),
        ([SILENT, TOLD] * 10, [SILENT, OTHER] * 10),  # one of two groups gave nothing, in both
        ([SILENT, TOLD] * 10, [OTHER, SILENT] * 10),  # another group in each
    ],
)
def test_a_group_that_gave_nothing_away_is_compared_as_it_counts(old, new, cluster, average):
    of = task("conditional_disclosure", average)
    found = compared(disclosed(*old, cluster=cluster), disclosed(*new, cluster=cluster), of, margin=0.01)
    assert found.old is not None
    assert found.new is not None
    assert found.difference == found.new - found.old
    assert found.interval is not None
    assert found.interval.low <= found.difference <= found.interval.high
    assert found.interval.low < 0 < found.interval.high or found.difference != 0
    assert found.p_worse is not None
    assert 0 < found.p_worse <= 1
    assert found.outcome in ("passed", "failed", "inconclusive")
    score = compared(disclosed(*old), disclosed(*new), of, id_="d/score")
    assert score.difference is not None


def test_giving_nothing_away_any_more_is_better_and_the_reverse_worse():
    of = task("conditional_disclosure")
    quieter = compared(disclosed(*[TOLD] * 20), disclosed(*[SILENT] * 20), of)
    louder = compared(disclosed(*[SILENT] * 20), disclosed(*[TOLD] * 20), of)
    assert (quieter.worse_by, louder.worse_by) == (-1.0, 1.0)
    assert quieter.p_worse is not None
    assert louder.p_worse is not None
    assert louder.p_worse < 0.01 < 0.9 < quieter.p_worse
    assert (quieter.outcome, louder.outcome) == ("passed", "failed")


@pytest.mark.parametrize("average", ["pooled", "macro"])
@pytest.mark.parametrize("kind", sorted(set(METRICS) - {"upstream_neighbour_similarity"}))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_shared_samples_are_compared_without_a_crash(kind, average, count):
    def some(hit):
        return [
            {
                **r,
                "observed": {
                    "human": float(i), "gave": hit, "hit": hit, "clean": hit, "attacked": hit,
                    "gold": "x", "answer": "y", "sex": "f",
                },
            }
            for i, r in enumerate(records([hit] * count))
        ]  # fmt: skip

    for old, new in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
        for scoring in ("value", "parity"):
            found = compared(some(old), some(new), task(kind, average), scoring=scoring)
            assert found.shared == count
            if found.difference is not None:
                assert found.outcome in ("passed", "failed", "inconclusive")


@pytest.mark.parametrize("average", ["pooled", "macro"])
@pytest.mark.parametrize("kind", ["mean", "macro_f1", "conditional_disclosure", "robustness_score", "pearson"])
def test_runs_of_which_one_has_no_score_have_no_difference(kind, average):
    observed = {"human": 1.0, "gave": 1.0, "hit": 1.0, "clean": 1.0, "attacked": 0.0, "gold": "x", "answer": "x"}
    scored = records([1.0] * 6, observed=lambda i: observed)
    empty = records([None] * 6)
    for old, new in ((scored, empty), (empty, scored), (empty, empty)):
        found = compared(old, new, task(kind, average))
        assert (found.difference, found.outcome, found.shared, found.unscored) == (None, "no_data", 0, 6)
        assert compared(old, new, task(kind, average), id_="d/score").outcome == "no_data"


@pytest.mark.parametrize("kind", ["macro_f1", "mean", "robustness_score", "conditional_disclosure"])
def test_groups_that_are_called_otherwise_in_the_later_run_do_not_crash(kind):
    def some(names):
        observed = {"gave": 1.0, "hit": 1.0, "clean": 1.0, "attacked": 0.0, "gold": "x", "answer": "x"}
        return records([1.0] * 8, observed=lambda i: observed, group=lambda i: {"g": names[i % 2]})

    found = compared(some("ab"), some("ac"), task(kind, "macro"))
    assert (found.shared, found.difference) == (8, 0.0)


def test_a_submetric_that_one_run_alone_has_is_not_compared():
    old, new = records([1.0, 0.0]), records([1.0, 0.0, 1.0], group=lambda i: {"g": "abc"[i]})
    before, after = run(old), run(new)
    assert compare(before, after, "d/t.m{g=c}") is None
    assert compare(after, before, "d/t.m{g=c}") is None
    found = difference_entries(before, after, lambda id_: compare(before, after, id_))
    assert set(found) == {"d/score", "d/t.m", "d/t.m{g=a}", "d/t.m{g=b}"}
    assert found["d/t.m"]["shared"] == 2


class Parts:
    """A scorer with parts that a scored sample may not have."""

    def __init__(self, absent: float | None) -> None:
        self.sub_scores = SubScores("category", (), absent=absent)


def of_parts(*categories: str, absent: float | None = 1.0) -> tuple[list[dict[str, Any]], Task]:
    """Return the records of samples that each have a part, or none (""), and their task."""
    observed = [{f"category.{name}": 0.0} if name else {} for name in categories]
    found = records([float(not name) for name in categories], observed=observed.__getitem__)
    return found, dataclasses.replace(task(of="value"), scorer=Parts(absent))


def test_a_part_that_one_run_alone_has_is_compared_where_its_absence_is_a_number():
    old, of = of_parts("S1", "S2", "", "")
    new, _ = of_parts("S1", "", "S3", "S3")
    before, after = run(old, of), run(new, of)
    found = difference_entries(before, after, lambda id_: compare(before, after, id_))
    assert [id_ for id_ in found if "category" in id_] == [f"d/t.m{{category=S{n}}}" for n in (1, 3, 2)]
    numbers = {id_[-3:-1]: (entry["old"], entry["new"], entry["shared"]) for id_, entry in found.items()}
    assert (numbers["S1"], numbers["S2"], numbers["S3"]) == ((0.75, 0.75, 4), (0.75, 1.0, 4), (1.0, 0.5, 4))
    assert compare(before, after, "d/t.m{category=S9}") is None


def test_a_part_whose_absence_is_no_number_is_not_compared():
    old, of = of_parts("S2", "", absent=None)
    new, _ = of_parts("", "S3", absent=None)
    before, after = run(old, of), run(new, of)
    assert compare(before, after, "d/t.m{category=S2}") is None
    assert not any(
        "category" in id_ for id_ in difference_entries(before, after, lambda id_: compare(before, after, id_))
    )


def test_a_users_metric_that_breaks_on_some_samples_costs_its_interval_alone():
    @dataclasses.dataclass(frozen=True)
    class Brittle:
        higher_is_better: bool = True
        range: tuple[float, float] = (0.0, 1.0)

        def compute(self, observations):
            return sum(o["value"] for o in observations) / len(observations)

        def terms(self, observations):
            raise ZeroDivisionError("my own bug")

    reading = Reading(Brittle(), "pooled", {})
    of = dataclasses.replace(task(), metrics=(MetricSpec("m", reading, reading, {}),))
    found = compared(records(OLD), records(changed(5, 0)), of)
    assert found.difference == pytest.approx(-0.05)
    assert (found.interval, found.p_worse, found.outcome) == (None, None, "inconclusive")
