"""Whole runs with a copy of the model on each of two devices, both the CPU."""

from __future__ import annotations

import pytest
from user_project import WORD, Project, statuses, wait_for

pytest.importorskip("torch")

PROMPTS = ["river", "lamp", "garden", "a ladder and a violin", "copper in the morning", "question"]
KILL = """
import os, signal, time
from pathlib import Path

def copies():
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"models.local.replica_process" in (entry / "cmdline").read_bytes():
                if (entry / "cwd").readlink() == Path.cwd():
                    yield int(entry.name)
        except OSError:
            continue

def pytest_runtest_setup(item):
    end = time.monotonic() + 60
    while not (found := sorted(copies())) and time.monotonic() < end:
        time.sleep(0.01)
    if found:
        os.kill(found[0], signal.SIGKILL)
"""


@pytest.mark.slow  # three processes load transformers
def test_answers_are_those_of_one_device(project: Project) -> None:
    project.prompts(*PROMPTS)
    texts = []
    for device in ("cpu", "cpu,cpu"):
        result = project.run(f"--trust-device={device}", "--trust-fresh", model="demo")
        assert sum(statuses(result).get(k, 0) for k in ("passed", "missed")) == len(PROMPTS)
        texts.append([[r["text"] for r in line["responses"]] for line in project.lines()])
    assert texts[0] == texts[1]
    assert len(texts[0]) == len(PROMPTS)
    assert project.results()["run"]["model"]["about"]["devices"] == ["cpu", "cpu"]
    assert wait_for(lambda: not project.processes())


def test_a_killed_copy_ends_the_run_with_one_line(project: Project) -> None:
    project.prompts(*PROMPTS)
    project.write("conftest.py", WORD + KILL)
    result = project.run("--trust-device=cpu,cpu", model="demo")
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*models: 'demo': its process on cpu *(signal SIGKILL)*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert wait_for(lambda: not project.processes())
