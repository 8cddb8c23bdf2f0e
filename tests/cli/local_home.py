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
        seen: The path of every request.
        behave: How to answer (handler, number of the request from 1); by default with the file.
        release: Set when the server stops, so that a stalled answer can end.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen: list[str] = []
        self.behave: Callable[[Any, int], None] = self.whole
        self.release = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                with outer._lock:
                    outer.seen.append(self.path)
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

    def whole(self, to: Any, number: int) -> None:
        self.send(to, 200, self.data)

    def cut(self, to: Any, number: int) -> None:
        """Promise the file, send 1,000 bytes of it, hang up."""
        self.send(to, 200, self.data[:1000], Content_Length=str(len(self.data)))

    def in_pieces(self, to: Any, number: int) -> None:
        """Send the next 1,000 bytes and hang up, whatever was promised; ranges are heeded."""
        asked = to.headers.get("Range")
        start = 0 if asked is None else int(asked.removeprefix("bytes=").removesuffix("-"))
        span = {"Content_Range": f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"} if asked else {}
        piece = self.data[start : start + 1000]
        self.send(to, 206 if asked else 200, piece, Content_Length=str(len(self.data) - start), **span)
        to.close_connection = True

    def stop(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
