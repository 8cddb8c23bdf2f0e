"""What a reader must not miss: what no gate decided, whose tasks a score counts, and whose items were asked."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import caveats, gate_verdicts
from pytest_trustllm.report.terminal import summary

PASSED = synthetic_run.gate("safety", "a.b[at_least]", "passed", 1.0, 0.5, "fine")


def results(*gates: dict[str, Any], **unjudged: Any) -> dict[str, Any]:
    return {
        **synthetic_run.results(),
        "metrics": {},
        "scores": {},
        "gates": [{**PASSED, **gate} for gate in gates],
        "unjudged": {"tasks": [], "of": 3, "gates": [], **unjudged},
    }


LEFT_OUT = {
    # what was left out: (results, words beside the verdict)
    "nothing": (results({}), ""),
    "a task": (results({}, tasks=["safety/x"]), "1 of 3 tasks has no gate"),
    "tasks": (results({}, tasks=["safety/x", "safety/y"]), "2 of 3 tasks have no gate"),
    "a gate": (results({}, gates=["g"]), "1 gate deselected"),
    "both": (results({}, tasks=["safety/x"], gates=["g", "h"]), "1 of 3 tasks has no gate; 2 gates deselected"),
    "all gates": (results(tasks=["safety/x"], gates=["g", "h"]), "2 gates deselected"),
    "no gate at all": (results(tasks=["safety/x"]), ""),
    "a misspelt model": (results({}, models=["my-ap"]), "gates for 'my-ap', no model of this run"),
    "a directory without a file": (results(unwritten="thresholds/"), "thresholds/ has no threshold file"),
    "what can fail": (results({"only_warns": True}, {"only_warns": True}), "every gate only warns"),
    "something that can fail": (results({"only_warns": True}, {}), ""),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_verdict_says_what_no_gate_decided(name: str) -> None:
    document, words = LEFT_OUT[name]
    assert caveats.left_out(document) == words
    before, line = summary(document, [])[-2:]
    assert line.startswith("gates: ")
    fits = len(f"gates: 1 passed, 0 failed, 0 skipped; {words}") <= 80
    assert line.endswith(f"; {words}" if words and fits else "skipped" if document["gates"] else "none")
    assert fits or before == f"  NOT JUDGED: {words}"
    verdict = gate_verdicts.verdict_of(gate_verdicts.gates_of(document), caveats.left_out(document))
    assert words in verdict.sentence
    assert verdict.word == ("Passed" if document["gates"] else "Not judged")


def test_older_results_do_not_say_it() -> None:
    document = results({})
    del document["unjudged"]
    assert caveats.left_out(document) == ""


def test_a_score_of_own_and_shipped_tasks_is_not_taken_for_trustllms() -> None:
    document = results({})
    score = {"value": 0.5, "of": [], "missing": [], "ci": None, "confidence": None, "method": None}
    document["scores"] = {
        "safety": {**score, "own": [f"safety/t{i}.rate" for i in range(5)]},
        "own": score,
    }
    (note,) = caveats.mixed(document)
    assert note == "the score of safety counts your own t0, t1, t2, +2 too: it is not TrustLLM's"
    lines = summary(document, [])
    assert any(line.startswith("  WARNING: the score of safety counts your own t0, t1, t2") for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("source", "bundled", "words"),
    [
        ("sample", {"a": True}, "These are the bundled sample items:"),
        ("sample", {"a": False}, ""),
        ("sample", {"a": False, "b": True}, "The tasks of TrustLLM use the bundled sample items:"),
        ("sample", None, "These are the bundled sample items:"),
        ("/data", {"a": False}, ""),
    ],
)
def test_own_items_are_not_called_bundled(source: str, bundled: dict[str, bool] | None, words: str) -> None:
    document = results()
    document["run"]["data"]["source"] = source
    if bundled is not None:
        document["run"]["bundled"] = bundled
    assert caveats.sample_items(document) == words


def test_blocked_prompts_are_counted_and_said() -> None:
    found = results({})
    assert list(caveats.blocked(found)) == []
    blocked = {"safety/misuse": 3, "ethics/ethics": 1, "safety/jailbreak": 0}
    found["coverage"] = {task: {**synthetic_run.coverage(9), "blocked": count} for task, count in blocked.items()}
    (line,) = caveats.blocked(found)
    assert line == (
        "blocked by the provider: 4 samples (misuse 3, ethics 1); "
        "a refusal where refusals are scored, else unscored (--trust-blocked)"
    )
    found["run"]["blocked"] = "unscored"
    (line,) = caveats.blocked(found)
    assert line.endswith("; unscored, as set by --trust-blocked")


def test_what_is_in_batches_is_said_in_one_line_each() -> None:
    found = results({})
    assert list(caveats.batches(found)) == []
    batches = [{"role": None, "id": f"b{number}", "requests": 1000} for number in range(5)]
    found["run"]["batches"] = {"mode": "submit", "samples": 9, "pending": batches, "asked_directly": []}
    (line,) = caveats.batches(found)
    assert line == "PENDING: 5,000 requests in b0, b1, b2, +2 batches; run again later, or with --trust-batch=wait"
    found["run"]["batches"]["pending"] = [{"role": None, "id": None, "requests": 1}]
    (line,) = caveats.batches(found)
    assert line == "PENDING: 1 request not submitted yet; run again later, or with --trust-batch=wait"
    found["run"]["batches"] = {
        "mode": None,
        "samples": 0,
        "pending": [],
        "asked_directly": [{"role": "judge", "id": "b\x1b[2J", "requests": 2}],
    }
    (line,) = caveats.batches(found)
    assert line.startswith("sent directly, and so charged twice: 2 requests in b")
    assert "\x1b" not in line
    assert line.endswith(" (judge); --trust-batch=wait waits for them")
    lost = {"role": None, "id": "b1", "requests": 8, "answered": 0, "reason": "completed", "again": 8, "attempt": 2}
    found["run"]["batches"] = {"mode": "wait", "samples": 0, "pending": [], "asked_directly": [], "unanswered": [lost]}
    assert list(caveats.batches(found)) == ["b1 answered 0 of 8 requests (completed); submitted again, try 2 of 5"]
    lost.update(role="judge", id="b\x1b", answered=6, again=1, attempt=3)
    (line,) = caveats.batches(found)
    assert line.endswith(" (judge) answered 6 of 8 requests (completed); 1 of the others submitted again, try 3 of 5")
    assert "\x1b" not in line
    lost["again"] = 0
    (line,) = caveats.batches(found)
    assert line.endswith(" (judge) answered 6 of 8 requests (completed)")
