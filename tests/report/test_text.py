from __future__ import annotations

from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import caveats
from pytest_trustllm.report.terminal import summary

HOSTILE = "\x1b[31mred\x1b[0m \u202eflip \x00\r\n\ud800 </script> {{ 7*7 }} " + "x" * 1_000_000

HEADLINES = {
    "truthfulness": [
        *("misinformation_internal", "misinformation_external", "hallucination"),
        *("sycophancy_persona", "sycophancy_preference", "adversarial_factuality"),
    ],
    "safety": ["jailbreak", "toxicity", "exaggerated_safety", "misuse"],
    "fairness": [
        *("stereotype_recognition", "stereotype_agreement", "stereotype_query"),
        *("disparagement", "preference"),
    ],
    "robustness": ["advglue", "advinstruction", "ood_detection", "ood_generalization"],
    "privacy": ["confaide", "privacy_awareness", "privacy_leakage"],
    "ethics": [
        *("moralchoice_low", "moralchoice_high", "ethics", "social_chemistry_101"),
        *("awareness", "emotional_awareness"),
    ],
}


def metric(value: float | None, *, expected: int = 10, scored: int = 10, higher: bool = True) -> dict[str, Any]:
    return {
        "value": value,
        "parity": value,
        "ci": None,
        "confidence": None,
        "method": None,
        "expected": expected,
        "scored": scored,
        "unscored": expected - scored,
        "higher_is_better": higher,
        "range": [0.0, 1.0],
    }


def gate(name: str, outcome: str, reason: str) -> dict[str, Any]:
    made = synthetic_run.gate("safety", name, outcome, 0.5, 0.8, reason)
    return {**made, "id": f"trustllm/thresholds/sample/safety.yaml::{name}"}


def score(value: float, of: list[str], missing: list[str]) -> dict[str, Any]:
    return {"value": value, "of": of, "missing": missing, "ci": None, "confidence": None, "method": None}


def stability(rates: dict[str, float]) -> dict[str, Any]:
    tasks = {task: {"samples": 9, "flip_rate": rate, "pass^k": {}, "unstable": []} for task, rate in rates.items()}
    return {"epochs": 4, "tasks": tasks}


def results(**changes: Any) -> dict[str, Any]:
    made = synthetic_run.results()
    whole = {
        **made,
        "usage": synthetic_run.usage(),
        "metrics": {
            "safety/jailbreak.refusal_rate": metric(0.8125, expected=16, scored=16),
            "safety/jailbreak.refusal_rate{group=riddle}": metric(0.5, expected=4, scored=4),
            "safety/exaggerated_safety.refusal_rate": metric(0.25, higher=False),
            "safety/toxicity.mean": metric(None, expected=3, scored=0, higher=False),
            "ethics/ethics.accuracy": metric(0.9),
        },
        "scores": {
            "safety": score(
                0.78125,
                ["safety/jailbreak.refusal_rate", "safety/exaggerated_safety.refusal_rate"],
                ["safety/toxicity.mean"],
            ),
            "ethics": score(0.9, ["ethics/ethics.accuracy"], []),
        },
        "gates": [],
    }
    return {**whole, **changes}


def test_each_dimension_shows_score_counts_and_headline_metrics() -> None:
    lines = summary(results(), [])
    assert lines[:5] == [
        "dimension   score  metrics    scored  unscored",
        "safety      0.781      2/3        26         3",
        "  jailbreak 0.812  exaggerated_safety 0.250*  toxicity -*",
        "ethics      0.900      1/1        10         0",
        "  ethics 0.900",
    ]
    assert lines[5] == "score: mean of the headline metrics, those with * (lower is better) inverted"


def test_intervals_and_cost_are_shown_where_they_are_known() -> None:
    whole = results(usage={**synthetic_run.usage(2800), "cost_usd": 1234.5})
    whole["scores"]["safety"]["ci"] = [0.7, 0.8512]
    lines = summary(whole, [])
    assert lines[0] == "dimension   score      interval  metrics    scored  unscored"
    assert lines[1] == "safety      0.781   0.700-0.851      2/3        26         3"
    assert lines[3] == "ethics      0.900             -      1/1        10         0"
    assert "cost: model 1,234.50 USD" in lines
    assert max(map(len, lines)) <= 80


def test_epochs_and_votes_are_shown_where_there_are_some() -> None:
    whole = results()
    assert not [line for line in summary(whole, []) if line.startswith(("epochs", "judge"))]
    whole["stability"] = stability({"safety/jailbreak": 0.25, "ethics/ethics": 1 / 3})
    whole["judging"] = {"votes": 3, "samples": 12, "agreement": 0.875, "unanimous": 0.75}
    lines = summary(whole, [])
    at = lines.index("epochs: 4 per sample; flip rate (share of pairs of epochs that disagree):")
    assert lines[at + 1] == "  ethics/ethics 0.333  safety/jailbreak 0.250"
    assert not lines[at + 2].startswith(" ")
    assert "judge: 3 votes a verdict; 87.5% agree, unanimous for 75.0% of 12 samples" in lines
    assert max(map(len, lines)) <= 80


def test_of_many_epochs_only_the_tasks_that_vary_most_are_shown() -> None:
    whole = results()
    whole["stability"] = stability({f"d/task_number_{i}": max(0, i - 20) / 100 for i in range(28)})
    lines = summary(whole, [])
    at = next(i for i, line in enumerate(lines) if line.startswith("epochs:"))
    assert lines[at + 1].startswith("  d/task_number_27 0.070  d/task_number_26 0.060")
    assert lines[at + 3] == "  lower in 1 more, zero in 21 of 28 tasks"


def test_near_ties_are_shown_in_reduced_precision_alone() -> None:
    whole = results()
    assert not [line for line in summary(whole, []) if "near-ties" in line]
    whole["run"]["model"] = {"name": "m", "about": {"batch_effects": "possible"}}
    whole["usage"] = {**synthetic_run.usage(16_000), "cached": 441, "near_ties": 12_345}
    line = "reduced precision: batch effects possible; near-ties in 12,345 of 16,441 answers"
    assert line in summary(whole, [])
    assert len(line) <= 80


def test_partial_selection_is_the_first_line() -> None:
    whole = results()
    whole["run"]["selection"] = "partial"
    lines = summary(whole, [])
    assert lines[0].startswith("PARTIAL SELECTION")


def test_failed_gates_stand_on_their_own_lines_and_the_verdict_is_last() -> None:
    gates = [
        gate("a.b[at_least]", "passed", "fine"),
        gate("c.d[at_least]", "failed", "c.d = 0.500 < 0.8"),
        gate("e.f[at_least]", "no_data", "no data: the metric has no value"),
        gate("g.h[at_least]", "skipped", "partial selection: 3 of 16 samples"),
    ]
    assert summary(results(gates=gates), [])[-3:] == [
        "  FAILED safety.yaml: c.d = 0.500 < 0.8",
        "  NO DATA safety.yaml: e.f: no data: the metric has no value",
        "gates: 1 passed, 2 failed, 1 skipped (partial selection: 3 of 16 samples)",
    ]


def test_a_reason_that_needs_a_second_line_gets_it_while_there_is_room() -> None:
    reason = "45 of 53 samples have a score (85%); coverage.min_scored requires 95%"
    assert summary(results(gates=[gate("score[at_least]", "failed", reason)]), [])[-3:-1] == [
        "  FAILED safety.yaml: score: 45 of 53 samples have a score (85%);",
        "    coverage.min_scored requires 95%",
    ]


def test_no_gates_is_said() -> None:
    assert summary(results(), [])[-1] == "gates: none"


def test_unscored_samples_are_one_line_per_reason_most_frequent_first() -> None:
    judge = "no judge model (--trust-judge)"
    reasons = [
        ("safety/toxicity", "no toxicity model (--trust-toxicity)", 3),
        ("truthfulness/adversarial_factuality", judge, 12),
        *((f"fairness/stereotype_{i}", judge, 2) for i in range(4)),
    ]
    lines = summary(results(), reasons)
    start = lines.index("unscored (counted, never zero):")
    assert lines[start + 1] == "   20  no judge model (--trust-judge): adversarial_factuality 12, +4 tasks"
    assert lines[start + 2] == "    3  no toxicity model (--trust-toxicity): toxicity 3"


def test_a_long_reason_keeps_its_point() -> None:
    long = "no response: HTTP 400 from api.example.com: " + "We are sorry for this. " * 20 + "No such deployment: gpt-x"
    lines = summary(results(), [("safety/jailbreak", long, 3), ("safety/misuse", long, 1)])
    start = lines.index("unscored (counted, never zero):")
    shown = lines[start + 1 : start + 5]
    assert shown[0].startswith("    4  no response: HTTP 400 from api.example.com: We are sorry")
    assert "No such deployment: gpt-x" in " ".join(line.strip() for line in shown)
    assert shown[-1] == "       jailbreak 3, misuse 1"
    assert max(map(len, lines)) <= 80


def test_a_reason_of_a_line_and_a_half_is_whole() -> None:
    reason = "no response: 127.0.0.1 returned reasoning and no answer (finish_reason stop)"
    lines = summary(results(), [("safety/a_task_with_a_name_so_long_that_it_takes_up_a_line_of_its_own", reason, 1)])
    start = lines.index("unscored (counted, never zero):")
    assert lines[start + 1 : start + 4] == [
        "    1  no response: 127.0.0.1 returned reasoning and no answer (finish_reason",
        "       stop):",
        "       a_task_with_a_name_so_long_that_it_takes_up_a_line_of_its... 1",
    ]


def test_a_reason_that_fills_its_line_keeps_its_tasks() -> None:
    reason = "no response: 127.0.0.1 returned an empty answer (finish_reason stop)"
    lines = summary(results(), [("safety/misuse", reason, 3)])
    start = lines.index("unscored (counted, never zero):")
    assert lines[start + 1 : start + 3] == [f"    3  {reason}:", "       misuse 3"]


def test_reasoning_that_was_cut_names_the_remedy() -> None:
    lines = summary(results(), [("safety/jailbreak", "the reasoning was cut", 3)])
    start = lines.index("unscored (counted, never zero):")
    assert lines[start + 1 : start + 3] == [
        "    3  the reasoning was cut: jailbreak 3",
        "       finish_reason length: raise thinking_tokens in the models file",
    ]


def test_who_answered_and_without_what_is_said() -> None:
    whole = results()
    about = {
        "answered_by": {"another-model": 12, "gpt-4-0613": 1},
        "adapted": ["temperature is not sent: " + "x " * 60],
    }
    whole["run"]["model"] = {"name": "m", "id": "gpt-4", "about": about}
    whole["run"]["roles"] = {"judge": {"name": "j", "id": "gpt-4o", "about": {"answered_by": {"gpt-4o-2024-08-06": 3}}}}
    lines = summary(whole, [])
    assert "model: gpt-4 was requested, but another-model answered (12 of 13)" in lines
    (start,) = [i for i, line in enumerate(lines) if line.startswith("model: temperature is not sent: x x")]
    assert lines[start + 1].startswith("  x x")
    assert not [line for line in lines if line.startswith("judge:")]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4", "gpt-4", True),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4-0613", "gpt-4", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", True),
        ("gemini-2.5-pro", "models/gemini-2.5-pro-preview-03-25", True),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", True),
        ("deepseek/deepseek-r1", "deepseek/deepseek-r1:free", True),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4", "gpt-4.1", False),
        ("gpt-4", "gpt-4-turbo", False),
        ("gpt-5", "gpt-5-mini", False),
        ("llama-3", "llama-3.1-70b", False),
        ("gpt-4", "another-model-0613", False),
    ],
)
def test_a_date_in_a_name_makes_no_other_model(asked: str, answered: str, same: bool) -> None:
    assert caveats.is_same(asked, answered) == same


@pytest.mark.parametrize("failed", [0, 1, 40])
def test_it_fits_a_screen(failed: int) -> None:
    ids = {name: [f"{name}/{task}.accuracy" for task in tasks] for name, tasks in HEADLINES.items()}
    whole = results(
        metrics={id_: metric(0.5, higher=False) for group in ids.values() for id_ in group},
        scores={name: score(0.5, group, []) for name, group in ids.items()},
        gates=[gate(f"t.m{i}[at_least]", "failed", "t.m = 0.1 < 0.8") for i in range(failed)],
    )
    whole["run"]["selection"] = "partial"
    reasons = [(f"safety/t{i}", f"reason {i % 9}", 1) for i in range(200)]
    lines = summary(whole, reasons)
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80


def test_hostile_text_stays_printable_and_short() -> None:
    whole = results(
        metrics={f"safety/{HOSTILE}.rate": metric(0.1)},
        scores={"safety": score(0.1, [f"safety/{HOSTILE}.rate"], [])},
        gates=[gate(HOSTILE, "failed", HOSTILE), gate("漢" * 500, "failed", "漢" * 500)],
    )
    lines = summary(whole, [(HOSTILE, HOSTILE, 1)])
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 80


def test_nothing_ran() -> None:
    assert summary(results(metrics={}, scores={}), []) == ["No sample ran.", "gates: none"]
