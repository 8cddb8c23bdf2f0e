"""Labelling in a browser: a page that only this machine can reach, and only with its address.

Pages of other sites run in the same browser, and other users may work on the same machine. So the server listens on the
loopback interface alone, its address contains a random token, and it answers only requests that name it as their host
(no DNS rebinding) and, where they change something, come from its own page as JSON (no cross-site requests). The page
loads nothing from elsewhere, and shows texts as texts.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pytest_trustllm.config import paths
from pytest_trustllm.errors import ResultsError
from pytest_trustllm.labelling.session import LabelSession

_FILES = {
    "": ("index.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_MOST_BYTES = 1 << 16
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LabelServer:
    """Serves the page of one session.

    Args:
        session: What to label.
        port: 0: any that is free.

    Attributes:
        address: Of the page.
    """

    def __init__(self, session: LabelSession, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(32)
        self._finished = threading.Event()
        try:
            self._server = _PageServer(port, self)
        except OSError as e:
            raise ResultsError(f"--port: 127.0.0.1:{port} cannot be used: {e.strerror or e}") from None
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.address = f"http://{self.host}/{self.token}/"

    def run(self) -> None:
        """Serve until the person has finished."""
        serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            # with a timeout, or Ctrl-C would wait too on some systems
            while not self._finished.wait(0.2):
                pass
        finally:
            self._server.shutdown()
            self._server.server_close()

    def finish(self) -> None:
        """End :meth:`run`."""
        self._finished.set()

    def item(self, number: int | None) -> dict[str, Any]:
        """Return one response as the page shows it.

        Args:
            number: None: the next one without a label; there may be none.
        """
        session = self.session
        if number is None:
            number = session.next_open()
        state: dict[str, Any] = {
            "title": session.title,
            "number": number,
            "of": len(session.items),
            "done": session.done,
            "labels": list(session.labels),
        }
        if number is None:
            return state
        item = session.items[number]
        state["exchanges"] = [[list(exchange.prompt), exchange.response] for exchange in item.exchanges]
        state["expected"] = item.expected
        state["question"] = item.question
        state["given"] = session.is_given(number)
        state["label"] = session.label_of(number)
        return state

    def give(self, body: Any) -> dict[str, Any]:
        """Take a label and return the next response.

        Raises:
            ValueError: The body is not ``{"number": ..., "label": ...}``, or there is no such response or label.
            ResultsError: The label cannot be written.
        """
        if not isinstance(body, dict) or type(body.get("number")) is not int or "label" not in body:
            raise ValueError("expected number and label")
        number, label = body["number"], body["label"]
        if label is not None and not isinstance(label, str):
            raise ValueError("expected a text as label")
        self.session.give(number, label)
        return self.item(self.session.next_open(number))


class _PageServer(ThreadingHTTPServer):
    """Hands requests to handlers that know whose labels they are about.

    Args:
        port: Of the loopback interface; 0: any that is free.
        labels: What the page shows.
    """

    def __init__(self, port: int, labels: LabelServer) -> None:
        self.labels = labels
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: whoever asked has gone, or sent what is no HTTP; the person at the terminal did neither."""


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of the page."""

    server: _PageServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    server_version = "pytest-trustllm"
    sys_version = ""

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        name, _, query = path.partition("?")
        if name in _FILES:
            file, kind = _FILES[name]
            self._send(HTTPStatus.OK, paths.packaged("labelling", "page", file).read_bytes(), kind)
        elif name == "item":
            self._send_item(query)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        # a form of another site can send neither this type nor this origin
        if self.headers.get("Origin") != f"http://{self.server.labels.host}":
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        if self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            return
        body = self._body()
        if body is None:
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif path == "label":
            self._take_label(body)
        elif path == "finish":
            self._send_json(HTTPStatus.OK, {})
            self.server.labels.finish()
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _path(self) -> str | None:
        """Return what follows the token; None if the request was refused."""
        if self.headers.get("Host") != self.server.labels.host:
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        try:
            split = urlsplit(self.path)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        token, slash, rest = split.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.labels.token.encode()) or not slash:
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return f"{rest}?{split.query}" if split.query else rest

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        is_number = length.isascii() and length.isdigit() and len(length) <= len(str(_MOST_BYTES))
        if not is_number or int(length) > _MOST_BYTES:
            self.close_connection = True
            return None
        return self.rfile.read(int(length))

    def _send_item(self, query: str) -> None:
        text = parse_qs(query).get("number", [""])[0]
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
        if number is not None and number >= len(self.server.labels.session.items):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        self._send_json(HTTPStatus.OK, self.server.labels.item(number))

    def _take_label(self, body: bytes) -> None:
        try:
            self._send_json(HTTPStatus.OK, self.server.labels.give(json.loads(body)))
        except (ValueError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST)
        except ResultsError as e:
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(e)})

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status, status.phrase.encode(), "text/plain")

    def _send_json(self, status: HTTPStatus, body: Any) -> None:
        self._send(status, json.dumps(body, ensure_ascii=True).encode("ascii"), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the address contains the token."""
