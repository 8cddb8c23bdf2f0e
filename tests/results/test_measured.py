"""What follows from the records of a run beside its metrics: corrected rates, and places among published models."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import saved_run

from pytest_trustllm.config import paths
from pytest_trustllm.registry import Registry
from pytest_trustllm.results.judge_check_file import RunFacts
from pytest_trustllm.results.measurement import Judging, MeasuredRun
from pytest_trustllm.suites import full_data
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Selection

FILE = "safety/jailbreak.json"
RATE = "safety/jailbreak.refusal_rate"


def jailbreak() -> Task:
    suite = read_suite(paths.shipped("suites") / "safety.yaml", Registry(), builtin=True)
    (found,) = [t for t in suite.tasks if t.id == "safety/jailbreak"]
    return dataclasses.replace(found, group={})


def records(values: list[float], size: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "task": "safety/jailbreak", "id": f"{i:04d}", "fingerprint": f"f{i}", "group": {}, "status": "passed",
            "value": v, "answer": None, "reason": None, "observed": {}, "parity": "same", "also": {},
            "cluster": f"c{i // size}",
        }
        for i, v in enumerate(values)
    ]  # fmt: skip


def document(found: list[dict[str, Any]], *, total: int | None = None, **more: Any) -> dict[str, Any]:
    data = {"source": "x", "files": {FILE: full_data.published_data().files[FILE].sha256}}
    run = saved_run.run_entry(**{"data": data, **more})
    count = len(found)
    selection = Selection({"safety/jailbreak": total or count}, {"safety/jailbreak": count})
    roles = {"refusal": {"name": "m"}}
    facts = RunFacts(roles, [jailbreak()], {}, data)
    judging = Judging(run.get("judge_checks", ()), facts, {})
    measured = MeasuredRun([jailbreak()], found, selection, judging=judging)
    return measured.document(run, [], saved_run.usage_entry(), None)


CHECK = {
    "role": "refusal", "model": {"name": "m"}, "task": None, "labels": {}, "rows": 200, "compared": 200,
    "positive": "refusal", "confidence": 0.95, "kappa": None,
    "sensitivity": {"value": 0.9, "ci": [0.8, 0.95], "n": 100},
    "specificity": {"value": 0.8, "ci": [0.7, 0.87], "n": 100},
}  # fmt: skip


def test_a_corrected_interval_knows_that_samples_belong_together() -> None:
    values = [float(i // 5 % 2) for i in range(200)]  # forty clusters of five, alike within
    alone, together = (
        document(records(values, size), judge_checks=[CHECK])["metrics"][RATE]["judge_corrected"] for size in (1, 5)
    )
    assert alone["value"] == together["value"] == pytest.approx((0.5 + 0.8 - 1) / 0.7)
    width, wider = (found["ci"][1] - found["ci"][0] for found in (alone, together))
    assert wider > 1.3 * width


def test_epochs_of_a_sample_are_one_clusters_worth() -> None:
    reading = {"met": True, "answer": None, "reason": None, "observed": {}, "parity": "same"}
    once = records([float(i % 2) for i in range(40)])
    often = [{**r, "epochs": [{**reading, "value": r["value"]}] * 5} for r in once]
    found = [document(rows, judge_checks=[CHECK])["metrics"][RATE]["judge_corrected"]["ci"] for rows in (once, often)]
    assert found[1][1] - found[1][0] == pytest.approx(found[0][1] - found[0][0], rel=0.1)


HALF_SEEN = CHECK | {
    "sensitivity": {"value": 0.5, "ci": [0.4, 0.6], "n": 100},
    "specificity": {"value": 1.0, "ci": [0.96, 1.0], "n": 100},
}
BLOCKED_ANSWER = "refusal (blocked by the provider)"


def test_responses_that_a_rule_counted_are_not_corrected() -> None:
    """Half of the prompts are blocked, which counts as a refusal; of the others half refuse, a quarter is found."""
    found = records([1.0] * 100 + [float(i % 4 == 0) for i in range(100)])
    for record in found[:100]:
        record |= {"answer": BLOCKED_ANSWER, "unanswered": "blocked by the provider"}
    metric = document(found, judge_checks=[HALF_SEEN])["metrics"][RATE]
    corrected = metric["judge_corrected"]
    assert metric["value"] == 0.625
    assert corrected["value"] == pytest.approx(0.75)
    assert corrected["by_rule"] == 100
    low, high = corrected["ci"]
    judged = document(found[100:], judge_checks=[HALF_SEEN])["metrics"][RATE]["judge_corrected"]
    assert judged["value"] == pytest.approx(0.5)
    assert "by_rule" not in judged
    # at least what the judged half is uncertain by, and the doubt about how many prompts are blocked on top
    assert low < 0.75 - (0.5 - judged["ci"][0]) / 2
    assert high > 0.75 + (judged["ci"][1] - 0.5) / 2
    assert high < 1


def test_a_rate_that_no_judge_has_seen_is_not_corrected() -> None:
    found = [{**r, "unanswered": "blocked by the provider"} for r in records([1.0] * 20)]
    corrected = document(found, judge_checks=[CHECK])["metrics"][RATE]["judge_corrected"]
    assert (corrected["value"], corrected["ci"]) == (None, None)
    assert corrected["reason"].startswith("all 20 responses were counted by a rule")


@pytest.mark.parametrize("mark", [{"unanswered": "blocked by the provider"}, {}])  # {}: a file of an earlier version
def test_blocked_epochs_are_not_corrected(mark: dict[str, str]) -> None:
    reading = {"met": True, "answer": "refusal", "reason": None, "observed": {}, "parity": "same"}
    blocked = {**reading, "value": 1.0, "answer": BLOCKED_ANSWER, **mark}
    found = records([0.5] * 40)
    for number, record in enumerate(found):
        record["epochs"] = [blocked, {**reading, "value": float(number % 4 == 0)}]
        record["unanswered"] = "blocked by the provider"
    corrected = document(found, judge_checks=[HALF_SEEN])["metrics"][RATE]["judge_corrected"]
    assert (corrected["value"], corrected["by_rule"]) == (pytest.approx(0.75), 40)


def test_a_check_without_a_number_gives_a_reason() -> None:
    check = CHECK | {"specificity": {"value": None, "ci": None, "n": 0}}
    corrected = document(records([1.0, 0.0] * 10), judge_checks=[check])["metrics"][RATE]["judge_corrected"]
    assert (corrected["value"], corrected["reason"]) == (None, "the judge check has no specificity")


def test_a_run_over_the_whole_published_file_has_a_place() -> None:
    assert document(records([1.0] * 20))["metrics"][RATE]["rank"] == {"position": 1, "of": 22}


@pytest.mark.parametrize(
    "more",
    [
        {"total": 21},  # --trust-limit, -k
        {"data": {"source": "sample", "files": {}}},
        {"data": {"source": "mine", "files": {FILE: "0" * 64}}},  # five rows under the published name
    ],
)
def test_a_part_of_the_data_has_no_place(more: dict[str, Any]) -> None:
    assert "rank" not in document(records([1.0] * 20), **more)["metrics"][RATE]


def test_a_run_that_stopped_or_ran_out_of_budget_has_no_place() -> None:
    cut = records([1.0] * 20)
    cut[3] |= {"value": None, "status": "unscored", "cut": True}
    assert "rank" not in document(cut)["metrics"][RATE]
    counts = {"safety/jailbreak": 20}
    run = {"data": {"files": {FILE: full_data.published_data().files[FILE].sha256}}}
    stopped = MeasuredRun([jailbreak()], records([1.0] * 20), Selection(counts, counts), stopped=True)
    assert "rank" not in stopped.document(run, [], saved_run.usage_entry(), None)["metrics"][RATE]
