"""A number, its interval, its coverage and its past, to a verdict."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_trustllm.gates import Drop, Findings, Gate, GateResult, Policy, judge
from pytest_trustllm.records import Interval, MetricValue, Selection, TrustScore

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
    result = judge(gate, found, **more)
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
            "echo.rate = 0.850, 95% interval 0.790 to 0.900 holds 0.8; about 40 more samples would decide",
        ),
        (SURE, 0.8, (0.7, 0.8), "inconclusive", "echo.rate = 0.800, 95% interval 0.700 to 0.800 holds 0.8; about 40 *"),
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
            "echo.rate = 0.300, 99.9% interval 0.100 to 0.400 holds 0.2; about 40 more samples would decide",
        ),
        (SURE, 0.9, None, "inconclusive", "echo.rate = 0.900: no interval can be computed from these samples"),
        (dataclasses.replace(GATE, scoring="parity"), 0.9, None, "passed", "echo.rate = 0.900 (parity) ≥ 0.8"),
        (dataclasses.replace(GATE, metric="score"), 0.9, None, "passed", "score = 0.900 ≥ 0.8"),
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
    plain = judge(gate, findings(value)).outcome
    sure = judge(dataclasses.replace(gate, confidence=0.95), findings(value, (low, high))).outcome
    assert sure in (plain, "inconclusive")


@pytest.mark.parametrize("gate", [GATE, SURE, DROP, dataclasses.replace(GATE, metric="score")])
def test_no_gate_passes_on_survivors(gate: Gate) -> None:
    drop = Drop(0.0, 0.8, 0.8, 94, 94, 94, outcome="passed")
    outcome, reason = verdict(gate, findings(1.0, (0.99, 1.0), scored=94, drop=drop))
    assert outcome == "failed"
    assert reason == (
        "94 of 100 samples have a score (94.0%); coverage.min_scored asks for 95.0% (safety/echo: 6 unscored)"
    )
    assert judge(gate, findings(scored=94)).lacking == 1
    assert judge(gate, findings(scored=29, expected=687)).lacking == 624  # 653 of 687 are 95.05 %
    lax = dataclasses.replace(gate, policy=Policy(min_scored=0.94))
    assert judge(lax, findings(1.0, (0.99, 1.0), scored=94, drop=drop)).outcome == "passed"


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
                "no data: 79 of 100 samples are the baseline's (79.0%); coverage.min_paired asks for 80.0% "
                "(21 changed: echo[0001], +20); record a new baseline"
            ),
        ),
        (
            DROP,
            Drop(0.0, 0.8, 0.8, 100, 100, 90),
            "failed",
            "90 of 100 shared samples have a score in both runs; coverage.min_scored asks for 95.0%",
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
