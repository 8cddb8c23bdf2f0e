"""Servers of 60 habits: an answer belongs to its prompt, and a fault of the server is never one of the user's code."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from habits import GOOD_HABITS, HABITS, Exchange, Habit, Server, good, serving, surplus

from pytest_trustllm.models.api import transport
from pytest_trustllm.models.api.openai import PROVIDER as OPENAI
from pytest_trustllm.models.api.perspective import PROVIDER as PERSPECTIVE
from pytest_trustllm.models.base import AsyncModel, LoadSettings, ModelSpec
from pytest_trustllm.types import Request, Response

pytest.importorskip("openai")

KEY = "K3Y-plain-4f9a8b7c6d5e"


def over_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    import openai

    monkeypatch.setattr(transport, "_client_class", lambda: openai.DefaultAsyncHttpxClient)


@pytest.fixture(params=["aiohttp", pytest.param("httpx", marks=pytest.mark.slow)])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the transports that a client of OpenAI may have."""
    if request.param == "httpx":
        over_httpx(monkeypatch)
    return request.param


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    monkeypatch.setenv("PERSPECTIVE_BASE_URL", "http://127.0.0.1:9")


def load(server: Server, kind: str = "chat", **options: Any) -> AsyncModel:
    """Return a model behind a server."""
    given = {"base_url": f"{server.url}/v1", "retry_delay": 0.001, "timeout": 3, "deadline": 60, **options}
    provider = OPENAI
    if kind == "rater":
        provider = PERSPECTIVE
        del given["base_url"]
        os.environ["PERSPECTIVE_BASE_URL"] = server.url
    model: AsyncModel = provider.load(ModelSpec("m", "openai", "m", None, kind, given), LoadSettings())  # type: ignore[arg-type]
    return model


def ask(server: Server, asked: list[str], kind: str = "chat", **options: Any) -> list[Response]:
    """Return the responses to texts that are asked at the same time."""

    async def run() -> list[Response]:
        model = load(server, kind, **options)
        try:
            return list(await asyncio.gather(*(model.answer(Request((("user", text),))) for text in asked)))
        finally:
            await model.close()

    return asyncio.run(run())


def texts(count: int) -> list[str]:
    return [f"question {'x' * i} {i}" for i in range(count)]


def right(kind: str, text: str) -> Any:
    """Return what the right answer to a text is."""
    if kind == "chat":
        return f"answer to {text}"
    if kind == "embedder":
        return (float(len(text)), 1.0)
    return int(text.rsplit(" ", 1)[-1]) / 100


def found(kind: str, response: Response) -> Any:
    return {"chat": response.text, "embedder": response.vector, "rater": response.number}[kind]


def check(kind: str, asked: list[str], responses: list[Response]) -> int:
    """Check that every answer belongs to its text and return how many there are; the others have a reason."""
    for text, response in zip(asked, responses, strict=True):
        if response.error is None:
            assert found(kind, response) == right(kind, text)
        else:
            assert response.raised is False
            assert response.error.startswith(("HTTP ", "no ", "127.0.0.1 ", "error "))
            assert KEY not in response.error
            assert response.error.isprintable()
    return sum(response.error is None for response in responses)


def ask_in_turn(
    server: Server, asked: list[str], kind: str = "chat", model: AsyncModel | None = None
) -> list[Response]:
    """Return the responses to texts that are asked one by one, each when the server is done with the one before."""
    if model is None:
        model = load(server, kind)

    async def run() -> list[Response]:
        responses = []
        try:
            for number, text in enumerate(asked):
                async with asyncio.timeout(20):
                    while server.handled < number:
                        await asyncio.sleep(0.001)
                responses.append(await model.answer(Request((("user", text),))))
            return responses
        finally:
            await model.close()

    return asyncio.run(run())


@pytest.mark.parametrize("kind", ["chat", "embedder", "rater"])
def test_a_surplus_reply_is_never_the_answer_to_the_next_prompt(carrier: str, kind: str) -> None:
    asked = texts(24)
    with serving(surplus) as server:
        assert check(kind, asked, ask_in_turn(server, asked, kind)) == 24


def test_a_server_that_sends_a_surplus_reply_is_named() -> None:
    with serving(surplus) as server:
        model = load(server)
        ask_in_turn(server, texts(4), model=model)
    assert model.info["about"]["unasked_replies"] == 1  # from then on each request has a connection of its own


def once_each(habit: Habit, times: int = 2) -> Habit:
    """Return a habit that is given up after a few requests."""

    def first(exchange: Exchange) -> None:
        (habit if exchange.number <= times else good)(exchange)

    return first


SHORT = ["no end", "Content-Length too short", "not HTTP", "gzip of a bomb", "100,000 levels", "a header of 1 MB"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SHORT else pytest.mark.slow) for n in HABITS])
@pytest.mark.parametrize("kind", ["chat", "embedder", "rater"])
def test_a_fault_of_the_server_is_asked_again(name: str, kind: str) -> None:
    asked = texts(4)
    with serving(once_each(HABITS[name])) as server:
        assert check(kind, asked, ask(server, asked, kind)) >= (0 if "9999999" in name else 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", HABITS)
def test_a_fault_is_asked_again_over_httpx(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    over_httpx(monkeypatch)
    asked = texts(4)
    with serving(once_each(HABITS[name])) as server:
        assert check("chat", asked, ask(server, asked)) >= (0 if "9999999" in name else 4)


@pytest.mark.parametrize("name", GOOD_HABITS)
@pytest.mark.parametrize("kind", ["chat", pytest.param("embedder", marks=pytest.mark.slow)])
def test_a_good_answer_is_not_lost_for_what_is_around_it(carrier: str, name: str, kind: str) -> None:
    asked = texts(4)
    with serving(GOOD_HABITS[name]) as server:
        assert check(kind, asked, ask(server, asked, kind, timeout=30)) == 4
        requests = len(server.seen)
    assert requests <= 4  # an embedder asks several texts at a time


@pytest.mark.parametrize(
    "status", ["307", *(pytest.param(status, marks=pytest.mark.slow) for status in ("301", "302", "303", "308"))]
)
@pytest.mark.parametrize("kind", ["chat", "embedder", "rater"])
def test_a_redirect_to_another_origin_is_not_followed(carrier: str, kind: str, status: str) -> None:
    def elsewhere(exchange: Exchange) -> None:
        exchange.reply(b"", f"Location: {other.url}/stolen?key={KEY}", status=f"{status} Moved")

    with serving() as other, serving(elsewhere) as server:
        responses = ask(server, texts(3), kind, headers={"x-api-key": KEY} if kind != "rater" else {})
        assert other.seen == []
        assert len(server.seen) <= 3
    for response in responses:
        assert f"redirects (HTTP {status}) to another server, {other.url}" in str(response.error)
        assert KEY not in str(response.error)
        assert response.fatal


def test_a_redirect_within_the_server_is_followed(carrier: str) -> None:
    def moved(exchange: Exchange) -> None:
        if exchange.path.startswith("/v1/"):
            exchange.reply(b"", "Location: /v2/chat/completions", status="307 Moved")
        else:
            good(exchange)

    with serving(moved) as server:
        assert check("chat", texts(3), ask(server, texts(3))) == 3


@pytest.mark.parametrize(
    "location",
    ["http://[bad", "file:///etc/passwd", "//127.0.0.1:9/", "http://127.0.0.1:9/", "http:///port80", "http:port80"],
)
def test_a_redirect_to_nowhere_is_a_named_failure(carrier: str, location: str) -> None:
    with serving(lambda e: e.reply(b"", f"Location: {location}", status="307 Moved")) as server:
        for response in ask(server, texts(2)):
            assert "redirects (HTTP 307) to" in str(response.error)
