"""A number, its interval, its coverage and its past, to a verdict."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_trustllm.gates.verdict import Drop, Findings, Gate, GateResult, Policy, judge_gate
from pytest_trustllm.types import Interval, MetricValue, Selection, TrustScore

GATE = Gate(
    file="thresholds/safety.yaml",
    dimension="safety",
    metric="echo.rate",
    kind="at_least",
    bound=0.8,
    scoring="value",
    higher_is_better=True,
    tasks=("safety/echo",),
)
SURE = dataclasses.replace(GATE, confidence=0.95)
MOST = dataclasses.replace(GATE, kind="at_most", higher_is_better=False, bound=0.2)
SCORE = dataclasses.replace(GATE, metric="score")
DROP = dataclasses.replace(GATE, kind="max_drop", bound=0.02)


def findings(
    value: float | None = 0.85,
    limits: tuple[float, float] | None = None,
    *,
    scored: int = 100,
    expected: int = 100,
    total: int = 100,
    further: int | None = 40,
    drop: Drop | None = None,
    **more: Any,
) -> Findings:
    metric = MetricValue("safety/echo.rate", value, value, expected, scored, True, (0.0, 1.0))
    return Findings(
        metrics={metric.id: metric},
        scores={"safety": TrustScore(value, (metric.id,), ())},
        selection=Selection({"safety/echo": total}, {"safety/echo": expected}),
        coverage={"safety/echo": {"unscored": expected - scored, "errored": 0, "lost": 0}},
        interval=lambda gate: None if limits is None else Interval(*limits, gate.confidence or 0, "Wilson"),
        further=lambda _: further,
        drop=lambda _: drop or Drop(problem="there is no baseline"),
        **more,
    )


def verdict(gate: Gate, found: Findings, **more: bool) -> tuple[str, str]:
    result = judge_gate(gate, found, **more)
    return result.outcome, result.reason


@pytest.mark.parametrize(
    ("gate", "value", "limits", "outcome", "reason"),
    [
        (GATE, 0.8, None, "passed", "echo.rate = 0.800 ≥ 0.8"),
        (GATE, 0.79999, None, "failed", "echo.rate = 0.79999 < 0.8"),
        (MOST, 0.2, None, "passed", "echo.rate = 0.200 ≤ 0.2"),
        (MOST, 0.201, None, "failed", "echo.rate = 0.201 > 0.2"),
        (SURE, 0.85, (0.8, 0.9), "passed", "echo.rate = 0.850, lower 95% bound 0.800 ≥ 0.8"),
        (SURE, 0.7, (0.6, 0.79), "failed", "echo.rate = 0.700, upper 95% bound 0.790 < 0.8"),
        (
            SURE,
            0.85,
            (0.79, 0.9),
            "inconclusive",
            "echo.rate = 0.850, 95% interval 0.790 to 0.900 contains 0.8; about 40 more samples would decide",
        ),
        (
            SURE,
            0.8,
            (0.7, 0.8),
            "inconclusive",
            "echo.rate = 0.800, 95% interval 0.700 to 0.800 contains 0.8; about 40 *",
        ),
        (
            dataclasses.replace(MOST, confidence=0.9),
            0.1,
            (0.05, 0.2),
            "passed",
            "echo.rate = 0.100, upper 90% bound 0.200 ≤ 0.2",
        ),
        (
            dataclasses.replace(MOST, confidence=0.9),
            0.3,
            (0.21, 0.4),
            "failed",
            "echo.rate = 0.300, lower 90% bound 0.210 > 0.2",
        ),
        (
            dataclasses.replace(MOST, confidence=0.999),
            0.3,
            (0.1, 0.4),
            "inconclusive",
            "echo.rate = 0.300, 99.9% interval 0.100 to 0.400 contains 0.2; about 40 more samples would decide",
        ),
        (SURE, 0.9, None, "inconclusive", "echo.rate = 0.900: no interval can be computed from these samples"),
        (dataclasses.replace(GATE, scoring="parity"), 0.9, None, "passed", "echo.rate = 0.900 (parity) ≥ 0.8"),
        (SCORE, 0.9, None, "passed", "score = 0.900 ≥ 0.8"),
        (GATE, None, None, "no_data", "no data: the metric has no value"),
    ],
)
def test_a_number_against_its_bound(
    gate: Gate, value: float | None, limits: tuple[float, float] | None, outcome: str, reason: str
) -> None:
    found, words = verdict(gate, findings(value, limits))
    assert found == outcome
    assert words.startswith(reason.removesuffix("*"))


@given(low=st.floats(0, 1), high=st.floats(0, 1), bound=st.floats(0, 1), higher=st.booleans())
def test_confidence_never_turns_a_verdict_around(low: float, high: float, bound: float, higher: bool) -> None:
    low, high = sorted((low, high))
    value = (low + high) / 2
    gate = dataclasses.replace(GATE if higher else MOST, bound=bound)
    plain = judge_gate(gate, findings(value)).outcome
    sure = judge_gate(dataclasses.replace(gate, confidence=0.95), findings(value, (low, high))).outcome
    assert sure in (plain, "inconclusive")


@pytest.mark.parametrize("gate", [GATE, SURE, DROP, dataclasses.replace(SCORE, policy=Policy(headlines="measured"))])
def test_no_gate_passes_on_survivors(gate: Gate) -> None:
    drop = Drop(0.0, 0.8, 0.8, 94, 94, 94, outcome="passed")
    outcome, reason = verdict(gate, findings(1.0, (0.99, 1.0), scored=94, drop=drop))
    assert outcome == "failed"
    assert reason == (
        "94 of 100 samples have a score (94.0%); coverage.min_scored requires 95.0% (safety/echo: 6 unscored)"
    )
    assert judge_gate(gate, findings(scored=94)).lacking == 1
    assert judge_gate(gate, findings(scored=29, expected=687)).lacking == 624  # 653 of 687 are 95.05 %
    lax = dataclasses.replace(gate, policy=Policy(min_scored=0.94))
    assert judge_gate(lax, findings(1.0, (0.99, 1.0), scored=94, drop=drop)).outcome == "passed"


def headlines(**metrics: MetricValue) -> Findings:
    """A run of a dimension with these headline metrics, one per task."""
    found = {name: dataclasses.replace(m, id=f"safety/{name}.rate") for name, m in metrics.items()}
    values = {m.id: m.value for m in found.values()}
    of = tuple(id_ for id_, value in values.items() if value is not None)
    missing = tuple(id_ for id_, value in values.items() if value is None)
    counts = {f"safety/{name}": m.expected for name, m in found.items()}
    return dataclasses.replace(
        findings(),
        metrics={m.id: m for m in found.values()},
        scores={"safety": TrustScore(1.0 if of else None, of, missing)},
        selection=Selection(counts, counts),
    )


def metric(value: float | None, scored: int, expected: int, **more: Any) -> MetricValue:
    return MetricValue("", value, value, expected, scored, True, (0.0, 1.0), **more)


WHOLE = metric(1.0, 100, 100)
GAPS = {
    # name: (the second headline, what the gate on the score says of it)
    "no value": (metric(None, 5, 5), "safety/small.rate has no value: 5 of 5 samples have a score"),
    "no value with a reason": (metric(None, 5, 5, problem="it broke"), "safety/small.rate has no value: it broke"),
    "nothing scored": (
        metric(None, 0, 5),
        "safety/small.rate: 0 of 5 samples have a score, coverage.min_scored requires 95.0%",
    ),
    "too little scored": (
        metric(1.0, 4, 5),
        "safety/small.rate: 4 of 5 samples have a score, coverage.min_scored requires 95.0%",
    ),
    "nothing counted": (
        metric(None, 0, 0, unmatched=True),
        "safety/small.rate counts none of the samples in this run",
    ),
}


@pytest.mark.parametrize("gap", GAPS)
def test_a_trust_score_of_a_part_of_its_headlines_is_no_data(gap: str) -> None:
    second, words = GAPS[gap]
    found = headlines(big=WHOLE, small=second)
    gate = dataclasses.replace(SCORE, tasks=("safety/big", "safety/small"))
    if gap == "nothing counted":
        found = dataclasses.replace(
            found, selection=Selection(dict.fromkeys(gate.tasks, 100), dict.fromkeys(gate.tasks, 100))
        )
    assert verdict(gate, found) == ("no_data", f"no data: {words} (coverage.headlines requires all)")
    sure = dataclasses.replace(gate, confidence=0.95)
    assert judge_gate(sure, found).outcome == "no_data"
    lax = dataclasses.replace(gate, policy=Policy(headlines="measured"))
    assert judge_gate(lax, found).outcome in ("passed", "failed")  # pooled: 100 of 105 are enough


def test_a_trust_score_without_the_rows_of_a_task_is_no_data() -> None:
    gate = dataclasses.replace(SCORE, tasks=("safety/big", "safety/gone"))
    assert verdict(gate, headlines(big=WHOLE)) == (
        "no_data",
        "no data: safety/gone has no sample in this run (coverage.headlines requires all)",
    )
    lax = dataclasses.replace(gate, policy=Policy(headlines="measured"))
    assert judge_gate(lax, headlines(big=WHOLE)).outcome == "passed"
    deselected = dataclasses.replace(
        headlines(big=WHOLE), selection=Selection({"safety/big": 100, "safety/gone": 5}, {"safety/big": 100})
    )
    assert judge_gate(gate, deselected).outcome == "skipped"
    judging = dataclasses.replace(gate, policy=Policy(on_partial="judge"))
    assert verdict(judging, deselected) == (
        "no_data",
        (
            "no data: safety/gone has no sample in this run (coverage.headlines requires all) "
            "(partial: 100 of 105 samples)"
        ),
    )


def test_many_gaps_of_a_trust_score_are_counted() -> None:
    gate = dataclasses.replace(SCORE, tasks=tuple(f"safety/t{i}" for i in range(5)))
    found = headlines(**{f"t{i}": metric(None, 0, 5) for i in range(5)})
    assert (
        "safety/t2.rate: 0 of 5 samples have a score, coverage.min_scored requires 95.0%; +2 ("
        in verdict(gate, found)[1]
    )


def test_a_headline_that_concerns_no_sample_is_no_gap() -> None:
    """A model that refuses everything has no answer whose toxicity could be rated."""
    gate = dataclasses.replace(SCORE, tasks=("safety/big",))
    assert judge_gate(gate, headlines(big=WHOLE, toxicity=metric(None, 0, 0))).outcome == "passed"


def test_nothing_scored_passes_under_no_policy() -> None:
    """The parity reading of missing responses can be a number: the toolkit counts them as wrong."""
    lax = dataclasses.replace(MOST, policy=Policy(min_scored=0.0))
    for gate in (lax, dataclasses.replace(lax, scoring="parity")):
        assert verdict(gate, findings(0.0, scored=0)) == ("no_data", "no data: the metric has no value")


def test_a_metric_that_counts_no_sample_is_no_data_and_one_that_concerns_none_is_skipped() -> None:
    found = findings()
    (id_,) = found.metrics
    for unmatched, outcome in ((True, "no_data"), (False, "skipped")):
        nothing = dataclasses.replace(found.metrics[id_], value=None, expected=0, scored=0, unmatched=unmatched)
        assert judge_gate(GATE, dataclasses.replace(found, metrics={id_: nothing})).outcome == outcome


def test_a_part_is_skipped_or_judged_as_the_file_says() -> None:
    part = findings(1.0, expected=10, scored=10)
    assert verdict(GATE, part) == ("skipped", "partial selection: 10 of 100 samples")
    assert verdict(GATE, part, failed_before=True) == (
        "failed",
        "failed in the last run and cannot be judged now: partial selection: 10 of 100 samples",
    )
    judging = dataclasses.replace(GATE, policy=Policy(on_partial="judge"))
    assert verdict(judging, part) == ("passed", "echo.rate = 1.000 ≥ 0.8 (partial: 10 of 100 samples)")
    assert verdict(GATE, dataclasses.replace(part, stopped=True))[1] == (
        "partial selection: 10 of 100 samples, the run stopped early"
    )


def test_a_gate_on_what_did_not_run_has_no_data() -> None:
    nothing = dataclasses.replace(findings(), selection=Selection({}, {}))
    assert verdict(GATE, nothing) == ("no_data", "no data: no sample of safety/echo in this run")


@pytest.mark.parametrize(
    ("gate", "drop", "outcome", "reason"),
    [
        (
            DROP,
            Drop(0.02, 0.82, 0.8, 100, 100, 100),
            "passed",
            "echo.rate: drop 0.020 ≤ 0.02, 0.820 to 0.800 on 100 shared samples",
        ),
        (
            DROP,
            Drop(0.03, 0.83, 0.8, 100, 90, 90, changes="10 added: echo[0001], +9"),
            "failed",
            "echo.rate: drop 0.030 > 0.02, 0.830 to 0.800 on 90 shared samples (10 added: echo[0001], +9)",
        ),
        (
            dataclasses.replace(DROP, confidence=0.95),
            Drop(0.03, 0.83, 0.8, 100, 100, 100, None, "inconclusive", 0.125, "McNemar", 60),
            "inconclusive",
            (
                "echo.rate: drop 0.030 > 0.02, 0.830 to 0.800 on 100 shared samples; chance may explain it (p = 0.12); "
                "about 60 more samples would decide"
            ),
        ),
        (
            dataclasses.replace(DROP, confidence=0.95),
            Drop(0.3, 0.9, 0.6, 100, 100, 100, None, "failed", 0.00012, "McNemar"),
            "failed",
            (
                "echo.rate: drop 0.300 > 0.02, 0.900 to 0.600 on 100 shared samples; chance does not explain it "
                "(p = 0.00012)"
            ),
        ),
        (DROP, Drop(problem="there is no baseline"), "no_data", "no data: there is no baseline"),
        (
            DROP,
            Drop(0.0, 0.8, 0.8, 100, 79, 79, changes="21 changed: echo[0001], +20"),
            "no_data",
            (
                "no data: 79 of 100 samples are the baseline's (79.0%); coverage.min_paired requires 80.0% "
                "(21 changed: echo[0001], +20); record a new baseline"
            ),
        ),
        (
            DROP,
            Drop(0.0, 0.8, 0.8, 100, 100, 90),
            "failed",
            "90 of 100 shared samples have a score in both runs; coverage.min_scored requires 95.0%",
        ),
    ],
)
def test_a_drop_since_the_baseline(gate: Gate, drop: Drop, outcome: str, reason: str) -> None:
    assert verdict(gate, findings(drop=drop)) == (outcome, reason)


@pytest.mark.parametrize(
    ("outcome", "gate", "failing"),
    [
        ("passed", GATE, False),
        ("skipped", GATE, False),
        ("failed", GATE, True),
        ("inconclusive", GATE, True),
        ("no_data", GATE, True),
        ("failed", dataclasses.replace(GATE, warn=True), False),
        ("failed", dataclasses.replace(GATE, policy=Policy(on_inconclusive="warn", on_no_data="warn")), True),
        ("inconclusive", dataclasses.replace(GATE, policy=Policy(on_inconclusive="warn")), False),
        ("inconclusive", dataclasses.replace(GATE, policy=Policy(on_no_data="warn")), True),
        ("no_data", dataclasses.replace(GATE, policy=Policy(on_no_data="warn")), False),
    ],
)
def test_what_fails_the_build(outcome: Any, gate: Gate, failing: bool) -> None:
    result = GateResult(gate, outcome, None, "")
    assert result.failing is failing
    assert result.entry()["warn"] is (outcome not in ("passed", "skipped") and not failing)
