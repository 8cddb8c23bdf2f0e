"""An OpenAI-compatible server on loopback that can be made to fail in many ways."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FaultServer:
    """Answers ``good`` to every prompt, unless told otherwise.

    Args:
        fault: Called with (handler, prompt, number of the request from 1); returns True if it dealt with the request.
        port: Where to listen; 0: anywhere.

    Attributes:
        seen: Prompts in the order of their arrival.
        answered: Prompts that got an answer.
        connections: How many there were.
    """

    def __init__(self, fault: Callable[[Any, str, int], bool] = lambda *_: False, port: int = 0) -> None:
        self.seen: list[str] = []
        self.answered: list[str] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server._connections.append(self.connection)

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
                with server._lock:
                    server.seen.append(prompt)
                    number = len(server.seen)
                with contextlib.suppress(OSError):
                    if not fault(self, prompt, number):
                        server.answer(self, prompt)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Quiet(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self._connections)

    def answer(self, handler: Any, prompt: str) -> None:
        """Send a good answer."""
        message = {"role": "assistant", "content": "good"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        common = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
        body = json.dumps({**common, "choices": [choice], "usage": usage}).encode()
        with self._lock:
            self.answered.append(prompt)
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @staticmethod
    def reset(handler: Any) -> None:
        """Break the connection without a word, as a crashed server's machine does."""
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()

    def die(self) -> None:
        """Stop listening and break all connections."""
        self.over.set()
        self._server.socket.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the server."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
