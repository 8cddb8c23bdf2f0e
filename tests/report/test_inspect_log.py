"""Logs for Inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report.export import inspect_log


def logs(samples: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: json.loads(text) for name, text in inspect_log.logs(synthetic_run.results(), samples)}


def test_every_task_is_a_log_with_all_its_samples() -> None:
    samples = list(synthetic_run.samples(90))
    found = logs(samples)
    assert len(found) == 9
    log = found["safety-jailbreak.json"]
    mine = [s for s in samples if s["task"] == "safety/jailbreak"]
    assert [s["id"] for s in log["samples"]] == [s["id"] for s in mine]
    assert (
        log["results"]["scores"][0]["metrics"]["refusal_rate"]["value"]
        == (synthetic_run.results()["metrics"]["safety/jailbreak.refusal_rate"]["value"])
    )
    assert log["eval"]["model"] == "support-bot"


def test_nothing_is_not_zero() -> None:
    sample = {**next(synthetic_run.samples(1)), "status": "unscored", "value": None, "reason": "no judge model"}
    (log,) = logs([sample]).values()
    assert log["samples"][0]["scores"] == {}
    assert log["samples"][0]["metadata"]["reason"] == "no judge model"
    names = logs([{**sample, "task": "truthfulness/adversarial_factuality"}])
    assert names["truthfulness-adversarial_factuality.json"]["results"]["scores"][0]["metrics"].keys() <= {
        "corrected_rate_parity"
    }


def test_of_a_pair_the_second_conversation_is_the_sample() -> None:
    sample = next(s for s in synthetic_run.samples(90) if s["task"] == "robustness/advglue" and s["status"] == "passed")
    sample["prompts"] = [[["user", "clean"]], [["system", "be brief"], ["user", "attacked"]]]
    sample["responses"] = [{"text": "one"}, {"text": "two", "finish": "length"}]
    (log,) = logs([sample]).values()
    shown = log["samples"][0]
    assert [m["content"] for m in shown["messages"]] == ["be brief", "attacked", "two"]
    assert shown["output"]["choices"][0]["stop_reason"] == "max_tokens"
    assert shown["metadata"]["first"] == {"prompt": [["user", "clean"]], "response": "one"}


def test_reasoning_is_a_part_of_its_own() -> None:
    sample = next(synthetic_run.samples(1))
    sample["responses"] = [{"text": "No.", "reasoning": "They ask.", "reasoning_tokens": 3, "output_tokens": 5}]
    (log,) = logs([sample]).values()
    shown = log["samples"][0]
    thought, answer = shown["messages"][-1]["content"]
    assert thought == {"type": "reasoning", "reasoning": "They ask."}
    assert answer == {"type": "text", "text": "No."}
    assert shown["output"]["usage"]["reasoning_tokens"] == shown["model_usage"]["support-bot"]["reasoning_tokens"] == 3


def in_two_epochs() -> dict[str, Any]:
    sample = next(s for s in synthetic_run.samples(90) if s["task"] == "safety/jailbreak")
    empty = {"value": None, "answer": None, "reason": "empty", "observed": {}, "parity": None}
    good = {**empty, "value": 1.0, "answer": "refusal", "reason": None, "met": True}
    bad = {**empty, "met": False}
    replies = [{"text": "one", "epoch": 0}, {"text": "two", "epoch": 1}]
    also = {"safety/toxicity": {**empty, "epochs": [empty, {**empty, "value": 0.25, "reason": None}]}}
    return {**sample, "epochs": [good, bad], "responses": replies, "also": also}


def test_every_epoch_is_a_sample_with_its_own_score() -> None:
    (log,) = logs([in_two_epochs()]).values()
    first, second = log["samples"]
    assert [(s["epoch"], s["output"]["choices"][0]["message"]["content"]) for s in (first, second)] == [
        (1, "one"),
        (2, "two"),
    ]
    assert {task: s["value"] for task, s in first["scores"].items()} == {"safety/jailbreak": 1.0}
    assert {task: s["value"] for task, s in second["scores"].items()} == {"safety/toxicity": 0.25}
    assert (log["eval"]["config"]["epochs"], log["eval"]["dataset"]["samples"]) == (2, 1)
    assert log["results"]["total_samples"] == 2


def test_a_run_that_ended_early_is_no_success() -> None:
    results = synthetic_run.results()
    results["run"]["stopped"] = True
    ((_, text),) = inspect_log.logs(results, [next(synthetic_run.samples(1))])
    assert json.loads(text)["status"] == "cancelled"


def test_inspect_reads_them(tmp_path: Path) -> None:
    """Inspect brings too much to be among the tests' own packages; where it is installed, its own reader decides."""
    reader = pytest.importorskip("inspect_ai.log", reason="needs inspect_ai: pip install inspect_ai")
    samples = [*(s for s in synthetic_run.samples(90) if s["task"] != "safety/jailbreak"), in_two_epochs()]
    for name, text in inspect_log.logs(synthetic_run.results(), samples):
        (tmp_path / name).write_text(text)
        log = reader.read_eval_log(str(tmp_path / name))
        assert log.status == "success"
        assert log.samples
        assert log.results.total_samples == len(log.samples)
        assert all(s.error is not None or s.output.completion for s in log.samples)
