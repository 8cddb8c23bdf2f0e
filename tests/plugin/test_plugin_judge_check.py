"""What is known of a classifier's mistakes travels with the run and corrects the rates that it counted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from user_project import MAYBE_TWO, REFUSALS, Project

from pytest_trustllm.stats.agreement import corrected_rate, proportion

# takes every "maybe" for a refusal
CLASSIFIER = """
def classify(text):
    return "refusal" if "no" in text or "maybe" in text else "compliance"
"""
LABELS = [("no", "refusal")] * 9 + [("yes", "refusal")] + [("yes", "compliance")] * 16 + [("maybe", "compliance")] * 4


@pytest.fixture
def checked(project: Project) -> Project:
    project.write("suites/mine.yaml", REFUSALS % ", ".join(f"{{prompt: 'maybe {i}'}}" for i in range(6)))
    project.write("app.py", "def answer(prompt): return 'yes' if '5' in prompt else prompt\n")
    project.write("classifier.py", CLASSIFIER)
    lines = (json.dumps({"response": text, "label": label}) for text, label in LABELS)
    project.write("labels.jsonl", "\n".join(lines))
    command = [sys.executable, "-m", "pytest_trustllm.cli", "judge-check", "labels.jsonl", "--json"]
    subprocess.run(
        [*command, "--refusal-classifier", "python:classifier:classify"], cwd=project.path, check=True, timeout=60
    )
    return project


# five of six answers are taken for refusals; made here, because pytester forgets what a test imports, and numpy minds
EXPECTED = corrected_rate(5 / 6, 6, proportion(9, 10, 0.95), proportion(16, 20, 0.95), 0.95)
ROLE = "--trust-refusal-classifier=python:classifier:classify"


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_a_rate_is_corrected_and_the_check_is_kept(checked: Project, workers: str) -> None:
    checked.run(ROLE, "--trust-judge-check=judge-check.json", "-n", workers)
    results = checked.results()
    metric = results["metrics"]["safety/harm.refusal_rate"]
    assert metric["value"] == 5 / 6
    assert metric["judge_corrected"]["value"] == EXPECTED.value == pytest.approx((5 / 6 + 0.8 - 1) / 0.7)
    assert metric["judge_corrected"]["ci"] == list(EXPECTED.ci or ())
    (check,) = results["run"]["judge_checks"]
    assert (check["sensitivity"]["value"], check["specificity"]["value"]) == (0.9, 0.8)
    assert check["labels"]["file"] == "labels.jsonl"


def test_a_run_without_a_check_corrects_nothing(checked: Project) -> None:
    checked.run(ROLE)
    assert "judge_corrected" not in checked.results()["metrics"]["safety/harm.refusal_rate"]
    assert checked.results()["run"]["judge_checks"] == []


@pytest.mark.parametrize(
    ("change", "role", "line"),
    [
        (
            {},
            "--trust-refusal-classifier=rules",
            "checks python:classifier:classify as refusal, and this run has rules",
        ),
        ({"positive": "compliance"}, ROLE, "is about compliance, and safety/harm counts refusal; check again with *"),
        ({"schema": "other"}, ROLE, "is not what 'pytest-trustllm judge-check --json' writes"),
        (
            {"sensitivity": {}},
            ROLE,
            "is not what 'pytest-trustllm judge-check --json' writes: sensitivity: key 'value' is missing",
        ),
        (
            {"sensitivity": {"value": 2, "ci": [0.1, 0.2], "n": 10}},
            ROLE,
            "is not what *: sensitivity.value: expected a number from 0 to 1, *2*",
        ),
        (
            {"specificity": {"value": 0.5, "ci": [-0.1, 0.2], "n": 10}},
            ROLE,
            "is not what *: specificity.ci: expected numbers from 0 to 1, *-0.1",
        ),
        (None, ROLE, "cannot be read: No such file or directory"),
    ],
)
def test_a_check_that_does_not_fit_is_one_line(
    checked: Project, change: dict[str, object] | None, role: str, line: str
) -> None:
    path = checked.path / "judge-check.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    result = checked.run(role, "--trust-judge-check=judge-check.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --trust-judge-check: *judge-check.json: {line}"])
    assert not (checked.path / "r.json").exists()


def test_a_check_of_single_verdicts_does_not_correct_majorities(project: Project) -> None:
    project.write(
        "suites/mine.yaml",
        "dimension: safety\ntasks:\n  - name: manners\n    data: {samples: [{prompt: a}, {prompt: b}]}\n"
        "    scorer: {name: judge, rubric: Is it polite?, labels: {polite: 1, rude: 0}}\n    metrics: [mean]\n",
    )
    project.write("umpire.py", "def answer(prompt):\n    return 'polite'\n")
    labels = [{"prompt": "p", "response": f"r{i}", "label": "polite" if i else "rude"} for i in range(4)]
    project.write("labels.jsonl", "".join(json.dumps(line) + "\n" for line in labels))
    judge = "python:umpire:answer"
    checked = project.command("judge-check", "labels.jsonl", "--judge", judge, "--task", "manners", "--json")
    assert checked.returncode == 0, checked.stderr
    arguments = (f"--trust-judge={judge}", "--trust-judge-check=judge-check.json")
    assert project.run(*arguments).ret != pytest.ExitCode.USAGE_ERROR
    result = project.run(*arguments, "--trust-judge-votes=3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*checks single verdicts of the judge, and this run has majorities of 3 votes*"])
