"""Gates that are decided early: what is certain never turns out otherwise, and what is probable seldom does."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_trustllm.errors import GateError
from pytest_trustllm.gates.deciding import SourcePlan, interval_bounds
from pytest_trustllm.gates.dropping import earlier_samples
from pytest_trustllm.gates.family import Deciders, deciders_of
from pytest_trustllm.gates.planned import PlannedSample
from pytest_trustllm.gates.stopping import parse_stop
from pytest_trustllm.gates.verdict import Gate, Policy
from pytest_trustllm.registry import Registry
from pytest_trustllm.results.measurement import MeasuredRun
from pytest_trustllm.stats.shares import share_limits
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Generation, Selection

KEY = "gate"


def task_of(kind: str = "accuracy", average: str = "pooled", where: dict[str, str] | None = None, **parameters: Any):
    reading = Reading(Registry().metrics.get(kind)(**parameters), average, {})  # type: ignore[arg-type]
    spec = MetricSpec("m", reading, reading, where or {})
    return Task("s", "d", "t", 1, "t", DataSpec(), None, None, Generation(), None, "none", (spec,), {"g": "g"})


def gate_of(bound: float, kind: str = "at_least", metric: str = "t.m", **fields: Any) -> Gate:
    values: dict[str, Any] = {"scoring": "value", "higher_is_better": True, "tasks": ("d/t",), **fields}
    return Gate("f", "d", metric, kind, bound, **values)  # type: ignore[arg-type]


def record_of(i: int, value: float | None, group: str, cluster: str, status: str = "passed", **observed: Any) -> Any:
    return {
        "task": "d/t", "id": f"{i:04d}", "fingerprint": f"{i}", "cluster": cluster,
        "group": {} if status == "error" else {"g": group}, "status": status, "answer": None,
        "value": value, "reason": None, "observed": observed, "parity": "same", "also": {},
    }  # fmt: skip


def units_of(groups: Sequence[str], clusters: Sequence[str], rng: random.Random) -> list[tuple[PlannedSample, ...]]:
    by_cluster: dict[str, list[PlannedSample]] = {}
    for i, (group, cluster) in enumerate(zip(groups, clusters, strict=True)):
        by_cluster.setdefault(cluster, []).append(PlannedSample(f"{i:04d}", {"g": group}, cluster, f"{i}"))
    units = [tuple(unit) for unit in by_cluster.values()]
    rng.shuffle(units)
    return units


def decide(task: Task, gate: Gate, stop: Any, units: Any, records: Sequence[Any], before: Any = None) -> Deciders:
    """Feed units until the task needs no more."""
    plans = {"d/t": SourcePlan(units, {"d/t": task})}
    deciders = deciders_of({KEY: (gate, stop)}, plans, 1, before={} if before is None else {gate.id: before})
    by_id = {record["id"]: record for record in records}
    for unit in units:
        if not deciders.needed("d/t"):
            break
        deciders.take("d/t", unit, [by_id[sample.id] for sample in unit])
    return deciders


def verdict(task: Task, gate: Gate, records: Sequence[Any]) -> str:
    counts = {"d/t": len(records)}
    return MeasuredRun([task], records, Selection(counts, counts)).judge(gate).outcome


@st.composite
def runs(draw: st.DrawFn) -> tuple[Task, Gate, Any, list[Any]]:
    kind, average, where = draw(
        st.sampled_from(
            [
                ("accuracy", "pooled", {}),
                ("accuracy", "macro", {}),
                ("accuracy", "pooled", {"g": "a"}),
                ("attack_success_rate", "pooled", {}),
                ("attack_success_rate", "macro", {}),
            ]
        )
    )
    metric = draw(st.sampled_from(["t.m", "t.m{g=a}"])) if not where else "t.m"
    size = draw(st.integers(1, 24))
    groups = draw(st.lists(st.sampled_from("ab"), min_size=size, max_size=size))
    clusters = draw(st.lists(st.sampled_from("uvwxyz"), min_size=size, max_size=size))
    if draw(st.booleans()):
        clusters = [str(i) for i in range(size)]
    common = draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    numbers = st.sampled_from([0.0, 1.0]) if draw(st.booleans()) else st.floats(0, 1)
    fates = st.sampled_from(["scored"] * draw(st.integers(0, 12)) + ["unscored", "error", "not applicable", "scored"])
    records = []
    for i in range(size):
        fate, value = draw(fates), draw(numbers)
        if draw(st.floats(0, 1)) < common:
            value = 1.0
        observed = {"gave": 1.0, "hit": value, "clean": draw(st.sampled_from([0.0, 1.0])), "attacked": value}
        if fate != "scored":
            record = record_of(i, None, groups[i], clusters[i], "error" if fate == "error" else "unscored")
            if fate == "not applicable":
                record["applies"] = False
        else:
            record = record_of(i, value, groups[i], clusters[i], **observed)
        records.append(record)
    policy = Policy(min_scored=draw(st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0])))
    bound = draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 0.9, 1.0]) | st.floats(0, 1))
    gate = gate_of(bound, draw(st.sampled_from(["at_least", "at_most"])), metric, policy=policy)
    units = units_of(groups, clusters, random.Random(draw(st.integers(0, 5))))
    return task_of(kind, average, where), gate, units, records


@given(runs())
@settings(max_examples=600, deadline=None)
def test_no_exact_stop_is_ever_wrong(run):
    task, gate, units, records = run
    decision = decide(task, gate, "exact", units, records).deciders[KEY].decision
    if decision is not None:
        assert decision.rule == "exact"
        assert decision.outcome == verdict(task, gate, records)


@given(runs(), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_an_exact_stop_holds_for_any_other_rest(run, value):
    """What was asked stays; everything else is answered in another way."""
    task, gate, units, records = run
    deciders = decide(task, gate, "exact", units, records)
    decision = deciders.deciders[KEY].decision
    if decision is None:
        return
    asked = 0
    seen = set()
    for unit in units:
        if asked >= decision.asked:
            break
        asked += len(unit)
        seen.update(sample.id for sample in unit)
    for rest in (0.0, value, 1.0, None):
        completed = []
        for record in records:
            if record["id"] not in seen:
                observed = {"gave": 1.0, "hit": rest, "clean": 1.0, "attacked": rest}
                record = {**record, "value": rest, "observed": {} if rest is None else observed}
                record["status"] = "unscored" if rest is None else "passed"
                record["group"] = next(s.group for unit in units for s in unit if s.id == record["id"])
                record.pop("applies", None)
            completed.append(record)
        assert verdict(task, gate, completed) == decision.outcome


def rate_run(size: int, rate: float, seed: int, cluster_size: int = 1) -> tuple[Any, list[Any]]:
    rng = random.Random(seed)
    ones = round(rate * size)
    values = [1.0] * ones + [0.0] * (size - ones)
    rng.shuffle(values)
    clusters = [str(i // cluster_size) for i in range(size)]
    if cluster_size > 1:  # of one cluster all are right, or all wrong
        values.sort()
    records = [record_of(i, value, "a", clusters[i]) for i, value in enumerate(values)]
    return units_of(["a"] * size, clusters, rng), records


def test_a_hopeless_rate_is_certain_early_and_a_good_one_needs_its_coverage():
    units, records = rate_run(400, 0.1, 1)
    lost = decide(task_of(), gate_of(0.8), "exact", units, records).deciders[KEY].decision
    assert lost is not None
    assert lost.outcome == "failed"
    assert lost.asked < 120  # 81 wrong answers are enough
    units, records = rate_run(400, 1.0, 1)
    won = decide(task_of(), gate_of(0.8), "exact", units, records).deciders[KEY].decision
    assert won is not None
    assert won.outcome == "passed"
    assert won.asked == 380  # the other 20 may all stay without a score, and 95 % have one


def test_without_a_coverage_rule_a_good_rate_is_certain_once_it_has_its_share():
    units, records = rate_run(400, 1.0, 1)
    gate = gate_of(0.8, policy=Policy(min_scored=0.0))
    decision = decide(task_of(), gate, "exact", units, records).deciders[KEY].decision
    assert decision is not None
    assert decision.asked == 320


@pytest.mark.parametrize("kind", ["at_least", "at_most"])
@pytest.mark.parametrize("rate", [0.05, 0.95])
@pytest.mark.parametrize("cluster_size", [1, 5])
def test_alpha_asks_a_part_and_says_between_which_numbers_the_value_lies(kind, rate, cluster_size):
    units, records = rate_run(1000, rate, 3, cluster_size)
    gate = gate_of(0.6, kind)
    decision = decide(task_of(), gate, 0.05, units, records).deciders[KEY].decision
    assert decision is not None
    assert decision.rule == "alpha"
    assert decision.outcome == verdict(task_of(), gate, records)
    assert decision.asked <= 100 * cluster_size
    assert decision.limits is not None
    assert decision.limits.low <= rate <= decision.limits.high
    assert decision.confidence == pytest.approx(0.95)


def test_a_macro_average_weighs_its_groups():
    """The small group alone decides: it is half of the number."""
    rng = random.Random(4)
    groups = ["a"] * 900 + ["b"] * 100
    units = units_of(groups, [str(i) for i in range(1000)], rng)
    records = [record_of(i, float(group == "a"), group, str(i)) for i, group in enumerate(groups)]
    task, gate = task_of(average="macro"), gate_of(0.8)
    decision = decide(task, gate, 0.05, units, records).deciders[KEY].decision
    assert decision is not None
    assert (decision.outcome, verdict(task, gate, records)) == ("failed", "failed")
    assert decision.asked < 800


def test_too_many_unscored_samples_are_not_passed_early():
    units, records = rate_run(400, 1.0, 5)
    for record in records[::8]:
        record.update(value=None, status="unscored")
    for stop in ("exact", 0.05):
        decision = decide(task_of(), gate_of(0.8), stop, units, records).deciders[KEY].decision
        assert decision is None or decision.outcome == "failed"


@pytest.mark.parametrize(
    ("kind", "parameters", "fields", "reason"),
    [
        ("pearson", {"against": "human"}, {}, "can move this metric anywhere"),
        ("conditional_disclosure", {}, {}, "can move this metric anywhere"),
        ("accuracy", {}, {"kind": "max_drop"}, "the baseline has too few"),
        ("pearson", {"against": "human"}, {"kind": "max_drop"}, "not the mean of what its samples lost"),
    ],
)
def test_what_cannot_be_bounded_is_asked_whole_and_says_why(kind, parameters, fields, reason):
    units, records = rate_run(100, 0.5, 1)
    deciders = decide(task_of(kind, **parameters), gate_of(0.1, **fields), 0.05, units, records)
    assert deciders.deciders[KEY].decision is None
    assert reason in deciders.deciders[KEY].problem
    assert deciders.needed("d/t")


def test_a_task_without_a_gate_is_asked_whole_unless_told_otherwise():
    units, _ = rate_run(10, 0.5, 1)
    plans = {"d/t": SourcePlan(units, {"d/t": task_of()})}
    assert deciders_of({}, plans, 1).needed("d/t")
    assert not deciders_of({}, plans, 1, ungated=True).needed("d/t")


def test_a_gate_that_is_never_stopped_keeps_its_task_whole():
    units, records = rate_run(400, 0.0, 1)
    assert decide(task_of(), gate_of(0.8), "never", units, records).needed("d/t")


def test_a_trust_score_is_certain_through_its_parts():
    units, records = rate_run(400, 0.9, 1)
    gate = dataclasses.replace(gate_of(0.2, metric="score"), policy=Policy(min_scored=0.0))
    decision = decide(task_of(), gate, "exact", units, records).deciders[KEY].decision
    assert decision is not None
    assert decision.outcome == "passed"
    assert decision.asked < 120


def test_alpha_is_shared_in_proportion_to_the_samples():
    from pytest_trustllm.gates.family import levels

    task = task_of()
    many, few = rate_run(900, 0.5, 1)[0], rate_run(100, 0.5, 1)[0]
    other = dataclasses.replace(task, name="u")
    plans = {"d/t": SourcePlan(many, {"d/t": task}), "d/u": SourcePlan(few, {"d/u": other})}
    second = gate_of(0.5, metric="u.m", tasks=("d/u",))
    shares = levels({"x": (gate_of(0.5), 0.05), "y": (second, 0.05), "z": (gate_of(0.6), "exact")}, plans)
    assert shares == {"x": 0.025, "y": pytest.approx(0.005)}  # half of alpha at most, for the interval's two ends


@pytest.mark.parametrize("text", ["", "sometimes", "0", "0.6", "-1", "nan"])
def test_a_rule_that_is_none_is_refused(text):
    with pytest.raises(GateError, match=r"--trust-stop: "):
        parse_stop(text, "--trust-stop")


@pytest.mark.parametrize("kind", ["at_least", "at_most"])
@pytest.mark.parametrize(("rate", "lost"), [(0.95, 0), (0.05, 0), (0.95, 12), (0.05, 12), (0.62, 0)])
def test_a_gate_on_the_interval_has_the_verdict_of_the_full_runs_interval(kind, rate, lost):
    units, records = rate_run(600, rate, 7)
    for record in random.Random(1).sample(records, lost):
        record.update(value=None, status="unscored")
    gate = gate_of(0.6, kind, confidence=0.95)
    decision = decide(task_of(), gate, 0.05, units, records).deciders[KEY].decision
    if rate == 0.62:  # inconclusive in the full run: nothing decides it early
        assert verdict(task_of(), gate, records) == "inconclusive"
        assert decision is None
    else:
        assert decision is not None
        assert decision.outcome == verdict(task_of(), gate, records)
        assert decision.asked < 300


@pytest.mark.parametrize("planned", [1, 7, 40, 51, 60, 130])
@pytest.mark.parametrize("bound", [0.05, 0.5, 0.8, 0.97])
def test_the_counts_that_decide_an_interval_hold_whatever_has_no_score(planned, bound):
    low, high = interval_bounds(gate_of(bound), 0.95, planned)
    for right in range(planned + 1):
        for unscored in range(min(planned - right, planned // 5 + 1)):
            limits = share_limits(right, planned - unscored, 0.95)
            if right / planned > high:
                assert limits[0] > bound
            if (right + unscored) / planned < low:
                assert limits[1] < bound


def test_clustered_samples_with_a_confidence_are_asked_whole():
    units, records = rate_run(100, 0.5, 1, cluster_size=5)
    deciders = decide(task_of(), gate_of(0.1, confidence=0.95), 0.05, units, records)
    assert "depends on how the answers" in deciders.deciders[KEY].problem


def drop_run(
    size: int, flips: float, lost: float, seed: int, cluster_size: int = 1
) -> tuple[Any, list[Any], list[Any]]:
    """Return units, and the records of two runs: a share of the samples flips, and ``lost`` more are lost than won."""
    rng = random.Random(seed)
    old, new = [], []
    for i in range(size):
        before = float(rng.random() < 0.8)
        after = before
        if rng.random() < flips:
            after = 1.0 - before
        if before and rng.random() < lost:
            after = 0.0
        cluster = str(i // cluster_size)
        old.append(record_of(i, before, "a", cluster))
        new.append(record_of(i, after, "a", cluster))
    return units_of(["a"] * size, [record["cluster"] for record in new], rng), old, new


@pytest.mark.parametrize("cluster_size", [1, 4])
@pytest.mark.parametrize(("lost", "outcome"), [(0.0, "passed"), (0.3, "failed")])
def test_a_drop_is_decided_by_its_pairs(lost, outcome, cluster_size):
    units, old, new = drop_run(2000, 0.02, lost, 1, cluster_size)
    task, gate = task_of(), gate_of(0.05, "max_drop")
    before = earlier_samples(old, "d/t", task.metrics[0], None, "value")
    deciders = decide(task, gate, 0.05, units, new, before)
    decision = deciders.deciders[KEY].decision
    assert decision is not None
    assert decision.outcome == outcome
    assert decision.asked < 1500


def test_few_verdicts_on_a_drop_differ_where_it_is_close_to_the_bound():
    task, gate = task_of(), gate_of(0.02, "max_drop")
    wrong = 0
    runs = 60
    for seed in range(runs):
        units, old, new = drop_run(300, 0.05, 0.03, seed)
        drop = sum(record["value"] for record in old) / 300 - sum(record["value"] for record in new) / 300
        before = earlier_samples(old, "d/t", task.metrics[0], None, "value")
        decision = decide(task, gate, 0.05, units, new, before).deciders[KEY].decision
        if decision is not None:
            wrong += (decision.outcome == "passed") != (drop <= 0.02)
    assert wrong <= 0.05 * runs


def test_a_drop_beyond_the_bound_with_a_confidence_needs_all_samples():
    units, old, new = drop_run(400, 0.02, 0.4, 1)
    task, gate = task_of(), gate_of(0.05, "max_drop", confidence=0.95)
    before = earlier_samples(old, "d/t", task.metrics[0], None, "value")
    assert decide(task, gate, 0.05, units, new, before).deciders[KEY].decision is None


def test_a_baseline_of_other_samples_decides_nothing():
    units, old, new = drop_run(400, 0.0, 0.0, 1)
    task, gate = task_of(), gate_of(0.05, "max_drop")
    before = earlier_samples(old[:200], "d/t", task.metrics[0], None, "value")
    deciders = decide(task, gate, 0.05, units, new, before)
    assert deciders.deciders[KEY].problem == "the baseline has too few of its samples"
