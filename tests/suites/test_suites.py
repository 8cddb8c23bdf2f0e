"""Every key of a suite file, and every mistake in one with its message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from mistakes import SUITE_MISTAKES, TASK
from validators import VALIDATORS

from pytest_trustllm.config.paths import shipped
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.metrics.classification import MacroF1
from pytest_trustllm.metrics.rates import Mean, Share
from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.contains import Contains
from pytest_trustllm.scorers.judged import AnswerMatch
from pytest_trustllm.suites.reader import find_suites, read_suite
from pytest_trustllm.suites.sources import RowPairing
from pytest_trustllm.suites.task import Suite, Task
from pytest_trustllm.types import Generation

READER = {"name": "b", "reads": "a", "scorer": "contains", "metrics": ["mean"]}


def suite_of(tmp_path: Path, *tasks: Any, **top: Any) -> Suite:
    path = tmp_path / "suites" / "mine.yaml"
    path.parent.mkdir(exist_ok=True)
    document = {"dimension": "safety", "tasks": list(tasks), **top}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    suite = read_suite(path, Registry(), root=tmp_path)
    VALIDATORS["suite"].validate(document)  # what is read, editors accept
    return suite


def task_of(tmp_path: Path, **changes: Any) -> Task:
    (task,) = suite_of(tmp_path, {**TASK, **changes}).tasks
    return task


def test_the_least_that_a_suite_needs(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, TASK)
    assert (suite.name, suite.shown, suite.dimension, suite.builtin) == ("mine", "suites/mine.yaml", "safety", False)
    (task,) = suite.tasks
    assert (task.id, task.answers_from, task.metric_id("mean")) == ("safety/a", "safety/a", "safety/a.mean")
    assert (task.version, task.title, task.prompt, task.messages, task.reads) == (1, "a", None, None, None)
    assert task.generation == Generation(0.0, 512, ())
    assert (task.scorer, task.scorer_name) == (Contains(), "contains")
    assert task.data.inline == ({"prompt": "x"},)
    (metric,) = task.metrics
    assert (metric.name, metric.value, metric.where) == ("mean", metric.parity, {})
    assert (metric.value.metric, metric.value.average) == (Mean(), "pooled")


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "rows.jsonl").write_text("{}")
    (tmp_path / "suites" / "rubric.j2").write_text("{{ response }}")
    first = {
        "name": "a-1_b",
        "version": 3,
        "title": "A task",
        "data": {
            "trustllm": "safety/jailbreak.json",
            "where": {"source": "x", "kind": ["a", 1]},
            "pair": {"by": "index", "first": {"type": "original"}},
            "samples": "rows.jsonl",
        },
        "messages": [{"role": "system", "content": "Be {{ mood }}."}, {"role": "user", "content": "{{ q }}"}],
        "generation": {"temperature": 0.5, "max_new_tokens": 7, "stop": ["\n", "END"]},
        "scorer": {"name": "answer_match", "rubric": "rubric.j2"},
        "group": {"attack": "label", "both": ["a", "b"], "made": "{{ x }}!"},
        "metrics": [
            {"name": "f1", "kind": "macro_f1", "classes": ["x", "y"], "average": "macro", "where": {"attack": "n"},
             "parity": {"kind": "upstream_macro_f1", "round": {"x": 3}, "empty": 0, "raises_if_empty": True}},
            {"name": "half", "kind": "share", "equal_to": 0.5, "parity": {"round": 2}},
        ],
    }  # fmt: skip
    second = {**READER, "name": "again", "reads": "a-1_b", "group": {"mine": "label"}}
    suite = suite_of(tmp_path, first, second, source={"paper": "arXiv:1", "licences": {"A": "MIT"}})
    assert suite.source == {"paper": "arXiv:1", "licences": {"A": "MIT"}}
    task, reader = suite.tasks
    assert (task.version, task.title) == (3, "A task")
    assert task.data.trustllm == "safety/jailbreak.json"
    assert task.data.where == {"source": ("x",), "kind": ("a", 1)}
    assert task.data.pair == RowPairing(by="index", first={"type": "original"})
    assert task.data.samples == tmp_path / "suites" / "rows.jsonl"
    assert task.messages == (("system", "Be {{ mood }}."), ("user", "{{ q }}"))
    assert task.generation == Generation(0.5, 7, ("\n", "END"))
    assert task.scorer == AnswerMatch(tmp_path / "suites" / "rubric.j2")
    assert task.group == {"attack": "label", "both": ("a", "b"), "made": "{{ x }}!"}
    f1, half = task.metrics
    assert f1.value.metric == MacroF1(("x", "y"))
    assert (f1.value.average, f1.where) == ("macro", {"attack": "n"})
    assert (f1.parity.average, f1.parity.digits, f1.parity.empty, f1.parity.raises_if_empty) == (
        "macro", {"x": 3}, 0.0, True,
    )  # fmt: skip
    assert (half.value.metric, half.parity.digits) == (Share(equal_to=0.5), {"*": 2})
    assert (reader.reads, reader.answers_from, reader.group) == ("a-1_b", "safety/a-1_b", {"mine": "label"})


def test_a_task_that_reads_another_has_its_groups(tmp_path: Path) -> None:
    reader = {"name": "b", "reads": "a", "scorer": "contains", "metrics": ["mean"]}
    suite = suite_of(tmp_path, {**TASK, "group": "kind"}, reader)
    assert suite.tasks[1].group == {"kind": "kind"}


def test_one_string_is_a_list_of_one(tmp_path: Path) -> None:
    assert task_of(tmp_path, generation={"stop": "END"}).generation.stop == ("END",)
    assert task_of(tmp_path, group="kind").group == {"kind": "kind"}


@pytest.mark.parametrize("name", SUITE_MISTAKES)
def test_a_mistake_says_where_it_is(name: str, tmp_path: Path) -> None:
    changes, message = SUITE_MISTAKES[name]
    with pytest.raises(SuiteError) as e:
        task_of(tmp_path, **changes)
    assert str(e.value).startswith(f"suites/mine.yaml: tasks[0]{message}")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("tasks", "top", "message"),
    [
        ([], {}, "tasks: a suite needs at least one task"),
        (["a"], {}, "tasks[0]: expected a mapping, found 'a'"),
        ([TASK, TASK], {}, "tasks[1]: task 'a' is defined twice"),
        ([TASK], {"source": "paper"}, "source: expected a mapping, found 'paper'"),
        ([TASK], {"dimension": "a/b"}, "dimension: 'a/b' is not a name; use letters, digits, '_' and '-'"),
        ([TASK], {"dimension": None}, "dimension: expected text, found None"),
        ([TASK], {"tasks": None}, "tasks: expected a list, found None"),
        ([TASK], {"dimensions": "x"}, "unknown key 'dimensions' (did you mean 'dimension'?); known: dimension, "),
        ([READER, TASK], {}, "tasks[0].reads: no earlier task 'a'; known: none"),
        ([TASK, READER, {**READER, "name": "c", "reads": "b"}], {}, "tasks[2].reads: no earlier task 'b'"),
    ],
)
def test_a_mistake_of_the_file(tasks: list[Any], top: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as e:
        suite_of(tmp_path, *tasks, **top)
    assert str(e.value).startswith(f"suites/mine.yaml: {message}")


@pytest.mark.parametrize("value", ["2024-01-01", "2024-01-01 10:00:00"])
def test_a_date_is_text_as_written(value: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "dimension: safety\ntasks:\n- name: a\n  scorer: contains\n  metrics: [mean]\n"
        f"  data: {{samples: [{{prompt: x, day: {value}}}]}}\n"
    )
    rows = read_suite(path, Registry()).tasks[0].data.inline
    assert rows == ({"prompt": "x", "day": value},)


def write(path: Path, dimension: str = "safety", task: str = "a") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"dimension": dimension, "tasks": [{**TASK, "name": task}]}))


def found(tmp_path: Path, *directories: str, builtin: bool = False) -> list[Suite]:
    return find_suites([tmp_path / d for d in directories], Registry(), root=tmp_path, builtin=builtin)


def test_suites_of_all_directories_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "one" / "b.yaml", task="b")
    write(tmp_path / "one" / "a.yaml")
    write(tmp_path / "two" / "c.yaml", task="c")
    (tmp_path / "one" / "notes.txt").write_text("no suite")
    (tmp_path / "one" / "below").mkdir()
    assert [s.shown for s in found(tmp_path, "one", "two")] == ["one/a.yaml", "one/b.yaml", "two/c.yaml"]


def test_a_suite_of_the_same_name_replaces_the_shipped_one(tmp_path: Path) -> None:
    write(tmp_path / "suites" / "safety.yaml")
    suites = found(tmp_path, "suites", builtin=True)
    assert [(s.shown, s.builtin) for s in suites if s.name == "safety"] == [("suites/safety.yaml", False)]
    assert {s.name for s in suites} == {p.stem for p in shipped("suites").glob("*.yaml")}
    assert next(s.shown for s in suites if s.builtin) == "trustllm/ethics.yaml"


def test_directories_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "one" / "a.yaml")
    with pytest.raises(SuiteError, match=r"^trust_suites: none is not a directory$"):
        found(tmp_path, "none")
    with pytest.raises(SuiteError, match=r"^trust_suites: one/a\.yaml is not a directory$"):
        found(tmp_path, "one/a.yaml")
    write(tmp_path / "two" / "a.yaml", task="b")
    with pytest.raises(SuiteError, match=r"^two/a\.yaml: another suite file is named a\.yaml too; rename one$"):
        found(tmp_path, "one", "two")
    write(tmp_path / "three" / "b.yaml")
    with pytest.raises(SuiteError, match=r"^three/b\.yaml: task 'safety/a' is defined in one/a\.yaml too; rename one$"):
        found(tmp_path, "one", "three")
    write(tmp_path / "four" / "x.yml")
    with pytest.raises(SuiteError, match=r"^four/x\.yml: a suite file ends in \.yaml; rename it$"):
        found(tmp_path, "four")


def test_a_task_of_the_users_must_not_hide_a_shipped_one(tmp_path: Path) -> None:
    write(tmp_path / "suites" / "mine.yaml", task="jailbreak")
    with pytest.raises(SuiteError, match=r"^trustllm/safety\.yaml: task 'safety/jailbreak' is defined in suites/mine"):
        found(tmp_path, "suites", builtin=True)


@pytest.mark.parametrize("path", sorted(shipped("suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_suite_is_read(path: Path) -> None:
    suite = read_suite(path, Registry(), builtin=True)
    assert suite.shown == f"trustllm/{path.name}"
    assert suite.dimension == path.stem
    assert suite.source["paper"] == "arXiv:2401.05561"
    assert all(task.data.trustllm and task.data.samples for task in suite.tasks if task.reads is None)
