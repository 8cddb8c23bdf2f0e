"""Every key of a suite file, and every mistake in one with its message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from validators import VALIDATORS

from pytest_trustllm.dataspec import Pairing
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.metrics.classification import MacroF1
from pytest_trustllm.metrics.rates import Mean, Share
from pytest_trustllm.paths import shipped
from pytest_trustllm.records import Generation
from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.judged import AnswerMatch
from pytest_trustllm.scorers.label import Contains
from pytest_trustllm.suites import Suite, Task, find_suites, read_suite

TASK: dict[str, Any] = {"name": "a", "data": {"samples": [{"prompt": "x"}]}, "scorer": "contains", "metrics": ["mean"]}

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
    assert (task.id, task.asked, task.metric_id("mean")) == ("safety/a", "safety/a", "safety/a.mean")
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
    assert task.data.pair == Pairing(by="index", first={"type": "original"})
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
    assert (reader.reads, reader.asked, reader.group) == ("a-1_b", "safety/a-1_b", {"mine": "label"})


def test_a_task_that_reads_another_has_its_groups(tmp_path: Path) -> None:
    reader = {"name": "b", "reads": "a", "scorer": "contains", "metrics": ["mean"]}
    suite = suite_of(tmp_path, {**TASK, "group": "kind"}, reader)
    assert suite.tasks[1].group == {"kind": "kind"}


def test_one_string_is_a_list_of_one(tmp_path: Path) -> None:
    assert task_of(tmp_path, generation={"stop": "END"}).generation.stop == ("END",)
    assert task_of(tmp_path, group="kind").group == {"kind": "kind"}


ROWS = [{"prompt": "x"}]
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    # name: (what is changed in the task, what the line says after "suites/mine.yaml: tasks[0]")
    "unknown key": ({"scorers": "x"}, ": unknown key 'scorers' (did you mean 'scorer'?); known: cluster, data, "),
    "no name": ({"name": None}, ".name: expected text, found None"),
    "a name with a space": ({"name": "a b"}, ".name: 'a b' is not a name; use letters, digits, '_' and '-'"),
    "a name like an id": ({"name": "a[0]|b"}, ".name: 'a[0]|b' is not a name"),
    "version 0": ({"version": 0}, ".version: 0 is outside [1, "),
    "version 1.5": ({"version": 1.5}, ".version: expected a whole number, found 1.5"),
    "title of a list": ({"title": ["x"]}, ".title: expected text, found ['x']"),
    "data of a text": ({"data": "rows.jsonl"}, ".data: expected a mapping, found 'rows.jsonl'"),
    "data of nothing": ({"data": {}}, ".data: expected 'trustllm: section/file.json' or 'samples:'"),
    "data of a typo": ({"data": {"sample": ROWS}}, ".data: unknown key 'sample' (did you mean 'samples'?); known: "),
    "samples that are not there": ({"data": {"samples": "no.jsonl"}},
                                   ".data.samples: no such file beside the suite: no.jsonl"),
    "samples that are a directory": ({"data": {"samples": "../suites"}},
                                     ".data.samples: no such file beside the suite: ../suites"),
    "samples that are empty": ({"data": {"samples": []}}, ".data.samples: expected at least one row"),
    "samples that are texts": ({"data": {"samples": ["x"]}}, ".data.samples[0]: expected a mapping, found 'x'"),
    "samples in a mapping": ({"data": {"samples": {"a": "b"}}}, ".data.samples: expected a list, found {'a': 'b'}"),
    "where of a list": ({"data": {"samples": ROWS, "where": ["a"]}}, ".data.where: expected a mapping, found ['a']"),
    "pair of nothing": ({"data": {"samples": ROWS, "pair": {}}}, ".data.pair: expected 'quoted: field', or 'by: "),
    "pair of both": ({"data": {"samples": ROWS, "pair": {"by": "a", "quoted": "b"}}}, ".data.pair: expected 'quoted"),
    "quoted pair with a first": ({"data": {"samples": ROWS, "pair": {"quoted": "a", "first": {"b": 1}}}},
                                 ".data.pair: expected 'quoted: field', or 'by: field' with 'first: "),
    "pair without first": ({"data": {"samples": ROWS, "pair": {"by": "a"}}}, ".data.pair: key 'first' is missing"),
    "pair of any first": ({"data": {"samples": ROWS, "pair": {"by": "a", "first": {}}}},
                          ".data.pair.first: expected the fields of a pair's first row, such as {type: original}"),
    "prompt and messages": ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
                            ".messages: give either 'prompt' or 'messages'"),
    "empty prompt": ({"prompt": " "}, ".prompt: expected text, found nothing"),
    "broken template": ({"prompt": "{{ x "}, ".prompt: broken template: unexpected end of template, expected 'end of"),
    "unknown filter": ({"prompt": "{{ x | shout }}"}, ".prompt: broken template: No filter named 'shout'."),
    "broken template of a message": ({"messages": [{"role": "user", "content": "{% if %}"}]},
                                     ".messages[0].content: broken template: Expected an expression, got 'end of"),
    "broken template of a group": ({"group": {"g": "{{ x"}}, ".group.g: broken template: unexpected end of template"),
    "no message": ({"messages": []}, ".messages: the last message must be the user's"),
    "last word to the model": ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
                               ".messages: the last message must be the user's"),
    "unknown role": ({"messages": [{"role": "usr", "content": "a"}]},
                     ".messages[0].role: 'usr' is not accepted (did you mean 'user'?); known: assistant, system, user"),
    "message without content": ({"messages": [{"role": "user"}]}, ".messages[0]: key 'content' is missing"),
    "temperature below 0": ({"generation": {"temperature": -1}}, ".generation.temperature: -1 is outside [0, 10]"),
    "no new token": ({"generation": {"max_new_tokens": 0}}, ".generation.max_new_tokens: 0 is outside [1, "),
    "max_tokens": ({"generation": {"max_tokens": 5}}, ".generation: unknown key 'max_tokens' (did you mean 'max_new_"),
    "empty stop": ({"generation": {"stop": [""]}}, ".generation.stop[0]: expected text, found nothing"),
    "unknown scorer": ({"scorer": "containz"}, ".scorer: no scorer named 'containz' (did you mean 'contains'?); known"),
    "unknown named scorer": ({"scorer": {"name": "containz"}}, ".scorer.name: no scorer named 'containz' (did you"),
    "scorer without name": ({"scorer": {"target": "x"}}, ".scorer: key 'name' is missing"),
    "scorer that is a list": ({"scorer": ["contains"]}, ".scorer: expected a mapping, found ['contains']"),
    "unknown parameter": ({"scorer": {"name": "contains", "targte": "x"}},
                          ".scorer: 'contains' has no parameter 'targte' (did you mean 'target'?); known: target"),
    "parameter of another type": ({"scorer": {"name": "contains", "target": 5}},
                                  ".scorer.target: expected text, found 5"),
    "parameter out of its range": ({"scorer": {"name": "refusal", "hope": "joy"}},
                                   ".scorer: 'hope' is 'joy', expected refusal or compliance"),
    "parameter that is text": ({"scorer": {"name": "answer_similarity", "stable": "high"}},
                               ".scorer.stable: expected a number, found 'high'"),
    "missing parameter": ({"scorer": "answer_match"}, ".scorer: 'answer_match' needs the parameter 'rubric'"),
    "missing rubric": ({"scorer": {"name": "answer_match", "rubric": "no.j2"}},
                       ".scorer.rubric: no such file beside the suite: no.j2"),
    "rubric of a number": ({"scorer": {"name": "answer_match", "rubric": 5}}, ".scorer.rubric: expected text, found 5"),
    "metrics of a text": ({"metrics": "mean"}, ".metrics: expected a list, found 'mean'"),
    "no metric": ({"metrics": []}, ".metrics: a task needs at least one metric; the first is its headline"),
    "metric twice": ({"metrics": ["mean", {"name": "mean", "of": "x"}]}, ".metrics[1]: metric 'mean' is given twice"),
    "unknown metric": ({"metrics": ["meen"]}, ".metrics[0].name: no metric named 'meen' (did you mean 'mean'?)"),
    "unknown kind": ({"metrics": [{"name": "x", "kind": "meen"}]}, ".metrics[0].kind: no metric named 'meen' (did "),
    "metric with a free name": ({"metrics": [{"name": "x y", "kind": "mean"}]},
                                ".metrics[0].name: 'x y' is not a name"),
    "metric without name": ({"metrics": [{"kind": "mean"}]}, ".metrics[0]: key 'name' is missing"),
    "metric's unknown key": ({"metrics": [{"name": "mean", "digits": 3}]},
                             ".metrics[0]: 'mean' has no parameter 'digits'; known: high, low, lower_is_better, of"),
    "metric's missing key": ({"metrics": ["share"]}, ".metrics[0]: 'share' needs the parameter 'equal_to'"),
    "metric's wrong type": ({"metrics": [{"name": "mean", "lower_is_better": "no"}]},
                            ".metrics[0].lower_is_better: expected true or false, found 'no'"),
    "macro without groups": ({"metrics": [{"name": "mean", "average": "macro"}]},
                             ".metrics[0]: 'average: macro' needs a 'group' on the task"),
    "unknown average": ({"group": "g", "metrics": [{"name": "mean", "average": "micro"}]},
                        ".metrics[0].average: 'micro' is not accepted (did you mean 'macro'?); known: macro, pooled"),
    "metric's where": ({"metrics": [{"name": "mean", "where": "x"}]}, ".metrics[0].where: expected a mapping, found"),
    "where's unknown group": ({"group": "kind", "metrics": [{"name": "mean", "where": {"knd": "a"}}]},
                              ".metrics[0].where: the task has no group 'knd', so no sample would count (did you mean"),
    "where without groups": ({"metrics": [{"name": "mean", "where": {"kind": "a"}}]},
                             ".metrics[0].where: the task has no group 'kind', so no sample would count"),
    "unknown parity": ({"metrics": [{"name": "mean", "parity": {"rund": 3}}]},
                       ".metrics[0].parity: unknown key 'rund' (did you mean 'round'?); known: empty, kind, raises_if"),
    "unknown parity kind": ({"metrics": [{"name": "mean", "parity": {"kind": "x"}}]},
                            ".metrics[0].parity.kind: no metric named 'x'; known: "),
    "parity digits": ({"metrics": [{"name": "mean", "parity": {"round": 99}}]},
                      ".metrics[0].parity.round: 99 is outside [0, 15]"),
    "parity digits of a group": ({"metrics": [{"name": "mean", "parity": {"round": {"a": -1}}}]},
                                 ".metrics[0].parity.round.a: -1 is outside [0, 15]"),
    "group of a list": ({"group": ["a", "b"]}, ".group: expected a mapping, found ['a', 'b']"),
    "group name": ({"group": {"a=b}": "x"}}, ".group.a=b}: 'a=b}' is not a name; use letters, digits"),
    "group field": ({"group": {"a": ["x", 1]}}, ".group.a[1]: expected text, found 1"),
    "reads nobody": ({"reads": "b", "data": None}, ".data: a task with 'reads' asks nothing itself; remove this key"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_says_where_it_is(name: str, tmp_path: Path) -> None:
    changes, message = MISTAKES[name]
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


@pytest.mark.parametrize(
    ("value", "kind"),
    [("2024-01-01", "date"), ("2024-01-01 10:00:00", "datetime"), ("!!binary aGk=", "bytes"), ("!!set {a, b}", "set")],
)
def test_what_yaml_makes_of_an_innocent_text(value: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "dimension: safety\ntasks:\n- name: a\n  scorer: contains\n  metrics: [mean]\n"
        f"  data: {{samples: [{{prompt: x}}, {{prompt: [x, {{y: {value}}}]}}]}}\n"
    )
    message = rf"tasks\[0\]\.data\.samples\[1\]\.prompt\[1\]\.y: YAML reads this as {kind}; put it in quotes$"
    with pytest.raises(SuiteError, match=message):
        read_suite(path, Registry())


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
