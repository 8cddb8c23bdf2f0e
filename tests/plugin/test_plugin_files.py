"""The files that a run writes: where they cannot be is said before it, and one that is lost costs no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from user_project import Project

LOGGED = """
import pathlib
def answer(prompt):
    with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as f:
        f.write(prompt + "\\n")
    return "good"
"""
TAKEN = """
import pathlib
def pytest_trustllm_results(results, config):  # called before they are written
    for name in NAMES:
        pathlib.Path(name).mkdir(exist_ok=True)
"""
READING = """
dimension: safety
tasks:
  - name: rows
    data: {samples: rows.samples.jsonl}
    scorer: contains
    metrics: [accuracy]
  - name: shaped
    data: {samples: [{prompt: good}]}
    scorer: {name: json, schema: shape.json}
    metrics: [mean]
  - name: judged
    data: {samples: [{prompt: good}]}
    scorer: {name: judge, rubric: tone.json, labels: {good: 1, bad: 0}}
    metrics: [mean]
"""
BOTH = ("--trust-model=python:app:answer", "--trust-model=python:other:answer")
USAGE = pytest.ExitCode.USAGE_ERROR
FAILED = pytest.ExitCode.TESTS_FAILED
RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-chown,-fowner"]
"""Makes the permissions of files count for root too."""


@pytest.fixture
def logged(project: Project) -> Project:
    """A project whose app writes down what it is asked."""
    project.write("app.py", LOGGED)
    return project


def files(project: Project) -> set[str]:
    """Return everything in the project, without what pytester and Python leave there."""
    found = {path.relative_to(project.path) for path in project.path.rglob("*") if "__pycache__" not in path.parts}
    return {
        str(path)
        for path in found
        if path.parts[0] not in ("stdout", "stderr", "runpytest-0", "runpytest-current", ".pytest_cache")
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trust-results=taken/r.json"], "--trust-results: *taken/r.json cannot be made: *taken is no directory; *"),
        (["--trust-report=taken/a/r.html"], "--trust-report: *r.html cannot be made: *taken is no directory; *"),
        ([f"--trust-report={'h' * 300}.html"], "--trust-report: *.html cannot be written: its name is too long; *"),
        ([f"--trust-report=new/{'é' * 130}/r.html"], "--trust-report: *: its name is too long; *"),
        # the file itself could be made, that of the samples or the temporary one not
        ([f"--trust-results={'x' * 235}.json"], "--trust-results: *x.samples.jsonl cannot be written: its name is *"),
        ([f"--trust-report={'x' * 245}.html"], "--trust-report: *x.html cannot be written: its name is too long; *"),
        (["--trust-results=full.json"], "--trust-results: *full.samples.jsonl cannot be written: it is a directory; *"),
        ([f"--junitxml={'j' * 256}"], "--junitxml: *: its name is too long; *"),
        (["--trust-history=" + "h" * 260], "--trust-history: *: its name is too long; *"),
        (["--trust-history=" + "h" * 250 + ".db"], "--trust-history: *: its name is too long; *"),
    ],
)
def test_a_file_that_cannot_be_made_ends_the_run_before_it_costs_anything(
    logged: Project, arguments: list[str], said: str
) -> None:
    logged.write("taken", "a file where a directory should be")
    (logged.path / "full.samples.jsonl").mkdir()
    before = files(logged)
    result = logged.run(*arguments)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"ERROR: {said}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert logged.log() == []
    assert files(logged) == before


@pytest.mark.parametrize("flag", ["--trust-results=locked/new/r.json", "--trust-report=locked/r.html"])
def test_a_directory_in_which_nobody_may_write_is_noticed_before_the_run(logged: Project, flag: str) -> None:
    done = run_with_rights(logged, flag)
    assert done.returncode == USAGE
    name, _, path = flag.partition("=")
    assert (
        f"ERROR: {name}: {logged.path}/{path} cannot be written: {logged.path}/locked is not writable; " in done.stderr
    )
    assert logged.log() == []


def test_files_are_checked_only_where_they_would_be_written(logged: Project) -> None:
    done = run_with_rights(logged, "--trust-results=locked/r.json", "--collect-only")
    assert done.returncode == 0, done.stderr


def test_a_store_in_which_nobody_may_write_is_noticed_before_the_run(logged: Project) -> None:
    logged.write("models.yaml", "mine: {provider: python, model: 'app:answer', revision: v1}\n")
    models = ("-o", "trust_models=models.yaml", "--trust-model=mine", "--trust-store=locked/store")
    done = run_with_rights(logged, *models, model=None)
    assert done.returncode == USAGE
    store = logged.path / "locked"
    assert (
        f"ERROR: --trust-store: {store}/store cannot be written: {store} is not writable; give another" in done.stderr
    )
    assert logged.log() == []


@pytest.mark.parametrize("model", ["python:app:answer", "replay:r.samples.jsonl"])
def test_models_whose_answers_are_not_kept_need_no_store(project: Project, model: str) -> None:
    project.run()
    done = run_with_rights(project, "--trust-store=locked", model=model)
    assert "cannot be" not in done.stdout + done.stderr
    assert done.returncode == 0


def run_with_rights(
    project: Project, *arguments: str, model: str | None = "python:app:answer"
) -> subprocess.CompletedProcess[str]:
    """Run pytest as somebody for whom the permissions of ``locked`` count."""
    command = [sys.executable, "-m", "pytest", *arguments]
    if model is not None:
        command.append(f"--trust-model={model}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        if shutil.which(RIGHTS[0]) is None:
            pytest.skip("root may write everywhere, and setpriv is missing")
        command = [*RIGHTS, *command]
    (project.path / "locked").mkdir(mode=0o555)
    return subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=False, timeout=90)


@pytest.mark.parametrize("args", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)])
def test_a_run_without_an_item_says_that_it_has_no_results(project: Project, args: tuple[str, ...]) -> None:
    shutil.rmtree(project.path / "suites")
    project.write("test_own.py", "def test_own():\n    pass\n")
    found = project.run(*args)
    assert found.ret == 0
    line = f"trust: no item of a suite ran, so there are no results; not written: {project.path / 'r.json'}"
    assert line in found.outlines
    assert not (project.path / "r.json").exists()


def test_a_directory_that_is_not_there_is_made(project: Project) -> None:
    result = project.run("--trust-report=new/dir/r.html", "--junitxml=other/dir/j.xml")
    result.stdout.fnmatch_lines(["report: *new/dir/r.html"])
    assert (project.path / "other/dir/j.xml").exists()


def test_results_that_cannot_be_written_cost_neither_report_nor_history(project: Project) -> None:
    project.write("conftest.py", TAKEN.replace("NAMES", "['r.json']"))
    result = project.run("--trust-report=r.html", "--trust-history=runs")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["report: *r.html", "history: *runs", "ERROR: --trust-results: *r.json cannot be written: *"]
    )
    result.stdout.no_fnmatch_line("results: *")
    assert (project.path / "r.html").exists()
    assert len(list((project.path / "runs").glob("*.json"))) == 1


def test_files_of_one_model_that_cannot_be_written_cost_the_other_model_none(project: Project) -> None:
    project.write("other.py", (project.path / "app.py").read_text())
    names = [f"r.python-app-answer.{ending}" for ending in ("json", "html")]
    project.write("conftest.py", TAKEN.replace("NAMES", repr([*names, "r.html"])))
    result = project.run(*BOTH, "--trust-results=r.json", "--trust-report=r.html", model=None)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        [
            "results: *r.python-other-answer.json",
            "report: *r.python-other-answer.html",
            "ERROR: --trust-results: *r.python-app-answer.json cannot be written: *",
            "ERROR: --trust-report: *r.python-app-answer.html cannot be written: *",
            "ERROR: --trust-report: *r.html cannot be written: *",
        ],
        consecutive=False,
    )
    result.stdout.no_fnmatch_line("report of all models: *")
    assert project.results("r.python-other-answer.json")["metrics"]
    assert (project.path / "r.python-other-answer.html").is_file()


def test_a_history_is_named_only_if_the_run_was_added(project: Project) -> None:
    taken = "import pathlib\ndef pytest_trustllm_results(results, config): pathlib.Path('runs').write_text('')\n"
    project.write("conftest.py", taken)
    result = project.run("--trust-history=runs")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["results: *r.json", "ERROR: --trust-history: *runs*cannot be written: *"])
    result.stdout.no_fnmatch_line("history: *")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--trust-results=suites/rows.json"],
            "--trust-results: *rows.samples.jsonl is also the file of the suite mine",
        ),
        (["--trust-results=suites/shape.json"], "--trust-results: *shape.json is also the file of the suite mine"),
        (["--trust-results=suites/tone.json"], "--trust-results: *tone.json is also the file of the suite mine"),
        (["--junitxml=suites/mine.yaml"], "--junitxml: *mine.yaml is also the file of the suite mine"),
        (["--junitxml=models.yaml"], "--junitxml: *models.yaml is also the file of the models file"),
        (["--trust-card=card.md", "--junitxml=card.md"], "--junitxml: *card.md is also the file of --trust-card"),
        (
            ["--trust-data=data", "--trust-results=data/safety/jailbreak.json"],
            "--trust-results: *jailbreak.json is also the file of --trust-data",
        ),
    ],
)
def test_a_run_does_not_overwrite_what_it_reads(logged: Project, arguments: list[str], said: str) -> None:
    logged.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    logged.write("models.yaml", "mine: {provider: python, model: 'app:answer'}\n")
    logged.write("card.md", "# Card\n")
    logged.write("data/safety/jailbreak.json", "[]")
    logged.write("suites/mine.yaml", READING)
    logged.write("suites/rows.samples.jsonl", '{"prompt": "good", "label": "good"}\n')
    logged.write("suites/shape.json", '{"type": "object"}')
    logged.write("suites/tone.json", "Is it polite?")
    result = logged.run(*arguments)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"ERROR: {said} and would be overwritten; name another file"])
    assert logged.log() == []


@pytest.mark.parametrize("role", ["model", "judge"])
def test_a_run_does_not_overwrite_the_responses_that_it_plays_back(project: Project, role: str) -> None:
    project.run()
    before = (project.path / "r.samples.jsonl").read_bytes()
    models = ["--trust-model=python:app:answer", "--trust-judge=replay:r.samples.jsonl"]
    if role == "model":
        models = ["--trust-model=replay:r.samples.jsonl"]
    result = project.run(*models, "--trust-results=r.json", model=None)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["ERROR: --trust-results: *r.samples.jsonl is also the file of the model *replay:*"])
    assert (project.path / "r.samples.jsonl").read_bytes() == before
    assert Path(project.path / "r.json").exists()
