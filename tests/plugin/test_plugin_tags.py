"""What suites say for readers: tags, and instructions for the judge; in the results and on the page."""

from __future__ import annotations

import pytest
from user_project import Project

SUITE = """
dimension: support
tags: [RISK-7, RISK-7]
tasks:
  - name: days
    tags: ["a <b>tag</b>"]
    data: {samples: [{prompt: "How long?", days: 30}]}
    scorer: {name: contains, all: "days"}
    metrics: [accuracy]
  - name: other
    data: {samples: [{prompt: "How long?", days: 30}]}
    scorer: {name: contains, all: "days"}
    metrics: [accuracy]
"""


def test_tags_of_suite_and_task_reach_results_and_report(project: Project) -> None:
    project.write("app.py", "def answer(prompt):\n    return '30 days'\n")
    project.write("suites/mine.yaml", SUITE)
    result = project.run("--trust-report=r.html")
    assert result.ret == pytest.ExitCode.OK
    tags = project.results()["run"]["tags"]
    assert tags == {"support/days": ["RISK-7", "a <b>tag</b>"], "support/other": ["RISK-7"]}
    page = (project.path / "r.html").read_text(encoding="utf-8")
    assert 'href="#items?in=support&amp;tag=RISK-7"' in page
    assert ">a &lt;b&gt;tag&lt;/b&gt;</a>" in page
    assert "<b>tag</b>" not in page


def test_a_tag_is_a_text(project: Project) -> None:
    project.write("suites/mine.yaml", SUITE.replace("[RISK-7, RISK-7]", "[7]"))
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "suites/mine.yaml: tags[0]" in result.stdout.str() + result.stderr.str()


JUDGED = """
dimension: support
tasks:
  - name: tone
    data: {samples: [{prompt: "How long?", style: "<b>kind</b>"}]}
    scorer:
      name: judge
      rubric: "Is the answer {{ style }}?"
      labels: {good: 1, bad: 0}
    metrics: [mean]
"""


def test_what_the_judge_was_told_is_in_the_results(project: Project) -> None:
    project.write("app.py", "def answer(prompt):\n    return '30 days'\ndef judge(prompt):\n    return 'good'\n")
    project.write("suites/mine.yaml", JUDGED)
    assert project.run("--trust-judge=python:app:judge").ret == pytest.ExitCode.OK
    assert project.results()["run"]["rubrics"] == {"support/tone": "Is the answer {{ style }}?"}
    project.run()
    assert "rubrics" not in project.results()["run"]
