"""Results and samples files that were changed, cut or written by something else, read by every command that reads them.

A command ends with a result or with one line and exit status 4; it never raises, hangs, or judges what is not whole.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from user_project import Project

import pytest_trustllm.cli as cli

JUNK: list[Any] = [
    *(None, True, -1, 10**29, 1e308, 10**400, float("nan"), float("inf"), "x", "9" * 5000),
    "\x1b[2J\u202e</script><script>alert(1)</script>",
    "../../../../etc/passwd",
    "\0",
    [],
    {},
    [[]],
    {"a": {}},
]
COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "gate": lambda file: ["gate", file],
    "propose": lambda file: ["gate", file, "--propose", "-o", "prop"],
    "baseline": lambda file: ["gate", "base.json", "--baseline", file],
    "compare": lambda file: ["compare", "base.json", file],
    "compare old": lambda file: ["compare", file, "base.json"],
    "report": lambda file: ["report", file, "-o", "o.html"],
    "report two": lambda file: ["report", file, "base.json", "-o", "o.html"],
    "csv": lambda file: ["export", file, "-o", "o.csv"],
    "inspect": lambda file: ["export", file, "--format", "inspect", "-o", "o"],
    "badge": lambda file: ["badge", file, "-o", "o"],
    "merge": lambda file: ["merge", "s2.json", file, "-o", "m.json"],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with saved runs: r.json of two epochs, base.json, and the shards s1.json and s2.json."""
    import os
    import subprocess
    import sys

    path = tmp_path_factory.mktemp("saved")
    for file in ("suites", "thresholds"):
        (path / file).mkdir()
    Project(type("At", (), {"path": path})())  # type: ignore[arg-type]
    (path / "thresholds/safety.yaml").write_text(
        "dimension: safety\ngates:\n  - {metric: echo.accuracy, at_least: 0.5}\n"
        "  - {metric: score, at_least: 0.5, confidence: 0.9}\n"
    )
    runs = {"r": "--trust-epochs=2", "base": "-q", "s1": "--trust-shard=1/2", "s2": "--trust-shard=2/2"}
    for name, option in runs.items():
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", option]
        command += ["--trust-model=python:app:answer", f"--trust-results={name}.json"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
        assert (path / f"{name}.json").exists(), done.stdout + done.stderr
    return path


@pytest.fixture
def run(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the saved runs, which is the current directory."""
    where = tmp_path / "run"
    shutil.copytree(saved, where)
    monkeypatch.chdir(where)
    return where


def call(name: str, capsys: pytest.CaptureFixture[str], file: str = "x.json") -> tuple[int, str]:
    """Return exit status and output of a command."""
    status = cli.main(COMMANDS[name](file))
    found = capsys.readouterr()
    text = found.out + found.err
    assert status in (0, 1, 4)
    assert all(character.isprintable() or character in "\n\t" for character in text), text
    return status, text


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places in a document; of a list, the first two entries."""
    if path:
        yield path
    entries = enumerate(value[:2]) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for step, entry in entries:
        yield from walk(entry, (*path, step))


def changed(document: Any, path: tuple[Any, ...], junk: Any) -> Any:
    """Return a copy of a document with another value at a place; ``Ellipsis``: without what is there."""
    document = copy.deepcopy(document)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    if junk is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = junk
    return document


def test_the_commands_work_on_what_is_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        status, text = call(name, capsys, "s1.json" if name == "merge" else "r.json")
        assert status in (0, 1), (name, text)


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("source", ["r", "s1"])
def test_a_changed_results_file(run: Path, capsys: pytest.CaptureFixture[str], source: str, count: int) -> None:
    names = ["merge"] if source == "s1" else [name for name in COMMANDS if name != "merge"]
    document = json.loads(Path(f"{source}.json").read_text())
    changes = [(path, junk) for path in walk(document) for junk in (..., *JUNK)]
    dice = random.Random(count)
    for path, junk in dice.sample(changes, min(count, len(changes))):
        Path("x.json").write_text(json.dumps(changed(document, path, junk)))
        for name in dice.sample(names, min(3, len(names))):
            try:
                call(name, capsys)
            except Exception as e:  # noqa: BLE001 - whatever it is, it must not happen
                pytest.fail(f"{name}: {path} = {junk!r:.40}: {type(e).__name__}: {e}")


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("source", ["r", "s1"])
def test_a_changed_samples_file(run: Path, capsys: pytest.CaptureFixture[str], source: str, count: int) -> None:
    names = ["merge"] if source == "s1" else [name for name in COMMANDS if name != "merge"]
    document = {**json.loads(Path(f"{source}.json").read_text()), "samples": "x.samples.jsonl"}
    Path("x.json").write_text(json.dumps(document))
    lines = Path(f"{source}.samples.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    changes = [(path, junk) for path in walk(first) for junk in (..., *JUNK)]
    dice = random.Random(count)
    for path, junk in dice.sample(changes, min(count, len(changes))):
        text = "\n".join([json.dumps(changed(first, path, junk)), *lines[1:]])
        Path("x.samples.jsonl").write_text(text + "\n")
        for name in dice.sample(names, min(3, len(names))):
            try:
                call(name, capsys)
            except Exception as e:  # noqa: BLE001 - whatever it is, it must not happen
                pytest.fail(f"{name}: {path} = {junk!r:.40}: {type(e).__name__}: {e}")


WHOLES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "zeros": lambda data: b"\0" * 1000,
    "cut": lambda data: data[:-30],
    "not UTF-8": lambda data: data.replace(b"safety", b"saf\xff\xfety"),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "twice": lambda data: data * 2,
    "a list before": lambda data: b"[]\n" + data,
    "deep": lambda data: b"[" * 200_000 + b"\n" + data,
    "deep mapping": lambda data: b'{"a":' * 100_000 + b"\n" + data,
    "a blank line": lambda data: b"\n" + data,
}


@pytest.mark.parametrize("what", WHOLES)
@pytest.mark.parametrize("where", ["x.json", "x.samples.jsonl"])
def test_a_file_that_is_not_whole_is_not_judged(
    run: Path, capsys: pytest.CaptureFixture[str], what: str, where: str
) -> None:
    document = {**json.loads(Path("r.json").read_text()), "samples": "x.samples.jsonl"}
    Path("x.json").write_text(json.dumps(document))
    shutil.copy("r.samples.jsonl", "x.samples.jsonl")
    Path(where).write_bytes(WHOLES[what](Path(where).read_bytes()))
    if (what, where) == ("a blank line", "x.json"):
        return
    for name in ("gate", "baseline", "compare", "report", "csv", "inspect"):
        status, text = call(name, capsys)
        if name == "gate" or where == "x.json":
            assert status in (1, 4), (name, text)
            assert where in text or "never ran" in text


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "../base.samples.jsonl", "a/b", "x\0y", "x\ny"])
def test_a_samples_file_elsewhere_is_not_read(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    document = {**json.loads(Path("r.json").read_text()), "samples": name}
    Path("x.json").write_text(json.dumps(document))
    for command in COMMANDS:
        if command != "merge":
            status, text = call(command, capsys)
            assert status == 4
            assert "samples: expected the name of a file in the same directory" in text


def test_counts_that_cannot_be_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(Path("r.json").read_text())
    for change in ({"scored": 16}, {"lost": 5}, {"expected": 1}, {"collected": 2}):
        coverage = {**document["coverage"]["safety/echo"], **change}
        Path("x.json").write_text(json.dumps({**document, "coverage": {"safety/echo": coverage}}))
        status, text = call("gate", capsys)
        assert (status, "coverage of safety/echo" in text) == (4, True)


def test_a_metric_that_is_gone_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(Path("r.json").read_text())
    del document["metrics"]["safety/echo.accuracy"]
    Path("x.json").write_text(json.dumps(document))
    for name in COMMANDS:
        if name != "merge":
            status, text = call(name, capsys)
            assert (status, "there is no metric 'safety/echo.accuracy' in the file" in text) == (4, True)
