"""Prompts that the simulator says in other words: asked, scored, shown and compared with the prompts as they are."""

from __future__ import annotations

import json

import pytest
from user_project import Project, statuses

SUITE = """
dimension: robustness
tasks:
  - name: echo
    data:
      samples:
        - {prompt: "where is my parcel?", label: parcel}
        - {prompt: "a rude question", label: question}
        - {prompt: "how long is a day?", label: day}
    transforms: [paraphrase, {name: paraphrase, seed: 1, as: again}]
    scorer: contains
    metrics: [accuracy]
"""
APP = """
def answer(prompt):
    return "you said " + prompt
"""
SIMULATOR = """
import json
def answer(messages):
    text = json.loads(messages[-1]["content"])
    if "rude" in text:
        return "I'm sorry, I can't help with that."
    open("asked.txt", "a").write(text + "\\n")
    return json.dumps({"paraphrase": "in other words: " + text.replace("parcel", "package")})
"""


@pytest.fixture
def reworded(project: Project) -> Project:
    project.write("suites/mine.yaml", SUITE)
    project.write("app.py", APP)
    project.write("simulator.py", SIMULATOR)
    return project


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_the_model_is_asked_in_other_words(reworded: Project, workers: str) -> None:
    result = reworded.run("--trust-simulator=python:simulator:answer", "-n", workers)
    assert statuses(result) == {"passed": 5, "missed": 2, "unscored": 2}
    lines = {line["id"]: line for line in reworded.lines()}
    assert lines["0000.original"]["prompts"] == [[["user", "where is my parcel?"]]]
    assert lines["0000.paraphrase"]["prompts"] == [[["user", "in other words: where is my package?"]]]
    assert lines["0000.paraphrase"]["status"] == "missed"
    assert lines["0002.again"]["responses"][0]["text"] == "you said in other words: how long is a day?"
    refused = lines["0001.paraphrase"]
    assert refused["status"] == "unscored"
    assert refused["responses"] == []  # the model was not asked something harmless in its place
    assert refused["reason"] == "the simulator gave no paraphrase: \"I'm sorry, I can't help with that.\""
    metrics = reworded.results()["metrics"]
    assert metrics["robustness/echo.accuracy{transform=original}"]["value"] == 1.0
    assert metrics["robustness/echo.accuracy{transform=paraphrase}"]["value"] == 0.5
    assert reworded.results()["run"]["roles"]["simulator"]["name"] == "python:simulator:answer"


def test_the_prompt_itself_is_no_paraphrase(reworded: Project) -> None:
    same = SIMULATOR.replace('"in other words: " + text.replace("parcel", "package")', '"**" + text.upper() + "**"')
    reworded.write("simulator.py", same)
    result = reworded.run("--trust-simulator=python:simulator:answer")
    assert statuses(result) == {"passed": 3, "unscored": 6}
    lines = {line["id"]: line for line in reworded.lines()}
    unchanged = lines["0000.paraphrase"]
    assert unchanged["reason"] == "the simulator gave the prompt back in the same words"
    assert unchanged["responses"] == []
    results = reworded.results()
    assert results["coverage"]["robustness/echo"]["not_applicable"] == 4
    assert results["metrics"]["robustness/echo.accuracy{transform=paraphrase}"]["expected"] == 1


def test_without_a_simulator_these_samples_alone_are_unscored(reworded: Project) -> None:
    result = reworded.run()
    assert statuses(result) == {"passed": 3, "unscored": 6}
    reasons = {line["reason"] for line in reworded.lines() if line["status"] == "unscored"}
    assert len(reasons) == 1
    assert "--trust-simulator" in json.dumps(list(reasons))
