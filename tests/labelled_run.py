"""A saved run of a small suite whose refusal classifier errs in a known way, and people who know better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import saved_run

from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.definitions import definitions_of
from pytest_trustllm.suites.reader import find_suites
from pytest_trustllm.suites.samples import open_data
from pytest_trustllm.types import digest

TASK = "safety/harm"
RATE = f"{TASK}.refusal_rate"
CLASSIFIER = {"name": "rules", "provider": "rules", "id": "rules", "revision": "1", "kind": "classifier"}


def rows(count: int) -> list[dict[str, Any]]:
    """Return the data rows of the suite."""
    return [{"prompt": f"ask {i}", "kind": "ab"[i % 2]} for i in range(count)]


def is_refusal(number: int) -> bool:
    """Return what people say of a response."""
    return number % 3 > 0


def is_called_refusal(number: int) -> bool:
    """Return what the classifier says: it overlooks every sixth response that refuses."""
    return is_refusal(number) and number % 6 != 1


def response(number: int) -> str:
    """Return a response; it tells people what it is."""
    return f"I cannot do that ({number})." if is_refusal(number) else f"Take a bowl ({number})."


def write_suite(where: Path, count: int, **task: Any) -> None:
    """Write ``suites/mine.yaml``."""
    (where / "suites").mkdir(exist_ok=True)
    entry = {
        "name": "harm", "title": "Harm", "data": {"samples": rows(count)}, "scorer": "refusal", "group": "kind",
        "metrics": ["refusal_rate"], **task,
    }  # fmt: skip
    suite = {"dimension": "safety", "tasks": [entry]}
    (where / "suites" / "mine.yaml").write_text(json.dumps(suite), encoding="utf-8")


def write_run(where: Path, count: int = 60, **changes: Any) -> Path:
    """Write suite, results and samples of a run, and return the results file.

    Args:
        where: An empty directory.
        count: Samples.
        changes: Of lines of the samples file: id -> what differs.
    """
    write_suite(where, count)
    lines: list[dict[str, Any]] = []
    for number in range(count):
        called = is_called_refusal(number)
        line = saved_run.sample_line(
            task=TASK, id=f"{number:04d}", fingerprint=f"f{number}", group={"kind": "ab"[number % 2]},
            status="passed" if called else "missed", value=float(called),
            answer="refusal" if called else "compliance", prompts=[[["user", f"ask {number}"]]],
            responses=[{"text": response(number)}], expected="refusal",
            verdicts=[{"text": "refusal" if called else "compliance", "role": "refusal"}],
        )  # fmt: skip
        lines.append({**line, **changes.get(f"{number:04d}", {})})
    (where / "r.samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    suites = find_suites([where / "suites"], Registry(), root=where, builtin=False)
    covered = {**saved_run.COVERED, "expected": count, "collected": count, "scored": count}
    results = saved_run.results(
        run={
            "roles": {"refusal": CLASSIFIER}, "task_versions": {TASK: 1}, "builtin_suites": False,
            "tasks": definitions_of(task for suite in suites for task in suite.tasks),
            "data": {"source": "sample", "files": {"mine.yaml#harm": digest(rows(count))}},
        },
        samples="r.samples.jsonl",
        coverage={TASK: covered},
    )  # fmt: skip
    path = where / "r.json"
    path.write_text(json.dumps(results), encoding="ascii")
    return path


def write_judged_run(where: Path, data: list[dict[str, Any]], scorer: dict[str, Any]) -> None:
    """Write a run whose responses a judge read; it is given here as ``scorer``, with the labels polite and rude."""
    write_run(where, len(data))
    write_suite(where, len(data), scorer=scorer, metrics=["mean"], data={"samples": data})
    suites = find_suites([where / "suites"], Registry(), root=where, builtin=False)
    (task,) = suites[0].tasks
    source = open_data("sample", where)
    fingerprints = {entry.id: source.sample(task, entry).fingerprint for entry in source.entries(task)}
    lines = [json.loads(text) for text in (where / "r.samples.jsonl").read_text().splitlines()]
    for line in lines:
        line["answer"] = "polite" if line["value"] else "rude"
        line["fingerprint"] = fingerprints[line["id"]]
        line["verdicts"] = [{"text": line["answer"], "role": "judge"}]
    (where / "r.samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    results = json.loads((where / "r.json").read_text())
    results["run"]["roles"] = {"judge": {"name": "gpt", "provider": "openai", "id": "gpt", "revision": None}}
    results["run"]["tasks"] = definitions_of(suites[0].tasks)
    results["run"]["data"]["files"] = {"mine.yaml#harm": digest(data)}
    (where / "r.json").write_text(json.dumps(results), encoding="ascii")


def people(text: str) -> str:
    """Return what people answer when they are shown a response."""
    return "refusal" if "I cannot" in text else "compliance"
