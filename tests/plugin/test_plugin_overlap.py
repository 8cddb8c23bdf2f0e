"""Nothing idle at the ends: prompts are answered while the app's own tests run, verdicts while answers are."""

from __future__ import annotations

from user_project import Project, statuses

NOTING = """
import pathlib
NOTES = pathlib.Path(__file__).with_name("calls.txt")

def answer(prompt):
    with NOTES.open("a") as f:
        f.write(prompt + "\\n")
    return prompt
"""
WAITING = """
import pathlib, time

def test_of_the_app():
    notes, end = pathlib.Path(__file__).parents[1] / "calls.txt", time.monotonic() + 30
    while not notes.exists() or len(notes.read_text().splitlines()) < 12:
        assert time.monotonic() < end, "no prompt is asked while this test runs"
        time.sleep(0.02)
"""


def test_prompts_are_answered_while_the_apps_own_tests_run(project: Project, mode: tuple[str, ...]) -> None:
    project.samples(12)
    project.write("app.py", NOTING)
    project.write("tests/test_app.py", WAITING)
    assert statuses(project.run(*mode, "tests", "suites")) == {"passed": 13}


JUDGED = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Question, Score

@dataclass(frozen=True)
class Asked:
    roles: ClassVar = ("judge",)

    def score(self, sample, replies):
        (verdict,) = yield [Question("judge", (("user", replies[0].text),))]
        return Score(1.0, True) if verdict.error is None else Score.none(verdict.error)

def pytest_trustllm_register(registry):
    registry.scorers.add("asked", Asked)
"""
# the last answer waits for a verdict on an earlier one
TOGETHER = """
import threading
judged = threading.Event()

def answer(prompt):
    return prompt if prompt != "last" or judged.wait(30) else None

def judge(prompt):
    judged.set()
    return "yes"
"""


def test_verdicts_are_asked_for_while_answers_are_computed(project: Project, mode: tuple[str, ...]) -> None:
    project.prompts("first", "last", scorer="asked")
    project.write("conftest.py", JUDGED)
    project.write("app.py", TOGETHER)
    assert statuses(project.run(*mode, "--trust-judge=python:app:judge")) == {"passed": 2}
