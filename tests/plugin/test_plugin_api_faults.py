"""An API that fails during a run, Ctrl-C with requests under way, a full disk: what was answered stays answered."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from fault_server import FaultServer
from user_project import MAYBE_TWO, Project, statuses, wait_for

pytest.importorskip("openai")

COUNT = 40


@pytest.fixture
def servers() -> Iterator[list[FaultServer]]:
    made: list[FaultServer] = []
    yield made
    for server in made:
        server.close()


class Api:
    """A project whose model is a server that can fail."""

    def __init__(self, project: Project, servers: list[FaultServer]) -> None:
        self.project = project
        self._servers = servers
        project.samples(COUNT)
        project.gates("metric: many.accuracy, at_least: 0.9")
        project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
        self._port = 0

    def serve(self, fault: Any = lambda *_: False, **options: Any) -> FaultServer:
        """Start a server, on the same port as the one before, and write its entry of the models file."""
        server = FaultServer(fault, self._port)
        self._servers.append(server)
        self._port = server.port
        given = {"retry_delay": 0.01, "timeout": 30, "max_concurrency": 4, **options}
        more = "".join(f", {key}: {value}" for key, value in given.items())
        url = f"http://127.0.0.1:{server.port}/v1"
        self.project.write("models.yaml", f'api: {{provider: openai, model: m, base_url: "{url}"{more}}}\n')
        return server

    def scored(self) -> int:
        """Return how many samples have a score."""
        found: int = self.project.results()["metrics"]["safety/many.accuracy"]["scored"]
        return found


@pytest.fixture
def api(project: Project, servers: list[FaultServer], monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    return Api(project, servers)


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_a_run_has_one_pool_of_connections_whatever_the_number_of_workers(api: Api, workers: str) -> None:
    together = 0

    def fault(_handler: Any, _prompt: str, _number: int) -> bool:
        nonlocal together
        together = max(together, len(server.seen) - len(server.answered))
        time.sleep(0.01)
        return False

    server = api.serve(fault)
    assert statuses(api.project.run("-n", workers, model="api")) == {"passed": COUNT + 1}
    assert len(server.seen) == COUNT
    assert together <= 4  # max_concurrency is the run's, not each worker's
    assert 1 <= server.connections <= 4


def test_a_server_that_dies_costs_what_it_did_not_answer(api: Api, mode: tuple[str, ...]) -> None:
    def fault(_handler: Any, _prompt: str, number: int) -> bool:
        if number == 15:
            first.die()
        return first.over.is_set()

    first = api.serve(fault)
    result = api.project.run(*mode, model="api")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    kept = len(first.answered)  # the last ones may not have come through
    scored = {line["prompts"][0][0][1] for line in api.project.lines() if line["value"] is not None}
    assert 0 < api.scored() == len(scored) <= kept <= 14
    gone = "no connection to 127.0.0.1: * (after 5 tries, like 15 requests before it)"
    result.stdout.fnmatch_lines([f"*the model cannot be asked: no response: {gone}*"])

    second = api.serve()
    result = api.project.run(*mode, model="api")
    assert statuses(result) == {"passed": COUNT + 1}
    assert not scored.intersection(second.seen)
    assert COUNT - kept <= len(second.seen) == len(set(second.seen)) <= COUNT - len(scored)


def test_a_fleet_loses_a_server_and_the_run_loses_nothing(
    api: Api, servers: list[FaultServer], mode: tuple[str, ...]
) -> None:
    api.serve()
    assert statuses(api.project.run(*mode, model="api")) == {"passed": COUNT + 1}
    alone = api.project.results()

    def fault(_handler: Any, _prompt: str, number: int) -> bool:
        time.sleep(0.02)
        if number == 8:
            dying.die()
        return dying.over.is_set()

    dying, other = FaultServer(fault), FaultServer(lambda *_: bool(time.sleep(0.02)))
    servers.extend((dying, other))
    urls = [f"http://127.0.0.1:{server.port}/v1" for server in (dying, other)]
    api.project.write("models.yaml", f"api: {{provider: openai, model: m, base_urls: {urls}, max_concurrency: 4}}\n")
    assert statuses(api.project.run(*mode, model="api")) == {"passed": COUNT + 1}
    assert api.project.results()["metrics"] == alone["metrics"]
    assert 0 < len(dying.answered) < 8
    # nothing that came through was asked twice
    assert COUNT - len(dying.answered) <= len(other.answered) <= COUNT
    about = api.project.results()["run"]["model"]["about"]
    assert about["servers"] == {urls[0]: COUNT - len(other.answered), urls[1]: len(other.answered)}


def test_connections_that_break_are_made_anew(api: Api) -> None:
    met: set[str] = set()

    def fault(handler: Any, prompt: str, _number: int) -> bool:
        if prompt in met:
            return False
        met.add(prompt)
        FaultServer.reset(handler)
        return True

    server = api.serve(fault)
    result = api.project.run(model="api")
    assert statuses(result) == {"passed": COUNT + 1}
    assert Counter(server.answered) == Counter(f"good {i}" for i in range(COUNT))


def test_an_answer_that_never_ends_is_given_up(api: Api) -> None:
    def fault(handler: Any, prompt: str, _number: int) -> bool:
        if prompt != "good 3":
            return False
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not server.over.wait(0.05):
            handler.wfile.write(b" ")
        return True

    server = api.serve(fault, timeout=0.4)
    result = api.project.run(model="api")
    assert statuses(result) == {"passed": COUNT, "unscored": 1}
    (lost,) = [line for line in api.project.lines() if line["value"] is None]
    assert lost["reason"] == "no response: no answer from 127.0.0.1 within 0.4 s (after 5 tries)"


def refusing(handler: Any, status: int, body: Any) -> bool:
    """Send an error."""
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
    return True


def test_a_prompt_that_the_provider_blocks_costs_itself_alone(api: Api) -> None:
    flagged = {"error": {"code": 403, "message": "your input was flagged", "metadata": {"flagged_input": "good 3"}}}

    def fault(handler: Any, prompt: str, _number: int) -> bool:
        return prompt == "good 3" and refusing(handler, 403, flagged)

    server = api.serve(fault)
    assert statuses(api.project.run(model="api")) == {"passed": COUNT, "unscored": 1}
    (lost,) = [line for line in api.project.lines() if line["value"] is None]
    assert lost["reason"] == "blocked by the provider"
    assert lost["responses"][0]["detail"] == "HTTP 403 from 127.0.0.1: your input was flagged"
    assert server.seen.count("good 3") == 1
    assert statuses(api.project.run(model="api")) == {"passed": COUNT, "unscored": 1}
    assert len(server.seen) == COUNT  # it is stored like an answer


def test_an_account_without_credit_ends_the_run_at_once(api: Api) -> None:
    def fault(handler: Any, _prompt: str, _number: int) -> bool:
        return refusing(handler, 402, {"error": {"code": 402, "message": "Insufficient credits"}})

    server = api.serve(fault)
    result = api.project.run(model="api")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*the model cannot be asked: *HTTP 402 from 127.0.0.1: Insufficient credits*"])
    assert len(server.seen) <= 4  # what was under way


def test_a_parameter_that_is_rejected_is_said_and_recorded(api: Api) -> None:
    rejected: set[str] = set()

    def fault(handler: Any, prompt: str, _number: int) -> bool:
        if rejected:
            return False
        rejected.add(prompt)
        return refusing(handler, 400, {"error": {"message": "Unsupported parameter: 'temperature'"}})

    api.serve(fault, max_concurrency=1)
    result = api.project.run(model="api")
    assert statuses(result) == {"passed": COUNT + 1}
    line = "temperature is not sent, so that answers may vary from run to run: HTTP"
    result.stdout.fnmatch_lines([f"model: {line}", "  400 from 127.0.0.1: Unsupported parameter: 'temperature'"])
    about = api.project.results()["run"]["model"]["about"]
    assert about["adapted"] == [f"{line} 400 from 127.0.0.1: Unsupported parameter: 'temperature'"]
    assert about["answered_by"] == {"m": COUNT}


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_ctrl_c_with_requests_under_way_ends_at_once_and_keeps_the_answers(api: Api, workers: str) -> None:
    def fault(_handler: Any, _prompt: str, number: int) -> bool:
        if number <= 10:
            return False
        server.over.wait(60)
        return True

    server = api.serve(fault)
    run = api.project.start("-n", workers, model="api")
    assert wait_for(lambda: len(server.seen) >= 13)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(20) == pytest.ExitCode.INTERRUPTED
    assert wait_for(lambda: not api.project.processes(), 5)
    assert "INTERNALERROR" not in api.project.output
    answered = set(server.answered)
    server.close()
    second = api.serve()
    assert statuses(api.project.run(model="api")) == {"passed": COUNT + 1}
    assert set(second.seen).isdisjoint(answered)
    assert len(second.seen) == COUNT - len(answered)


LIMITED = """
import resource
def answer(prompt):
    import pathlib
    if (limit := pathlib.Path(__file__).with_name("limit")).exists():
        size = int(limit.read_text())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as f:
        f.write(prompt + "\\n")
    return "good" + " " * 400
"""
"""An app that lets no file of the model host grow beyond a size: what a full disk does, without filling one."""


def test_a_store_that_is_full_ends_the_run_and_keeps_what_it_has(project: Project, mode: tuple[str, ...]) -> None:
    project.write("app.py", LIMITED)
    project.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: '1'}\n")
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    project.samples(60)
    project.run(model="bot")
    (store,) = project.path.glob(".trustllm/*.jsonl")
    project.samples(100)
    project.write("limit", str(store.stat().st_size + 5000))
    result = project.run("-k", "006 or 007 or 008", *mode, model="bot")  # asks nothing of what is stored
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.INTERNAL_ERROR)
    line = "no response: --trust-store: *.trustllm*.jsonl cannot be written: File too large"
    result.stdout.fnmatch_lines([line, f"*the model cannot be asked: *{line}*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    asked = project.log()
    assert 60 < len(asked) < 75
    (project.path / "limit").unlink()
    assert statuses(project.run(*mode, model="bot")) == {"passed": 100}
    assert set(project.log()) == {f"good {i}" for i in range(100)}
    assert len(project.log()) <= 101  # the answer that found the store full is asked once more


def test_no_room_for_the_texts_of_a_run_is_said_too(project: Project, mode: tuple[str, ...]) -> None:
    project.write("app.py", LIMITED)
    project.write("limit", "5000")
    project.samples(60)
    result = project.run(*mode)
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.INTERNAL_ERROR)
    line = "the run's texts cannot be written to *: *; make room, or set TMPDIR"
    result.stdout.fnmatch_lines([line, f"*the model cannot be asked: {line}*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert all(line["status"] in ("passed", "error") for line in project.lines())


OWN = """
import pytest

@pytest.mark.trust_task("suites/mine.yaml::many")
def test_answer(trust_model, trust_sample):
    (response,) = trust_model.answer(trust_sample)
    assert response.text.strip() == "good"
"""


def test_answers_are_read_back_until_there_is_no_room(project: Project, mode: tuple[str, ...]) -> None:
    project.write("app.py", LIMITED)
    project.write("limit", "5000")
    project.write("tests/test_own.py", OWN)
    project.samples(30)
    result = project.run(*mode, "tests")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    counts = statuses(result)
    assert counts["passed"] in range(5, 13)  # a line is four to six hundred bytes
    assert counts["passed"] + counts["failed"] == 30
    result.stdout.fnmatch_lines(["FAILED *TrustLLMError: the run's texts cannot be written to *File too large; make *"])
    assert "ValueError" not in result.stdout.str()


FULL = """
import resource
def pytest_trustllm_results(results, config):  # called before they are written
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
"""


def test_no_room_for_the_results_is_a_line_and_leaves_those_of_the_run_before(
    project: Project, mode: tuple[str, ...]
) -> None:
    project.write("app.py", LIMITED)
    project.samples(200)
    project.write("r.samples.jsonl", "of an earlier run")
    project.write("conftest.py", FULL)
    result = project.run(*mode)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: --trust-results: *r.*json* cannot be written: *File too large*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert (project.path / "r.samples.jsonl").read_text() == "of an earlier run"
    assert not list(project.path.glob(".r.*"))
