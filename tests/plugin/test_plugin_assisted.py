"""A run of a part of the samples, helped by its baseline: what all samples would give, and what gates judge of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from user_project import MAYBE_N2, Project

from pytest_trustllm import cli
from pytest_trustllm.cli.rejudging import rejudge
from pytest_trustllm.results.files import read_results, records_of

APP = """
import os
def answer(prompt):
    number = int(prompt.split()[-1])
    right = number % 5 > 0
    if number % 50 < int(os.environ.get("FLIPS", "0")):
        right = not right
    return "good" if right else "bad"
"""
COUNT = 300


def write(project: Project) -> None:
    """Write an app of which four answers of five are right, and a suite that asks it."""
    project.write("app.py", APP)
    rows = "".join(f"        - {{prompt: number {i}, label: good, kind: k{i % 2}}}\n" for i in range(COUNT))
    project.write(
        "suites/mine.yaml",
        "dimension: safety\ntasks:\n  - name: many\n    data:\n      samples:\n"
        f"{rows}    scorer: contains\n    group: kind\n    metrics: [accuracy]\n",
    )


@pytest.fixture
def project(project: Project) -> Project:
    write(project)
    assert project.run("--trust-results=base.json").ret == pytest.ExitCode.OK
    return project


@pytest.mark.parametrize("mode", MAYBE_N2)
def test_a_part_and_the_baseline_estimate_the_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FLIPS", "2")  # of fifty answers, one gets better and one worse
    result = project.run(
        "--trust-baseline=base.json", "--trust-limit=100", "--trust-seed=1", "--trust-report=r.html", *mode
    )
    found = project.results()
    metric = found["metrics"]["safety/many.accuracy"]
    assert metric["estimate"] == "baseline-assisted"
    assisted = metric["assisted"]
    assert (assisted["shared"], assisted["of"]) == (100, COUNT)
    assert assisted["ci"][0] <= 0.8 <= assisted["ci"][1]
    assert abs(assisted["value"] - 0.8) < 0.05
    width = assisted["ci"][1] - assisted["ci"][0]
    assert width < 0.8 * (metric["ci"][1] - metric["ci"][0])
    assert assisted["worth"] > 130
    assert found["metrics"]["safety/many.accuracy{kind=k0}"]["estimate"] == "baseline-assisted"
    assert found["run"]["limit"] == 100
    result.stdout.fnmatch_lines(["all samples, estimated with the baseline's help*", "  many.accuracy 0.* alone"])
    assert "all samples 0." in (project.path / "r.html").read_text(encoding="utf-8")


def test_more_flips_than_help_leave_the_plain_estimate(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIPS", "30")
    result = project.run("--trust-baseline=base.json", "--trust-limit=100")
    metric = project.results()["metrics"]["safety/many.accuracy"]
    assert metric["estimate"] == "plain"
    assert metric["assisted"]["value"] is None
    assert metric["assisted"]["flips"] > metric["assisted"]["most_flips"]
    assert "shared samples flipped; a baseline helps below" in metric["assisted"]["reason"]
    result.stdout.fnmatch_lines(["  many.accuracy 0.* alone: the baseline does not help"])


def test_a_part_that_was_not_drawn_or_a_whole_run_has_no_estimate(project: Project) -> None:
    project.run("--trust-baseline=base.json", "-k", "0001 or 0002 or 0003")
    metric = project.results()["metrics"]["safety/many.accuracy"]
    assert (metric["estimate"], metric["assisted"]["reason"]) == (
        "plain",
        "only --trust-limit draws samples at random",
    )
    project.run("--trust-baseline=base.json")
    assert "estimate" not in project.results()["metrics"]["safety/many.accuracy"]


def test_a_baseline_of_a_part_does_not_help(project: Project) -> None:
    project.run("--trust-results=base.json", "--trust-limit=200")
    project.run("--trust-baseline=base.json", "--trust-limit=100")
    metric = project.results()["metrics"]["safety/many.accuracy"]
    assert metric["assisted"]["reason"] == "the baseline has 200 samples of safety/many, and its data 300"


@pytest.mark.parametrize(
    ("flips", "gates"),
    [
        (
            "2",
            {
                "at_least: 0.7": "passed",
                "at_least: 0.82": "inconclusive",
                "at_least: 0.9": "failed",
                "at_least: 0.7, confidence: 0.95": "passed",
                "at_least: 0.79, confidence: 0.95": "inconclusive",
                "max_drop: 0.2": "passed",
                "max_drop: 0": "inconclusive",
            },
        ),
        ("30", {"at_least: 0.7": "failed", "max_drop: 0.01": "failed"}),
    ],
)
def test_gates_judge_the_interval_of_what_all_samples_would_give(
    project: Project, monkeypatch: pytest.MonkeyPatch, flips: str, gates: dict[str, str]
) -> None:
    monkeypatch.setenv("FLIPS", flips)
    first = next(iter(gates))
    project.gates(f"metric: many.accuracy, {first}", more="on_partial: estimate")
    result = project.run("--trust-baseline=base.json", "--trust-limit=100")
    (verdict,) = project.results()["gates"]
    assert verdict["outcome"] == gates[first]
    assert (result.ret == pytest.ExitCode.OK) == (gates[first] == "passed")
    monkeypatch.chdir(project.path)
    for gate, outcome in gates.items():
        project.gates(f"metric: many.accuracy, {gate}", more="on_partial: estimate")
        rejudged, status = rejudge_saved()
        assert rejudged["outcome"] == outcome, rejudged["reason"]
        assert status == (outcome != "passed")
        assert rejudged["ci"] is not None
        if "max_drop" in gate:
            assert "on 100 shared samples, 95% interval" in rejudged["reason"]
        elif flips == "30":
            assert "the baseline does not help: 55.0% of its 100 shared samples flipped" in rejudged["reason"]
        else:
            assert "by 100 of 300 samples and the baseline, 95% interval" in rejudged["reason"]
        if gate == first:
            assert rejudged == verdict


def rejudge_saved() -> tuple[dict[str, Any], int]:
    """Return the verdict of ``pytest-trustllm gate`` on the run in this directory, and its exit status."""
    args = cli.parser().parse_args(["gate", "r.json", "--baseline", "base.json"])
    path = Path("r.json")
    results = read_results(path)
    document, status = rejudge(args, path, results, records_of(results, path), [])
    return dict(document["gates"][0]), status


def test_without_a_baseline_the_interval_of_the_part_is_judged(project: Project) -> None:
    project.gates("metric: many.accuracy, at_least: 0.6", "metric: score, at_least: 0.6", more="on_partial: estimate")
    project.run("--trust-limit=100")
    metric_gate, score_gate = project.results()["gates"]
    assert metric_gate["outcome"] == "passed"
    assert "over 100 samples, 95% interval" in metric_gate["reason"]
    assert score_gate["outcome"] == "skipped"


def test_a_part_that_was_not_drawn_is_not_judged(project: Project) -> None:
    project.gates("metric: many.accuracy, at_least: 0.6", more="on_partial: estimate")
    project.run("-k", "0001 or 0002 or many.accuracy")
    (gate,) = project.results()["gates"]
    assert (gate["outcome"], gate["reason"]) == ("skipped", "partial selection: 2 of 300 samples")


def test_the_schema_has_the_estimate(project: Project) -> None:
    printed = project._pytester.run(sys.executable, "-m", "pytest_trustllm.cli", "schema", "results", timeout=60)
    text = json.dumps(json.loads("\n".join(printed.outlines)))
    assert "baseline-assisted" in text
    assert "most_flips" in text
