"""The model host dies, at every moment of a run: one clear line, no success, no traceback, nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from user_project import MAYBE_TWO, WORD, Project

COUNT = 12
GONE = "the model host ended during the run"
DEATH = (
    WORD
    + """
import os, pathlib, signal, sys, time
MOMENT = pathlib.Path(__file__).with_name("moment").read_text()
HOST = sys.modules.get("pytest_trustllm.engine.host")  # loaded in the model host alone

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def kill():
    for entry in pathlib.Path("/proc").iterdir():
        try:
            ours = entry.name.isdigit() and (entry / "cwd").readlink() == pathlib.Path(__file__).parent
            if ours and b"pytest_trustllm.engine.host" in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                while "State:\\tZ" not in (entry / "status").read_text():
                    time.sleep(0.01)
        except OSError:
            continue

if HOST is not None:
    calls = []

    def dying(op, theirs):
        async def wrapped(self, message):
            calls.append(op)
            if MOMENT in (op, f"{op} {calls.count(op)}"):
                die()
            reply = await theirs(self, message)
            if MOMENT == "need 2" and op == "need":  # as if no other were ready: a fast host has all of them by now
                reply["records"] = {key: reply["records"][key] for key in message["keys"][:1]}
            if MOMENT == "last record" and op == "need" and self.samples.done == self.planned:
                die()
            return reply
        return wrapped

    for op in ("plan", "need", "detail", "ask", "finish"):
        HOST.OPERATIONS[op] = dying(op, HOST.OPERATIONS[op])
    if MOMENT == "connection":
        HOST.Host.connection = lambda *_: die()
    if MOMENT == "provide":
        HOST.Host.provide = lambda *_: die()

def at(hook):
    return HOST is None and MOMENT == hook

if at("pytest_configure_node"):
    def pytest_configure_node(node): kill()

if at("pytest_collection_modifyitems"):
    def pytest_collection_modifyitems(session): kill()

if at("pytest_collection_finish"):
    DEAD = pathlib.Path(__file__).with_name("dead")

    def worker(config):
        return getattr(config, "workerinput", {}).get("workerid", "gw0")

    def pytest_collection_modifyitems(config):
        if worker(config) != "gw0":
            while not DEAD.exists():
                time.sleep(0.01)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(session):
        if worker(session.config) == "gw0" and session.items:
            kill()
            DEAD.touch()

if at("pytest_unconfigure"):
    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(config):
        if not hasattr(config, "workerinput"):
            kill()
""".replace("import os,", "import pytest\nimport os,", 1)
)
FIXTURE = """
from pytest_trustllm import TrustModel

@pytest.fixture(scope="session")
def trust_model():
    return TrustModel.from_callable(lambda prompt: prompt, name="own", max_concurrency=4)
"""
EVERYWHERE = (
    "connection",
    "pytest_collection_modifyitems",
    "pytest_collection_finish",
    "plan",
    "need",
    "need 2",
    "last record",
    "finish",
)
"""Moments at which a test still needs the host, or the end of the run does."""
WITH_XDIST = ("pytest_configure_node", "plan 2")


def dies(project: Project, moment: str, *, fixture: str = "", gates: bool = True) -> None:
    """Make a project whose host dies at a moment."""
    project.prompts(*(f"good {i}" for i in range(COUNT)))
    project.write("conftest.py", DEATH + fixture)
    project.write("moment", moment)
    if gates:
        project.gates("metric: echo.accuracy, at_least: 0.9")


def ends(project: Project, mode: tuple[str, ...], temporary: Path, *, most: int = 2) -> str:
    """Run pytest, check how it ends, and return what it printed."""
    result = project.run(*mode, "-ra", timeout=60)
    printed = result.stdout.str() + result.stderr.str()
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED), printed
    assert GONE in printed
    for word in ("INTERNALERROR", "Traceback", "crashed", "Errno"):
        assert word not in printed
    assert len(re.findall("^(?:FAILED|ERROR) ", printed, re.MULTILINE)) <= most, printed
    assert not project.processes()
    assert not list(temporary.glob("trustllm-*"))
    return printed


@pytest.mark.parametrize("moment", EVERYWHERE)
@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_a_host_that_dies_ends_the_run_with_one_line(
    project: Project, workers: str, moment: str, temporary: Path
) -> None:
    dies(project, moment)
    ends(project, ("-n", workers), temporary)


@pytest.mark.parametrize("moment", WITH_XDIST)
def test_a_host_that_dies_between_two_workers(project: Project, moment: str, temporary: Path) -> None:
    dies(project, moment)
    ends(project, ("-n", "2"), temporary)


@pytest.mark.parametrize("moment", ["connection", "pytest_collection_finish", "provide", "need"])
@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_a_host_that_dies_under_an_overridden_model(
    project: Project, workers: str, moment: str, temporary: Path
) -> None:
    dies(project, moment, fixture=FIXTURE)
    ends(project, ("-n", workers), temporary)


def test_a_host_that_dies_after_the_last_test_costs_the_results_and_success(
    project: Project, mode: tuple[str, ...], temporary: Path
) -> None:
    dies(project, "finish", gates=False)
    printed = ends(project, mode, temporary, most=1)
    assert f"ERROR: {GONE} (signal SIGKILL)" in printed
    assert not (project.path / "r.json").exists()


def test_gates_say_that_the_host_is_gone(project: Project, mode: tuple[str, ...], temporary: Path) -> None:
    dies(project, "finish")
    printed = ends(project, mode, temporary)
    assert re.search(rf"^FAILED thresholds.* no data: {GONE} \(signal SIGKILL\)$", printed, re.MULTILINE), printed


def test_a_host_that_dies_when_all_is_said_is_no_failure(project: Project, mode: tuple[str, ...]) -> None:
    dies(project, "pytest_unconfigure")
    result = project.run(*mode)
    assert result.ret == pytest.ExitCode.OK
    assert GONE not in result.stdout.str() + result.stderr.str()
    assert project.results()["metrics"]["safety/echo.accuracy"]["scored"] == COUNT


OWN = """
import pytest

@pytest.mark.parametrize("n", range(5))
def test_ask(trust_model, n):
    assert trust_model.ask("good")

@pytest.mark.trust_task("suites/mine.yaml::echo")
def test_answer(trust_model, trust_sample):
    assert trust_model.answer(trust_sample)
"""


@pytest.mark.parametrize("moment", ["ask", "ask 2", "detail"])
def test_own_tests_say_it_in_one_line_too(
    project: Project, mode: tuple[str, ...], moment: str, temporary: Path
) -> None:
    dies(project, moment)
    project.write("tests/test_own.py", OWN)
    printed = ends(project, (*mode, "tests"), temporary)
    assert "assert trust_model" not in printed


HANGS = """
import threading
from pytest_trustllm import TrustModel
NEVER = threading.Event()

@pytest.fixture(scope="session")
def trust_model():
    def answer(prompt):
        NEVER.wait(300)
    return TrustModel.from_callable(answer, name="own", max_concurrency=4)
"""


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_an_app_that_hangs_does_not_hold_up_the_end(project: Project, workers: str, temporary: Path) -> None:
    dies(project, "need", fixture=HANGS)
    ends(project, ("-n", workers), temporary)
