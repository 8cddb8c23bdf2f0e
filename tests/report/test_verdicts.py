"""What the page says of gates: margins, what would change them, and all of them in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import gate_verdicts


def gate(
    value: float | None, bound: float, kind: str = "at_least", outcome: str = "failed", **more: Any
) -> gate_verdicts.Gate:
    results = synthetic_run.results()
    scored = more.pop("scored", 100)
    metric = {"expected": 100, "scored": scored, "range": [0.0, 1.0], "ci": [0.6, 0.9], "value": value}
    results["metrics"]["safety/jailbreak.refusal_rate"].update(metric)
    found = synthetic_run.gate("safety", f"jailbreak.refusal_rate[{kind}]", outcome, value, bound, "reason")
    results["gates"] = [{**found, **more}]
    return gate_verdicts.gates_of(results)[0]


@pytest.mark.parametrize(
    ("value", "bound", "kind", "outcome", "margin", "change"),
    [
        (0.75, 0.80, "at_least", "failed", -0.05, "Passes if 5 of 100 samples flip."),
        (0.80, 0.80, "at_least", "passed", 0.0, "Fails if 1 of 100 samples flips."),
        (0.85, 0.80, "at_least", "passed", 0.05, "Fails if 6 of 100 samples flip."),
        (0.25, 0.20, "at_most", "failed", -0.05, "Passes if 5 of 100 samples flip."),
        (0.20, 0.20, "at_most", "passed", 0.0, "Fails if 1 of 100 samples flips."),
        (0.7533, 0.80, "at_least", "failed", -0.0467, "Passes if the value rises by at least 0.0467."),
        (0.8533, 0.80, "at_least", "passed", 0.0533, "Fails if the value falls by more than 0.0533."),
        (0.2533, 0.20, "at_most", "failed", -0.0533, "Passes if the value falls by at least 0.0533."),
        (0.03, 0.02, "max_drop", "failed", -0.01, ""),
    ],
)
def test_margin_and_what_would_change_a_gate(
    value: float, bound: float, kind: str, outcome: str, margin: float, change: str
) -> None:
    found = gate(value, bound, kind, outcome)
    assert found.margin == pytest.approx(margin)
    assert found.change == change


def test_turning_that_many_samples_turns_the_gate() -> None:
    for met in range(101):
        for bound in (0.5, 0.8, 0.123):
            found = gate(met / 100, bound, outcome="passed" if met / 100 >= bound else "failed")
            turned = int(found.change.split(" if ")[1].split(" of ")[0])
            after = met - turned if found.outcome == "passed" else met + turned
            assert (after / 100 >= bound) != (met / 100 >= bound)
            nearly = after + 1 if found.outcome == "passed" else after - 1
            assert (nearly / 100 >= bound) == (met / 100 >= bound)


def test_an_inconclusive_gate_says_how_many_more_samples_decide() -> None:
    assert gate(0.75, 0.7, outcome="inconclusive", further=340).change.startswith("About 340 further samples")
    assert "About 9 times as many samples" in gate(0.75, 0.7, outcome="inconclusive", ci=[0.6, 0.9]).change


def test_a_gate_shows_the_interval_it_was_judged_by() -> None:
    assert gate(0.75, 0.8).interval == "0.600 to 0.900"
    assert gate(0.75, 0.8, ci=[0.7, 0.8]).interval == "0.700 to 0.800"
    assert gate(0.75, 0.8, scoring="parity").interval == ""
    strip = gate(0.75, 0.8).strip
    assert strip is not None
    assert (strip.value, strip.low, strip.high, strip.bound) == (75, 60, 90, 80)


def test_a_gate_that_only_warns_fails_nothing() -> None:
    found = gate(0.75, 0.8, warn=True)
    assert found.tone == "warn"
    verdict = gate_verdicts.verdict_of([found, gate(0.9, 0.8, outcome="passed")])
    assert (verdict.word, verdict.sentence) == ("Passed", "1 gate met; 1 warned")


def test_too_few_scored_and_skipped_say_what_is_lacking() -> None:
    reason = "90 of 100 samples have a score (90.0%); coverage.min_scored requires 95.0%"
    lacking = gate(0.9, 0.8, reason=reason, scored=90, lacking=5)
    assert lacking.change == "The value counts once 5 more samples have a score."
    assert gate(0.9, 0.8, reason=reason, scored=90).change == ""
    assert gate(0.9, 0.8, lacking=1).change == "The value counts once 1 more sample has a score."
    partial = gate(None, 0.8, outcome="skipped", reason="partial selection: 3 of 100 samples")
    assert partial.change == "It is judged when all its samples are selected."
    assert gate(None, 0.8, outcome="no_data").change == ""


def test_the_verdict_reads_a_gate_as_a_sentence() -> None:
    results = synthetic_run.results()
    first, second = gate_verdicts.gates_of(results)[:2]
    assert (first.metric, first.why) == ("confaide.pearson", "= 0.310 < 0.4")
    assert (second.metric, second.why) == ("score", "no data: the metric has no value")
