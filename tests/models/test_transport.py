"""Replies that a transport hands over whole, as the one to the actors of a cluster does."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from pytest_trustllm.models.api.connection import Server
from pytest_trustllm.models.api.endpoint import Endpoint
from pytest_trustllm.models.api.retrying import RequestFailure

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
