"""Batches: the same answers, scores and verdicts as direct requests, and nothing is submitted twice."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from batch_server import BatchServer, output_line
from user_project import Project, statuses, wait_for

MODELS = """
bot:
  {{provider: openai, model: m, base_url: "{url}", api_key_env: KEY, retry_delay: 0.01,
   price: {{input: 2000, output: 1000}}}}
judge: {{provider: openai, model: j, base_url: "{url}", api_key_env: KEY, retry_delay: 0.01}}
other: {{provider: openai, model: o, base_url: "{url}", api_key_env: KEY, retry_delay: 0.01}}
two: {{provider: openai, model: m, base_urls: ["{url}", "{url}/x"], api_key_env: KEY}}
"""
SCORERS = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score
from pytest_trustllm.types import Question

@dataclass(frozen=True)
class Judged:
    roles: ClassVar = ("judge",)

    def score(self, sample, replies):
        question = Question("judge", (("user", "judge " + replies[0].text),))
        (verdict,) = yield [question]
        if verdict.text is None:
            return Score.none("no verdict")
        return Score(float(verdict.text == "yes"), verdict.text == "yes", answer=verdict.text)

def pytest_trustllm_register(registry):
    registry.scorers.add("judged", Judged)
"""
QUESTION = 'Question("judge", (("user", "judge " + replies[0].text),))'
UNSURE = """Question(
            "judge",
            (("user", "unsure " + replies[0].text),),
            accept=lambda reply: reply.text in ("yes", "no"),
            retry=(("user", "judge " + replies[0].text),),
        )"""
SUITE = """
dimension: safety
tasks:
  - name: plain
    data: {samples: [ROWS]}
    scorer: {name: contains}
    metrics: [accuracy]
    generation: {temperature: 1.0, max_new_tokens: 40, stop: ["###"]}
  - name: judged
    data: {samples: [ROWS]}
    scorer: judged
    metrics: [accuracy]
"""
PATIENCE = """
import sys
if any("pytest_trustllm.engine.host" in argument for argument in sys.orig_argv):
    from pytest_trustllm.engine import activity, batches
    from pytest_trustllm.models.api import batches as api
    batches.FIRST_PAUSE = 0.05
    batches.LONGEST_PAUSE = 0.1
    activity._MOMENT = 0.1
    api.MOST_LINES = {lines}
    api.MOST_BYTES = {bytes}
"""
"""A sitecustomize.py, which Python imports when it starts: the model host does not read the project's conftest.py."""


@pytest.fixture
def server() -> Iterator[BatchServer]:
    made = BatchServer()
    yield made
    made.close()


class BatchProject:
    """A project whose model under test and judge have batches."""

    def __init__(self, project: Project, server: BatchServer) -> None:
        self.project = project
        self.server = server
        project.write("conftest.py", SCORERS)
        self.rows(8)
        project.write("models.yaml", MODELS.format(url=server.url))
        project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
        project.gates("metric: plain.accuracy, at_least: 0.2", "metric: judged.accuracy, at_least: 0.2")
        self.limits(50_000, 200_000_000)

    def limits(self, lines: int, size: int) -> None:
        """Set the limits of the API."""
        self.project.write("patience/sitecustomize.py", PATIENCE.format(lines=lines, bytes=size))

    def rows(self, count: int, prefix: str = "say") -> None:
        """Let both tasks have so many samples."""
        rows = ", ".join(f"{{prompt: {prefix} {number}, label: good}}" for number in range(count))
        self.project.write("suites/mine.yaml", SUITE.replace("ROWS", rows))

    def run(self, *args: str, model: str = "bot") -> pytest.RunResult:
        return self.project.run("--trust-judge=judge", "-p", "no:cacheprovider", *args, model=model)

    def direct(self) -> dict[str, Any]:
        """Return the results of a run without batches and with a store of its own."""
        return self.direct_with()

    def direct_with(self, *args: str) -> dict[str, Any]:
        """Do the same with further options."""
        self.run("--trust-store=elsewhere", *args)
        return self.project.results()


@pytest.fixture
def batched(project: Project, server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> BatchProject:
    monkeypatch.setenv("KEY", "sk-very-secret-key")
    monkeypatch.setenv("PYTHONPATH", f"{project.path / 'patience'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return BatchProject(project, server)


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    """Return what a run with batches and one without must have in common."""
    return {"metrics": results["metrics"], "scores": results["scores"], "gates": results["gates"]}


def texts(lines: list[dict[str, Any]]) -> list[Any]:
    """Return what the samples file says, but for what tells how answers came."""
    kept = []
    for line in lines:
        for response in (*line["responses"], *line["verdicts"]):
            response.pop("seconds", None)
            response.pop("cached", None)
        kept.append(line)
    return kept


def test_a_run_in_stages_ends_as_a_direct_run_does(batched: BatchProject, mode: tuple[str, ...]) -> None:
    expected = batched.direct()
    expected_texts = texts(batched.project.lines())
    asked = len(batched.server.asked)

    first = batched.run("--trust-batch=submit", *mode)
    assert first.ret == pytest.ExitCode.OK
    assert statuses(first) == {"skipped": 18}
    first.stdout.fnmatch_lines(
        [
            "PENDING: 16 requests in batch_0; run again later, or with --trust-batch=wait",
            "gates: 0 passed, 0 failed, 2 skipped (pending: 8 of 8 samples wait for a batch)",
        ]
    )
    results = batched.project.results()
    assert results["run"]["selection"] == "partial"
    assert results["run"]["batches"] == {
        "mode": "submit",
        "samples": 16,
        "pending": [{"role": None, "id": "batch_0", "requests": 16}],
        "asked_directly": [],
    }
    assert {gate["outcome"] for gate in results["gates"]} == {"skipped"}
    assert {line["reason"] for line in batched.project.lines()} == {"pending: in batch batch_0"}

    second = batched.run("--trust-batch=submit", *mode)
    assert second.ret == pytest.ExitCode.OK
    assert list(batched.server.batches) == ["batch_0", "batch_1"]
    assert {prompt.split()[0] for prompt in batched.server.prompts("batch_1")} == {"judge"}
    second.stdout.fnmatch_lines(["PENDING: 8 requests in batch_1 (judge); *"])
    outcomes = {gate["metric"]: gate["outcome"] for gate in batched.project.results()["gates"]}
    assert outcomes == {"safety/plain.accuracy": "passed", "safety/judged.accuracy": "skipped"}

    third = batched.run("--trust-batch=submit", *mode)
    assert third.ret == pytest.ExitCode.OK
    results = batched.project.results()
    assert numbers(results) == numbers(expected)
    assert texts(batched.project.lines()) == expected_texts
    assert results["run"]["selection"] == "full"
    assert set(batched.server.submitted.values()) == {1}
    assert len(batched.server.asked) == asked
    assert len(batched.server.batches) == 2


def test_waiting_does_all_stages_in_one_run(batched: BatchProject, mode: tuple[str, ...]) -> None:
    expected = batched.direct()
    asked = len(batched.server.asked)
    batched.server.polls = 3
    result = batched.run("--trust-batch=wait", *mode)
    assert result.ret == pytest.ExitCode.OK
    results = batched.project.results()
    assert numbers(results) == numbers(expected)
    assert results["run"]["batches"] == {"mode": "wait", "samples": 0, "pending": [], "asked_directly": []}
    assert len(batched.server.batches) == 2
    assert len(batched.server.asked) == asked
    usage, direct = results["usage"], expected["usage"]
    assert (usage["requests"], usage["batched"], usage["input_tokens"]) == (16, 16, direct["input_tokens"])
    assert usage["cost_usd"] == pytest.approx(direct["cost_usd"] / 2)


def test_a_run_without_the_flag_collects_what_is_done(batched: BatchProject) -> None:
    expected = batched.direct()
    asked = len(batched.server.asked)
    batched.run("--trust-batch=submit")
    result = batched.run()
    assert numbers(batched.project.results()) == numbers(expected)
    assert "batches" not in batched.project.results()["run"]
    # the judge's questions were in no batch
    assert {prompt.split()[0] for prompt in batched.server.asked[asked:]} == {"judge"}
    result.stdout.no_fnmatch_line("*PENDING*")


def test_a_run_without_the_flag_asks_what_it_needs_and_says_so(batched: BatchProject) -> None:
    batched.server.polls = 1000
    batched.run("--trust-batch=submit")
    result = batched.run("-k", "plain and (1 or 2)")
    assert sorted(batched.server.asked) == ["say 1", "say 2"]
    result.stdout.fnmatch_lines(["sent directly, and so charged twice: 2 requests in batch_0; --trust-batch=wait*"])
    entry = batched.project.results()["run"]["batches"]
    assert entry["asked_directly"] == [{"role": None, "id": "batch_0", "requests": 2}]
    # an open batch is submitted no second time by whatever comes later
    batched.run("--trust-batch=submit")
    assert list(batched.server.batches) == ["batch_0"]


def test_a_conversation_is_a_stage_per_turn(batched: BatchProject) -> None:
    suite = SUITE.split("  - name: judged")[0].replace(
        "ROWS", "{prompt: say, label: good}, {prompt: speak, label: good}"
    )
    turns = 'turns: ["{{ prompt }}", "then {{ answers[0] }}"]'
    batched.project.write("suites/mine.yaml", suite.replace("    scorer:", f"    {turns}\n    scorer:"))
    batched.project.gates("metric: plain.accuracy, at_least: 0")
    expected = batched.direct()
    expected_texts = texts(batched.project.lines())
    for stage in range(2):
        result = batched.run("--trust-batch=submit")
        result.stdout.fnmatch_lines([f"PENDING: 2 requests in batch_{stage}; *"])
        assert statuses(result) == {"skipped": 3}
    assert [len(line["talks"][0]) for line in batched.project.lines()] == [3, 3]
    batched.run("--trust-batch=submit")
    assert numbers(batched.project.results()) == numbers(expected)
    assert texts(batched.project.lines()) == expected_texts
    assert set(batched.server.submitted.values()) == {1}


def test_what_failed_for_now_is_submitted_again_and_the_rest_is_an_error(batched: BatchProject) -> None:
    batched.server.fates = {
        "say 0": ["expire", 429, 500],
        "say 1": ["lost"],
        "say 2": [400, 400, 400, 400],
        "say 3": [500] * 20,
    }
    result = batched.run("--trust-batch=wait", "-k", "plain")
    # both tasks have these prompts; only one of them ran
    reasons = {line["id"]: line["reason"] for line in batched.project.lines() if line["status"] == "unscored"}
    assert list(reasons) == ["0002", "0003"]
    assert "HTTP 400 from 127.0.0.1: trouble number 400" in reasons["0002"]
    assert "trouble number 500 (after 5 batches)" in reasons["0003"]
    assert [len(batched.server.prompts(batch)) for batch in batched.server.batches] == [8, 3, 2, 2, 1]
    result.stdout.no_fnmatch_line("*secret*")
    # the next run tries what failed once more, as a run without batches does
    batched.server.fates = {}
    batched.run("--trust-batch=wait", "-k", "plain")
    assert [line["status"] for line in batched.project.lines()].count("unscored") == 0
    last = list(batched.server.batches)[-1]
    assert batched.server.prompts(last) == ["say 2", "say 3"]


def test_a_batch_that_does_not_answer_is_named(batched: BatchProject) -> None:
    batched.server.refused = {"GET /batches/batch_0": 404}
    result = batched.run("--trust-batch=wait", "-k", "plain")
    result.stdout.fnmatch_lines(["batch_0 answered 0 of 8 requests (no longer there); submitted again, try 2 of 5"])
    assert [entry["again"] for entry in batched.project.results()["run"]["batches"]["unanswered"]] == [8]
    assert len(batched.server.batches) == 2


def test_answers_to_other_requests_are_named(batched: BatchProject) -> None:
    def foreign(file: str) -> str:
        batched.server.process = None
        return "".join(
            json.dumps(output_line(f"other-{number}", {})) + "\n" for number, _ in enumerate(file.splitlines())
        )

    batched.server.process = foreign
    batched.run("--trust-batch=wait", "-k", "plain")
    assert batched.project.results()["run"]["batches"]["unanswered"] == [
        {
            "role": None,
            "id": "batch_0",
            "requests": 8,
            "answered": 0,
            "reason": "completed, 8 of its lines are about other requests",
            "again": 8,
            "attempt": 2,
        }
    ]


@pytest.mark.slow
def test_an_error_is_not_submitted_again_by_runs_that_wait_for_others(batched: BatchProject) -> None:
    gates = ("metric: plain.accuracy, at_least: 0.1", "metric: judged.accuracy, at_least: 0.1")
    batched.project.gates(*gates, more="coverage: {min_scored: 0.5}")
    batched.server.fates = {"say 2": [400] * 10}
    sizes = []
    for _ in range(4):
        result = batched.run("--trust-batch=submit")
        assert result.ret == pytest.ExitCode.OK
        sizes.append(len(batched.server.batches))
    assert sizes == [1, 2, 2, 2]
    errors = [line for line in batched.project.lines() if line["status"] == "unscored"]
    assert len(errors) == 2
    assert all("trouble number 400" in line["reason"] for line in errors)
    # a run that can wait tries them once more
    batched.server.fates = {}
    batched.run("--trust-batch=wait")
    assert [line for line in batched.project.lines() if line["status"] == "unscored"] == []


@pytest.mark.slow
def test_a_request_that_a_model_does_not_take_is_adapted(batched: BatchProject) -> None:
    message = "Unsupported parameter: 'stop' is not supported with this model."
    batched.server.fates = {f"say {number}": [(400, message)] for number in range(8)}
    result = batched.run("--trust-batch=wait", "-k", "plain")
    assert result.ret == pytest.ExitCode.OK
    assert len(batched.server.batches) == 2
    assert "stop is not sent" in " ".join(batched.project.results()["run"]["model"]["about"]["adapted"])
    assert {line["status"] for line in batched.project.lines()} <= {"passed", "missed"}


@pytest.mark.parametrize(
    "call",
    [
        "POST /batches",
        pytest.param("POST /files", marks=pytest.mark.slow),
        pytest.param("GET /batches/batch_0", marks=pytest.mark.slow),
        pytest.param("GET /files/file-1/content", marks=pytest.mark.slow),
    ],
)
def test_a_connection_that_breaks_costs_nothing(batched: BatchProject, call: str) -> None:
    batched.server.dropped[call] = 2
    result = batched.run("--trust-batch=wait")
    assert result.ret == pytest.ExitCode.OK
    assert batched.server.dropped[call] == 0
    assert set(batched.server.submitted.values()) == {1}
    assert len(batched.server.batches) == 2


def test_a_run_that_is_killed_before_it_can_write_the_batch_down_finds_it(batched: BatchProject) -> None:
    server = batched.server
    server.hold.clear()
    process = batched.project.start("--trust-judge=judge", "--trust-batch=submit", model="bot")
    assert wait_for(lambda: "POST /batches" in server.seen)
    os.killpg(process.pid, signal.SIGKILL)
    host = batched.project.host()
    if host is not None:
        os.kill(host, signal.SIGKILL)
    process.wait()
    server.hold.set()
    # batches of others, so that ours is on a further page of the list
    for number in range(5):
        server.batches[f"others_{number}"] = {"id": f"others_{number}", "status": "completed", "metadata": None}
    result = batched.run("--trust-batch=wait")
    assert result.ret == pytest.ExitCode.OK
    assert set(server.submitted.values()) == {1}
    assert [name for name in server.batches if name.startswith("batch")] == ["batch_0", "batch_6"]


def test_a_run_that_is_killed_while_it_waits_is_resumed(batched: BatchProject) -> None:
    server = batched.server
    server.polls = 100_000
    process = batched.project.start("--trust-judge=judge", "--trust-batch=wait", model="bot")
    assert wait_for(lambda: "GET /batches/batch_0" in server.seen)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_for(lambda: batched.project.host() is None)
    server.polls = 0
    result = batched.run("--trust-batch=wait")
    assert result.ret == pytest.ExitCode.OK
    assert set(server.submitted.values()) == {1}
    assert server.asked == []


@pytest.mark.parametrize(
    ("lines", "size", "parts"),
    [(3, 10**9, [3, 3, 2]), pytest.param(10**9, 600, [2, 2, 2, 2], marks=pytest.mark.slow)],
)
def test_files_keep_to_the_limits_of_the_api(batched: BatchProject, lines: int, size: int, parts: list[int]) -> None:
    batched.limits(lines, size)
    expected = batched.direct()
    batched.run("--trust-batch=submit", "-k", "plain")
    assert [len(batched.server.prompts(batch)) for batch in batched.server.batches] == parts
    assert all(len(content) <= size for content in batched.server.files.values())
    batched.limits(50_000, 10**9)
    batched.run("--trust-batch=wait")
    assert numbers(batched.project.results()) == numbers(expected)
    assert set(batched.server.submitted.values()) == {1}


@pytest.mark.slow
def test_a_full_queue_is_waited_for(batched: BatchProject) -> None:
    server = batched.server
    server.polls = 6
    batched.run("--trust-batch=submit", "-k", "plain and (1 or 2)")
    batched.limits(4, 10**9)
    server.failing = [("token_limit_exceeded", "Enqueued token limit reached for m")] * 2
    result = batched.run("--trust-batch=wait", "-k", "plain")
    assert result.ret == pytest.ExitCode.OK
    assert {line["status"] for line in batched.project.lines()} <= {"passed", "missed"}
    sizes = [len(server.prompts(batch)) for batch in server.batches]
    assert sizes == [2, 4, 2, 4, 2]
    # the two that did not fit came again only after the first was done
    calls = server.seen
    done = [number for number, call in enumerate(calls) if call == "GET /batches/batch_0"]
    created = [number for number, call in enumerate(calls) if call == "POST /batches"]
    assert created[2] < done[-1] < created[3]


def test_a_batch_that_fails_as_a_whole_gives_its_reason(batched: BatchProject) -> None:
    batched.server.failing = [("model_not_found", "content filtered: no model m, says sk-very-secret-key")]
    result = batched.run("--trust-batch=wait")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(batched.server.batches) == 1
    reasons = {line["reason"] for line in batched.project.lines()}
    assert len(reasons) == 1
    assert "the batch failed: model_not_found: content filtered: no model m, says ***" in reasons.pop()
    result.stdout.no_fnmatch_line("*secret*")


def test_a_budget_is_checked_before_anything_is_submitted(batched: BatchProject) -> None:
    # a sample of the first task may take 40 + 2 tokens
    result = batched.run("--trust-batch=wait", "-k", "plain", "--trust-budget=100 tokens")
    assert len(batched.server.prompts("batch_0")) == 2
    result.stdout.fnmatch_lines(["  budget: 100 tokens does not cover the whole batch: 6 samples left*"])
    assert {gate["outcome"] for gate in batched.project.results()["gates"]} == {"skipped"}


@pytest.mark.slow
def test_money_of_a_budget_buys_twice_as_much(batched: BatchProject) -> None:
    # 40 tokens at 1,000 USD and about 2 at 2,000 USD per million: 0.044 USD, and half of it in a batch
    batched.run("--trust-batch=wait", "-k", "plain", "--trust-budget=0.1 USD")
    assert len(batched.server.prompts("batch_0")) == 4
    assert batched.project.results()["run"]["budget"]["estimate"]["usd_at_most"] == pytest.approx(0.176, rel=0.1)
    results = batched.project.results()
    assert results["run"]["budget"]["spent"]["usd"] == pytest.approx(results["usage"]["cost_usd"])


@pytest.mark.slow
def test_epochs_and_samples_of_reasoning_models_are_the_same(batched: BatchProject) -> None:
    batched.rows(3, "think")
    expected = batched.direct_with("--trust-epochs=3")
    expected_texts = texts(batched.project.lines())
    assert expected_texts[0]["responses"][0]["reasoning"].startswith("hm, ")
    for _ in range(3):
        batched.run("--trust-batch=submit", "--trust-epochs=3")
    assert numbers(batched.project.results()) == numbers(expected)
    assert texts(batched.project.lines()) == expected_texts
    assert set(batched.server.submitted.values()) == {1}


@pytest.mark.slow
def test_several_models_have_batches_of_their_own(batched: BatchProject) -> None:
    result = batched.project.run(
        "--trust-model=other", "--trust-judge=judge", "--trust-batch=submit", "-p", "no:cacheprovider", model="bot"
    )
    assert result.ret == pytest.ExitCode.OK
    assert len(batched.server.batches) == 2
    pending = []
    for name in ("bot", "other"):
        pending += batched.project.results(f"r.{name}.json")["run"]["batches"]["pending"]
    assert sorted(batch["id"] for batch in pending) == ["batch_0", "batch_1"]


@pytest.mark.slow
def test_a_judge_that_is_the_model_under_test_shares_its_batches(batched: BatchProject) -> None:
    result = batched.project.run("--trust-judge=bot", "--trust-batch=wait", "-p", "no:cacheprovider", model="bot")
    assert result.ret == pytest.ExitCode.OK
    assert set(batched.server.submitted.values()) == {1}


def test_gates_that_judge_parts_do_not_judge_what_is_pending(batched: BatchProject) -> None:
    batched.project.gates("metric: plain.accuracy, at_least: 0.2", more="on_partial: judge")
    batched.run("--trust-batch=wait", "-k", "plain and (1 or 2)")
    batched.server.polls = 1000
    result = batched.run("--trust-batch=submit", "--deselect=suites/mine.yaml::judged")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["gates: 0 passed, 0 failed, 1 skipped (pending: 6 of 8 samples wait for a batch)"])


def test_a_saved_pending_run_is_judged_as_pending(batched: BatchProject, pytester: pytest.Pytester) -> None:
    batched.run("--trust-batch=submit")
    command = (sys.executable, "-m", "pytest_trustllm.cli", "gate", "r.json", "--thresholds", "thresholds")
    pytester.run(*command).stdout.fnmatch_lines(["gates: 0 passed, 0 failed, 2 skipped (pending: 8 of 8 *"])


def test_own_tests_are_skipped_while_their_samples_are_pending(batched: BatchProject) -> None:
    batched.project.write(
        "test_own.py",
        """
import pytest

@pytest.mark.trust_task("suites/mine.yaml::plain")
def test_answer(trust_model, trust_sample):
    (response,) = trust_model.answer(trust_sample)
    assert response.text

@pytest.mark.trust_task("suites/mine.yaml::plain")
def test_score(trust_model, trust_sample):
    assert trust_model.score(trust_sample).value is not None

def test_question(trust_model):
    assert trust_model.ask("anything").text
""",
    )
    result = batched.run("test_own.py", "--trust-batch=submit")
    assert statuses(result) == {"passed": 1, "skipped": 16}
    assert batched.server.asked == ["anything"]
    result = batched.run("test_own.py", "--trust-batch=submit")
    assert statuses(result) == {"passed": 17}


def test_the_ini_twin_and_the_progress_of_a_wait(batched: BatchProject) -> None:
    ini = "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\ntrust_batch = submit\n"
    batched.project.write("pytest.ini", ini)
    assert batched.run().ret == pytest.ExitCode.OK
    assert len(batched.server.batches) == 1


REFUSED = {
    "no such way": (("--trust-batch=later",), "bot", "--trust-batch: 'later' is not known; write submit or wait"),
    "offline": (("--trust-batch=submit", "--trust-offline"), "bot", "--trust-batch: --trust-offline forbids requests*"),
    "fresh": (("--trust-batch=wait", "--trust-fresh"), "bot", "--trust-batch: --trust-fresh ignores answers of *"),
    "function": (
        ("--trust-batch=submit",),
        "python:app:answer",
        "--trust-batch: 'python:app:answer' has no batch API;*",
    ),
    "demo": (("--trust-batch=submit",), "demo", "--trust-batch: 'demo' has no batch API;*"),
    "two servers": (("--trust-batch=submit",), "two", "--trust-batch: 'two' has 2 addresses or keys, and a batch *"),
}


@pytest.mark.parametrize(("flags", "model", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_in_one_line(
    batched: BatchProject, flags: tuple[str, ...], model: str, message: str
) -> None:
    result = batched.run(*flags, model=model)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert batched.server.batches == {}


def test_a_server_without_batches_is_refused(batched: BatchProject, mode: tuple[str, ...]) -> None:
    batched.server.refused = {"GET /files": 404, "POST /files": 404}
    result = batched.run("--trust-batch=submit", *mode)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trust-batch: 127.0.0.1 has no batch API (HTTP 404 for /files); *"])
    assert batched.server.asked == []


def test_an_app_has_no_batches(batched: BatchProject) -> None:
    batched.project.write(
        "conftest.py",
        SCORERS + "import pytest\nfrom pytest_trustllm import TrustModel\n"
        "@pytest.fixture(scope='session')\ndef trust_model():\n"
        "    return TrustModel.from_callable(lambda prompt: 'good', name='app')\n",
    )
    result = batched.run("--trust-batch=submit", model="app")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trust-batch: the fixture trust_model has no batch API; *"])


def test_a_key_that_is_refused_ends_the_run_in_one_line(batched: BatchProject) -> None:
    batched.server.refused = {"GET /files": 401, "POST /files": 401}
    result = batched.run("--trust-batch=submit")
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*HTTP 401 from 127.0.0.1: no such thing here*"])
    result.stdout.no_fnmatch_line("*secret*")
    assert batched.server.batches == {}


def test_a_judge_whose_server_has_no_batches_is_asked_directly(batched: BatchProject) -> None:
    bare = BatchServer()
    bare.refused = {"GET /files": 404, "POST /files": 404}
    try:
        with (batched.project.path / "models.yaml").open("a") as file:
            file.write(f"bare: {{provider: openai, model: b, base_url: '{bare.url}', api_key_env: KEY}}\n")
        result = batched.project.run("--trust-judge=bare", "--trust-batch=wait", "-p", "no:cacheprovider", model="bot")
    finally:
        bare.close()
    assert result.ret == pytest.ExitCode.OK
    assert len(batched.server.batches) == 1
    assert {prompt.split()[0] for prompt in bare.asked} == {"judge"}


@pytest.mark.slow
def test_an_unclear_verdict_is_asked_again_in_a_batch_of_its_own(batched: BatchProject) -> None:
    batched.project.write("conftest.py", SCORERS.replace(QUESTION, UNSURE))
    expected = batched.direct()
    kinds = []
    for _ in range(4):
        assert batched.run("--trust-batch=submit").ret == pytest.ExitCode.OK
        kinds.append(
            {prompt.split()[0] for batch in batched.server.batches for prompt in batched.server.prompts(batch)}
        )
    assert [len(kind) for kind in kinds] == [1, 2, 3, 3]
    assert numbers(batched.project.results()) == numbers(expected)
    # what is complete stays complete, and is paid for once
    batched.run("--trust-batch=submit")
    results = batched.project.results()
    assert numbers(results) == numbers(expected)
    assert (results["usage"]["requests"], results["usage"]["roles"]["judge"]["requests"]) == (0, 0)
    assert set(batched.server.submitted.values()) == {1}


def test_two_runs_at_once_submit_every_request_once(batched: BatchProject) -> None:
    batched.server.polls = 3
    other = batched.project.start("--trust-judge=judge", "--trust-batch=wait", "-p", "no:cacheprovider", model="bot")
    result = batched.run("--trust-batch=wait")
    assert other.wait(60) == result.ret == pytest.ExitCode.OK
    assert set(batched.server.submitted.values()) == {1}
    assert batched.server.asked == []


@pytest.mark.slow
def test_a_log_shows_how_far_the_batches_are(batched: BatchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    batched.server.polls = 10**6
    slow = "from pytest_trustllm.plugin import progress\nprogress.PATIENCE = progress.LOG_EVERY = 0.2\n"
    batched.project.write("conftest.py", slow + SCORERS)
    process = batched.project.start("--trust-judge=judge", "--trust-batch=wait", model="bot")
    assert wait_for(lambda: "1 batch: 0 of 16 requests" in batched.project.output)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_run_that_is_interrupted_while_it_waits_says_what_is_pending(batched: BatchProject) -> None:
    batched.server.polls = 10**6
    process = batched.project.start("--trust-judge=judge", "--trust-batch=wait", model="bot")
    assert wait_for(lambda: "GET /batches/batch_0" in batched.server.seen)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == pytest.ExitCode.INTERRUPTED
    entry = batched.project.results()["run"]["batches"]
    assert entry["pending"] == [{"role": None, "id": "batch_0", "requests": 16}]
    assert "PENDING: 16 requests in batch_0" in batched.project.output
    assert wait_for(lambda: batched.project.host() is None)
    batched.server.polls = 0
    assert batched.run("--trust-batch=submit").ret == pytest.ExitCode.OK
    assert set(batched.server.submitted.values()) == {1}


@pytest.mark.slow
def test_shards_with_pending_samples_are_merged_as_pending(batched: BatchProject, pytester: pytest.Pytester) -> None:
    for shard in (1, 2):
        batched.run("--trust-batch=submit", f"--trust-shard={shard}/2", f"--trust-results=s{shard}.json")
    command = (sys.executable, "-m", "pytest_trustllm.cli", "merge", "s1.json", "s2.json", "-o", "all.json")
    result = pytester.run(*command, "--thresholds", "thresholds")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["gates: 0 passed, 0 failed, 2 skipped (pending: 8 of 8 samples wait for a batch)"])
    assert batched.project.results("all.json")["run"]["selection"] == "partial"


@pytest.mark.slow
def test_a_report_of_a_pending_run_says_so(batched: BatchProject) -> None:
    batched.run("--trust-batch=submit", "--trust-report=r.html")
    page = (batched.project.path / "r.html").read_text(encoding="utf-8")
    assert "PENDING: 16 requests in batch_0" in page
