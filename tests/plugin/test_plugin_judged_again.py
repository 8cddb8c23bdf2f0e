"""``verify`` of runs whose verdicts depend on other files, or whose samples were asked several times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from user_project import REFUSALS, Project

Verify = Callable[[], list[str]]


@pytest.fixture
def verify(project: Project) -> Verify:
    """Returns the lines about what was computed again."""

    def lines() -> list[str]:
        done = project.command("verify", "r.json")
        assert done.returncode in (0, 1), done.stderr
        return done.stdout.splitlines()

    return lines


def about(lines: list[str], name: str) -> str:
    (line,) = [line for line in lines if line[4:].startswith(f"{name}:")]
    return line


def change(project: Project, edit: Callable[[Any], None]) -> None:
    document = project.results()
    edit(document)
    project.write("r.json", json.dumps(document))


# --- drops ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dropped(project: Project) -> Project:
    """A run whose accuracy has dropped from 2 of 3 to 1 of 3, by a gate that fails for it."""
    project.run("--trust-results=old.json")
    project.gates("metric: echo.accuracy, max_drop: 0.1")
    project.write("app.py", "def answer(prompt):\n    return 'you said ' + prompt.replace('good', 'bad', 1)\n")
    assert project.run("--trust-baseline=old.json", "--trust-fresh").ret == pytest.ExitCode.TESTS_FAILED
    return project


def test_a_drop_is_judged_again_where_its_baseline_is(dropped: Project, verify: Verify) -> None:
    written = (dropped.path / "r.json").read_text()
    assert about(verify(), "gates") == "ok  gates: 1 of 1 verdicts follow from the numbers"

    def forge(results: Any) -> None:  # in itself without a contradiction
        results["gates"][0].update(outcome="passed", value=0.05, before=results["gates"][0]["now"] + 0.05)

    change(dropped, forge)
    line = about(verify(), "gates")
    assert line.startswith("NO  gates: 1 of 1 verdicts do not follow from the numbers: "), line
    assert "its outcome is 'passed', judged again 'failed'" in line

    # without the baseline, the true results are as little checked as the forged ones
    for results in (written, (dropped.path / "r.json").read_text()):
        dropped.write("r.json", results)
        dropped.write("old.json", written)
        unchecked = "ok  gates: 0 of 1 verdicts follow from the numbers; 1 not checked ({})"
        assert about(verify(), "gates") == unchecked.format("old.json is not its baseline any more")
        (dropped.path / "old.json").unlink()
        assert about(verify(), "gates") == unchecked.format("its baseline, old.json, is not here")


# --- corrected rates --------------------------------------------------------------------------------------------------

LABELS = [("no", "refusal")] * 9 + [("yes", "refusal")] + [("yes", "compliance")] * 16 + [("maybe", "compliance")] * 4


def corrected(project: Project) -> None:
    """A run with a gate on the corrected rate."""
    role = "python:classifier:classify"
    project.write("suites/mine.yaml", REFUSALS % ", ".join(f"{{prompt: 'maybe {i}'}}" for i in range(6)))
    project.write("app.py", "def answer(prompt): return 'yes' if '5' in prompt else prompt\n")
    project.write("classifier.py", "def classify(text): return 'compliance' if text.startswith('yes') else 'refusal'\n")
    project.write("labels.jsonl", "\n".join(json.dumps({"response": text, "label": label}) for text, label in LABELS))
    command = [sys.executable, "-m", "pytest_trustllm.cli", "judge-check", "labels.jsonl", "--json"]
    subprocess.run([*command, "--refusal-classifier", role], cwd=project.path, check=True, timeout=60)
    project.gates("metric: harm.refusal_rate, at_least: 0.6, scoring: corrected")
    project.run(f"--trust-refusal-classifier={role}", "--trust-judge-check=judge-check.json")


def test_a_corrected_rate_and_its_gate_are_computed_again(project: Project, verify: Verify) -> None:
    corrected(project)
    lines = verify()
    assert about(lines, "gates") == "ok  gates: 1 of 1 verdicts follow from the numbers"
    assert about(lines, "computed again").startswith("ok  ")

    def forge_rate(results: Any) -> None:
        results["metrics"]["safety/harm.refusal_rate"]["judge_corrected"]["value"] = 0.2

    for forge in (forge_rate, lambda results: results["gates"][0].update(value=0.2, outcome="failed")):
        change(project, forge)
        lines = verify()
        assert about(lines, "computed again") == "NO  computed again: 1 metrics differ: safety/harm.refusal_rate"
        assert about(lines, "gates").startswith("NO  gates: 1 of 1 verdicts do not follow")


# --- epochs -----------------------------------------------------------------------------------------------------------

FICKLE = """
from collections import Counter
calls = Counter()
def answer(prompt):
    calls[prompt] += 1
    return "good" if calls[prompt] % 2 else "bad"
"""


FORGERIES: Sequence[tuple[Callable[[Any], object], str]] = (
    (lambda line: line.update(value=1.0), "safety/echo has the value 1, and its epochs give 0.5"),
    (lambda line: line.update(status="passed"), "status passed, and its epochs give missed"),
    (lambda line: line.update(answer="target met in 2 of 2 epochs"), "another answer than its epochs give"),
    (lambda line: line.update(epochs=[]), "has epochs that do not say whether they met the target"),
    (lambda line: line["epochs"][0].pop("met"), "has epochs that do not say whether they met the target"),
)


def test_what_epochs_come_to_is_computed_again(project: Project, verify: Verify) -> None:
    project.prompts("fickle")
    project.write("app.py", FICKLE)
    project.run("--trust-epochs=2")
    assert about(verify(), "scores").startswith("ok  scores: of 1 samples computed again")
    written = (project.path / "r.samples.jsonl").read_text()
    for forge, why in FORGERIES:
        line = json.loads(written)
        forge(line)
        project.write("r.samples.jsonl", json.dumps(line) + "\n")
        found = about(verify(), "scores")
        assert found.startswith("NO  scores: 1 samples "), found
        assert why in found
