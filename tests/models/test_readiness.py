"""Whether a server of the run is ready, whatever it says and however slowly."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.server import readiness
from pytest_trustllm.models.server.readiness import Address, NotReady, answer_one_token, opened, served_name

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
Serve = Callable[[Callable[[socket.socket], None]], Address]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that lets a server behave as it is told, and returns where it listens."""
    with contextlib.ExitStack() as stack:

        def start(behave: Callable[[socket.socket], None]) -> Address:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def accept() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            read_request(connection)
                            behave(connection)

            threading.Thread(target=accept, daemon=True).start()
            return Address(listener.getsockname()[1], "key")

        yield start


def read_request(connection: socket.socket) -> None:
    """Read a request whole: closing a connection with unread bytes resets it, and what was sent may be lost."""
    with connection.makefile("rb") as stream:
        length = 0
        while (line := stream.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        stream.read(length)


def sending(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def drip(connection: socket.socket) -> None:
    connection.sendall(OK)
    for _ in range(200):
        connection.sendall(b" ")
        time.sleep(0.05)


def test_one_token_is_ready_and_none_is_not(serve: Serve) -> None:
    answer_one_token(serve(sending(OK + b'{"choices": [{}]}')), "m", "chat", 5)
    with pytest.raises(NotReady, match="it returned no answer"):
        answer_one_token(serve(sending(OK + b'{"choices": []}')), "m", "chat", 5)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (OK + b"<html>", "its answer is not JSON"),
        (OK + b"[" * 100_000, "its answer is not JSON"),
        (OK + b"{}", "it returned no answer"),
        (OK + b"\xff\xfe", "its answer is not JSON"),
        (b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n", "HTTP 503"),
        (b"no HTTP at all\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{", "its answer is not JSON"),
        (b"", "closed connection"),
    ],
)
def test_what_is_no_token_is_not_ready(serve: Serve, data: bytes, said: str) -> None:
    with pytest.raises(NotReady, match=said):
        answer_one_token(serve(sending(data)), "m", "chat", 5)


def test_an_answer_byte_by_byte_is_not_waited_for(serve: Serve) -> None:
    start = time.monotonic()
    with pytest.raises(NotReady, match=r"its answer did not end within 0\.3 s"):
        answer_one_token(serve(drip), "m", "chat", 0.3)
    assert time.monotonic() - start < 5


def test_an_answer_without_end_is_not_kept(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_MOST_BYTES", 1 << 20)
    with pytest.raises(NotReady, match="within 5 s and 1 MiB"):
        answer_one_token(serve(sending(OK + b"x" * (5 << 20))), "m", "chat", 5)


def test_a_request_that_it_refuses_is_final(serve: Serve) -> None:
    refusal = b'HTTP/1.1 400 No\r\nConnection: close\r\n\r\n{"error": {"message": "no such model"}}'
    with pytest.raises(ModelError, match="HTTP 400: no such model"):
        answer_one_token(serve(sending(refusal)), "m", "chat", 5)


def test_another_model_is_an_error_and_an_alias_is_not(serve: Serve) -> None:
    with pytest.raises(ModelError, match="it serves other instead of 'm'"):
        served_name(serve(sending(OK + b'{"data": [{"id": "other"}]}')), "m")
    assert served_name(serve(sending(OK + b'{"data": [{"id": "alias", "root": "m"}]}')), "m") == "alias"
    with pytest.raises(NotReady, match="its list of models cannot be read"):
        served_name(serve(sending(OK + b'{"data": 7}')), "m")


def test_health_needs_no_body(serve: Serve) -> None:
    opened(serve(sending(OK)), "/health")
    with pytest.raises(NotReady, match="HTTP 503"):
        opened(serve(sending(b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n")), "/health")
