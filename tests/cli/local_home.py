"""A small data set, and a real server on loopback that has it."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SHARED_ZIP = Path(__file__).parents[3] / "shared" / "trustllm" / "dataset.zip"
ROWS = {"safety/jailbreak.json": 3, "ethics/awareness.json": 5}


def contents() -> dict[str, bytes]:
    """Two files that stand for the data set."""
    return {
        name: json.dumps([{"prompt": f"{name} {n} {'x' * 999}"} for n in range(rows)]).encode()
        for name, rows in ROWS.items()
    }


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for name, data in files.items():
            z.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def whole() -> bytes:
    return zipped({f"dataset/{name}": data for name, data in contents().items()})


class Home:
    """A server that has one file.

    Attributes:
        address: Of the server.
        url: Of the file.
        data: The file.
        seen: (path, Range header) of every request.
        behave: How to answer (handler, number of the request from 1); the default knows ranges.
        release: Set when the server stops, so that a stalled answer can end.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen: list[tuple[str, str | None]] = []
        self.behave: Callable[[Any, int], None] = self.ranges
        self.release = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                with outer._lock:
                    outer.seen.append((self.path, self.headers.get("Range")))
                    number = len(outer.seen)
                self.close_connection = True
                with contextlib.suppress(ConnectionError):
                    outer.behave(self, number)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.address}/dataset.zip"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def send(self, to: Any, status: int, body: bytes, **headers: str) -> None:
        """Answer; an empty header is left out."""
        to.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(body)

    def span(self, start: int) -> str:
        return f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"

    def ranges(self, to: Any, number: int) -> None:
        start = _start(to)
        if start is None:
            self.send(to, 200, self.data)
        elif start >= len(self.data):
            self.send(to, 416, b"")
        else:
            self.send(to, 206, self.data[start:], Content_Range=self.span(start))

    def everything(self, to: Any, number: int) -> None:
        """Know nothing of ranges."""
        self.send(to, 200, self.data)

    def cut(self, to: Any, number: int) -> None:
        """Promise the rest, send 1,000 bytes of it, hang up."""
        start = _start(to)
        at = start or 0
        where = {} if start is None else {"Content_Range": self.span(at)}
        left = str(len(self.data) - at)
        self.send(to, 200 if start is None else 206, self.data[at : at + 1000], Content_Length=left, **where)

    def stop(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _start(to: Any) -> int | None:
    asked = to.headers.get("Range")
    return None if asked is None else int(asked.removeprefix("bytes=").rstrip("-"))
