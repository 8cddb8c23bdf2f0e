"""``pytest-trustllm power``: what the gates of a saved run can see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SUITE = """
dimension: safety
tasks:
  - name: many
    data:
      samples:
{rows}
    scorer: contains
    metrics: [accuracy]
"""
COUNT = 60


@pytest.fixture
def saved(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a small suite once, and return its directory."""
    monkeypatch.chdir(pytester.path)
    pytester.makeini("[pytest]\ntrust_builtin_suites = false\n")
    pytester.makepyfile(app="def answer(prompt):\n    return 'good' if int(prompt.split()[-1]) % 5 else 'bad'\n")
    for directory in ("suites", "thresholds"):
        pytester.mkdir(directory)
    rows = "".join(f"        - {{prompt: number {i}, label: good}}\n" for i in range(COUNT))
    (pytester.path / "suites/mine.yaml").write_text(SUITE.format(rows=rows))
    write_gates(pytester.path, "metric: many.accuracy, at_least: 0.75")
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--trust-model=python:app:answer", "--trust-results=r.json", "--trust-report=r.html"
    )
    assert result.ret == pytest.ExitCode.OK
    return pytester.path


@pytest.fixture
def command(saved: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command in the directory of the saved run."""
    monkeypatch.chdir(saved)
    return run


def write_gates(path: Path, *gates: str, more: str = "") -> None:
    lines = "".join(f"  - {{{gate}}}\n" for gate in gates)
    (path / "thresholds/safety.yaml").write_text(f"dimension: safety\ngates:\n{lines}{more}")


def test_a_table_and_json_say_what_the_results_say(saved: Path, command: Any) -> None:
    (gate,) = json.loads((saved / "r.json").read_text())["gates"]
    assert gate["power"]["source"] == "binomial"
    assert "Detects a loss of" in (saved / "r.html").read_text(encoding="utf-8")
    printed = command("power", "r.json", "--json")
    assert printed.status == 0, printed.err
    document = json.loads(printed.out)
    assert (document["schema"], document["limit"]) == ("pytest-trustllm/power/1", None)
    (entry,) = document["gates"]
    assert entry["power"] == gate["power"]
    assert (entry["bound"], entry["outcome"]) == (0.75, "passed")
    table = command("power", "r.json").out
    assert f"{gate['power']['another_verdict']:.1%}" in table
    assert f"{gate['power']['drop']:.3f}" in table


def test_a_run_to_come_of_fewer_samples_sees_less(saved: Path, command: Any) -> None:
    write_gates(saved, "metric: many.accuracy, at_least: 0.75", "metric: many.accuracy, max_drop: 0.05")
    shared = ("power", "r.json")
    whole, part = (json.loads(command(*shared, *more, "--json").out)["gates"] for more in ((), ("--limit", "20")))
    for now, then in zip(whole, part, strict=True):
        assert then["power"]["samples"] == 20
        assert then["power"]["drop"] > now["power"]["drop"]
    text = command(*shared, "--limit", "20").out
    assert "2 of 2 gates are skipped in a run of a part of the samples" in " ".join(text.split())
    assert "at most 20 samples per task" in " ".join(text.split())


def test_mistakes_are_one_line(saved: Path, command: Any) -> None:
    assert "expected a whole number" in command("power", "r.json", "--limit", "0").err
    missing = command("power", "none.json")
    assert missing.status == 4
    assert "none.json" in missing.err
    write_gates(saved, "metric: many.accuracy, at_least: 0.75, tags: [x]")
    nothing = command("power", "r.json", "--gate-tags", "not x")
    assert nothing.status == 4
