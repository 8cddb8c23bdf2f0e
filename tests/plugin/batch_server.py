"""A server on loopback with OpenAI's batch API, which can be slow, lose requests, and be cut off."""

from __future__ import annotations

import contextlib
import email
import email.policy
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Body = dict[str, Any]


def answer(body: Body) -> Body:
    """Answer a chat completion: what it says depends on the request alone, and not on what would end it."""
    prompt = body["messages"][-1]["content"]
    relevant = {name: value for name, value in body.items() if name != "stop"}
    words = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
    text = f"{'good' if int(words[:2], 16) % 3 else 'poor'} {words[:8]}"
    if prompt.startswith("judge"):
        text = "yes" if "good" in prompt else "no"
    if prompt.startswith("think"):
        text = f"<think>hm, {words[:4]}</think>{text}"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m-1", "choices": [choice], "usage": usage}


def output_line(name: str, body: Body, status: int = 200) -> Body:
    """Return a line of a file of answers."""
    return {"id": "r", "custom_id": name, "response": {"status_code": status, "request_id": "q", "body": body}}


class BatchServer:
    """Answers batches and single requests alike.

    Attributes:
        polls: How often a batch is said to be in progress before it is done.
        fates: Prompt -> what becomes of it in the batches that it is in, one after another: an HTTP status, status and
            message, ``expire``, or ``lost`` (no line anywhere); after these it is answered.
        dropped: ``METHOD path`` -> how often the connection breaks after the request was obeyed.
        refused: ``METHOD path`` -> HTTP status of every such request.
        failing: How the next batches fail as a whole: code and message.
        process: Answers the lines of a whole file in place of ``answer``.
        hold: Creating a batch is not answered until this is set.
        files: Id -> content.
        batches: Id -> the batch, in the order of their creation.
        submitted: How often each custom_id was in a batch that was created.
        asked: Prompts that were sent directly.
        seen: ``METHOD path`` of every request.
        authorizations: What the header held.
    """

    def __init__(self) -> None:
        self.polls = 0
        self.fates: dict[str, list[Any]] = {}
        self.dropped: Counter[str] = Counter()
        self.refused: dict[str, int] = {}
        self.failing: list[tuple[str, str]] = []
        self.process: Callable[[str], str] | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.files: dict[str, str] = {}
        self.batches: dict[str, Body] = {}
        self.submitted: Counter[str] = Counter()
        self.asked: list[str] = []
        self.seen: list[str] = []
        self.authorizations: set[str] = set()
        self._polled: Counter[str] = Counter()
        self._lock = threading.RLock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.handle(self, b"")

            def do_POST(self) -> None:
                server.handle(self, self.rfile.read(int(self.headers["Content-Length"])))

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def prompts(self, batch: str) -> list[str]:
        """Return the prompts of a batch."""
        return [line["body"]["messages"][-1]["content"] for line in self._lines(batch)]

    def _lines(self, batch: str) -> list[Body]:
        content = self.files[self.batches[batch]["input_file_id"]]
        return [json.loads(line) for line in content.splitlines()]

    def handle(self, handler: Any, data: bytes) -> None:
        """Obey a request."""
        split = urlsplit(handler.path)
        path = split.path.removeprefix("/v1")
        call = f"{handler.command} {path}"
        with self._lock:
            self.seen.append(call)
            self.authorizations.add(handler.headers.get("Authorization", ""))
            if call in self.refused:
                status, reply = self.refused[call], {"error": {"message": "no such thing here"}}
            else:
                status, reply = self._obey(handler, call, parse_qs(split.query), data)
        if call == "POST /batches":
            self.hold.wait(60)
        if self.dropped[call]:
            self.dropped[call] -= 1
            handler.close_connection = True
            handler.connection.close()
            return
        body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

    def _obey(self, handler: Any, call: str, query: dict[str, list[str]], data: bytes) -> tuple[int, Any]:
        method, path = call.split(" ")
        parts = path.strip("/").split("/")
        if call == "GET /models":
            return 200, {"data": [{"id": "m"}]}
        if call == "POST /chat/completions":
            return 200, self._direct(json.loads(data))
        if call == "POST /files":
            return 200, self._upload(handler.headers["Content-Type"], data)
        if call == "GET /files":
            return 200, {"object": "list", "data": [], "has_more": False}
        if method == "GET" and parts[0] == "files":
            return 200, self.files[parts[1]].encode()
        if call == "POST /batches":
            return 200, self._create(json.loads(data))
        if call == "GET /batches":
            return 200, self._listed(int(query["limit"][0]), query.get("after", [""])[0])
        if method == "GET" and parts[0] == "batches" and parts[1] in self.batches:
            return 200, self._state(parts[1])
        return 404, {"error": {"message": "not found"}}

    def _direct(self, body: Body) -> Body:
        self.asked.append(body["messages"][-1]["content"])
        return answer(body)

    def _new_file(self, content: str) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _upload(self, content_type: str, data: bytes) -> Body:
        message = email.message_from_bytes(
            f"Content-Type: {content_type}\n\n".encode() + data, policy=email.policy.HTTP
        )
        parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}  # type: ignore[attr-defined]
        assert parts["purpose"].get_payload(decode=True) == b"batch"
        return {"id": self._new_file(parts["file"].get_payload(decode=True).decode()), "object": "file"}

    def _create(self, body: Body) -> Body:
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {"id": name, "object": "batch", "status": "validating", **body}
        lines = self._lines(name)
        assert all((line["method"], line["url"]) == ("POST", "/v1/chat/completions") for line in lines)
        self.submitted.update(line["custom_id"] for line in lines)
        self.batches[name]["request_counts"] = {"total": len(lines), "completed": 0, "failed": 0}
        if self.failing:
            code, message = self.failing.pop(0)
            self.batches[name]["status"] = "failed"
            self.batches[name]["errors"] = {"object": "list", "data": [{"code": code, "message": message}]}
        return self.batches[name]

    def _listed(self, limit: int, after: str) -> Body:
        names = list(self.batches)[::-1]
        if after:
            names = names[names.index(after) + 1 :]
        page = names[: min(limit, 2)]  # so that pages matter
        return {"data": [self.batches[name] for name in page], "has_more": len(names) > len(page)}

    def _state(self, name: str) -> Body:
        batch = self.batches[name]
        if batch["status"] in ("validating", "in_progress"):
            self._polled[name] += 1
            batch["status"] = "in_progress"
            if self._polled[name] > self.polls:
                self._finish(name)
        return batch

    def _finish(self, name: str) -> None:
        batch = self.batches[name]
        batch["status"] = "completed"
        if self.process is not None:
            batch["output_file_id"] = self._new_file(self.process(self.files[batch["input_file_id"]]))
            return
        answers: list[Body] = []
        errors: list[Body] = []
        for line in self._lines(name):
            waiting = self.fates.get(line["body"]["messages"][-1]["content"], [])
            fate = waiting.pop(0) if waiting else 200
            if fate == "expire":
                batch["status"] = "expired"
                message = "This request could not be executed before the completion window expired."
                error = {"code": "batch_expired", "message": message}
                errors.append({"custom_id": line["custom_id"], "response": None, "error": error})
            elif fate == "lost":
                batch["status"] = "cancelled"
            elif fate == 200:
                answers.append(output_line(line["custom_id"], answer(line["body"])))
            else:
                status, message = fate if isinstance(fate, tuple) else (fate, f"trouble number {fate}")
                errors.append(output_line(line["custom_id"], {"error": {"message": message}}, status))
        for key, lines in (("output_file_id", answers), ("error_file_id", errors)):
            if lines:
                batch[key] = self._new_file("".join(json.dumps(line) + "\n" for line in lines))
        batch["request_counts"] = {
            "total": len(self._lines(name)),
            "completed": len(answers),
            "failed": len(errors),
        }

    def close(self) -> None:
        """End the server."""
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
