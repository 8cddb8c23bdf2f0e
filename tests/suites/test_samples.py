"""Which rows are asked, in which pairs, with which words, and how a sample is told from another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.rows import Archive
from pytest_trustllm.suites.samples import DataSource, Entry, limited, open_data
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Sample

ROWS: Sequence[Mapping[str, Any]] = ({"prompt": "a", "k": 1}, {"prompt": "b", "k": 2}, {"prompt": "c", "k": 1})


def task_of(tmp_path: Path, rows: Sequence[Mapping[str, Any]] = ROWS, **changes: Any) -> Task:
    data = {"samples": [dict(r) for r in rows], **changes.pop("data", {})}
    task = {"name": "t", "data": data, "scorer": "contains", "metrics": ["mean"], **changes}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"dimension": "safety", "tasks": [task]}))
    return read_suite(path, Registry(), root=tmp_path).tasks[0]


def samples_of(task: Task, data: DataSource | None = None) -> list[Sample]:
    data = data or DataSource(None)
    return [data.sample(task, entry) for entry in data.entries(task)]


def rendered(tmp_path: Path, row: Mapping[str, Any], **changes: Any) -> Sample:
    (sample,) = samples_of(task_of(tmp_path, [row], **changes))
    return sample


def test_a_row_is_a_sample_named_by_its_number(tmp_path: Path) -> None:
    first, _, last = samples_of(task_of(tmp_path))
    assert (first.id, first.task, first.row, first.rows) == ("0000", "safety/t", ROWS[0], (ROWS[0],))
    assert first.prompts == ((("user", "a"),),)
    assert last.origins == (("mine.yaml#t", 2),)
    assert first.group == {}


def test_rows_keep_their_numbers_when_others_belong_to_another_task(tmp_path: Path) -> None:
    assert [s.id for s in samples_of(task_of(tmp_path, data={"where": {"k": 1}}))] == ["0000", "0002"]
    assert [s.id for s in samples_of(task_of(tmp_path, data={"where": {"k": [2, 3], "prompt": "b"}}))] == ["0001"]
    with pytest.raises(SuiteError, match=r"^safety/t: mine\.yaml#t has no row with \{'k': \(5,\)\}$"):
        samples_of(task_of(tmp_path, data={"where": {"k": 5}}))
    with pytest.raises(SuiteError, match=r"^safety/t: mine\.yaml#t has no row with \{'none': \('x',\)\}$"):
        samples_of(task_of(tmp_path, data={"where": {"none": "x"}}))


def archive(tmp_path: Path, rows: Sequence[Mapping[str, Any]]) -> DataSource:
    path = tmp_path / "dataset" / "safety" / "x.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(rows)))
    return DataSource(Archive(tmp_path / "dataset", "--trust-data"))


def test_the_data_set_goes_before_the_sample_items(tmp_path: Path) -> None:
    data = archive(tmp_path, [{"prompt": "real"}])
    both = task_of(tmp_path, data={"trustllm": "safety/x.json"})
    assert [s.prompts for s in samples_of(both, data)] == [((("user", "real"),),)]
    assert data.file(both) == "safety/x.json"
    assert set(data.hashes) == {"safety/x.json"}
    own = task_of(tmp_path)
    assert data.file(own) == "mine.yaml#t"  # a task of the user's that TrustLLM has no file for
    assert len(samples_of(own, data)) == 3


def test_a_task_without_rows_in_this_run_has_no_sample(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, inline=None, trustllm="safety/x.json"))
    assert DataSource(None).entries(task) == []
    with pytest.raises(SuiteError, match=r"has no safety/y\.json$"):
        archive(tmp_path, []).entries(
            dataclasses.replace(task, data=dataclasses.replace(task.data, trustllm="safety/y.json"))
        )


PAIR = {"pair": {"by": "i", "first": {"type": "original"}}}


def paired(*rows: tuple[Any, str]) -> list[dict[str, Any]]:
    return [{"prompt": f"{i} {kind}", "i": i, "type": kind} for i, kind in rows]


def test_a_pair_is_the_first_row_and_each_other_row_of_its_index(tmp_path: Path) -> None:
    rows = paired((7, "url"), (7, "original"), (9, "original"), (9, "html"), (7, "html"))
    pairs = samples_of(task_of(tmp_path, rows, data=PAIR, group="type"))
    assert [(s.id, [r["prompt"] for r in s.rows]) for s in pairs] == [
        ("0000", ["7 original", "7 url"]),
        ("0003", ["9 original", "9 html"]),
        ("0004", ["7 original", "7 html"]),
    ]
    assert pairs[0].origins == (("mine.yaml#t", 1), ("mine.yaml#t", 0))
    assert pairs[0].prompts == ((("user", "7 original"),), (("user", "7 url"),))
    assert (pairs[0].row["type"], pairs[0].group) == ("url", {"type": "url"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (paired((1, "original"), (1, "x"), (2, "x")), "row 2 has no partner with 'i' = 2"),
        (paired((1, "original"), (1, "x"), (2, "original")), "row 2 is a first row without a second of the same 'i'"),
        (paired((1, "original"), (1, "original"), (1, "x")), "row 1 is another first row with 'i' = 1"),
        ([{"prompt": "a", "type": "original"}, {"prompt": "b"}], "row 0 has no field 'i', which makes the pairs"),
        (paired(("1", "original"), (1, "x")), "row 1 has no partner with 'i' = 1"),
    ],
)
def test_rows_that_make_no_pair(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as e:
        samples_of(task_of(tmp_path, rows, data=PAIR))
    assert str(e.value) == f"safety/t: mine.yaml#t: {message}"


def test_an_index_may_be_anything_that_json_holds(tmp_path: Path) -> None:
    rows = paired(([1, 2], "original"), ([1, 2], "x"), ({"a": None}, "original"), ({"a": None}, "x"))
    assert [s.id for s in samples_of(task_of(tmp_path, rows, data=PAIR))] == ["0001", "0003"]


QUOTED = {"pair": {"quoted": "prompt"}}


def test_a_pair_quotes_the_same_two_texts_in_either_order(tmp_path: Path) -> None:
    rows = [
        {"prompt": p} for p in ('"x" not "y"', '"p" not "q"', '"y" not "x"', 'Not "p", "q"!', '"x" not "y"', '"y""x"')
    ]
    pairs = samples_of(task_of(tmp_path, rows, data=QUOTED))
    assert [(s.id, s.origins[0][1]) for s in pairs] == [("0002", 0), ("0003", 1), ("0005", 4)]
    with pytest.raises(SuiteError, match=r"row 0 has no partner that quotes the same two texts in 'prompt'$"):
        samples_of(task_of(tmp_path, [*rows[:2], rows[3]], data=QUOTED))


def test_templates_see_the_rows_fields(tmp_path: Path) -> None:
    row = {"prompt": "p", "modified knowledge": "k", "gt-email": "e", "n": {"deep": [1, "two"]}, "self": "me"}
    template = "{{ prompt }} {{ modified_knowledge }} {{ gt_email }} {{ n.deep[1] }}{% if n %} yes{% endif %}\n"
    assert rendered(tmp_path, row, prompt=template).prompts == ((("user", "p k e two yes"),),)


def test_messages(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be {{ mood }}."}, {"role": "user", "content": "Hello"}]
    assert rendered(tmp_path, {"mood": "kind"}, messages=chat).prompts == ((("system", "Be kind."), ("user", "Hello")),)


def test_a_prompt_is_what_the_row_says_and_never_a_template(tmp_path: Path) -> None:
    text = '{{ 1/0 }} <b>"&amp;" {% raw %} \\n'
    assert rendered(tmp_path, {"prompt": text}).prompts == ((("user", text),),)
    assert rendered(tmp_path, {"q": text}, prompt="Q: {{ q }}").prompts == ((("user", f"Q: {text}"),),)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ absent }}", "'absent' is undefined"),
        ("{{ q.absent }}", "'str object' has no attribute 'absent'"),
        ("{{ q.__class__.__mro__[1].__subclasses__() }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ q.format.__globals__ }}", "access to attribute '__globals__'"),
        ("{{ l.append(1) }}", "access to attribute 'append' of 'list' object is unsafe"),
        ("{% include '/etc/passwd' %}", "no loader for this environment specified"),
        ("{{ range(10**8) | length }}", "Range too big"),
        ("{{ 1 // 0 }}", "integer division or modulo by zero"),
        ("{{ '{5}'.format(1) }}", "tuple index out of range"),
        ("{{ '{a}'.format() }}", "'a'"),
        ("{{ q + 1 }}", "can only concatenate str"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_one_line(template: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as e:
        rendered(tmp_path, {"q": "x", "l": []}, prompt=template)
    assert str(e.value).startswith(f"safety/t[0000]: template {template!r}: {why}")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "row", [{"question": "x"}, {"prompt": None}, {"prompt": " \n"}, {"prompt": ["x"]}, {"prompt": 5}]
)
def test_a_row_without_a_prompt(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        SuiteError, match=r"^safety/t\[0000\]: the row has no text in 'prompt'; add it, or give the task"
    ):
        rendered(tmp_path, row)


def test_groups(tmp_path: Path) -> None:
    row = {"prompt": "x", "a": ["first", "second"], "b": 2, "c d": "e"}
    group = {"one": "a", "two": ["b", "c d"], "made": "{{ b + 1 }}{{ c_d }}"}
    assert rendered(tmp_path, row, group=group).group == {"one": "first", "two": "2.e", "made": "3e"}
    with pytest.raises(SuiteError, match=r"^safety/t\[0000\]: the row has no field 'z' for its group$"):
        rendered(tmp_path, row, group="z")


def print_of(tmp_path: Path, row: Mapping[str, Any], **changes: Any) -> str:
    return rendered(tmp_path, row, **changes).fingerprint


def test_a_fingerprint_changes_with_what_is_asked_or_scored_and_with_nothing_else(tmp_path: Path) -> None:
    row = {"prompt": "x", "label": "a"}
    same = print_of(tmp_path, row)
    assert print_of(tmp_path, dict(reversed(row.items()))) == same
    assert print_of(tmp_path, row, title="Another title") == same
    assert print_of(tmp_path, row, group="label") == same
    assert print_of(tmp_path, row, prompt="{{ prompt }}") == same
    assert print_of(tmp_path, row, generation={"max_new_tokens": 5}) == same  # the request's key tells that
    others = [
        print_of(tmp_path, {**row, "prompt": "x "}),
        print_of(tmp_path, {**row, "label": "b"}),
        print_of(tmp_path, {**row, "more": None}),
        print_of(tmp_path, row, version=2),
        print_of(tmp_path, row, name="other"),
        print_of(tmp_path, row, prompt="{{ prompt }}!"),
        print_of(tmp_path, row, messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_fingerprint_does_not_depend_on_where_the_row_stands(tmp_path: Path) -> None:
    _, second, _ = samples_of(task_of(tmp_path))
    (alone,) = samples_of(task_of(tmp_path, ROWS[1:2]))
    assert (second.id, alone.id) == ("0001", "0000")
    assert second.fingerprint == alone.fingerprint


def test_forgotten_rows_are_read_again(tmp_path: Path) -> None:
    data = archive(tmp_path, ROWS)
    task = task_of(tmp_path, data={"trustllm": "safety/x.json"})
    before = samples_of(task, data)
    data.forget()
    assert samples_of(task, data) == before


ENTRIES = [Entry(f"{i:04d}", (), (i,)) for i in range(50)]
CHOSEN = ["0001", "0006", "0019", "0029", "0041"]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5), st.sampled_from(["safety/a", "safety/b"]))
def test_a_smaller_limit_takes_a_part_of_what_a_larger_one_takes(low: int, high: int, seed: int, task: str) -> None:
    low, high = sorted((low, high))
    few, many = limited(ENTRIES, low, seed, task), limited(ENTRIES, high, seed, task)
    assert len(few) == min(low, 50)
    assert [e for e in many if e in few] == few  # in file order, and all of them
    assert limited(ENTRIES, low, seed, task) == few


def test_a_limit_depends_on_seed_and_task_alone() -> None:
    # written down: another choice would compare other samples with those of an older run
    assert [e.id for e in limited(ENTRIES, 5, 0, "safety/a")] == CHOSEN
    assert limited(ENTRIES, 5, 1, "safety/a") != limited(ENTRIES, 5, 0, "safety/a")
    assert limited(ENTRIES, 5, 0, "safety/b") != limited(ENTRIES, 5, 0, "safety/a")
    assert limited(ENTRIES, None, 0, "safety/a") == ENTRIES


def test_what_trust_data_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(tmp_path, ROWS)
    monkeypatch.chdir(tmp_path)
    assert open_data("sample").name == "sample"
    assert open_data("dataset/../dataset").name == "dataset"
    with pytest.raises(SuiteError, match=r"^--trust-data: none does not exist$"):
        open_data("none")


WHERES: dict[str, tuple[Mapping[str, Any], str]] = {
    # name: (condition, what is wrong with it)
    "value": ({"g": "3"}, "no row has g = '3'; known: 1, 2"),
    "a value nearly there": ({"word": "ge"}, "no row has word = 'ge'; known: de, fr"),
    "both": ({"g": 1, "word": "fr"}, "no row has g = '1' and word = 'fr'"),
}


@pytest.mark.parametrize("name", WHERES)
def test_a_metric_that_counts_no_row_is_a_mistake(tmp_path: Path, name: str) -> None:
    where, words = WHERES[name]
    rows = [{"prompt": "a", "k": 1, "lang": "de"}, {"prompt": "b", "k": 2, "lang": "fr"}]
    groups = {"g": "k", "word": "{{ lang }}"}
    metrics = ["mean", {"name": "some", "kind": "mean", "where": {"g": 2, "word": "fr"}}]
    DataSource(None).check_metrics(task_of(tmp_path, rows, group=groups, metrics=metrics))
    metrics.append({"name": "none", "kind": "mean", "where": dict(where)})
    with pytest.raises(SuiteError) as e:
        DataSource(None).check_metrics(task_of(tmp_path, rows, group=groups, metrics=metrics))
    assert str(e.value) == f"safety/t: metric 'none': where: {words}"
