"""What docs/gates.md shows is what the code prints."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "gates.md"
TEXT = DOCS.read_text(encoding="utf-8")
APP = """
import os
def answer(prompt):
    number = int(prompt.split()[-1])
    if number in map(int, filter(None, os.environ.get("MUTE", "").split(","))):
        return "hmm"
    return "wrong" if number in map(int, os.environ.get("WRONG", "0,5,10,15,20,25,30,35").split(",")) else "right"
"""
CONFTEST = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score

@dataclass(frozen=True)
class Right:
    roles: ClassVar = ()

    def score(self, sample, replies):
        if replies[0].text == "hmm":
            return Score.none("neither right nor wrong")
        right = replies[0].text == "right"
        return Score(float(right), right, answer=replies[0].text)

def pytest_trustllm_register(registry):
    registry.scorers.add("right", Right)
"""
SUITE = """
dimension: safety
tasks:
  - name: refunds
    data:
      samples:
%s
    scorer: right
    metrics: [accuracy]
"""
WORSE = {"WRONG": "1,2,3,4,5,10,15,20,25,30,35"}
MUCH_WORSE = {"WRONG": ",".join(map(str, range(20)))}
RUNS: dict[str, tuple[Sequence[str], dict[str, str]]] = {
    # name of a block: (arguments of the run, environment of the app)
    "passed": ((), {}),
    "failed": ((), {}),
    "inconclusive": ((), {}),
    "warned": ((), {}),
    "coverage": ((), {"MUTE": "1,2,3"}),
    "partial": (("--trust-limit=10",), {}),
    "first": ((), {}),
    "drop failed": (("--trust-baseline=baselines/bot.json",), MUCH_WORSE),
    "drop inconclusive": (("--trust-baseline=baselines/bot.json",), WORSE),
    "assisted": (("--trust-baseline=baselines/bot.json", "--trust-limit=20"), {"WRONG": "0,5,10,15,20,25,30,31"}),
}


def blocks(kind: str) -> dict[str, str]:
    """Return name -> the fenced block that follows ``<!-- kind: name -->``."""
    found = re.findall(rf"<!-- {kind}: ([a-z ]+) -->\n```[a-z]*\n(.*?)```", TEXT, re.DOTALL)
    return {name: text.rstrip("\n") for name, text in found}


def plain(text: str) -> str:
    """Return a text without what differs from day to day."""
    return re.sub(r"run [0-9a-f]{32}", "run ID", re.sub(r"20\d\d-\d\d-\d\d", "DATE", text))


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(pytester.path)
    pytester.makeini("[pytest]\ntrust_builtin_suites = false\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(bot=APP)
    rows = "".join(f"        - {{prompt: question {i}}}\n" for i in range(40))
    for directory in ("suites", "thresholds"):
        pytester.mkdir(directory)
    (pytester.path / "suites/support.yaml").write_text(SUITE % rows)
    return pytester


def ask(project: pytest.Pytester, name: str, *, results: str = "trust.json") -> list[str]:
    """Run a documented example and return what its section says about gates and baseline."""
    args, _ = RUNS[name]
    thresholds = blocks("thresholds").get(name) or blocks("thresholds")["drop failed"]
    (project.path / "thresholds/safety.yaml").write_text(thresholds)
    result = project.runpytest_subprocess(
        "-p", "no:cacheprovider", "--trust-model=python:bot:answer", f"--trust-results={results}", *args, timeout=90
    )
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if line.startswith("score: mean"))
    end = next(i for i, line in enumerate(lines) if line.startswith("results: "))
    return lines[start + 1 : end]


def set_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for key, value in RUNS[name][1].items():
        monkeypatch.setenv(key, value)


@pytest.mark.parametrize("name", RUNS)
def test_documented_output_is_what_a_run_prints(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if "--trust-baseline=baselines/bot.json" in RUNS[name][0]:
        ask(project, "first", results="baselines/bot.json")
    set_environment(monkeypatch, name)
    assert plain("\n".join(ask(project, name))) == plain(blocks("output")[name])


def test_documented_output_of_the_commands(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(project, "first", results="baselines/bot.json")
    set_environment(monkeypatch, "drop inconclusive")
    ask(project, "drop inconclusive")

    def command(*args: str) -> str:
        given = (sys.executable, "-m", "pytest_trustllm.cli", *args, "--conftest", "conftest.py")
        return plain("\n".join(project.run(*given).outlines))

    assert command("compare", "baselines/bot.json", "trust.json") == plain(blocks("output")["compare"])
    (project.path / "thresholds/safety.yaml").write_text(blocks("thresholds")["failed"])
    planned = project.runpytest_subprocess(
        "-p", "no:cacheprovider", "--trust-model=python:bot:answer", "--trust-plan", "--trust-stop=0.05",
        "--trust-baseline=baselines/bot.json", timeout=90,
    ).outlines  # fmt: skip
    start = next(i for i, line in enumerate(planned) if line.startswith("task "))
    shown = "\n".join(planned[start:-1])
    assert re.sub(r" +[0-9.]+ s ", "  TIME ", shown) == re.sub(r" +[0-9.]+ s ", "  TIME ", blocks("output")["plan"])
    (project.path / "thresholds/safety.yaml").write_text(blocks("thresholds")["power"])
    assert command("power", "baselines/bot.json") == plain(blocks("output")["power"])
    command("gate", "--propose", "trust.json", "-o", "proposed")
    assert plain((project.path / "proposed/safety.yaml").read_text()).rstrip("\n") == plain(
        blocks("output")["proposed"]
    )


def test_every_block_is_tested() -> None:
    assert set(blocks("output")) == {*RUNS, "compare", "plan", "power", "proposed"}
    assert set(blocks("thresholds")) <= {*RUNS, "power", "against"}
