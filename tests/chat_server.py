"""An OpenAI-compatible server on loopback whose answers a function writes, from the whole conversation."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Calls = list[tuple[str, dict[str, Any]]]
Reply = Callable[[Body], "str | Calls"]
"""Body of a request -> the answer's text, or calls of tools as (name, arguments)."""


@contextmanager
def serving(reply: Reply) -> Iterator[tuple[str, list[Body]]]:
    """Run a server; yield the address of its API, and the bodies of the requests so far."""
    bodies: list[Body] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append(body)
            data = json.dumps(_completion(reply(body), len(bodies))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
    finally:
        server.shutdown()
        server.server_close()


def _completion(answer: str | Calls, number: int) -> Body:
    """Return the body of a response; calls get new ids each time, as OpenAI's do."""
    message: Body = {"role": "assistant", "content": answer}
    if not isinstance(answer, str):
        calls = []
        for place, (name, arguments) in enumerate(answer):
            function = {"name": name, "arguments": json.dumps(arguments)}
            calls.append({"id": f"call_{number}{place}", "type": "function", "function": function})
        message = {"role": "assistant", "content": None, "tool_calls": calls}
    finish = "stop" if isinstance(answer, str) else "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    common = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
    return {**common, "choices": [choice], "usage": usage}
