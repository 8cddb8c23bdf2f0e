"""kill -9 at random moments: what was stored stays stored and is not asked again, and nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from user_project import Project, wait_for

pytest.importorskip("openai")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
SLOW = pytest.mark.slow
ENGINE = Path(__file__).parent.parent / "scripted_engine.py"
COUNT = 120
COMMANDS = {
    "pytest": b"-m\0pytest",
    "worker": b"import sys;exec(eval(sys.stdin.readline()))",
    "host": b"pytest_trustllm.engine.host",
    "server": str(ENGINE).encode(),
    "copy": b"models.local.replica_process",
}
"""What is killed -> what its command line has."""


@pytest.fixture
def served(project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose model is served by an engine that the run starts, 20 ms an answer."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t")))
    state = project.path / "engine"
    state.mkdir()
    (state / "slow").write_text("0.02")
    project.samples(COUNT)
    entry = {
        "provider": "server",
        "model": "m",
        "command": [sys.executable, str(ENGINE), "--port", "{port}", "--model", "{model}", str(state)],
        "environment": {"ENGINE_KEY": "{key}"},
        "max_concurrency": 2,
        "retry_delay": 0.05,
    }
    project.write("models.yaml", json.dumps({"served": entry}))
    return project


def pids(project: Project, what: str) -> list[int]:
    found = []
    for pid in project.processes():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if COMMANDS[what] in command and b"watchdog" not in command:
                found.append(pid)
    return found


def kill(project: Project, run: int, what: str, dice: random.Random) -> None:
    """Kill one process, or all of the group of the run."""
    with contextlib.suppress(ProcessLookupError):
        if what == "group":
            os.killpg(run, signal.SIGKILL)
            return
        candidates = pids(project, what)
        if candidates:
            os.kill(dice.choice(candidates), signal.SIGKILL)


def stored_keys(project: Project) -> list[str]:
    """Return the keys of the whole lines of the store, in their order."""
    lines = [line for file in project.path.glob(".trustllm/*.jsonl") for line in file.read_bytes().splitlines()]
    return [line[17:81].decode() for line in lines if line[8:].startswith(b' {"key":"') and line.endswith(b"}")]


def kill_again_and_again(project: Project, what: str, kills: int, *options: str, model: str, latest: float) -> None:
    """Start runs and kill something of each at a random moment; nothing that was stored may be lost or left running."""
    dice = random.Random(what)
    kept: set[str] = set()
    for number in range(kills):
        run = project.start(*options, model=model)
        time.sleep(dice.uniform(0.1, latest))
        kill(project, run.pid, what, dice)
        run.wait(90)
        assert wait_for(lambda: not project.processes(), 30), (number, project.processes())
        internal = project.output.partition("INTERNALERROR>")[2]
        # xdist itself fails if a worker dies while it is sent more tests
        assert not internal or (what == "worker" and "pytest_trustllm" not in internal), (number, project.output)
        now = set(stored_keys(project))
        assert kept <= now, number
        kept = now


def complete(project: Project, *options: str, model: str) -> None:
    """Let a run end undisturbed: every sample has an answer, which was stored once, and no directory is left."""
    result = project.run(*options, model=model)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), result.stdout.str()
    assert len(project.lines()) == COUNT
    assert all(line["responses"][0]["text"] for line in project.lines())
    assert [key for key, times in Counter(stored_keys(project)).items() if times > 1] == []
    temporary = Path(os.environ["TMPDIR"])
    assert [path.name for path in temporary.iterdir() if path.name.startswith("trustllm-")] == []


@pytest.mark.parametrize(
    ("what", "kills"),
    [
        ("pytest", 2),
        *(pytest.param(what, 20, marks=SLOW) for what in ("pytest", "host", "server", "group")),
        pytest.param("worker", 15, marks=SLOW),
    ],
)
def test_kills_at_random_moments(served: Project, what: str, kills: int) -> None:
    workers = "2" if what == "worker" else "0"
    options = ["-o", "trust_models=models.yaml", "-n", workers]
    kill_again_and_again(served, what, kills, *options, model="served", latest=2.0)
    complete(served, *options, model="served")
    asked = Counter((served.path / "engine" / "prompts").read_text().splitlines())
    lost_in_flight = sum(asked.values()) - COUNT
    assert 0 <= lost_in_flight <= 2 * (kills + 1)  # at most what was being answered when something was killed


@SLOW  # the processes load torch
def test_kills_of_copies_at_random_moments(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t")))
    project.samples(COUNT)
    kill_again_and_again(project, "copy", 5, "--trust-device=cpu,cpu", model="demo", latest=8.0)
    complete(project, "--trust-device=cpu,cpu", model="demo")
