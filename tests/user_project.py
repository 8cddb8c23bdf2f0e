"""A user's project in a temporary directory: an app, one small suite, gates, and pytest run on it as a user does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

APP = """
def answer(prompt):
    return "you said " + prompt
"""
SUITE = """
dimension: safety
tasks:
  - name: echo
    data:
      samples:
        - {prompt: hello good world, label: good, kind: a}
        - {prompt: bad, label: good, kind: b}
        - {prompt: good, label: good, kind: a}
    group: kind
    scorer: contains
    metrics: [accuracy]
"""
WORD = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score

@dataclass(frozen=True)
class Word:
    wanted: str = "good"
    roles: ClassVar = ()

    def score(self, sample, replies):
        text = replies[0].text
        if "mumble" in text:
            return Score.none("cannot be read")
        right = self.wanted in text
        return Score(float(right), right, answer=text)

def pytest_trustllm_register(registry):
    registry.scorers.add("word", Word)
"""
"""A conftest.py with a scorer that cannot read an answer that mumbles."""
# a suite of one task, without its samples
REFUSALS = """
dimension: safety
tasks:
  - name: harm
    data: {samples: [%s]}
    scorer: refusal
    metrics: [refusal_rate]
"""
MODES = {"plain": (), "n2": ("-n", "2"), "no-xdist": ("-p", "no:xdist")}
in_every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
# Two workers start four processes: most tests have them among the slow ones only, test_plugin_xdist.py always
MAYBE_TWO = ["0", pytest.param("2", marks=pytest.mark.slow)]
MAYBE_N2 = [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)]
# what other plugins of this environment cost to load is not ours to test
_QUIET = ("-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:timeout")


class Project:
    """A project whose app repeats its prompt; two of three samples of ``safety/echo`` meet their target."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.path = pytester.path
        self.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\n")
        self.write("app.py", APP)
        self.write("suites/mine.yaml", SUITE)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    def gates(self, *gates: str, more: str = "") -> None:
        """Write thresholds/safety.yaml with these gates."""
        lines = "".join(f"  - {{{gate}}}\n" for gate in gates)
        self.write("thresholds/safety.yaml", f"dimension: safety\ngates:\n{lines}{more}\n")

    def samples(self, count: int, **task: str) -> None:
        """Replace the suite by one whose task ``many`` has ``count`` samples, all right."""
        rows = "".join(f"        - {{prompt: good {i}, label: good}}\n" for i in range(count))
        more = "".join(f"    {key}: {value}\n" for key, value in task.items())
        self.write(
            "suites/mine.yaml",
            f"dimension: safety\ntasks:\n  - name: many\n    data:\n      samples:\n{rows}"
            f"    scorer: contains\n    metrics: [accuracy]\n{more}",
        )

    def prompts(self, *prompts: str, scorer: str = "word", metrics: str = "[accuracy]") -> None:
        """Replace the suite by one that asks these prompts, scored by the scorer of ``WORD``."""
        self.write("conftest.py", WORD)
        rows = "".join(f"        - {{prompt: {json.dumps(p)}}}\n" for p in prompts)
        self.write(
            "suites/mine.yaml",
            f"dimension: safety\ntasks:\n  - name: echo\n    data:\n      samples:\n{rows}"
            f"    scorer: {scorer}\n    metrics: {metrics}\n",
        )

    def run(self, *args: str, model: str | None = "python:app:answer", timeout: float = 90) -> pytest.RunResult:
        """Run pytest in a process of its own; results go to r.json."""
        given = () if model is None else (f"--trust-model={model}", "--trust-results=r.json")
        return self._pytester.runpytest_subprocess(*_QUIET, *given, *args, timeout=timeout)

    def start(self, *args: str, model: str = "python:app:answer") -> subprocess.Popen[str]:
        """Start pytest and return its process, in a process group of its own."""
        command = [sys.executable, "-m", "pytest", *_QUIET, f"--trust-model={model}", "--trust-results=r.json"]
        with (self.path / "out.txt").open("w") as out:
            return subprocess.Popen(
                [*command, *args],
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.path,
                start_new_session=True,
                preexec_fn=_heeds_ctrl_c,
            )

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``pytest-trustllm`` in a process of its own: pytester forgets modules that a test loads."""
        command = [sys.executable, "-m", "pytest_trustllm.cli", *args]
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False, timeout=120)

    @property
    def output(self) -> str:
        """What a started pytest printed."""
        return (self.path / "out.txt").read_text(encoding="utf-8")

    def results(self, name: str = "r.json") -> dict[str, Any]:
        """Return the results file."""
        found: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        return found

    def lines(self, name: str = "r.samples.jsonl") -> list[dict[str, Any]]:
        """Return the samples file."""
        return [json.loads(line) for line in (self.path / name).read_text(encoding="ascii").splitlines()]

    def outcome(self) -> dict[str, Any]:
        """Return what must not depend on where or how often the model ran: texts, metrics, scores, gates."""
        texts = {line["id"]: [response["text"] for response in line["responses"]] for line in self.lines()}
        return {"texts": texts, **{key: self.results()[key] for key in ("metrics", "scores", "gates")}}

    def stored(self) -> int:
        """Return how many answers the stores have."""
        files = self.path.glob(".trustllm/*.jsonl")
        return sum(len(file.read_bytes().splitlines()) - 1 for file in files)

    def log(self, name: str = "calls.txt") -> list[str]:
        """Return the lines that the app wrote to a file; none if it wrote nothing."""
        path = self.path / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def junit(self, name: str = "j.xml") -> dict[str, str]:
        """Return test case -> ``passed``, ``failure``, ``skipped`` or ``error``."""
        cases = ElementTree.parse(self.path / name).iter("testcase")
        return {
            f"{c.get('classname')}::{c.get('name')}": next(
                (k.tag for k in c if k.tag in ("failure", "skipped", "error")), "passed"
            )
            for c in cases
        }

    def processes(self) -> list[int]:
        """Return the processes that run in this project's directory, but for this one."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and entry.name != str(os.getpid()) and (entry / "cwd").readlink() == self.path:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def process_with(self, words: bytes) -> int:
        """Return the first process of this project whose command line has these words, NUL between arguments."""
        for pid in sorted(self.processes()):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            # a watchdog has its server's command in its own
            if words in command and b"watchdog" not in command:
                return pid
        raise AssertionError(f"no process with {words!r}")

    def host(self) -> int | None:
        """Return the process id of the model host."""
        for pid in self.processes():
            try:
                if b"pytest_trustllm.engine.host" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
            except OSError:
                continue
        return None


def _heeds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell lets what it starts in the background ignore it


def ids(result: pytest.RunResult) -> list[str]:
    """Return the node ids that ``--collect-only -q`` printed."""
    return [line for line in result.outlines if "::" in line and " " not in line.split("::")[0]]


def statuses(result: pytest.RunResult) -> dict[str, int]:
    """Return the counts of the last line."""
    found = re.findall(r"(\d+) ([a-z]+)", result.outlines[-1].split(" in ")[0])
    return {word: int(count) for count, word in found}


def wait_for(what: Any, seconds: float = 30) -> bool:
    """Wait until ``what()`` is true; return whether it became so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return bool(what())
