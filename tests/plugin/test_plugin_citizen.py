"""What pytest, its users and other plugins may do to any test, they may do to items and gates."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from user_project import MAYBE_N2, Project, statuses

OK, FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
PLUGINS = {
    "--timeout": "pytest_timeout",
    "--disable-socket": "pytest_socket",
    "--retries": "pytest_retry",
    "--splits": "pytest_split",
    "--benchmark-only": "pytest_benchmark",
}
APP = """
import pytest
from pytest_trustllm import TrustModel

@pytest.fixture(scope="SCOPE")
def trust_model():
    return TrustModel.from_callable(lambda prompt: "you said " + prompt, name="bot", max_concurrency=4)
"""


def needs(flag: str) -> None:
    pytest.importorskip(PLUGINS[flag], reason=f"needs {PLUGINS[flag]}")


def quiet(result: pytest.RunResult) -> str:
    """Return all output, in which pytest reports no internal error."""
    text = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in text, text
    return text


SKIPS = """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        assert item.module.__name__ and item.cls is None and "x" not in item.fixturenames
        if item.name in MARKED:
            item.add_marker(pytest.mark.skip(reason="quarantine"))

@pytest.fixture(scope="module", autouse=True)
def database(request):
    yield request.module.__name__

@pytest.fixture(autouse=True)
def need(request, database):
    if request.node.name == "echo[0002]":
        pytest.skip(f"not here: {database}")
"""


def test_items_and_gates_can_be_skipped_and_have_a_module(project: Project, mode: tuple[str, ...]) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.1", "metric: score, at_least: 0.0")
    project.write("conftest.py", SKIPS.replace("MARKED", "('echo[0001]', 'score[at_least]')"))
    result = project.run("-rs", *mode)
    text = quiet(result)
    assert "not here: mine" in text
    assert text.count("quarantine") >= 1
    assert result.ret == FAILED  # two of three samples have no score, whoever left them out
    outcomes = {gate["id"]: gate["outcome"] for gate in project.results()["gates"]}
    assert outcomes["thresholds/safety.yaml::echo.accuracy[at_least]"] == "failed"


@pytest.mark.parametrize("workers", MAYBE_N2)
def test_plugins_that_print_retry_and_close_the_network(project: Project, workers: tuple[str, ...]) -> None:
    for flag in ("--disable-socket", "--retries"):
        needs(flag)
    project.write("conftest.py", APP.replace("SCOPE", "module"))
    project.gates("metric: echo.accuracy, at_least: 0.9")
    more = ("--disable-socket", "--retries=1", "-W", "error", "-p", "no:benchmark")
    result = project.run(*more, *workers, model="bot")
    assert "unclosed" not in quiet(result)
    assert result.ret == FAILED
    assert statuses(result) == {"failed": 1, "passed": 2, "missed": 1}


FAILS_ONCE = """
import pathlib
NOTES = pathlib.Path(__file__).with_name("calls.txt")
def answer(prompt):
    with NOTES.open("a") as f:
        f.write(prompt + "\\n")
    if prompt == "bad" and NOTES.read_text().count("bad") < 2:
        raise RuntimeError("busy")
    return "a good answer"
"""


def test_a_retry_asks_again_and_its_answer_counts(project: Project) -> None:
    needs("--retries")
    project.write("app.py", FAILS_ONCE)
    project.gates("metric: echo.accuracy, at_least: 1.0")
    result = project.run("--retries=1")
    assert result.ret == OK, quiet(result)
    assert project.log().count("bad") == 2
    assert [line["status"] for line in project.lines()] == ["passed"] * 3


def test_a_timeout_fails_the_item_that_waits_in_one_line(project: Project) -> None:
    needs("--timeout")
    project.samples(1)
    project.write("app.py", "import time\ndef answer(p): time.sleep(5)\n")
    result = project.run("--timeout=1", "--timeout-method=signal", "-p", "pytest_timeout")
    quiet(result)
    # its one line follows the heading; pytest-timeout may add stacks of other threads, which are not the failure's text
    result.stdout.fnmatch_lines(["_* many[[]0000] _*", "Timeout (>1.0s) from pytest-timeout."], consecutive=True)
    result.stdout.fnmatch_lines(["FAILED *many[[]0000] - Timeout *"])


def test_benchmarks_alone_and_splitting(project: Project) -> None:
    needs("--benchmark-only")
    needs("--splits")
    project.gates("metric: echo.accuracy, at_least: 0.9")
    skipped = project.run("--benchmark-only")
    quiet(skipped)
    assert statuses(skipped) == {"skipped": 4}
    assert project.results()["gates"][0]["outcome"] == "skipped"
    result = project.run("--splits=2", "--group=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --splits: no job would have all samples of a gate*--trust-shard=I/2*"])


LOOKING = ("--fixtures", "--fixtures-per-test", "--setup-only", "--setup-plan", "--collect-only", "--help", "--markers")


def test_what_only_looks_asks_nothing_and_overwrites_nothing(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_model = python:app:answer\n")
    project.write("app.py", "open('calls.txt', 'a').write('imported\\n')\ndef answer(p): return p\n")
    project.gates("metric: echo.accuracy, at_least: 0.1")
    project.write("r.json", "of an earlier run")
    options = ["--trust-results=r.json", "-p", "no:cacheprovider"]
    for flag in (*LOOKING, "--version"):
        result = project.run(flag, *options, model=None)
        assert result.ret == OK, (flag, quiet(result))
    for args in (["--setup-only", "-n", "2"], ["--setup-plan"]):
        project.write("conftest.py", APP.replace("SCOPE", "session"))
        result = project.run(*args, *options, model=None)
        assert result.ret == OK, quiet(result)
    assert project.log() == []
    assert (project.path / "r.json").read_text() == "of an earlier run"


def test_without_terminal_or_other_plugins_of_pytest(project: Project) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.5")
    absent = ("terminal", "junitxml", "skipping", "capture", "setuponly", "setupplan", "cacheprovider", "stepwise")
    absent += ("pytest-retry", "benchmark")  # which need some of these
    result = project.run(*(arg for name in absent for arg in ("-p", f"no:{name}")))
    quiet(result)
    assert result.ret == OK
    assert project.results()["gates"][0]["outcome"] == "passed"


def test_looking_on_failures_runs(project: Project) -> None:
    pytest.importorskip("xdist", reason="needs pytest-xdist")
    process = project.start("-f")
    try:
        for _ in range(200):
            if "waiting for changes" in project.output or process.poll() is not None:
                break
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            subprocess.run([sys.executable, "-c", "import time; time.sleep(0.1)"], check=True)
    finally:
        process.kill()
        process.wait()
    assert "INTERNALERROR" not in project.output
    assert "2 passed" in project.output


RAISING = """
def pytest_trustllm_sample_scored(record, config):
    raise KeyError("no such table")

def pytest_trustllm_results(results, config):
    results["run"]["extra"] |= {"good": 1, "commit": b"abc"}
    results["metrics"].clear()
"""


def test_hooks_that_raise_lose_nothing_and_fail_the_run(project: Project, mode: tuple[str, ...]) -> None:
    project.write("conftest.py", RAISING)
    result = project.run("--junitxml=j.xml", *mode)
    assert result.ret == FAILED
    quiet(result)
    assert statuses(result) == {"passed": 2, "missed": 1}
    results = project.results()
    assert results["run"]["extra"] == {"good": 1}
    assert results["metrics"]["safety/echo.accuracy"]["value"] == 2 / 3
    assert len(project.junit()) == 3
    where = "(conftest.py:3, in pytest_trustllm_sample_scored)"
    result.stdout.fnmatch_lines(
        [
            "ERROR: pytest_trustllm_results: run.extra[[]'commit'] cannot be written as JSON: *; it is left out",
            f"ERROR: pytest_trustllm_sample_scored raised KeyError: 'no such table' {where}; 3 times in all",
        ]
    )


def test_a_results_hook_that_raises_is_a_line(project: Project) -> None:
    project.write("conftest.py", "def pytest_trustllm_results(results, config):\n    results['nothing']\n")
    result = project.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["ERROR: pytest_trustllm_results raised KeyError: 'nothing' (conftest.py:2, in *)"])
    assert project.results()["metrics"]["safety/echo.accuracy"]["scored"] == 3


TWO = APP.replace('"you said "', '"NAME: "').replace('"bot"', '"bot-NAME"').replace("SCOPE", "session")


def test_a_run_tests_one_app(project: Project) -> None:
    for name in "ab":
        project.write(f"{name}/conftest.py", TWO.replace("NAME", name))
        project.write(f"{name}/test_{name}.py", "def test_ask(trust_model): trust_model.ask('hi')\n")
    result = project.run("a", "b", model="bot")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: trust_model is given more than once: by a/conftest.py:5 and by b/conftest.py:5;*"]
    )
    in_workers = project.run("a", "b", "-n", "2", "--dist=loadfile", model="bot")
    assert in_workers.ret != OK
    assert statuses(in_workers) == {"passed": 1, "error": 1}
    in_workers.stdout.fnmatch_lines(["trust_model is given twice: 'bot-*' by */conftest.py:5, 'bot-*'*"])
    project.write("conftest.py", APP.replace('scope="SCOPE"', "params=['x', 'y']"))
    for args in (("suites",), ("tests",)):
        project.write("tests/test_own.py", "def test_ask(trust_model): trust_model.ask('hi')\n")
        result = project.run(*args, model="bot")
        assert result.ret != OK
        assert "a run tests one app" in quiet(result)


def test_an_app_goes_by_its_own_name(project: Project) -> None:
    project.write("conftest.py", APP.replace("SCOPE", "session"))
    project.gates("metric: echo.accuracy, at_least: 0.5", "metric: echo.accuracy, max_drop: 0.1")
    first = project.run(model="gpt-4", timeout=60)
    assert (project.results()["run"]["model"]["name"], project.results()["run"]["model"]["label"]) == ("bot", "gpt-4")
    first.stdout.fnmatch_lines(["*trust: bot*", "the fixture trust_model was tested, not 'gpt-4': *"])
    (project.path / "r.json").rename(project.path / "old.json")
    (project.path / "r.samples.jsonl").rename(project.path / "old.samples.jsonl")
    old = (project.path / "old.json").read_text().replace("r.samples.jsonl", "old.samples.jsonl")
    project.write("old.json", old)
    again = project.run("--trust-baseline=old.json", model="gpt-4")
    assert again.ret == OK, quiet(again)


def test_a_missed_item_shows_what_was_asked_said_and_expected(project: Project) -> None:
    project.write("app.py", "def answer(p): return 'we close\\nat nine\\x1b[2J, ask jane@example.org'\n")
    result = project.run("--trust-strict", "-vv", "suites/mine.yaml::echo[0001]")
    result.stdout.fnmatch_lines(
        [
            "missed: scored 0",
            "prompt:   bad",
            "response: we close",
            "          at nine\\x1b[[]2J, ask [[]e-mail]",
            "expected: good",
        ]
    )
    assert [line["expected"] for line in project.lines()] == ["good"]


def test_few_descriptors_are_enough(project: Project) -> None:
    project.samples(200)
    project.write(
        "conftest.py",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n" + APP.replace("SCOPE", "session"),
    )
    result = project.run(model="bot")
    assert result.ret == OK, quiet(result)
    assert statuses(result) == {"passed": 200}


KILLS = """
import os, time, pytest
from pytest_trustllm import TrustModel

def answer(prompt):
    time.sleep(0.02)
    if prompt == "good 7":
        os._exit(3)
    return "you said " + prompt

@pytest.fixture(scope="session")
def trust_model():
    return TrustModel.from_callable(answer, name="bot", max_concurrency=8)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_prompt_that_kills_the_app_fails_its_item_alone(project: Project, workers: str) -> None:
    pytest.importorskip("xdist", reason="needs pytest-xdist")
    project.samples(20)
    project.write("conftest.py", KILLS)
    result = project.run("-n", workers, model="bot")
    assert statuses(result) == {"failed": 1, "passed": 19}, quiet(result)
    line = "FAILED suites/mine.yaml::many[[]0007] - no response: the app's process ended while it *"
    result.stdout.fnmatch_lines([line])
