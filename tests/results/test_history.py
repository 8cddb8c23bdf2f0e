"""Runs over time: kept, read back, and what changed in them."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - pytester forgets what a test imports, and numpy cannot be loaded twice
import pytest
import saved_run

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.results import history
from pytest_trustllm.results.history_changes import changes_of, events_of

TASKS = ("safety/jailbreak", "ethics/awareness", "privacy/leakage")
SECRET = "the text of an answer"


def entry(number: int, values: dict[str, list[float | None]], **run: Any) -> Any:
    """Return a run with these scores, on day ``number``."""
    metrics = {}
    records = []
    for task, scores in values.items():
        scored = [value for value in scores if value is not None]
        metrics[f"{task}.rate"] = {
            "value": sum(scored) / len(scored) if scored else None, "parity": None, "ci": None, "confidence": None,
            "method": None, "expected": len(scores), "scored": len(scored), "unscored": len(scores) - len(scored),
            "higher_is_better": True, "range": [0.0, 1.0],
        }  # fmt: skip
        for place, value in enumerate(scores):
            records.append(
                saved_run.sample_line(
                    task=task, id=f"{place:04}", fingerprint=f"f{place}", value=value, answer=SECRET, reason=SECRET
                )
            )
    moment = f"2026-01-{number // 24 + 1:02}T{number % 24:02}:00:00+00:00"
    results = saved_run.results(run={"id": f"{number:032}", "started": moment, **run}, metrics=metrics)
    return history.entry_of(results, records)


def forty(planted: int = 25, **later: Any) -> list[Any]:
    """Return 40 noisy runs; from one run on, six samples of one task fail that passed before."""
    noise = random.Random(3)
    entries = []
    for number in range(40):
        values: dict[str, list[float | None]] = {}
        for task in TASKS:
            base = [float(place % 4 != 0) for place in range(20)]
            values[task] = [1 - value if noise.random() < 0.05 else value for value in base]
        if number >= planted:
            values["safety/jailbreak"][5:8] = [0.0, 0.0, 0.0]
            values["safety/jailbreak"][13:16] = [0.0, 0.0, 0.0]
        entries.append(entry(number, values, **(later if number >= planted else {})))
    return entries


# --- what changed -----------------------------------------------------------------------------------------------------


def test_the_planted_change_and_its_samples_are_named_and_nothing_else() -> None:
    (change,) = changes_of(forty())
    assert (change.task, change.run, change.previous) == ("safety/jailbreak", 25, 24)
    assert {sample.id for sample in change.samples[:6]} == {"0005", "0006", "0007", "0013", "0014", "0015"}
    assert change.before is not None
    assert change.after is not None
    assert change.before > change.after
    assert change.causes == []


@pytest.mark.parametrize("planted", [3, 20, 38, 39])
def test_wherever_it_is_planted(planted: int) -> None:
    assert [change.run for change in changes_of(forty(planted))] == [planted]


def test_a_change_of_the_judge_is_not_read_as_the_models() -> None:
    entries = forty(roles={"judge": {"name": "other", "provider": "openai", "id": "gpt-5"}})
    (change,) = changes_of(entries)
    assert [(cause.kind, cause.text) for cause in change.causes] == [("judge", "other added")]


def test_settings_that_differ_are_events() -> None:
    model = {"name": "m", "provider": "hf", "revision": "a"}
    values = {"safety/jailbreak": [1.0]}
    entries = [
        entry(0, values, model=model),
        entry(1, values, model={**model, "revision": "b", "about": {"x": 1}}),
        entry(2, values, model={**model, "revision": "b"}, data={"source": "data.zip", "files": {"a": "1"}}),
        entry(3, values, model={**model, "revision": "b"}, data={"source": "data.zip", "files": {"a": "2"}},
              task_versions={"safety/jailbreak": 1}, thresholds={"t.yaml": "1"}),
        entry(4, values, model={**model, "revision": "b"}, data={"source": "data.zip", "files": {"a": "2"}},
              task_versions={"safety/jailbreak": 2}, thresholds={"t.yaml": "2"}, plugin_version="0.2.0"),
    ]  # fmt: skip
    assert [(event.run, event.kind, event.text) for event in events_of(entries)] == [
        (1, "model", "revision a to b"),
        (2, "data", "a"),
        (3, "data", "a"),
        (3, "thresholds", "t.yaml"),
        (4, "suite", "safety/jailbreak version 1 to 2"),
        (4, "thresholds", "t.yaml"),
        (4, "plugin", "0.1.0 to 0.2.0"),
    ]


def test_other_samples_are_never_compared() -> None:
    values: dict[str, list[float | None]] = {"safety/jailbreak": [1.0] * 20}
    entries = [entry(number, values) for number in range(5)]
    other = [entry(number, {"safety/jailbreak": [0.0] * 20}) for number in range(5, 10)]
    for each in other:
        each["scores"]["safety/jailbreak"]["fingerprints"] = [f"g{place}" for place in range(20)]
    assert changes_of([*entries, *other]) == []


def test_a_part_and_a_run_without_a_judge_are_left_out_of_the_test() -> None:
    entries = forty()
    part = entry(30, {"safety/jailbreak": [1.0] * 5})
    unscored = entry(31, {"safety/jailbreak": [None] * 20})
    entries[30:32] = [part, unscored]
    assert [change.run for change in changes_of(entries)] == [25]


# --- kept and read back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["runs", "runs.sqlite"])
def test_a_run_is_read_back_without_its_texts(tmp_path: Path, name: str) -> None:
    path = tmp_path / "below" / name
    for number in (1, 0):
        history.append(path, entry(number, {"safety/jailbreak": [1.0, None]}), "--trust-history")
    kept = history.read([path])
    assert [each["results"]["run"]["id"] for each in kept.entries] == [f"{number:032}" for number in (0, 1)]
    assert kept.entries[0]["scores"]["safety/jailbreak"]["values"] == [1.0, None]
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    assert not any(SECRET.encode() in file.read_bytes() for file in files)


def test_a_run_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c.db"):
        history.append(tmp_path / name, entry(1, {"safety/jailbreak": [1.0]}), "--trust-history")
    assert len(history.read([tmp_path / "a", tmp_path / "b", tmp_path / "c.db"]).entries) == 1


def test_artifacts_of_ci_are_a_history(tmp_path: Path) -> None:
    for number in range(3):
        directory = tmp_path / f"trust-{number}"
        directory.mkdir()
        results = saved_run.results(run={"id": str(number)}, samples="t.samples.jsonl")
        (directory / "t.json").write_text(json.dumps(results))
        (directory / "t.samples.jsonl").write_text(json.dumps(saved_run.sample_line(answer=SECRET)) + "\n")
    (tmp_path / "package.json").write_text("{}")
    kept = history.read([tmp_path])
    assert len(kept.entries) == 3
    assert kept.ignored == [tmp_path / "package.json"]
    assert SECRET not in json.dumps(kept.entries)


@pytest.mark.parametrize("content", [b"", b'{"schema": "pytest-trustllm/hist', b"\xff\xfe"])
def test_a_broken_file_beside_the_runs_is_left_out_with_the_reason(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "jobs" / "cut.json"
    broken.parent.mkdir()
    broken.write_bytes(content)
    with pytest.raises(ResultsError, match=r"no run is in it \(.*cut\.json: (not JSON|is not UTF-8)"):
        history.read([tmp_path])
    history.append(tmp_path, entry(1, {"safety/jailbreak": [1.0]}), "--trust-history")
    kept = history.read([tmp_path])
    assert (len(kept.entries), kept.ignored, list(kept.unreadable)) == (1, [], [broken])
    assert kept.unreadable[broken].startswith(f"{broken}: ")
    with pytest.raises(ResultsError, match=r"cut\.json: (not JSON|is not UTF-8)"):
        history.read([broken])


def spoilt(tmp_path: Path, **changes: Any) -> Path:
    document = {**entry(1, {"safety/jailbreak": [1.0]}), **changes}
    (tmp_path / "h").mkdir()
    (tmp_path / "h/1.json").write_text(json.dumps(document))
    return tmp_path / "h"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "pytest-trustllm/history/2"}, "expected schema pytest-trustllm/history/1, found"),
        ({"scores": 7}, "not a complete entry of a history: scores: expected a mapping"),
        (
            {"scores": {"a/b": {"ids": ["1"], "fingerprints": [], "values": [], "clusters": []}}},
            "scores['a/b']: its lists differ in length",
        ),
    ],
)
def test_another_version_and_a_broken_entry_are_one_line(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ResultsError) as caught:
        history.read([spoilt(tmp_path, **changes)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_of_another_version_or_of_something_else_is_one_line(tmp_path: Path) -> None:
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("PRAGMA user_version = 7")
    newer.close()
    (tmp_path / "text.db").write_text("hello " * 1000)
    for name, message in (("newer.sqlite", "is a history of version 7"), ("text.db", "is not a history")):
        with pytest.raises(ResultsError, match=message):
            history.read([tmp_path / name])
        with pytest.raises(ResultsError, match=message):
            history.check_writable(tmp_path / name, "--trust-history")


TABLE = "CREATE TABLE runs (id TEXT PRIMARY KEY, started TEXT, document TEXT)"
ENDLESS = """
WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT x AS id, x AS started, '{}' AS document FROM a
"""
DATABASES = {
    "a view that never ends": [f"CREATE VIEW runs AS {ENDLESS}"],
    "computed documents": ["CREATE TABLE runs (id, started, document AS (printf('%.*c', 900000000, 'x')))"],
    "a trigger": [TABLE, "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END"],
    "another table": [TABLE, "CREATE TABLE users (name)"],
    "no table": ["CREATE TABLE users (name)"],
    "no id": ["CREATE TABLE runs (started, document)"],
    "no text": [TABLE, "INSERT INTO runs VALUES ('a', 'b', CAST(x'ff80' AS TEXT))"],
    "no document": [TABLE, "INSERT INTO runs VALUES ('a', 'b', NULL)"],
    "a number": [TABLE, "INSERT INTO runs VALUES (1, 2, 3)"],
    "a long document": [TABLE, "INSERT INTO runs VALUES ('a', 'b', printf('%.*c', 400000000, 'x'))"],
}


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_of_somebody_else_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        for statement in [*DATABASES[name], "PRAGMA user_version = 1"]:
            database.execute(statement)
    with pytest.raises(ResultsError) as e:
        history.read([path])
    assert str(path) in str(e.value)
    assert str(e.value).isprintable()


@pytest.mark.parametrize(
    "changes",
    [
        {"started": "../../there/2026"},
        {"started": "/there"},
        {"started": "2026\0"},
        {"started": "9" * 5000},
        {"id": "../x"},
    ],
)
def test_a_file_is_named_by_no_text_of_somebody_else(tmp_path: Path, changes: Any) -> None:
    written = entry(1, {"safety/jailbreak": [1.0]})
    written["results"]["run"].update(changes)
    for _ in range(2):  # the same run twice is one
        history.append(tmp_path / "h", written, "--trust-history")
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert file.parent == tmp_path / "h"
    assert re.fullmatch(r"unknown-[0-9a-f]{12}\.json", file.name)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_database_is_its_owners_alone(tmp_path: Path) -> None:
    history.append(tmp_path / "runs.sqlite", entry(1, {"safety/jailbreak": [1.0]}), "--trust-history")
    assert (tmp_path / "runs.sqlite").stat().st_mode & 0o777 == 0o600


def test_no_history_and_an_empty_one_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="there is no such history"):
        history.read([tmp_path / "none"])
    with pytest.raises(ResultsError, match="no run is in it"):
        history.read([tmp_path])
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="is a file; give a directory"):
        history.check_writable(tmp_path / "file", "--trust-history")
