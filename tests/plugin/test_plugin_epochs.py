"""Asked again on purpose: epochs of a sample, votes of a judge."""

from __future__ import annotations

import math

import pytest
from user_project import Project, statuses

# even calls of a prompt are answered well, odd ones badly, unless the prompt is steady; "mute" is silent in its second
FICKLE = """
from collections import Counter
calls = Counter()
def answer(prompt):
    calls[prompt] += 1
    if "mute" in prompt and calls[prompt] == 2:
        return "mumble"
    return "good" if "steady" in prompt or calls[prompt] % 2 else "bad"
"""


def test_a_sample_is_asked_as_often_as_epochs_say(project: Project, mode: tuple[str, ...]) -> None:
    project.prompts("steady", "fickle")
    project.write("app.py", FICKLE)
    result = project.run("--trust-epochs=4", *mode)
    assert statuses(result) == {"passed": 1, "missed": 1}
    results = project.results()
    assert results["usage"]["requests"] == 8
    assert results["run"]["epochs"] == 4
    metric = results["metrics"]["safety/echo.accuracy"]
    assert (metric["value"], metric["expected"], metric["scored"]) == (0.75, 2, 2)
    steady, fickle = project.lines()
    assert (steady["value"], fickle["value"]) == (1.0, 0.5)
    assert [e["value"] for e in steady["epochs"]] == [1.0] * 4
    assert sorted(e["value"] for e in fickle["epochs"]) == [0.0, 0.0, 1.0, 1.0]
    assert [r["epoch"] for r in fickle["responses"]] == [0, 1, 2, 3]
    assert fickle["answer"] == "target met in 2 of 4 epochs"


def test_the_variance_within_samples_enters_the_interval(project: Project) -> None:
    project.prompts(*(f"steady {i}" for i in range(10)), *(f"fickle {i}" for i in range(10)))
    project.write("app.py", FICKLE)
    project.run("--trust-epochs=4")
    metric = project.results()["metrics"]["safety/echo.accuracy"]
    low, high = metric["ci"]
    assert metric["value"] == 0.75
    assert "clustered" in metric["method"]
    # 80 answers that were independent would give 0.645 to 0.832; 20 samples tell less than that
    assert low < 0.66
    assert high > 0.82


def test_stability_names_the_samples_that_vary(project: Project) -> None:
    project.prompts("steady", "fickle")
    project.write("app.py", FICKLE)
    project.run("--trust-epochs=4")
    (task,) = project.results()["stability"]["tasks"].values()
    assert task["flip_rate"] == pytest.approx((0 + 2 / 3) / 2)
    # two of four epochs met: one try passes with 1/2, two tries with 1/6, three with none
    assert task["pass^k"] == pytest.approx({"1": 0.75, "2": (1 + 1 / 6) / 2, "3": 0.5, "4": 0.5})
    assert [u["id"] for u in task["unstable"]] == ["0001"]


def test_an_epoch_without_a_score_leaves_the_sample_without_one(project: Project) -> None:
    project.prompts("steady", "mute steady")
    project.write("app.py", FICKLE)
    result = project.run("--trust-epochs=3")
    assert statuses(result) == {"passed": 1, "unscored": 1}
    metric = project.results()["metrics"]["safety/echo.accuracy"]
    assert (metric["value"], metric["scored"], metric["unscored"]) == (1.0, 1, 1)
    assert project.lines()[1]["reason"] == "epoch 2 of 3: cannot be read"


def test_epochs_are_stored_side_by_side(project: Project) -> None:
    project.prompts("steady", "fickle")
    project.write("app.py", FICKLE)
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    project.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: v1}\n")
    requests = []
    for epochs in (2, 4, 4):
        project.run(f"--trust-epochs={epochs}", model="bot")
        requests.append(project.results()["usage"]["requests"])
    assert requests == [4, 4, 0]


def test_a_run_without_epochs_says_nothing_of_them(project: Project) -> None:
    project.run()
    assert "stability" not in project.results()
    assert "epochs" not in project.lines()[0]


JUDGED = """
import itertools
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Question, Score

@dataclass(frozen=True)
class Asked:
    roles: ClassVar = ("judge",)

    def score(self, sample, replies):
        readable = lambda r: (r.text or "").lower()[:3] in ("yes", "no")
        (verdict,) = yield [Question("judge", (("user", replies[0].text),), readable)]
        if verdict.error is not None:
            return Score.none(verdict.error)
        return Score(float(verdict.text.lower().startswith("yes")), True)

def pytest_trustllm_register(registry):
    registry.scorers.add("asked", Asked)
"""
# what the judge says of a prompt, call after call
JUDGE = """
from collections import Counter
calls = Counter()
SAYS = {"split": ["YES", "no", "Yes."], "sure": ["NO"] * 3, "tied": ["yes", "no"], "lonely": ["yes", *[None] * 9]}
def judge(prompt):
    said = SAYS[prompt.split()[-1]]
    calls[prompt] += 1
    return said[(calls[prompt] - 1) % len(said)]
"""


def judged(project: Project, *prompts: str, votes: int) -> None:
    project.prompts(*prompts, scorer="asked")
    project.write("conftest.py", JUDGED)
    project.write("judge.py", JUDGE)
    project.run("--trust-judge=python:judge:judge", f"--trust-judge-votes={votes}")


def test_the_majority_of_a_judges_votes_counts(project: Project) -> None:
    judged(project, "split", "sure", votes=3)
    results = project.results()
    assert [line["value"] for line in project.lines()] == [1.0, 0.0]
    assert results["usage"]["roles"]["judge"]["requests"] == 6
    found = results["judging"]
    assert (found["votes"], found["samples"], found["unanimous"]) == (3, 2, 0.5)
    assert math.isclose(found["agreement"], (2 / 3 + 1) / 2)
    assert [v["text"] for v in project.lines()[0]["verdicts"]] == ["YES", "no", "Yes."]


def test_one_vote_of_three_is_no_majority_though_the_others_failed(project: Project) -> None:
    judged(project, "lonely", votes=3)
    (line,) = project.lines()
    assert (line["status"], line["reason"]) == ("unscored", "no majority among the judge's 3 votes: 'yes'")


def test_a_tied_vote_is_no_verdict(project: Project) -> None:
    judged(project, "tied", votes=2)
    (line,) = project.lines()
    assert (line["status"], line["value"]) == ("unscored", None)
    assert line["reason"] == "no majority among the judge's 2 votes: 'yes', 'no'"


def test_without_votes_nothing_is_said_of_them(project: Project) -> None:
    judged(project, "sure", votes=1)
    assert "judging" not in project.results()


REDUCED = """
dimension: safety
tasks:
  - name: %s
    data: {samples: [{prompt: good, label: good}, {prompt: bad, label: good}, {prompt: odd, label: good}]}
    epochs: %s
    scorer: contains
    metrics: [accuracy]
"""
ODD = """
seen = []
def answer(prompt):
    seen.append(prompt)
    return "good" if prompt == "odd" and seen.count("odd") == 1 else prompt
"""


@pytest.mark.parametrize(
    ("reducer", "value"), [("mean", 4 / 9), ("any", 2 / 3), ("all", 1 / 3), ("max", 2 / 3), ("majority", 1 / 3)]
)
def test_a_task_says_what_its_epochs_come_to(project: Project, reducer: str, value: float) -> None:
    project.write("app.py", ODD)
    project.write("suites/mine.yaml", REDUCED % (reducer, reducer))
    project.gates(f"metric: {reducer}.accuracy, at_least: {value - 0.01:.3f}")
    result = project.run("--trust-epochs=3", "--trust-stop=exact")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    metric = project.results()["metrics"][f"safety/{reducer}.accuracy"]
    assert metric["value"] == pytest.approx(value)
    assert metric["scored"] == 3
    (odd,) = [line for line in project.lines() if line["id"] == "0002"]
    assert len(odd["epochs"]) == 3
    assert odd["status"] == ("passed" if reducer in ("any", "max") else "missed")
    assert project.results()["stability"]["epochs"] == 3
