"""A team tests its own app by overriding one fixture."""

from __future__ import annotations

import pytest
from user_project import Project, statuses

BOT = """
import asyncio, os, threading, time
import pytest
from pytest_trustllm import TrustModel

def note(line):
    with open(os.path.join(os.path.dirname(__file__), "calls.txt"), "a") as f:
        f.write(line + "\\n")
"""
SYNC = (
    BOT
    + """
@pytest.fixture(scope="session")
def trust_model():
    def answer(prompt):
        note(f"begin {time.monotonic()}")
        time.sleep(0.05)
        note(f"end {time.monotonic()}")
        return "you said " + prompt
    return TrustModel.from_callable(answer, name="bot", max_concurrency=CONCURRENCY)
"""
)
ASYNC = SYNC.replace("def answer", "async def answer").replace("time.sleep", "await asyncio.sleep")
OVERRIDES = {"sync": SYNC, "async": ASYNC}


def _most_at_once(lines: list[str]) -> int:
    """Return how many calls were under way at most; the clock is the machine's, so processes can be compared."""
    events = sorted((float(at), 1 if what == "begin" else -1) for what, at in (line.split() for line in lines))
    most = now = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("kind", OVERRIDES)
@pytest.mark.parametrize(
    ("workers", "concurrency"),
    [(0, 1), pytest.param(0, 4, marks=pytest.mark.slow), pytest.param(2, 1, marks=pytest.mark.slow), (2, 4)],
)
def test_every_prompt_is_asked_once_and_no_more_at_a_time_than_allowed(
    project: Project, kind: str, workers: int, concurrency: int
) -> None:
    project.samples(12)
    project.write("conftest.py", OVERRIDES[kind].replace("CONCURRENCY", str(concurrency)))
    project.gates("metric: many.accuracy, at_least: 1.0")
    result = project.run(*(("-n", str(workers)) if workers else ()), model="bot")
    assert result.ret == pytest.ExitCode.OK
    calls = project.log()
    assert len(calls) == 2 * 12
    assert _most_at_once(calls) <= concurrency
    if concurrency == 4:
        assert _most_at_once(calls) > 1
    results = project.results()
    assert results["run"]["model"]["name"] == "bot"
    assert results["usage"]["requests"] == 12


def test_a_fixture_of_a_test_each_makes_no_second_model(project: Project) -> None:
    project.write("conftest.py", SYNC.replace('(scope="session")', "").replace("CONCURRENCY", "1"))
    result = project.run(model="bot")
    assert statuses(result) == {"passed": 2, "missed": 1}
    assert _most_at_once(project.log()) == 1


def test_own_tests_get_the_same_model(project: Project) -> None:
    project.write("conftest.py", SYNC.replace("CONCURRENCY", "2"))
    project.write(
        "tests/test_own.py",
        """
import pytest

@pytest.mark.trust_task("suites/mine.yaml::echo")
def test_answer(trust_model, trust_sample):
    (response,) = trust_model.answer(trust_sample)
    assert response.text == "you said " + trust_sample.row["prompt"]

def test_ask(trust_model):
    assert trust_model.ask("hello").text == "you said hello"
    assert trust_model.name == "bot"
""",
    )
    result = project.run("-n", "2", model="bot")
    assert statuses(result) == {"passed": 6, "missed": 1}
    assert len(project.log()) == 2 * 4  # the answers to the samples are those that the suite's items read


def test_a_model_that_raises_fails_its_items_with_one_line(project: Project, mode: tuple[str, ...]) -> None:
    project.write(
        "conftest.py",
        BOT
        + """
@pytest.fixture(scope="session")
def trust_model():
    def answer(prompt):
        if prompt == "bad":
            raise RuntimeError("the database\\nis gone")
        return "you said " + prompt
    return TrustModel.from_callable(answer, name="bot")
""",
    )
    project.gates("metric: echo.accuracy, at_least: 0.1")
    result = project.run(*mode, model="bot")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "no response: RuntimeError: the database\\nis gone",
            "FAILED suites/mine.yaml::echo[[]0001] - no response: RuntimeError: the database\\nis gone",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert statuses(result) == {"failed": 2, "passed": 2}  # the item, and the gate whose coverage it breaks
    assert project.results()["metrics"]["safety/echo.accuracy"]["scored"] == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fixture_that_raises_is_one_error_and_the_end(project: Project, workers: int) -> None:
    project.samples(20)
    project.write(
        "conftest.py",
        BOT
        + """
@pytest.fixture(scope="session")
def trust_model():
    raise RuntimeError("no licence")
""",
    )
    project.gates("metric: many.accuracy, at_least: 0.0")
    result = project.run("-n", str(workers), model="bot")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert 1 <= statuses(result)["errors" if workers and "errors" in statuses(result) else "error"] <= max(1, workers)
    result.stdout.fnmatch_lines(["*trust_model could not be made: RuntimeError: no licence*"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fixture_that_returns_something_else_says_what_to_return(project: Project, workers: int) -> None:
    project.write(
        "conftest.py",
        BOT
        + """
@pytest.fixture(scope="session")
def trust_model():
    return "my bot"
""",
    )
    result = project.run("-n", str(workers), model="bot")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    line = "the fixture trust_model returned str; return TrustModel.from_callable(your_function, name='...')"
    result.stdout.fnmatch_lines([line])
    assert "Traceback" not in result.stdout.str()


def test_an_override_that_the_suites_do_not_see_is_an_error_and_no_endless_wait(project: Project) -> None:
    project.write("tests/conftest.py", SYNC.replace("CONCURRENCY", "1"))
    project.write("tests/test_own.py", "def test_ask(trust_model): assert trust_model.ask('x').text == 'you said x'\n")
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntestpaths = tests\n")
    result = project.run(model="bot", timeout=30)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*trust_model is overridden in a conftest.py that this test does not see; move*rootdir"]
    )


def test_an_override_found_too_late_is_an_error(project: Project) -> None:
    project.write("late/conftest.py", SYNC.replace("CONCURRENCY", "1"))
    project.write("late/test_own.py", "def test_ask(trust_model): pass\n")
    result = project.run(timeout=30)
    result.stdout.fnmatch_lines(
        ["*trust_model is overridden in a file that pytest had not read when the run was planned*"]
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_several_names_and_one_fixture_do_not_go_together(project: Project) -> None:
    project.write("conftest.py", SYNC.replace("CONCURRENCY", "1"))
    result = project.run("--trust-model=b", model="a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trust-model: a conftest.py overrides trust_model, so give one name only"])


def test_answers_are_kept_between_runs_only_with_a_revision(project: Project) -> None:
    project.write("conftest.py", SYNC.replace("CONCURRENCY", "1"))
    for asked in (3, 6):
        project.run(model="bot")
        assert len(project.log()) == 2 * asked
    assert not list(project.path.glob(".trustllm/*.jsonl"))
    project.write("conftest.py", SYNC.replace("CONCURRENCY", "1, revision='v1'"))
    for _ in range(2):
        project.run(model="bot")
        assert len(project.log()) == 2 * 9
    project.write("conftest.py", SYNC.replace("CONCURRENCY", "1, revision='v2'"))
    project.run(model="bot")
    assert len(project.log()) == 2 * 12


def test_a_store_that_cannot_be_used_ends_the_run_with_its_reason(project: Project) -> None:
    project.write("store", "a file where a directory should be")
    project.write("conftest.py", SYNC.replace("CONCURRENCY", "1, revision='v1'"))
    result = project.run("--trust-store=store/below", model="bot", timeout=30)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["--trust-store: *store/below cannot be used: *"])
    assert statuses(result) == {"failed": 1}


def test_the_override_works_without_a_run(project: Project) -> None:
    project.write("conftest.py", SYNC.replace("CONCURRENCY", "1"))
    project.write("test_own.py", "def test_ask(trust_model): assert trust_model.ask('x').text == 'you said x'\n")
    assert project.run(model=None).ret == pytest.ExitCode.OK
