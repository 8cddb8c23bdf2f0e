"""Servers on loopback that answer as no server should, byte by byte."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any

Write = Callable[[bytes], None]


@dataclass(frozen=True)
class Exchange:
    """One request at a server with a habit.

    Attributes:
        connection: Where the reply goes.
        path: What was asked for.
        body: The request's body.
        number: Of the request at this server, from 1.
    """

    connection: socket.socket
    path: str
    body: Any
    number: int

    def send(self, *parts: bytes) -> None:
        self.connection.sendall(b"".join(parts))

    @property
    def answer(self) -> bytes:
        """The right body."""
        return json.dumps(answer_to(self.body)).encode()

    def reply(self, body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> None:
        """Send a reply with a body and its length."""
        size = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {size}", *headers, "", ""]
        self.send("\r\n".join(lines).encode("latin-1"), body)


def answer_to(body: Any) -> Any:
    """Return the right answer of each API: every text is answered with something made of itself alone."""
    if "messages" in body:
        message = {"role": "assistant", "content": f"answer to {body['messages'][-1]['content']}"}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "model": "m", "usage": usage}
    if "input" in body:
        vectors = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(body["input"])]
        return {"data": vectors, "model": "m", "usage": {"prompt_tokens": 7}}
    rating = int(body["comment"]["text"].rsplit(" ", 1)[-1]) / 100
    return {"attributeScores": {"TOXICITY": {"spanScores": [{"score": {"value": rating}}]}}}


Habit = Callable[[Exchange], None]


def good(exchange: Exchange) -> None:
    exchange.reply(exchange.answer)


@dataclass
class Server:
    """Answers each request as its habit does.

    Attributes:
        habit: What it does.
        seen: Bodies of the requests.
        heads: Heads of the requests.
        handled: Requests with which the habit is done.
    """

    habit: Habit = good
    seen: list[Any] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    handled: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self.over.is_set():
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as requests:
                while head := _head(requests):
                    size = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
                    text = requests.read(int(size[1])) if size else b""
                    with self._lock:
                        self.heads.append(head)
                        self.seen.append(json.loads(text) if text else None)
                        number = len(self.seen)
                    try:
                        self.habit(Exchange(connection, head.split()[1], self.seen[number - 1], number))
                    finally:
                        self.handled += 1

    def close(self) -> None:
        self.over.set()
        self._listening.close()


def _head(requests: IO[bytes]) -> str:
    """Return the head of the next request; empty if the connection has ended."""
    lines: list[bytes] = []
    while (line := requests.readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join(lines).decode("latin-1")


@contextlib.contextmanager
def serving(habit: Habit = good) -> Iterator[Server]:
    """Yield a server with a habit."""
    server = Server(habit)
    try:
        yield server
    finally:
        server.close()


# --- habits ---------------------------------------------------------------------------------------------------------


def surplus(exchange: Exchange) -> None:
    """Send every other reply twice, the second time while the connection is idle: as a proxy that lost count."""
    good(exchange)
    if exchange.number % 2:
        time.sleep(0.01)
        good(exchange)


def raw(payload: bytes | Callable[[Exchange], bytes], *, close: bool = True) -> Habit:
    """Send these bytes in place of a reply."""

    def habit(exchange: Exchange) -> None:
        exchange.send(payload if isinstance(payload, bytes) else payload(exchange))
        if close:
            raise OSError

    return habit


def replied(body: Callable[[bytes], bytes] | bytes, *headers: str, status: str = "200 OK", **more: Any) -> Habit:
    """Reply with this body, or what it makes of the right one, and with these headers."""

    def habit(exchange: Exchange) -> None:
        content = body if isinstance(body, bytes) else body(exchange.answer)
        exchange.reply(content, *headers, status=status, **more)

    return habit


def reset(exchange: Exchange) -> None:
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise OSError


def slowly(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(exchange.answer))
    for byte in exchange.answer:
        exchange.send(bytes([byte]))
        time.sleep(0.5)


def endlessly(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        exchange.send(b"10000\r\n", b" " * 0x10000, b"\r\n")


def half(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(exchange.answer), exchange.answer[:20])
    reset(exchange)


def slow_head(exchange: Exchange) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 99:
        exchange.send(bytes([byte]))
        time.sleep(0.2)


@cache
def _bomb() -> bytes:
    """Return 128 MiB of blanks, compressed."""
    return gzip.compress(b" " * 2**27)


def bomb(_: bytes) -> bytes:
    return _bomb()


def changed(text: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(text, new)


BUSY = b'{"error": {"message": "slow down"}}'
DEEP = b"[" * 100_000 + b"]" * 100_000
HABITS: dict[str, Habit] = {
    "429 without a word": replied(BUSY, status="429 Too Many"),
    **{
        f"429, Retry-After {value!r}": replied(BUSY, f"Retry-After: {value}", status="429 Too Many")
        for value in (
            "0.01",
            "-5",
            "nan",
            "",
            "soon",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Fri, 31 Dec 99999 23:59:59 GMT",
            "Fri, 31 Dec 0000 23:59:59 GMT",
            "Fri, 99 Dec 2024 99:99:99 GMT",
            "Fri, 31 Dec 2024 23:59:59 +999999999999",
            "9" * 5000,
        )
    },
    "500 with a page": replied(b"<html><script>alert(1)</script>broken</html>", status="500 Broken"),
    "500 of 5 MB": replied(b"x" * 5_000_000, status="500 Broken"),
    "500 without an end": lambda e: (e.send(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"), endlessly(e)),
    "reset": reset,
    "half a body": half,
    "a byte now and then": slowly,
    "a head now and then": slow_head,
    "no end": endlessly,
    "Content-Length too long": raw(lambda e: _with_length(e, len(e.answer) + 50)),
    "Content-Length too short": raw(lambda e: _with_length(e, len(e.answer) - 30), close=False),
    "Content-Length negative": raw(lambda e: _with_length(e, -1)),
    "Content-Length no number": raw(lambda e: _with_length(e, "many")),
    "Content-Length twice": raw(lambda e: _with_length(e, f"5\r\nContent-Length: {len(e.answer)}")),
    "Content-Length of 400 digits": raw(lambda e: _with_length(e, "9" * 400)),
    "chunks that are none": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"),
    "not HTTP": raw(b"\x00\x01\x02SSH-2.0-OpenSSH\r\n" * 10),
    "a status of letters": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "a status of 20 digits": raw(b"HTTP/1.1 20000000000000000000 OK\r\n\r\n"),
    "HTTP/9.9": raw(lambda e: b"HTTP/9.9 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(e.answer), e.answer[::-1])),
    "a header of 1 MB": raw(lambda e: b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    "10,000 headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 10_000 + b"\r\n"),
    "a header without a name": raw(b"HTTP/1.1 200 OK\r\n: a\r\n\r\n"),
    "invalid UTF-8": replied(lambda body: body[:30] + b"\xff\xfe" + body[30:]),
    "UTF-16": replied(lambda body: body.decode().encode("utf-16")),
    "no JSON": replied(b"{not json"),
    "nothing": replied(b""),
    "a list": replied(b"[1, 2, 3]"),
    "a number of 5,000 digits": replied(b"9" * 5000),
    "100,000 levels": replied(DEEP),
    "gzip that is none": replied(lambda body: body, "Content-Encoding: gzip"),
    "gzip cut": replied(lambda body: gzip.compress(body)[:40], "Content-Encoding: gzip"),
    "gzip of a bomb": replied(bomb, "Content-Encoding: gzip"),
    "an encoding nobody asked for": replied(lambda body: gzip.compress(body), "Content-Encoding: br"),
    "204": replied(b"", status="204 No Content"),
}
"""What a server does with the first requests, before it recovers: whatever it is, the request is asked again."""


def _with_length(exchange: Exchange, length: object) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + exchange.answer


GOOD_HABITS: dict[str, Habit] = {
    "closes after each reply": replied(lambda body: body, "Connection: close"),
    "ends its body with the connection": raw(lambda e: b"HTTP/1.1 200 OK\r\n\r\n" + e.answer),
    "gzip": replied(gzip.compress, "Content-Encoding: gzip"),
    "counts of 400 digits": replied(changed(b": 7", b": " + b"9" * 400)),
    "counts of 5,000 digits": replied(changed(b": 7", b": " + b"9" * 5000)),
    "negative counts": replied(changed(b": 7", b": -7")),
    "counts that are not numbers": replied(changed(b": 7", b": NaN")),
    "counts that are text": replied(changed(b": 7", b': "7"')),
    "usage that is a list": replied(changed(b'"usage": {', b'"usage": [], "other": {')),
    "100,000 levels beside the answer": replied(
        lambda body: body[:-1] + b', "deep": ' + b"[" * 900 + b"]" * 900 + b"}"
    ),
}
"""Odd replies that hold a good answer, which must not be lost."""
