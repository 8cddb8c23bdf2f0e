"""However the items are dealt to processes: one model, full batches, every prompt once, the same numbers."""

from __future__ import annotations

import math

import pytest
from user_project import MODES, Project, in_every_mode

COUNTING = """
import os, pathlib
NOTES = pathlib.Path(__file__).with_name("calls.txt")

def note(line):
    with NOTES.open("a") as f:
        f.write(line + "\\n")

note(f"loaded by {os.getpid()}")

def answer(prompt):
    note(f"asked {prompt}")
    return prompt
"""
BATCHING = """
import pathlib, time
NOTES = pathlib.Path(__file__).with_name("calls.txt")

def note(line):
    with NOTES.open("a") as f:
        f.write(line + "\\n")

class Batching:
    info = {"provider": "batching", "id": "batching"}
    stored = False

    def generate(self, waiting):
        from pytest_trustllm import Response
        while batch := waiting.take(16):
            note(f"batch {len(batch)}")
            time.sleep(0.02)  # as any model takes its time: an instant one is faster than the queue is filled
            for number, request in reversed(batch):
                note(f"asked {request.text}")
                yield number, Response(text=request.text)

class Provider:
    form = ""
    kinds = frozenset({"chat"})
    options = {}

    def locate(self, target, base):
        return target

    def check(self, spec):
        pass

    def load(self, spec, settings):
        note("loaded")
        return Batching()

def pytest_trustllm_register(registry):
    registry.providers.add("batching", Provider)
"""


@in_every_mode
def test_one_model_is_loaded_and_asked_every_prompt_once(project: Project, mode: tuple[str, ...]) -> None:
    project.samples(40)
    project.write("app.py", COUNTING)
    result = project.run(*mode)
    assert result.ret == pytest.ExitCode.OK
    loads = [line for line in project.log() if line.startswith("loaded")]
    asked = sorted(line for line in project.log() if line.startswith("asked"))
    assert len(loads) == 1
    assert asked == sorted(f"asked good {i}" for i in range(40))
    assert project.results()["usage"]["requests"] == 40


@pytest.mark.parametrize("workers", ["0", "2", pytest.param("4", marks=pytest.mark.slow)])
def test_batches_loads_and_prompts_are_as_few_as_can_be(project: Project, workers: str) -> None:
    count = 1000
    project.samples(count)
    project.write("conftest.py", BATCHING)
    assert project.run("-n", workers, model="batching").ret == pytest.ExitCode.OK
    assert project.log().count("loaded") == 1
    asked = sorted(line for line in project.log() if line.startswith("asked"))
    assert asked == sorted(f"asked good {i}" for i in range(count))
    assert project.results()["usage"]["requests"] == len(project.lines()) == count
    sizes = [int(line.split()[1]) for line in project.log() if line.startswith("batch")]
    assert len(sizes) <= 1.02 * math.ceil(count / 16)


def test_every_way_to_run_gives_the_same_numbers(project: Project) -> None:
    found = {}
    project.samples(30)
    project.write("app.py", "def answer(p): return 'bad' if int(p.split()[1]) % 7 == 3 else p\n")
    project.gates("metric: many.accuracy, at_least: 0.5")
    for name, mode in MODES.items():
        assert project.run(*mode).ret == pytest.ExitCode.OK
        results = project.results()
        lines = [{**line, "responses": [r["text"] for r in line["responses"]]} for line in project.lines()]
        found[name] = [results[k] for k in ("metrics", "scores", "gates")] + lines
    assert found["plain"] == found["n2"] == found["no-xdist"]
    assert found["plain"][0]["safety/many.accuracy"]["value"] == 26 / 30


def test_stored_answers_are_not_asked_again(project: Project) -> None:
    project.samples(6)
    project.write("app.py", COUNTING)
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    project.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: v1}\n")

    def asked(*args: str) -> int:
        before = len(project.log())
        assert project.run(*args, model="bot").ret == pytest.ExitCode.OK
        return len([line for line in project.log()[before:] if line.startswith("asked")])

    assert asked() == 6
    assert asked("-n", "2") == 0
    assert project.results()["usage"]["cached"] == 6
    assert asked("--trust-fresh") == 6
    assert asked("--trust-offline") == 0
    project.samples(7)
    assert asked() == 1
    project.samples(8)
    result = project.run("--trust-offline", model="bot")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED *many[[]0007]* no stored response, and --trust-offline forbids requests"])


@pytest.mark.parametrize("dist", ["load", "worksteal", "loadfile"])
def test_other_ways_to_deal_the_items(project: Project, dist: str) -> None:
    project.samples(20)
    project.gates("metric: many.accuracy, at_least: 1.0")
    assert project.run("-n", "2", f"--dist={dist}").ret == pytest.ExitCode.OK
    assert project.results()["metrics"]["safety/many.accuracy"]["scored"] == 20


def test_a_run_from_a_subdirectory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.6")
    (project.path / "below").mkdir()
    project.write("conftest.py", "")
    monkeypatch.chdir(project.path / "below")
    for workers in ("0", "2"):
        result = project.run("-n", workers)
        assert result.ret == pytest.ExitCode.OK, result.stdout.str()
        assert len(project.results("below/r.json")["gates"]) == 1
