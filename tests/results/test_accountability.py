"""Whether the numbers of a run can be traced."""

from __future__ import annotations

from typing import Any

import pytest
import saved_run

from pytest_trustllm.results.accountability import traces_of
from pytest_trustllm.results.recomputation import differing_metrics

JUDGE = {"name": "j", "provider": "openai", "id": "gpt", "revision": "1"}
CHECK = {"role": "judge", "model": {**JUDGE, "name": "alias"}, "compared": 200}


def complete(**run: Any) -> Any:
    """Return a run of which everything is known."""
    entry = {
        "model": {"name": "m", "revision": "abc", "about": {"licence": "MIT"}},
        "data": {"source": "sample", "files": {"a.jsonl": "ab" * 32}},
        "licences": {"safety": {"XSTest": "CC BY 4.0"}},
        "roles": {"judge": JUDGE},
        "judge_checks": [CHECK],
        "task_versions": {"safety/echo": 1},
        "tasks": {"safety/echo": {"hashes": {}}},
        "command": ["--trust-model=m"],
        "packages": {"pytest": "9"},
        "commit": {"id": "1" * 40, "branch": None, "changed": False},
        "thresholds": {"thresholds/safety.yaml": "cd" * 32},
        **run,
    }
    return saved_run.results(
        run=entry,
        scores={"safety": saved_run.score_entry(1.0)},
        coverage={"safety/echo": saved_run.COVERED},
        usage=saved_run.usage_entry(roles={"judge": saved_run.usage_entry()}),
        gates=[{"id": "thresholds/safety.yaml::echo.accuracy[at_least]"}],
    )


def missing(**run: Any) -> list[str]:
    return [trace.name for trace in traces_of(complete(**run)) if not trace.ok]


def test_a_run_of_which_everything_is_known_is_accountable() -> None:
    assert missing() == []


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"model": {"name": "gpt", "about": {"licence": "MIT"}}}, ["model revision"]),
        ({"model": {"name": "m", "revision": "a"}}, ["model licence"]),
        ({"data": {"source": "sample", "files": {}}}, ["data hashes"]),
        ({"licences": {}}, ["data licences"]),
        ({"roles": {"judge": {"name": "j"}}}, ["judge revision", "judge check"]),
        ({"roles": {"judge": JUDGE, "guard": {"name": "g"}}}, []),  # no number needed the guard
        ({"licences": {}, "task_licences": {"safety/echo": "own items"}}, []),
        ({"licences": {}, "task_licences": {"safety/echo": "not stated"}}, ["data licences"]),
        ({"judge_checks": []}, ["judge check"]),
        ({"judge_checks": [{**CHECK, "model": {**JUDGE, "revision": "0"}}]}, ["judge check"]),
        ({"task_versions": {}}, ["task versions"]),
        ({"tasks": {}}, ["task definitions"]),
        ({"command": []}, ["command"]),
        ({"packages": {}}, ["versions"]),
        ({"commit": None}, ["commit"]),
        ({"commit": {"id": "1", "branch": None, "changed": True}}, ["commit"]),
        ({"thresholds": {}}, ["threshold hashes"]),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], names: list[str]) -> None:
    assert missing(**change) == names


def test_a_check_of_another_version_is_stale() -> None:
    run = complete(judge_checks=[{**CHECK, "model": {**JUDGE, "revision": "0"}}])
    (text,) = [trace.text for trace in traces_of(run) if trace.name == "judge check"]
    assert text == "is stale: j was checked in another version"


def test_metrics_are_compared_to_the_last_digit() -> None:
    metric: Any = {"value": 0.1, "parity": 0.1, "ci": [0.0, 1.0], "expected": 1, "scored": 1, "unscored": 0}
    nearly = {**metric, "value": 0.1 + 2**-56}
    assert differing_metrics({"a": metric}, {"a": dict(metric)}) == []
    assert differing_metrics({"a": metric}, {"a": nearly}) == ["a"]
    assert differing_metrics({"a": metric}, {}) == ["a"]
    assert differing_metrics({}, {"a": metric}) == ["a"]
    other_limits = {**metric, "ci": [0.0, 0.9]}
    assert differing_metrics({"a": metric}, {"a": other_limits}) == ["a"]
    assert differing_metrics({"a": {**metric, "stopped": "exact"}}, {"a": other_limits}) == []
