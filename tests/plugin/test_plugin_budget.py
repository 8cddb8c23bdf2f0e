"""A budget ends the asking in good order, gates know that they saw a part, and the next run goes on."""

from __future__ import annotations

import sys

import pytest
from user_project import Project, statuses

COUNTS = """
import pathlib
def answer(prompt):
    with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as f:
        f.write(prompt + "\\n")
    return "good answer"
"""
BOT = "bot: {provider: python, model: 'app:answer', revision: '1', price: {input: 1000, output: 1000}}\n"
JUDGED = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score
from pytest_trustllm.types import Question

@dataclass(frozen=True)
class Judged:
    roles: ClassVar = ("judge",)

    def score(self, sample, replies):
        (verdict,) = yield [Question("judge", (("user", "judge " + sample.prompts[0][0][1]),))]
        return Score.none("no verdict") if verdict.text is None else Score(1.0)

def pytest_trustllm_register(registry):
    registry.scorers.add("judged", Judged)
"""


@pytest.fixture
def many(project: Project) -> Project:
    """A hundred samples of two tokens, answers of three; the app is asked by one call at a time."""
    project.samples(100)
    project.write("app.py", COUNTS)
    project.write("models.yaml", BOT)
    ini = "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n"
    project.write("pytest.ini", ini)
    project.gates("metric: many.accuracy, at_least: 0.9")
    return project


def test_a_run_stops_in_good_order_and_the_next_one_goes_on(many: Project, mode: tuple[str, ...]) -> None:
    result = many.run("--trust-budget=50 tokens", *mode, model="bot")
    assert result.ret == pytest.ExitCode.OK
    assert statuses(result) == {"passed": 10, "skipped": 1, "unscored": 90}
    assert len(many.log()) == 10
    result.stdout.fnmatch_lines(
        [
            "PARTIAL SELECTION*",
            "   90  budget: 50 tokens reached: many 90",
            "budget: 50 tokens; spent: 0.05 USD, 50 tokens*",
            "  estimate: 100 requests, 2?? + at most 51,200 tokens, at most 51.?? USD",
            "  budget: 50 tokens reached: 90 samples left for the next run",
            "gates: 0 passed, 0 failed, 1 skipped (partial selection: 10 of 100 samples)",
        ]
    )
    results = many.results()
    budget = results["run"]["budget"]
    assert (budget["given"], budget["reached"], budget["cut"]) == ({"tokens": 50.0}, "budget: 50 tokens reached", 90)
    assert (budget["spent"]["tokens"], budget["spent"]["usd"]) == (50, pytest.approx(0.05))
    assert budget["estimate"]["requests"] == 100
    assert results["run"]["selection"] == "partial"
    assert [g["outcome"] for g in results["gates"]] == ["skipped"]
    metric = results["metrics"]["safety/many.accuracy"]
    assert (metric["value"], metric["expected"], metric["scored"]) == (1.0, 100, 10)
    reasons = {line["reason"] for line in many.lines() if line["status"] == "unscored"}
    assert reasons == {"budget: 50 tokens reached"}

    result = many.run("--trust-budget=1M tokens", *mode, model="bot")
    assert statuses(result) == {"passed": 101}
    assert len(many.log()) == len(set(many.log())) == 100
    results = many.results()
    assert (results["usage"]["requests"], results["usage"]["cached"]) == (90, 10)
    assert (results["run"]["budget"]["reached"], results["run"]["budget"]["cut"]) == (None, 0)
    assert results["run"]["budget"]["estimate"]["requests"] == 90
    assert results["gates"][0]["outcome"] == "passed"


def test_a_gate_that_judges_parts_still_asks_for_coverage(many: Project) -> None:
    many.gates("metric: many.accuracy, at_least: 0.9", more="on_partial: judge\ncoverage: {min_scored: 0.5}")
    result = many.run("--trust-budget=50 tokens", model="bot")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert many.results()["gates"][0]["outcome"] == "failed"
    result.stdout.fnmatch_lines(["*10 of 100 samples have a score*"])


def test_a_saved_run_is_judged_again_as_the_part_it_was(many: Project, pytester: pytest.Pytester) -> None:
    many.run("--trust-budget=50 tokens", model="bot")
    again = pytester.run(sys.executable, "-m", "pytest_trustllm.cli", "gate", "r.json", "--thresholds", "thresholds")
    again.stdout.fnmatch_lines(["gates: 0 passed, 0 failed, 1 skipped (partial selection: 10 of 100 samples)"])


@pytest.mark.parametrize(("budget", "asked"), [("0.05 USD", 10), ("5k tokens, 0.02 USD", 4)])
def test_money_is_counted_by_the_price(many: Project, budget: str, asked: int) -> None:
    result = many.run(f"--trust-budget={budget}", model="bot")
    assert len(many.log()) == asked
    result.stdout.no_fnmatch_line("*WARNING*")


def test_time_ends_a_run(many: Project) -> None:
    many.write(
        "app.py",
        COUNTS.replace("import pathlib", "import pathlib, time").replace("    with", "    time.sleep(0.2)\n    with"),
    )
    result = many.run("--trust-budget=1 s", model="bot")
    assert result.ret == pytest.ExitCode.OK
    assert 0 < len(many.log()) < 100
    assert many.results()["run"]["budget"]["cut"] == 100 - len(many.log())
    assert many.results()["run"]["budget"]["reached"] == "budget: 1 s reached"


def test_money_without_a_price_is_warned_of_and_the_rest_of_the_budget_holds(many: Project) -> None:
    result = many.run("--trust-budget=1 USD, 50 tokens")
    result.stdout.fnmatch_lines(["WARNING: --trust-budget: money is not counted, no price is known: python:app:answer"])
    assert len(many.log()) == 10
    assert many.results()["run"]["budget"]["estimate"]["usd_at_most"] is None


def test_the_budget_may_stand_in_the_ini_file(many: Project) -> None:
    many.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_budget = 50 tokens\n")
    many.run()
    assert len(many.log()) == 10
    many.run("--trust-budget=10 tokens")
    assert len(many.log()) == 12


def test_a_budget_that_is_none_is_one_line(many: Project) -> None:
    result = many.run("--trust-budget=5 EUR")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trust-budget: '5 EUR' is not a valid amount; expected one or more of *"])
    assert many.log() == []


@pytest.mark.slow  # a process loads transformers
def test_a_local_model_stops_too(many: Project) -> None:
    pytest.importorskip("transformers")
    many.samples(300, generation="{max_new_tokens: 2}")
    result = many.run("--trust-budget=100 tokens", model="demo")
    assert result.ret == pytest.ExitCode.OK
    results = many.results()
    assert 0 < results["usage"]["requests"] < 200
    assert results["usage"]["requests"] + results["run"]["budget"]["cut"] == 300
    estimate = results["run"]["budget"]["estimate"]
    assert (estimate["requests"], estimate["output_tokens_at_most"]) == (300, 600)
    sent = [r["input_tokens"] for line in many.lines() for r in line["responses"] if r.get("input_tokens")]
    assert min(sent) * 300 <= estimate["input_tokens"] <= max(sent) * 300  # by its own tokenizer


def test_a_sample_whose_verdict_was_cut_is_cut_and_its_answer_kept(many: Project) -> None:
    many.write("conftest.py", JUDGED)
    many.write("app.py", COUNTS + "\n\ndef judge(question):\n    answer(question)\n    return 'x' * 4000\n")
    suite = (many.path / "suites" / "mine.yaml").read_text().replace("scorer: contains", "scorer: judged")
    many.write("suites/mine.yaml", suite)
    many.write("models.yaml", BOT + "judge: {provider: python, model: 'app:judge', revision: '1'}\n")
    many.run("--trust-judge=judge", "--trust-budget=1 k tokens", model="bot")
    results, first = many.results(), many.log()
    cut = results["run"]["budget"]["cut"]
    assert results["metrics"]["safety/many.accuracy"]["scored"] == 100 - cut < 100
    assert {line["reason"] for line in many.lines() if line["value"] is None} == {"budget: 1 k tokens reached"}
    many.run("--trust-judge=judge", model="bot")
    assert len(many.log()) == len(set(many.log())) == 200
    assert len(first) < 200
    assert many.results()["metrics"]["safety/many.accuracy"]["scored"] == 100


def test_replayed_answers_cost_nothing(many: Project) -> None:
    many.write("replies.jsonl", "".join(f'{{"prompt": "good {i}", "response": "good"}}\n' for i in range(100)))
    result = many.run("--trust-budget=1 token", model="replay:replies.jsonl")
    assert statuses(result) == {"passed": 101}
    assert many.results()["run"]["budget"]["spent"]["tokens"] == 0
