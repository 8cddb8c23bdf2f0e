"""The batch API of a server that answers in unusual ways, or that is hostile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.api.batches import BatchApi, BatchLine, BatchState, request_line, unanswered
from pytest_trustllm.models.api.chat import Chat
from pytest_trustllm.models.api.fleet import Fleet
from pytest_trustllm.models.api.retrying import RequestFailure
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.types import BLOCKED, Generation, Request

KEY = "sk-not-to-be-seen"


class Replies:
    """Answers ``METHOD path`` with (status, text), whatever is sent."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[int, str]] = {}
        self.seen: list[str] = []
        replies = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                call = f"{self.command} {self.path}"
                replies.seen.append(call)
                status, text = replies.replies.get(call, (404, "{}"))
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def replies() -> Iterator[Replies]:
    made = Replies()
    yield made
    made.close()


@pytest.fixture
def chat_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Chat]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def make(url: str, **options: Any) -> Chat:
        spec = ModelSpec("m", "openai", "m", options={"base_url": url, "retry_delay": 0.001, **options})
        return Chat(spec, Fleet(spec, LoadSettings()))

    return make


def using(chat: Chat, call: Callable[[BatchApi], Any]) -> Any:
    """Return what a call of the model's batch API returns."""

    async def ask() -> Any:
        server = chat.batch_api()
        assert server is not None
        try:
            return await call(server)
        finally:
            await chat.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "reply",
    ["", "[]", "null", '"text"', "<html>", "[" * 100_000, '{"id": 7}', '{"id": "b"}', '{"id": "", "status": "x"}'],
)
def test_what_is_no_batch_is_an_error_in_one_line(replies: Replies, chat_at: Callable[..., Chat], reply: str) -> None:
    replies.replies["GET /v1/batches/b"] = (200, reply)
    with pytest.raises(RequestFailure, match=r"127\.0\.0\.1 did not send a batch"):
        using(chat_at(replies.url), lambda server: server.state("b"))


@pytest.mark.parametrize("name", ["..", ".", "", "a\x1b[31m", "x" * 300])
def test_an_id_that_cannot_be_part_of_a_path_is_none(replies: Replies, chat_at: Callable[..., Chat], name: str) -> None:
    replies.replies["POST /v1/files"] = (200, json.dumps({"id": name}))
    with pytest.raises(RequestFailure, match="did not send the id of an uploaded file"):
        using(chat_at(replies.url), lambda server: server.upload(b"{}\n"))
    replies.replies["POST /v1/batches"] = (200, json.dumps({"id": name, "status": "validating"}))
    replies.replies["GET /v1/batches?limit=100"] = (200, '{"data": []}')
    with pytest.raises(RequestFailure, match="did not send a batch"):
        using(chat_at(replies.url), lambda server: server.create("f", "s"))


def test_ids_are_quoted_and_a_query_of_the_address_stays(replies: Replies, chat_at: Callable[..., Chat]) -> None:
    batch = {"id": "batches/7 a", "status": "COMPLETED", "output_file_id": "files/1"}
    replies.replies["GET /v1/batches/batches%2F7%20a?api-version=3"] = (200, json.dumps(batch))
    line = {"custom_id": "n", "response": {"status_code": 200, "body": {"a": 1}}}
    replies.replies["GET /v1/files/files%2F1/content?api-version=3"] = (200, json.dumps(line))
    chat = chat_at(f"{replies.url}?api-version=3")
    state = using(chat, lambda server: server.state("batches/7 a"))
    assert state.is_over
    assert using(chat, lambda server: server.lines(state)) == {"n": BatchLine(200, '{"a": 1}')}
    found = {"data": [{"id": "x", "status": "failed", "metadata": {"pytest_trustllm": "ours"}}], "has_more": True}
    replies.replies["GET /v1/batches?limit=100&api-version=3"] = (200, json.dumps(found))
    assert using(chat, lambda server: server.find("ours")).id == "x"


def test_a_file_of_answers_may_hold_anything(replies: Replies, chat_at: Callable[..., Chat]) -> None:
    lines = [
        "",
        "not JSON",
        "[1]",
        '{"custom_id": 5}',
        '{"custom_id": "none"}',
        '{"custom_id": "odd", "response": "text", "error": {"message": "why"}}',
        '{"custom_id": "vllm", "response": {"status_code": 400, "body": null}, "error": {"error": {"message": "x"}}}',
        '{"custom_id": "twice", "response": {"status_code": 200, "body": "first\u2028\x85"}}',
        '{"custom_id": "twice", "response": {"status_code": 200, "body": "first\\u2028\\u0085"}}',
        '{"custom_id": "torn", "resp',
    ]
    replies.replies["GET /v1/files/f/content"] = (200, "\n".join(lines))
    state = BatchState("b", "completed", files=("f", "deleted"))
    found = using(chat_at(replies.url), lambda server: server.lines(state))
    assert set(found) == {"none", "odd", "vllm", "twice"}
    assert found["odd"] == BatchLine(None, '{"error": {"message": "why"}}')
    assert found["vllm"].status == 400
    assert json.loads(found["twice"].body) == "first\u2028\x85"


def test_lines_of_one_request_that_contradict_each_other_answer_nothing(
    replies: Replies, chat_at: Callable[..., Chat]
) -> None:
    def line(name: str, body: str, status: int = 200) -> str:
        return json.dumps({"custom_id": name, "response": {"status_code": status, "body": body}})

    lines = [line("same", "A"), line("differs", "A"), line("differs", "B"), line("differs", "A"), line("failed", "A")]
    replies.replies["GET /v1/files/out/content"] = (200, "\n".join([*lines, line("same", "A")]))
    replies.replies["GET /v1/files/errors/content"] = (200, line("failed", "trouble", 500))
    state = BatchState("b", "completed", files=("out", "errors"))
    found = using(chat_at(replies.url), lambda server: server.lines(state))
    assert found == {"same": BatchLine(200, '"A"')}


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_upload_that_is_not_known_means_no_batch_api(
    replies: Replies, chat_at: Callable[..., Chat], status: int
) -> None:
    replies.replies["POST /v1/files"] = (status, '{"error": {"message": "unknown path"}}')
    with pytest.raises(ModelError, match=r"127\.0\.0\.1 has no batch API: HTTP \d+ from 127\.0\.0\.1: unknown path"):
        using(chat_at(replies.url), lambda server: server.upload(b"{}\n"))


@pytest.mark.parametrize(
    ("listing", "upload", "has_batches"),
    [(200, 200, True), (401, 401, True), (405, 400, True), (404, 400, True), (404, 404, False), (404, 405, False)],
)
def test_a_server_that_lists_no_files_may_take_some(
    replies: Replies, chat_at: Callable[..., Chat], listing: int, upload: int, has_batches: bool
) -> None:
    replies.replies["GET /v1/files?limit=1"] = (listing, "{}")
    replies.replies["POST /v1/files"] = (upload, "{}")
    if has_batches:
        using(chat_at(replies.url), lambda server: server.check())
    else:
        with pytest.raises(ModelError, match=rf"127\.0\.0\.1 has no batch API \(HTTP {upload} for /files\)"):
            using(chat_at(replies.url), lambda server: server.check())


def test_several_servers_or_keys_have_no_batches(chat_at: Callable[..., Chat], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "one,two")
    assert chat_at("http://127.0.0.1:1/v1").batch_api() is None


REQUEST = Request((("user", "hi \ud83d"),), Generation(0.5, 20, ("END",)), 7)


def reply(**fields: Any) -> str:
    message = {"role": "assistant", "content": "one END two"}
    choice = {"message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    return json.dumps({"model": "m-1", "choices": [choice], "usage": usage, **fields})


def test_a_line_is_read_as_the_reply_of_a_direct_request(replies: Replies, chat_at: Callable[..., Chat]) -> None:
    replies.replies["POST /v1/chat/completions"] = (200, reply())
    chat = chat_at(replies.url)

    async def both() -> tuple[Any, Any]:
        direct = await chat.answer(REQUEST)
        batched = chat.batch_response(REQUEST, BatchLine(200, reply()), list(chat.batch_body(REQUEST)))
        await chat.close()
        return direct, batched

    direct, batched = asyncio.run(both())
    assert direct.text == batched.text == "one END two"  # a server that was sent the text stops there itself
    for name in ("input_tokens", "output_tokens", "finish", "revision", "reasoning", "error", "unanswered"):
        assert getattr(direct, name) == getattr(batched, name)
    without_stop = chat.batch_response(REQUEST, BatchLine(200, reply()), ["model", "messages"])
    assert without_stop.text == "one "


def test_a_request_is_one_line_of_ascii(chat_at: Callable[..., Chat]) -> None:
    chat = chat_at("http://127.0.0.1:1/v1", extra_body={"stream": True, "top_p": 0.5})
    line = request_line("name", chat.batch_body(REQUEST))
    assert line.isascii()
    assert line.count(b"\n") == 1
    body = json.loads(line)["body"]
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi ?"}],
        "temperature": 0.5,
        "max_tokens": 20,
        "seed": 7,
        "stop": ["END"],
        "top_p": 0.5,
    }


def test_failures_of_lines_are_those_of_direct_requests(chat_at: Callable[..., Chat]) -> None:
    chat = chat_at("http://127.0.0.1:1/v1")

    def failure(line: BatchLine) -> RequestFailure:
        with pytest.raises(RequestFailure) as caught:
            chat.batch_response(REQUEST, line, ["model", "messages", "stop"])
        return caught.value

    def error(message: str, **fields: Any) -> str:
        return json.dumps({"error": {"message": message, **fields}})

    assert failure(BatchLine(429, error("slow down"))).again
    assert failure(BatchLine(500, error("broken"))).again
    assert failure(BatchLine(200, "{}")).again
    assert failure(BatchLine(None, error("expired", code="batch_expired"))).again
    assert not failure(BatchLine(400, error(f"too long, {KEY}"))).again
    assert KEY not in failure(BatchLine(400, error(f"too long, {KEY}"))).reason
    assert failure(BatchLine(400, error("'stop' is not supported with this model"))).adapted
    blocked = chat.batch_response(REQUEST, BatchLine(400, error("no", code="content_filter")), ["model"])
    assert blocked.unanswered == BLOCKED
    # a batch that failed as a whole is no refusal of each of its prompts
    whole = failure(unanswered(BatchState("b", "failed", problem="content_filter: the content was filtered")))
    assert not whole.again
    assert "the batch failed: content_filter" in whole.reason
    assert failure(unanswered(BatchState("b", "failed", problem="token_limit_exceeded: too many"))).again
    assert failure(unanswered(BatchState("b", "cancelled"))).again
