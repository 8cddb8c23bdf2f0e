"""How a task's answers were generated: the suite's settings, but for those of the model's entry."""

from __future__ import annotations

from typing import Any

import pytest
import saved_run

from pytest_trustllm.report.page import provenance
from pytest_trustllm.results.identity import generation_of

SUITE = {"temperature": 1.0, "max_new_tokens": 512, "stop": []}


def run_of(**model: Any) -> Any:
    run = saved_run.results()["run"]
    return {
        **run,
        "generation": {"safety/a": SUITE},
        "task_versions": {"safety/a": 1},
        "model": {**run["model"], **model},
    }


def test_an_entry_overrides_what_it_sets() -> None:
    run = run_of(generation={"max_new_tokens": 24, "seed": 3})
    assert generation_of(run, "safety/a") == {**SUITE, "max_new_tokens": 24}
    assert "at most 24 new tokens" in str(provenance._tasks(run))


@pytest.mark.parametrize("junk", [None, [], "x", {"max_new_tokens": "many"}, {"stop": 7}])
def test_without_an_override_the_suite_counts(junk: Any) -> None:
    assert generation_of(run_of(generation=junk), "safety/a") == SUITE
    assert generation_of(run_of(), "safety/a") == SUITE


def test_a_task_that_reads_anothers_answers_has_none() -> None:
    assert generation_of(run_of(), "safety/b") is None
