"""Replies that a transport hands over whole, as the one to the actors of a cluster does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Mapping

import pytest

from pytest_trustllm.models.api.connection import Server
from pytest_trustllm.models.api.endpoint import Endpoint
from pytest_trustllm.models.api.retrying import RequestFailure
from pytest_trustllm.models.cluster.servers import ActorTransport

try:
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[import-not-found,no-redef,unused-ignore]


def posted(reply: httpx.Response, most_bytes: int = 1000) -> str:
    """Return what an endpoint returns whose server sends this reply."""

    async def post() -> str:
        transport = httpx.MockTransport(lambda request: reply)
        endpoint = Endpoint(Server("http://node/v1", "key", transport=transport), {}, {}, 1)
        try:
            return await endpoint.post("/chat/completions", {}, most_bytes)
        finally:
            await endpoint.close()

    return asyncio.run(post())


def test_an_error_in_an_encoding_that_is_none_is_the_server_s_fault() -> None:
    reply = httpx.Response(500, headers={"content-type": "text/plain; charset=base64"}, content=b"down")
    with pytest.raises(RequestFailure) as caught:
        posted(reply)
    assert caught.value.again


def test_the_user_s_type_of_a_body_is_that_of_json() -> None:
    seen: dict[str, str | None] = {}

    def note(request: httpx.Request) -> httpx.Response:
        seen[f"{request.method} {request.url.path}"] = request.headers.get("content-type")
        return httpx.Response(200, text="{}")

    async def send() -> None:
        server = Server("http://node/v1", "key", transport=httpx.MockTransport(note))
        endpoint = Endpoint(server, {"content-type": "application/json; charset=utf-8"}, {}, 1)
        await endpoint.post("/chat", {})
        await endpoint.get("/models")
        await endpoint.upload("/files", "a.jsonl", b"{}")
        await endpoint.close()

    asyncio.run(send())
    upload = seen.pop("POST /v1/files")
    assert upload is not None
    assert upload.startswith("multipart/form-data; boundary=")
    assert seen == {"POST /v1/chat": "application/json; charset=utf-8", "GET /v1/models": None}


async def _close_while_waiting() -> list[str]:
    """Return the reasons of three requests over one connection that is closed while two of them wait for it."""
    never = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await never.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(Server(f"http://127.0.0.1:{port}/v1", "key", direct=True), {}, {"timeout": 20}, 1)
    requests = [asyncio.create_task(endpoint.post("/chat", {})) for _ in range(3)]
    await asyncio.sleep(0.3)
    await endpoint.close()
    reasons = []
    for result in await asyncio.gather(*requests, return_exceptions=True):
        assert isinstance(result, RequestFailure), result
        assert result.again
        reasons.append(result.reason)
    never.set()
    server.close()
    return reasons


def test_a_request_that_waits_while_connections_are_closed_may_be_asked_again() -> None:
    assert "the connections to 127.0.0.1 were closed" in asyncio.run(_close_while_waiting())


def test_a_request_that_is_cancelled_is_cancelled() -> None:
    async def cancel() -> None:
        endpoint = Endpoint(Server("http://node/v1", "key", transport=httpx.MockTransport(wait)), {}, {}, 1)
        request = asyncio.create_task(endpoint.post("/chat", {}))
        await asyncio.sleep(0.05)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await endpoint.close()

    async def wait(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        return httpx.Response(200)

    asyncio.run(cancel())


class Actor:
    """Stands for the handle of an actor of Ray: notes what it is asked, and replies with a header that is no text."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.request = self

    async def remote(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        self.asked.append((method, path))
        return 200, [(b"x-server", b"caf\xe9")], b"text"


def test_a_cluster_s_actor_gets_the_address_as_it_is_written() -> None:
    actor = Actor()

    async def get() -> str:
        endpoint = Endpoint(Server("http://node/v1", "key", transport=ActorTransport(actor)), {}, {}, 1)
        try:
            return await endpoint.get("/files/a%2Fb?limit=1")
        finally:
            await endpoint.close()

    assert asyncio.run(get()) == "text"
    assert actor.asked == [("GET", "/files/a%2Fb?limit=1")]


def test_a_body_that_was_read_before_is_returned() -> None:
    assert posted(httpx.Response(200, json={"a": "é"})) == '{"a":"é"}'


def test_a_body_that_was_decoded_before_is_returned() -> None:
    reply = httpx.Response(200, headers={"content-encoding": "gzip"}, content=gzip.compress(b"text"))
    assert posted(reply) == "text"


def test_an_error_is_named() -> None:
    with pytest.raises(RequestFailure, match="HTTP 404 from node: no such model"):
        posted(httpx.Response(404, json={"error": {"message": "no such model"}}))


def test_a_body_that_is_too_long_is_refused() -> None:
    with pytest.raises(RequestFailure, match="node sent a reply of more than"):
        posted(httpx.Response(200, text="x" * 1001))
