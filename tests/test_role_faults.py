"""A judge that fails half way costs its samples their score, never turns them into zeros, and is asked again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pytest_trustllm.config.paths import shipped

DATA = shipped("suites") / "data" / "truthfulness" / "adversarial_factuality.jsonl"
ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
GOOD = 5


class Judge:
    """An OpenAI-compatible judge on loopback: right for the first ``GOOD`` requests, then broken in one way.

    Attributes:
        fault: How it breaks; empty: never.
        asked: Distinct prompts that came in.
    """

    def __init__(self, fault: str, port: int = 0) -> None:
        self.fault = fault
        self.asked: list[str] = []
        self.lock = threading.Lock()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                judge.answer(self, body["messages"][-1]["content"])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]

    def answer(self, handler: BaseHTTPRequestHandler, prompt: str) -> None:
        with self.lock:
            if prompt not in self.asked:
                self.asked.append(prompt)
            good = not self.fault or self.asked.index(prompt) < GOOD
        if good:
            return self.send(handler, 200, completion("[CORRECTED]"))
        if self.fault == "refused":
            handler.close_connection = True
            handler.connection.close()
            self.server.socket.close()
            return None
        replies: dict[str, tuple[int, bytes]] = {
            "500": (500, b'{"error": {"message": "broken"}}'),
            "429": (429, b'{"error": {"message": "slow down"}}'),
            "garbage": (200, b"<html>not JSON"),
            "vocabulary": (200, completion("Well, who can tell.")),
        }
        return self.send(handler, *replies[self.fault])

    def send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        if status == 429:
            handler.send_header("Retry-After", "0")
        handler.end_headers()
        handler.wfile.write(body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def completion(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    whole = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-1",
        "choices": [choice],
        "usage": usage,
    }
    return json.dumps(whole).encode()


REASONS = {
    "refused": "connect",
    "500": "500",
    "429": "429",
    "garbage": "did not send a chat completion: not JSON",
    "vocabulary": "Well, who can tell.",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", REASONS)
def test_a_judge_that_fails_half_way_loses_nothing(
    fault: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = [{"prompt": row["prompt"], "response": f"No: {row['knowledge']}"} for row in ROWS]
    pytester.path.joinpath("replies.jsonl").write_text("\n".join(map(json.dumps, replies)))
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with serving(fault) as first:
        broken = run(pytester, monkeypatch, first.port)
    metric = broken["metrics"]["truthfulness/adversarial_factuality.corrected_rate"]
    assert (metric["value"], metric["scored"], metric["unscored"]) == (1.0, GOOD, len(ROWS) - GOOD)
    lines = map(json.loads, pytester.path.joinpath("trust.samples.jsonl").read_text().splitlines())
    unscored = [line for line in lines if line["status"] == "unscored"]
    assert len(unscored) == len(ROWS) - GOOD
    assert all(REASONS[fault].lower() in line["reason"].lower() for line in unscored), unscored[0]["reason"]

    with serving("", first.port) as healthy:
        whole = run(pytester, monkeypatch, healthy.port)
    metric = whole["metrics"]["truthfulness/adversarial_factuality.corrected_rate"]
    assert (metric["value"], metric["scored"]) == (1.0, len(ROWS))
    assert len(healthy.asked) == len(ROWS) - GOOD


@contextmanager
def serving(fault: str, port: int = 0) -> Iterator[Judge]:
    judge = Judge(fault, port)
    try:
        yield judge
    finally:
        judge.close()


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, port: int) -> dict[str, Any]:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    pytester.path.joinpath("trust.json").unlink(missing_ok=True)
    arguments = ("--trust-suite=truthfulness/adversarial_factuality", "--trust-results=trust.json", "-p", "no:xdist")
    pytester.runpytest_subprocess(
        "--trust-model=replay:replies.jsonl", "--trust-judge=openai:judge-1", *arguments, timeout=120
    )
    found: dict[str, Any] = json.loads(pytester.path.joinpath("trust.json").read_text())
    return found
