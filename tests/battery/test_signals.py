"""One signal ends any run within seconds, with results of what is there; nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from user_project import Project, wait_for

SLOW = pytest.mark.slow
SECONDS = 15.0
"""Nominally 5; the machine of the tests may be busy."""
STUCK = """
import time
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score

@dataclass(frozen=True)
class Stuck:
    roles: ClassVar = ()

    def score(self, sample, replies):
        if "bad" not in replies[0].text:
            return Score(1.0, True)
        open("began.txt", "a").write("x")
        while True:
            time.sleep(0.05)

def pytest_trustllm_register(registry):
    registry.scorers.add("stuck", Stuck)
"""
HANGING = """
import time
def answer(prompt):
    if "bad" in prompt:
        open("began.txt", "a").write("x")
        time.sleep(3600)
    return prompt
"""


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own for temporary files."""
    where = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(where))
    return where


def make(project: Project, kind: str) -> None:
    """Make a run that stops at its second sample: ``scorer``, ``model`` or ``host``."""
    project.gates("metric: echo.accuracy, at_least: 0.5")
    if kind == "scorer":
        project.prompts("good 0", "bad", "good 2", scorer="stuck")
        project.write("conftest.py", STUCK)
    else:
        project.write("app.py", HANGING)


def host_of(project: Project) -> int:
    for pid in project.processes():
        with contextlib.suppress(OSError):
            if b"engine.host_process import main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise AssertionError("no host")


def send(run: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal as it usually comes: from a terminal to the whole group, from a supervisor to one process."""
    if number == signal.SIGTERM:
        os.kill(run.pid, number)
    else:
        os.killpg(run.pid, number)


def check_nothing_is_left(project: Project, temporary: Path) -> None:
    wait_for(lambda: not project.processes(), 20)
    assert project.processes() == []
    assert [path.name for path in temporary.iterdir() if path.name.startswith("trustllm-")] == []


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=SLOW)])
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW), pytest.param(signal.SIGHUP, marks=SLOW)]
)
@pytest.mark.parametrize("kind", ["scorer", pytest.param("model", marks=SLOW), pytest.param("host", marks=SLOW)])
def test_one_signal_ends_a_run_that_hangs(
    project: Project, temporary: Path, kind: str, number: signal.Signals, workers: str
) -> None:
    make(project, kind)
    run = project.start("-n", workers)
    wait_for(lambda: (project.path / "began.txt").exists(), 60)
    time.sleep(0.5)
    if kind == "host":
        os.kill(host_of(project), signal.SIGSTOP)
    send(run, number)
    run.wait(SECONDS)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, project.output
    found = project.results()
    assert found["run"]["stopped"]
    assert found["coverage"]["safety/echo"]["collected"] == 3
    check_nothing_is_left(project, temporary)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW)])
def test_a_second_signal_ends_the_run_at_once(project: Project, temporary: Path, number: signal.Signals) -> None:
    make(project, "scorer")
    run = project.start()
    wait_for(lambda: (project.path / "began.txt").exists(), 60)
    send(run, number)
    time.sleep(0.7)
    start = time.monotonic()
    send(run, number)
    run.wait(SECONDS)
    assert time.monotonic() - start < 5
    check_nothing_is_left(project, temporary)


@pytest.mark.parametrize("number", [signal.SIGQUIT, pytest.param(signal.SIGKILL, marks=SLOW)])
def test_nothing_is_left_of_a_run_that_was_killed(project: Project, temporary: Path, number: signal.Signals) -> None:
    make(project, "model")
    run = project.start()
    wait_for(lambda: (project.path / "began.txt").exists(), 60)
    (os.kill if number == signal.SIGKILL else os.killpg)(run.pid, number)
    assert run.wait(SECONDS) == -number
    check_nothing_is_left(project, temporary)


@pytest.mark.slow
def test_a_kill_while_the_host_starts_leaves_nothing(project: Project, temporary: Path) -> None:
    left: list[Path] = []
    for number in range(14):
        run = project.start()
        wait_for(lambda: any(temporary.glob("trustllm-*")), 60)
        time.sleep(0.05 * number)
        os.kill(run.pid, signal.SIGKILL)
        run.wait(SECONDS)
        wait_for(lambda: not project.processes(), 20)
        for path in temporary.glob("trustllm-*"):
            left.append(path)
            shutil.rmtree(path)
    assert len(left) <= 1  # killed between the making of the directory and the start of the host


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW)])
def test_a_signal_while_the_host_starts_leaves_nothing(
    project: Project, temporary: Path, number: signal.Signals
) -> None:
    for part in range(5):
        run = project.start()
        wait_for(lambda: any(temporary.glob("trustllm-*")), 60)
        time.sleep(0.04 * part)
        send(run, number)
        run.wait(SECONDS)
        check_nothing_is_left(project, temporary)


def test_the_next_run_removes_what_has_no_owner(project: Project, temporary: Path) -> None:
    make(project, "model")
    run = project.start()
    wait_for(lambda: (project.path / "began.txt").exists(), 60)
    (owned,) = temporary.glob("trustllm-host-*")
    ownerless = temporary / "trustllm-host-ownerless"
    ownerless.mkdir(mode=0o700)
    (ownerless / "owner").touch()
    (ownerless / "transcript").write_text("a secret")
    recent = temporary / "trustllm-host-recent"
    recent.mkdir(mode=0o700)
    somebodys = [temporary / "trustllm-host-notes", temporary / "trustllm-bench"]
    for directory in somebodys:
        directory.mkdir(mode=0o700)
        (directory / "results.json").touch()
        os.utime(directory, (0, 0))
    elsewhere = temporary / "precious"
    elsewhere.mkdir()
    link = temporary / "trustllm-host-link"
    link.symlink_to(elsewhere)
    project.write("app.py", "def answer(prompt):\n    return prompt\n")
    project.run()
    assert not ownerless.exists()
    assert all(path.exists() for path in (owned, recent, *somebodys, elsewhere, link))
    os.killpg(run.pid, signal.SIGKILL)  # of host and pytest at once: nobody is left to clean up
    run.wait(SECONDS)
    wait_for(lambda: not project.processes(), 20)
    assert owned.exists()
    project.run()
    assert not owned.exists()
