"""What a task's numbers depend on beside the model, and what is said when it changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pytest_trustllm.registry import Registry
from pytest_trustllm.suites import definitions
from pytest_trustllm.suites.definitions import changed, hashes_of
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.task import Task

SUITE = """
dimension: d
tasks:
  - name: t
    data: {samples: [{prompt: one, label: a}]}
    prompt: "Say {{ prompt }}"
    generation: {temperature: 0, max_new_tokens: 16}
    scorer: {name: premise_correction, rubric: rubric.j2}
    metrics:
      - {name: rate, kind: mean, low: 0}
"""


def task(folder: Path, *edits: tuple[str, str], rubric: str = "Is it {{ response }}?", registry: Any = None) -> Task:
    folder.mkdir(exist_ok=True)
    text = SUITE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (folder / "rubric.j2").write_text(rubric)
    (folder / "own.yaml").write_text(text)
    return read_suite(folder / "own.yaml", registry or Registry()).tasks[0]


def run(task: Task, **more: Any) -> dict[str, Any]:
    return {"task_versions": {task.id: task.version}, "tasks": definitions.definitions_of([task]), **more}


@pytest.mark.parametrize(
    ("edits", "rubric", "part", "words"),
    [
        ((), "Is it not {{ response }}?", "rubric", "the rubric of d/t changed since the baseline"),
        (
            ((", rubric: rubric.j2", ""), ("premise_correction", "contains")),
            None,
            "scorer",
            "the scorer or its parameters of d/t changed since the baseline",
        ),
        (
            (("low: 0", "low: -1"),),
            None,
            "metrics",
            "the metrics or their parameters of d/t changed since the baseline",
        ),
        (
            (("    scorer", "    cluster: label\n    scorer"),),
            None,
            "groups",
            "the groups or clusters of d/t changed since the baseline",
        ),
        ((("16", "17"),), None, "generation", "the generation settings of d/t changed since the baseline"),
        ((("Say", "Tell"),), None, "prompt", "the prompt template of d/t changed since the baseline"),
    ],
)
def test_a_changed_part_is_named(tmp_path: Path, edits: Any, rubric: str | None, part: str, words: str) -> None:
    before = task(tmp_path / "a")
    now = task(tmp_path / "b", *edits, **({} if rubric is None else {"rubric": rubric}))
    old, new = hashes_of(before), hashes_of(now)
    differing = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    assert differing - {"rubric"} == {part} - {"rubric"}
    assert words in changed(run(before), run(now))


def test_nothing_else_changes_a_hash(tmp_path: Path) -> None:
    """Neither where the suite lies nor in which process it is read, nor words that are for people alone."""
    first, second = task(tmp_path / "a"), task(tmp_path / "b", ("name: t\n", "name: t\n    title: Another\n"))
    assert hashes_of(first) == hashes_of(second)
    assert set(hashes_of(first)) == set(definitions.PARTS)
    assert changed(run(first), run(second)) == []


def test_a_parameter_at_its_default_is_as_good_as_absent(tmp_path: Path) -> None:
    """So that a parameter which a later version of the package adds looks like no change."""
    written = task(tmp_path / "a", ("low: 0", "low: 0, high: 1"), ("temperature: 0, ", "temperature: 0, stop: [], "))
    assert hashes_of(written) == hashes_of(task(tmp_path / "b"))


def test_older_results_without_hashes_are_not_accused(tmp_path: Path) -> None:
    now = run(task(tmp_path), generation={"d/t": {"temperature": 0}})
    assert changed({"task_versions": {"d/t": 1}}, now) == []
    assert changed({"generation": {"d/t": {"temperature": 1}}}, now) == [
        "the generation settings of d/t changed since the baseline"
    ]


def test_settings_that_the_models_file_overrides_are_compared_too(tmp_path: Path) -> None:
    found = task(tmp_path)
    before, now = (run(found, generation={"d/t": {"temperature": t}}) for t in (0, 1))
    assert changed(before, now) == ["the generation settings of d/t changed since the baseline"]


@pytest.mark.parametrize(
    ("count", "named"),
    [(1, "d/0"), (2, "d/0 and d/1"), (3, "d/0, d/1 and d/2"), (5, "d/0, d/1, d/2 and 2 more tasks")],
)
def test_tasks_are_listed_once_per_part(count: int, named: str) -> None:
    def some(hash_: str) -> dict[str, Any]:
        names = [f"d/{i}" for i in range(count)]
        hashes = {"hashes": {"rubric": hash_, "scorer": "same"}}
        return {"task_versions": dict.fromkeys(names, 1), "tasks": dict.fromkeys(names, hashes)}

    assert changed(some("a"), some("b")) == [f"the rubric of {named} changed since the baseline"]


@dataclass(frozen=True)
class Own:
    """A project's own scorer."""

    roles: ClassVar = ()

    def score(self, sample: Any, replies: Any) -> Any:
        raise NotImplementedError


def test_the_code_of_a_projects_own_scorer_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    registry.scorers.add("own", Own)
    found = task(tmp_path, ("{name: premise_correction, rubric: rubric.j2}", "own"), registry=registry)
    before = hashes_of(found)
    assert hashes_of(found) == before
    monkeypatch.setattr(definitions.inspect, "getsource", lambda kind: "class Own: pass  # another rule")
    now = hashes_of(found)
    assert {part for part in now if now[part] != before[part]} == {"scorer"}
