"""``--trust-in-process``: the model host in pytest's own process, where a breakpoint in a scorer works."""

from __future__ import annotations

import subprocess
import sys

import pytest

SUITE = """
dimension: safety
tasks:
- {name: echo, data: {samples: [{prompt: a}, {prompt: b}]}, scorer: mine, metrics: [mean]}
"""
CONFTEST = """
import os, pathlib
from pytest_trustllm import Score

from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    roles = frozenset()

    def score(self, sample, replies):
        pathlib.Path("pids").write_text(f"{os.getpid()} {os.getppid()}")
        DEBUG
        return Score(1.0, answer=replies[0].text)

def pytest_trustllm_register(registry):
    registry.scorers.add("mine", Mine)

def pytest_configure(config):
    pathlib.Path("pid").write_text(str(os.getpid()))
"""
RUN = ("--trust-model=python:app:answer", "-p", "no:cacheprovider", "--trust-results=r.json")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(app="def answer(prompt):\n    return prompt.upper()\n")
    pytester.makeini("[pytest]\ntrust_builtin_suites = false\n")
    pytester.mkdir("suites").joinpath("mine.yaml").write_text(SUITE)
    pytester.makeconftest(CONFTEST.replace("DEBUG", ""))
    return pytester


@pytest.mark.parametrize("flag", ["--trust-in-process", "--pdb", ""])
def test_a_scorer_runs_in_the_process_of_pytest(project: pytest.Pytester, flag: str) -> None:
    result = project.runpytest_subprocess(*RUN, *filter(None, [flag]))
    assert result.ret == 0
    result.assert_outcomes(passed=2)
    own = (project.path / "pid").read_text()
    scorer, parent = (project.path / "pids").read_text().split()
    assert (scorer if flag else parent) == own
    assert '"answer": "A"' in (project.path / "r.samples.jsonl").read_text().replace('":"', '": "')


def test_a_breakpoint_in_a_scorer_stops_there(project: pytest.Pytester) -> None:
    project.makeconftest(CONFTEST.replace("DEBUG", "breakpoint()"))
    command = [sys.executable, "-m", "pytest", *RUN, "--trust-in-process", "-p", "no:xdist"]
    typed = "p 'read:', replies[0].text\nc\n" * 2
    done = subprocess.run(
        command, cwd=project.path, input=typed, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "('read:', 'A')" in done.stdout
    assert "('read:', 'B')" in done.stdout
    assert "2 passed" in done.stdout


def test_a_host_that_cannot_start_is_one_line(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(
        "--trust-model=python:nowhere:answer", "-p", "no:cacheprovider", "--trust-in-process"
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert result.ret != 0


def test_workers_of_xdist_cannot_be_debugged(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(*RUN, "--trust-in-process", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --trust-in-process: tests of xdist workers cannot be debugged; run without -n"]
    )
