"""--trust-history: every run is added, without its texts."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest
from user_project import Project, in_every_mode

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def entries(project: Project, directory: str = "runs") -> list[str]:
    return [path.read_text() for path in sorted((project.path / directory).glob("*.json"))]


@in_every_mode
def test_a_run_is_added_to_a_directory(project: Project, mode: tuple[str, ...]) -> None:
    result = project.run("--trust-history=runs", "--trust-report=r.html", *mode)
    result.stdout.fnmatch_lines(["history: *runs"])
    project.run("--trust-history=runs", *mode)
    # both runs may have begun in the same second
    first = next(text for text in entries(project) if '"../r.html"' in text)
    entry = json.loads(first)
    assert len(entries(project)) == 2
    assert entry["schema"] == "pytest-trustllm/history/1"
    assert entry["results"]["metrics"] == project.results()["metrics"]
    assert entry["scores"]["safety/echo"]["values"] == [1.0, 0.0, 1.0]
    assert entry["report"] == "../r.html"
    assert "hello good world" not in first
    assert "you said" not in first


def test_the_ini_key_and_the_database_of_the_store(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_history = sqlite\n")
    project.run()
    project.run()
    database = sqlite3.connect(project.path / ".trustllm/history.sqlite")
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    database.close()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file", "*file is a file; give a directory*"),
        ("file/runs", "*file/runs cannot be made: *file is no directory; give another path"),
        ("file/a/runs.sqlite", "*runs.sqlite cannot be made: *file is no directory; give another path"),
        ("text.sqlite", "*text.sqlite is not a history: file is not a database"),
        ("other.sqlite", "*other.sqlite is not a history: it is a database of something else"),
        (
            "same.sqlite",
            "*same.sqlite is not a history: expected one table, runs (id, *",
        ),
        ("newer.sqlite", "*newer.sqlite is a history of version 7, this pytest-trustllm has 1; use another file"),
        pytest.param(
            "locked/runs",
            "*runs cannot be written: *locked is not writable; give another path",
            marks=pytest.mark.skipif(ROOT, reason="root may write everywhere"),
        ),
    ],
)
def test_what_cannot_be_a_history_ends_the_run_before_it_costs_anything(
    project: Project, path: str, message: str
) -> None:
    project.write("file", "a file")
    project.write("text.sqlite", "no database at all\n" * 100)
    for name, version in (("other", 0), ("same", 1), ("newer", 7)):
        with closing(sqlite3.connect(project.path / f"{name}.sqlite")) as database, database:
            database.execute("CREATE TABLE people (name TEXT)")
            database.execute(f"PRAGMA user_version = {version}")
    (project.path / "locked").mkdir(mode=0o500)
    result = project.run(f"--trust-history={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1
    result.stderr.fnmatch_lines([f"ERROR: --trust-history: {message}"])
    assert not (project.path / "calls.txt").exists()
    assert not (project.path / "r.json").exists()


def test_a_directory_that_is_not_there_is_made(project: Project) -> None:
    assert project.run("--trust-history=new/runs").ret == pytest.ExitCode.OK
    assert len(entries(project, "new/runs")) == 1


def test_shards_are_added_as_the_whole_that_they_are(project: Project) -> None:
    project.samples(8)
    for shard in ("1", "2"):
        result = project.run(f"--trust-shard={shard}/2", f"--trust-results=s{shard}.json", "--trust-history=runs")
        result.stdout.fnmatch_lines(["history: a shard is not a run*"])
    assert entries(project) == []
    project.command("merge", "s1.json", "s2.json", "-o", "whole.json", "--history", "runs")
    (entry,) = map(json.loads, entries(project))
    assert len(entry["scores"]["safety/many"]["ids"]) == 8


def test_the_commit_is_recorded(project: Project) -> None:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    project._pytester.run("git", "init", "-q", "-b", "trunk")
    project._pytester.run("git", "add", "app.py")
    project._pytester.run(*git, "commit", "-q", "-m", "first")
    head = project._pytester.run("git", "rev-parse", "HEAD").outlines[0]
    project.run()
    assert project.results()["run"]["commit"] == {"id": head, "branch": "trunk", "changed": False}
    project.write("app.py", "def answer(prompt):\n    return 'good'\n")
    project.run()
    assert project.results()["run"]["commit"]["changed"] is True


# --- forty runs of the demo model -------------------------------------------------------------------------------------

REPLAY = """
# the demo model's recorded answers; a few differ in every run, and from the planted run on, some jailbreaks succeed
import json, os, random
from pathlib import Path

answers = {}
for line in Path("demo.samples.jsonl").read_text(encoding="utf-8").splitlines():
    sample = json.loads(line)
    for prompt, response in zip(sample["prompts"], sample["responses"]):
        answers[prompt[-1][1]] = (sample["task"], sample["id"], response["text"])
run = int(os.environ["RUN"])
moved = json.loads(os.environ["MOVED"])

def answer(prompt):
    task, id_, text = answers[prompt]
    if run >= int(os.environ["PLANTED"]) and task == "safety/jailbreak" and id_ in moved:
        return "Yes. Here is how to do it: first take the tools, then open the door."
    if random.Random(f"{run} {prompt}").random() < 0.03:
        return "I am sorry, but I cannot help with that."
    return text
"""
OTHER_TASKS = ("safety/misuse", "safety/exaggerated_safety")


@pytest.mark.slow
def test_forty_runs_of_the_demo_name_the_planted_run_and_its_samples(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = [f"--trust-suite={name}" for name in ("safety/jailbreak", *OTHER_TASKS)]
    project.write("pytest.ini", "[pytest]\n")
    (project.path / "suites/mine.yaml").unlink()
    project.run(*suites, "--trust-results=demo.json", model="demo", timeout=300)
    refused = [
        line["id"]
        for line in project.lines("demo.samples.jsonl")
        if line["task"] == "safety/jailbreak" and line["value"] == 1.0
    ]
    moved = refused[:5]
    project.write("app.py", REPLAY)
    monkeypatch.setenv("MOVED", json.dumps(moved))
    monkeypatch.setenv("PLANTED", "27")
    for run in range(1, 41):
        monkeypatch.setenv("RUN", str(run))
        result = project.run(*suites, "--trust-history=runs", "--trust-fresh", "-p", "no:xdist")
        assert result.ret in (0, 1), result.stdout.str()
    bisected = project.command("bisect", "runs")
    assert bisected.returncode == 0
    out = bisected.stdout
    lines = out.splitlines()
    assert len([line for line in lines if " in run " in line and not line.startswith(" ")]) == 1, out
    assert lines[0].startswith("safety/jailbreak.refusal_rate: 0.7")
    assert " in run 27 of 40 (" in lines[0]
    named = [line.split()[0] for line in lines if line.startswith("    safety/jailbreak[")]
    assert named[: len(moved)] == [f"safety/jailbreak[{id_}]" for id_ in moved]


# --- a run that can be traced -----------------------------------------------------------------------------------------


def test_the_numbers_of_a_run_are_computed_again_from_its_samples(
    project: Project,
) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.1")
    project.run()
    verified = project.command("verify", "r.json")
    assert verified.returncode == 1
    out = verified.stdout
    assert "ok  computed again: 3 metrics from 3 samples, to the last digit" in out
    assert "NO  model revision: is not recorded" in out
    assert "ok  threshold hashes: recorded for 1" in out
    assert "ok  data hashes: recorded for 1" in out
    results = project.results()
    results["metrics"]["safety/echo.accuracy"]["value"] = 0.9
    project.write("r.json", json.dumps(results))
    out = project.command("verify", "r.json").stdout
    assert "NO  computed again: 1 metrics differ: safety/echo.accuracy" in out
