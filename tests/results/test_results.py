"""Records to metrics, trust scores, intervals and the results document."""

from __future__ import annotations

import dataclasses
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import saved_run
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.metrics.observations import observed_by_task
from pytest_trustllm.registry import METRICS, Registry
from pytest_trustllm.results.document import RunNumbers, keep_apart, results_document, scores_of
from pytest_trustllm.stats.shares import share_limits
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Generation, Selection

PARAMETERS: dict[str, dict[str, Any]] = {
    "share": {"equal_to": 1},
    "macro_f1": {"classes": ["x", "y"]},
    "upstream_macro_f1": {"classes": ["x", "y"]},
    "chi_square_p": {"attribute": "sex"},
}


def task(
    kind: Any = "mean", average: Any = "pooled", name: str = "t", group: Mapping[str, str] | None = None, **parity: Any
) -> Task:
    metric = Registry().metrics.get(kind)(**PARAMETERS.get(kind, {})) if isinstance(kind, str) else kind  # type: ignore[arg-type]
    value = Reading(metric, average, {})
    spec = MetricSpec("m", value, dataclasses.replace(value, **parity), {})
    return Task("s", "d", name, 1, "", DataSpec(), None, None, Generation(), None, "x", (spec,), group or {})


def record(
    i: int, value: float | None, *, task: str = "d/t", group: Mapping[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "task": task,
        "id": f"{i:04d}",
        "fingerprint": f"f{i}",
        "group": dict(group or {}),
        "status": "unscored" if value is None else "passed",
        "value": value,
        "answer": None,
        "reason": None,
        "observed": {},
        "parity": "same",
        "also": {},
        **more,
    }


def reading(value: float | None, **more: Any) -> dict[str, Any]:
    return {
        "value": value,
        "met": bool(value),
        "answer": None,
        "reason": None,
        "observed": {},
        "parity": "same",
        **more,
    }


def measured(
    records: Sequence[Mapping[str, Any]], *tasks: Task, planned: int | None = None, **options: Any
) -> RunNumbers:
    counts = Counter(r["task"] for r in records)
    if planned is not None:
        counts["d/t"] = planned
    return RunNumbers(tasks or [task()], observed_by_task(records), Selection(counts, counts), **options)


def number(records: Sequence[Mapping[str, Any]], *tasks: Task, **options: Any) -> Any:
    return measured(records, *tasks, **options).metrics["d/t.m"]


def test_a_rate_has_value_counts_and_interval():
    found = number(
        [record(0, 1.0), record(1, 0.0), record(2, None), *(record(i, 1.0) for i in range(3, 10))], planned=11
    )
    assert (found.value, found.expected, found.scored, found.unscored) == (8 / 9, 11, 9, 2)
    assert (found.interval.low, found.interval.high) == share_limits(8, 9, 0.95)
    assert (found.interval.confidence, found.interval.method) == (0.95, "Wilson")


def test_without_a_score_there_is_no_interval():
    for records in ([record(0, None)], []):
        found = number(records, planned=1)
        assert (found.value, found.interval, found.expected, found.scored) == (None, None, 1, 0)


def test_a_sample_that_broke_before_it_was_made_is_an_unscored_one():
    broken = record(1, None, parity=None)
    del broken["fingerprint"]
    found = number([record(0, 1.0), broken])
    assert (found.value, found.expected, found.scored) == (1.0, 2, 1)


def test_a_task_that_was_not_planned_has_no_metric():
    assert RunNumbers([task()], {}, Selection({}, {})).metrics == {}


def test_any_confidence_and_reading_can_be_asked_for():
    half = {"value": 0.0}
    run = measured([record(i, 1.0, parity=half if i < 3 else "same") for i in range(20)], confidence=0.9)
    assert run.metrics["d/t.m"].interval == run.interval("d/t.m", 0.9)
    for confidence in (0.5, 0.99):
        found, parity = run.interval("d/t.m", confidence), run.interval("d/t.m", confidence, "parity")
        assert found is not None
        assert parity is not None
        assert (found.low, found.high) == share_limits(20, 20, confidence)
        assert (parity.low, parity.high, parity.confidence) == (*share_limits(17, 20, confidence), confidence)
    assert run.interval("d/none.m", 0.9) is None
    assert run.interval("e/score", 0.9) is None


def test_a_rounded_parity_reading_lies_in_its_interval():
    run = measured([record(i, float(i < 1)) for i in range(3)], task(digits={"*": 0}))
    assert run.metrics["d/t.m"].parity == 0
    found = run.interval("d/t.m", 0.01, "parity")
    assert found is not None
    assert found.low == 0 < found.high


def test_where_the_toolkit_raises_there_is_neither_parity_nor_its_interval():
    run = measured([record(0, 1.0), record(1, 1.0, parity="raises")])
    assert run.metrics["d/t.m"].parity is None
    assert run.interval("d/t.m", 0.95, "parity") is None
    assert run.interval("d/t.m", 0.95) is not None


def test_samples_of_one_source_item_make_the_interval_wider():
    values = [float(i % 8 < 4) for i in range(80)]
    alone = number([record(i, v) for i, v in enumerate(values)]).interval
    together = number([record(i, v, cluster=f"c{i // 4}") for i, v in enumerate(values)]).interval
    assert together.low < alone.low
    assert together.high > alone.high
    assert together.method == "Wilson, clustered (arXiv:2411.00640)"


# epochs


def asked(i: int, *values: float | None, **more: Any) -> dict[str, Any]:
    scored = [v for v in values if v is not None]
    mean = sum(scored) / len(scored) if len(scored) == len(values) else None
    return record(i, mean, epochs=[reading(v) for v in values], **more)


def test_epochs_count_alike_and_their_sample_is_a_cluster():
    records = [asked(i, 1.0, float(i % 2), float(i % 4 == 0)) for i in range(40)]
    found = number(records)
    assert found.value == pytest.approx((40 + 20 + 10) / 120)
    assert (found.expected, found.scored) == (40, 40)
    flat = number([record(3 * i + e, v) for i in range(40) for e, v in enumerate((1.0, i % 2, float(i % 4 == 0)))])
    assert found.value == flat.value
    assert found.interval.high - found.interval.low > flat.interval.high - flat.interval.low
    assert "clustered" in found.interval.method


def test_asking_an_unchanging_model_again_tells_nothing_new():
    once = number([record(i, float(i % 3 == 0)) for i in range(60)]).interval
    often = number([asked(i, *[float(i % 3 == 0)] * 5) for i in range(60)]).interval
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.06)
    assert often.high - often.low > once.high - once.low


def test_a_sample_is_never_scored_on_its_surviving_epochs():
    found = number([asked(0, 1.0, None), asked(1, 0.0, 0.0)])
    assert (found.value, found.expected, found.scored) == (0.0, 2, 1)


def test_epochs_of_a_reader_are_its_own_and_those_it_does_not_concern_are_left_out():
    reader = dataclasses.replace(task(name="reader"), reads="t")
    none: dict[str, Any] = {"applies": False}
    refused = {**reading(None, **none), "epochs": [reading(None, **none)] * 2}
    mixed = {**reading(0.4), "epochs": [reading(0.4), reading(None, **none)]}
    records = [asked(0, 1.0, 0.0, also={"d/reader": mixed}), asked(1, 1.0, 1.0, also={"d/reader": refused})]
    found = measured(records, task(), reader).metrics
    assert found["d/t.m"].value == 0.75
    assert (found["d/reader.m"].value, found["d/reader.m"].expected, found["d/reader.m"].scored) == (0.4, 1, 1)


# every metric


def observed(i: int, dice: random.Random) -> dict[str, Any]:
    value = dice.choice((0.0, 1.0, 0.1, 0.7))
    more = {
        "human": dice.uniform(-100, 100),
        "gave": 1.0,
        "hit": float(dice.random() < 0.5),
        "clean": float(dice.random() < 0.5),
        "attacked": float(dice.random() < 0.5),
        "gold": dice.choice("xy"),
        "answer": dice.choice("xy"),
        "sex": dice.choice("fm"),
        "index": i,
        "vector": [dice.gauss(0, 1) for _ in range(5)],
    }
    cluster = {"cluster": f"c{dice.randrange(12)}"} if i % 2 else {}
    return record(i, value, group={"g": dice.choice("ab")}, observed=more, **cluster)


@pytest.mark.parametrize("average", ["pooled", "macro"])
@pytest.mark.parametrize("kind", sorted(METRICS))
@pytest.mark.parametrize("n", [1, 2, 3, 4, 40])
def test_every_metric_lies_in_its_interval_and_that_in_its_range(kind, average, n):
    dice = random.Random(n)
    records = [observed(i, dice) for i in range(n)]
    run = measured(records, task(kind, average, group={"g": "g"}))
    for found in run.metrics.values():
        assert found.problem is None
        if found.value is None:
            assert found.interval is None
        elif found.interval is not None:
            low, high = found.range
            assert low <= found.interval.low <= found.value <= found.interval.high <= high
            assert found.interval.method
    if n == 40 and kind != "upstream_neighbour_similarity":
        assert run.metrics["d/t.m"].interval is not None
        wider = run.interval("d/t.m", 0.999)
        assert wider is not None
        narrower = run.interval("d/t.m", 0.5)
        assert narrower is not None
        assert wider.low <= narrower.low
        assert narrower.high <= wider.high


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_the_order_of_the_records_changes_no_bit(kind):
    dice = random.Random(5)
    records = [observed(i, dice) for i in range(40)]
    tasks = [task(kind, "macro", group={"g": "g"})]
    first = measured(records, *tasks, seed=3).metrics
    for _ in range(3):
        dice.shuffle(records)
        assert measured(records, *tasks, seed=3).metrics == first


@pytest.mark.parametrize("kind", ["macro_f1", "robustness_score"])
def test_drawn_intervals_depend_on_the_seed_alone(kind):
    dice = random.Random(5)
    records = [observed(i, dice) for i in range(40)]
    first, again, other = (number(records, task(kind), seed=s).interval for s in (1, 1, 2))
    assert first == again
    assert first.low != other.low
    assert first.method == "Bayesian bootstrap, 2000 draws, clustered"


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("kind", sorted(METRICS))
def test_samples_that_are_all_alike_are_ordinary(kind, value):
    same = {"human": value, "gave": value, "hit": value, "clean": value, "attacked": value, "gold": "x", "answer": "x"}
    records = [
        record(i, value, observed={**same, "sex": "fm"[i % 2], "index": i, "vector": [1.0, value]}) for i in range(10)
    ]
    found = number(records, task(kind))
    assert found.problem is None
    if found.interval is not None:
        assert found.range[0] <= found.interval.low <= found.value <= found.interval.high <= found.range[1]


@dataclasses.dataclass(frozen=True)
class Own:
    """A metric of which only the code is known."""

    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    least: int = 0

    def compute(self, observations: Sequence[Mapping[str, Any]]) -> float | None:
        if len(observations) < self.least:
            raise RuntimeError("too few")
        return math.fsum(o["value"] for o in observations) / len(observations) if observations else None


def test_a_users_metric_has_a_jackknifes_interval():
    found = number([record(i, float(i % 2)) for i in range(30)], task(Own()))
    assert found.interval.method == "delete-a-group jackknife (Kott 2001)"
    assert found.interval.low == pytest.approx(share_limits(15, 30, 0.95)[0], abs=0.02)


def test_a_users_metric_that_breaks_on_fewer_samples_has_no_interval_but_its_value():
    found = number([record(i, float(i % 2)) for i in range(30)], task(Own(least=30)))
    assert (found.value, found.interval, found.problem) == (0.5, None, None)


@dataclasses.dataclass(frozen=True)
class Liar(Own):
    """Says that it is a mean and is not."""

    def compute(self, observations: Sequence[Mapping[str, Any]]) -> float | None:
        return 0.25

    def terms(self, observations: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
        return [(o["value"], 1.0) for o in observations]


def test_a_metric_that_is_not_the_mean_it_says_has_a_jackknifes_interval():
    found = number([record(i, float(i % 2)) for i in range(30)], task(Liar()))
    assert found.interval.method == "delete-a-group jackknife (Kott 2001)"


# trust scores


def scored(n: int, right: Mapping[str, int]) -> list[dict[str, Any]]:
    return [record(i, float(i < k), task=f"d/{name}") for name, k in right.items() for i in range(n)]


def test_a_trust_score_of_several_tasks_is_more_certain_than_each():
    tasks = [task(name="a"), task(name="b")]
    run = measured(scored(50, {"a": 40, "b": 20}), *tasks)
    score = run.scores["d"]
    assert score.value == pytest.approx(0.6)
    assert score.interval is not None
    widths = [m.interval.high - m.interval.low for m in run.metrics.values() if m.interval is not None]
    assert score.interval.high - score.interval.low == pytest.approx(math.hypot(*widths) / 2, rel=0.02)
    wider = run.interval("d/score", 0.99)
    assert wider is not None
    assert wider.low < score.interval.low < score.value < score.interval.high < wider.high
    assert scores_of(tasks, run.metrics) == run.scores


def test_a_reader_of_the_same_answers_makes_a_trust_score_no_more_certain():
    reader = dataclasses.replace(task(name="reader"), reads="t")
    records = [record(i, float(i < 40), also={"d/reader": reading(float(i < 40))}) for i in range(50)]
    run = measured(records, task(), reader)
    score, metric = run.scores["d"].interval, run.metrics["d/t.m"].interval
    assert score is not None
    assert metric is not None
    assert (score.low, score.high) == pytest.approx((metric.low, metric.high))


def test_a_lower_is_better_metric_turns_its_interval():
    from pytest_trustllm.metrics.rates import Mean

    run = measured(scored(50, {"t": 10}), task(Mean(lower_is_better=True)))
    score, metric = run.scores["d"].interval, run.metrics["d/t.m"].interval
    assert score is not None
    assert metric is not None
    assert (score.low, score.high) == pytest.approx((1 - metric.high, 1 - metric.low))


def test_a_score_with_a_headline_without_interval_has_none():
    run = measured(
        [*scored(1, {"a": 1}), record(0, 1.0, task="d/b"), record(1, 1.0, task="d/b")],
        task(name="a"),
        task(Own(least=2), name="b"),
    )
    assert run.scores["d"].value == 1.0
    assert run.scores["d"].interval is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_scores_lie_in_their_intervals(found):
    tasks = [task(name="a"), task(name="b")]
    records = [record(i, float(v), task=f"d/{t}", cluster=f"c{c}") for i, (t, v, c) in enumerate(found)]
    score = measured(records, *tasks).scores["d"]
    assert score.interval is not None
    assert score.value is not None
    assert 0 <= score.interval.low <= score.value <= score.interval.high <= 1


# the document


def written(run):
    about, usage = saved_run.run_entry(), saved_run.usage_entry()
    return results_document(
        run=about, metrics=run.metrics, scores=run.scores, gates=[], usage=usage, coverage={}, samples=None
    )


def test_the_document_says_interval_confidence_and_method():
    run = measured(scored(50, {"a": 40}), task(name="a"))
    found = written(run)
    metric, score = found["metrics"]["d/a.m"], found["scores"]["d"]
    assert metric["ci"] == pytest.approx(list(share_limits(40, 50, 0.95)))
    assert (metric["confidence"], metric["method"]) == (0.95, "Wilson")
    assert score["ci"] == pytest.approx(metric["ci"])
    assert "square-and-add" in score["method"]
    assert "stability" not in found


def test_the_document_has_nulls_where_there_is_no_interval():
    run = measured([record(0, None)])
    found = written(run)
    for part in (found["metrics"]["d/t.m"], found["scores"]["d"]):
        assert (part["ci"], part["confidence"], part["method"]) == (None, None, None)


def test_a_plain_rate_needs_neither_numpy_nor_scipy():
    code = (
        "import sys; from pytest_trustllm.stats.means import Tally, mean_limits\n"
        "t = Tally()\nfor i in range(9): t.add(i, float(i < 5), 1.0)\n"
        "assert mean_limits([t], 0.95)\nassert not {'numpy', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_response_that_counts_as_wrong_is_no_scored_sample():
    lost = [record(i, 0.0, silent=True, reason="no response") for i in range(1, 3)]
    found = number([record(0, 1.0), *lost])
    assert (found.value, found.expected, found.scored, found.unscored) == (1 / 3, 3, 1, 2)


@pytest.mark.parametrize(("kind", "value"), [("mean", 0.0), ("chi_square_p", 1.0), ("share", 0.0)])
def test_a_metric_of_missing_responses_alone_has_no_value(kind: str, value: float):
    """A rate of 0 where lower is better, a p-value of 1: of a model that never answers they say nothing."""
    observed = [{"sex": sex} for sex in "mfmf"]
    records = [record(i, 0.0, observed=o, silent=True) for i, o in enumerate(observed)]
    found = number(records, task(kind))
    assert (found.value, found.interval, found.scored) == (None, None, 0)
    assert found.problem == "no sample has a response"
    assert found.parity == value  # what the authors' toolkit makes of the same responses
    answered = [record(i, 0.0, observed=o) for i, o in enumerate(observed)]
    assert number(answered, task(kind)).value == value


def test_a_mean_of_groups_needs_a_response_in_each():
    records = [
        record(0, 1.0, group={"g": "a"}),
        record(1, 0.0, group={"g": "b"}, silent=True),
    ]
    grouped = measured(records, task(average="macro", group={"g": "g"})).metrics
    assert [m.value for m in grouped.values()] == [None, 1.0, None]
    pooled = measured(records, task(group={"g": "g"})).metrics
    assert [m.value for m in pooled.values()] == [0.5, 1.0, None]


def test_a_metric_that_counts_none_of_the_samples_says_so():
    of_some = task()
    spec = dataclasses.replace(of_some.metrics[0], where={"g": "z"})
    of_some = dataclasses.replace(of_some, group={"g": "g"}, metrics=(spec,))
    found = number([record(0, 1.0, group={"g": "a"})], of_some)
    assert (found.unmatched, found.expected, found.value) == (True, 0, None)
    assert not number([record(0, 1.0, group={"g": "z"})], of_some).unmatched
    assert not number([], planned=1).unmatched


def test_a_file_is_not_read_and_written_nor_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "base.json"
    base.write_text("{}")
    (tmp_path / "below").mkdir()
    (tmp_path / "soft.json").symlink_to(base)
    (tmp_path / "hard.json").hardlink_to(base)
    same = ["base.json", "below/../base.json", "soft.json", "hard.json", str(base)]
    for spelling in same:
        with pytest.raises(
            ResultsError, match=r"^--out: .* is also the file of --in and would be overwritten; name an"
        ):
            keep_apart([("--out", Path(spelling))], [("--in", base)])
        with pytest.raises(ResultsError, match=r"^--b: .* is also the file of --a; name another file"):
            keep_apart([("--a", base), ("--b", Path(spelling))], [])
    (tmp_path / "round.json").symlink_to("round.json")
    keep_apart([("--out", tmp_path / "new.json"), ("--b", tmp_path / "round.json")], [("--in", base)])
