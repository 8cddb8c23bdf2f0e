"""A model on several servers, or with several keys, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.api.openai import PROVIDER
from pytest_trustllm.models.base import AsyncModel, LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.types import Generation, Request, Response

pytest.importorskip("openai")


class ModelServer:
    """Serves chat completions and embeddings, and lists its models as vLLM does.

    Args:
        cards: What it lists; None: it has no list.

    Attributes:
        url: Address of its API.
        prompts: What it was asked.
        keys: The keys that came with it.
    """

    def __init__(self, cards: list[dict[str, Any]] | None = None) -> None:
        self.prompts: list[str] = []
        self.keys: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._send(200 if cards is not None else 404, {"object": "list", "data": cards})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.keys[self.headers["Authorization"].removeprefix("Bearer ")] += 1
                if "input" in body:
                    server.prompts += body["input"]
                    vectors = [{"index": i, "embedding": [1.0, 2.0]} for i in range(len(body["input"]))]
                    self._send(200, {"data": vectors})
                    return
                prompt = body["messages"][-1]["content"]
                server.prompts.append(prompt)
                message = {"role": "assistant", "content": prompt[::-1]}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                self._send(200, {"model": "m", "choices": [choice]})

            def _send(self, status: int, document: object) -> None:
                data = json.dumps(document).encode()
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


Serve = Callable[..., ModelServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ModelServer] = []

    def start(*cards: dict[str, Any], listing: bool = True) -> ModelServer:
        servers.append(ModelServer(list(cards) if listing else None))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def spec(kind: ModelKind = "chat", **options: Any) -> ModelSpec:
    return ModelSpec("openai:m", "openai", "m", None, kind, {"retry_delay": 0.002, **options})


def ask(model_spec: ModelSpec, count: int = 40) -> tuple[list[Response], AsyncModel]:
    async def run() -> tuple[list[Response], AsyncModel]:
        model: Any = PROVIDER.load(model_spec, LoadSettings())
        requests = [Request((("user", f"prompt {number}"),), Generation()) for number in range(count)]
        try:
            await model.start()
            return list(await asyncio.gather(*map(model.answer, requests))), model
        finally:
            await model.close()

    return asyncio.run(run())


REVERSED = [f"prompt {number}"[::-1] for number in range(40)]
CARD = {"id": "m", "root": "org/model"}


@pytest.mark.parametrize("named_by", ["entry", "OPENAI_BASE_URL", "base_url_env"])
def test_servers_share_the_requests(serve: Serve, named_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = serve(CARD), serve(CARD)
    options: dict[str, Any] = {"base_urls": (first.url, second.url)}
    if named_by == "OPENAI_BASE_URL":
        options = {}
        monkeypatch.setenv("OPENAI_BASE_URL", f"{first.url}, {second.url},")
    elif named_by == "base_url_env":
        options = {"base_url_env": "FLEET"}
        monkeypatch.setenv("FLEET", f"{first.url},{second.url}")
    responses, model = ask(spec(**options))
    assert [response.text for response in responses] == REVERSED
    assert min(len(first.prompts), len(second.prompts)) >= 8
    assert sorted(first.prompts + second.prompts) == sorted(text[::-1] for text in REVERSED)
    assert model.info["base_url"] == ", ".join(sorted((first.url, second.url)))
    assert model.info["about"]["servers"] == {first.url: len(first.prompts), second.url: len(second.prompts)}


def test_texts_are_embedded_by_whichever_server_has_less_to_do(serve: Serve) -> None:
    first, second = serve(CARD), serve(CARD)
    responses, _ = ask(spec("embedder", base_urls=(first.url, second.url)), 200)
    assert [response.vector for response in responses] == [(1.0, 2.0)] * 200
    assert first.prompts
    assert second.prompts


def test_a_server_that_is_down_costs_nothing(serve: Serve) -> None:
    first, second = serve(CARD), serve(CARD)
    first.close()
    responses, _ = ask(spec(base_urls=(first.url, second.url)))
    assert [response.text for response in responses] == REVERSED


def test_keys_of_one_server_share_the_requests(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(CARD)
    monkeypatch.setenv("OPENAI_API_KEY", "one,two")
    responses, model = ask(spec(base_url=server.url))
    assert [response.text for response in responses] == REVERSED
    assert set(server.keys) == {"one", "two"}
    assert min(server.keys.values()) >= 8
    assert model.info["base_url"] == server.url  # stored answers do not depend on the keys


def test_each_server_gets_its_own_key(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = serve(CARD), serve(CARD)
    monkeypatch.setenv("OPENAI_API_KEY", "one,two")
    ask(spec(base_urls=tuple(server.url for server in servers)))
    assert [set(server.keys) for server in servers] == [{"one"}, {"two"}]


def test_stored_answers_do_not_depend_on_the_order_of_the_servers() -> None:
    urls = ("http://a/v1", "http://b/v1")
    first, second = (PROVIDER.load(spec(base_urls=order), LoadSettings()).info for order in (urls, urls[::-1]))
    assert first == second


DIFFERENT = {
    "another model": ([CARD], [{"id": "other"}], "{1} does not serve 'm', as other servers of the model do, but other"),
    "one name for two models": (
        [CARD],
        [{"id": "m", "root": "org/other"}],
        "the servers of 'm' serve different models under this name: {0} serves org/model, {1} serves org/other",
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_server_with_another_model_is_an_error_before_the_first_prompt(serve: Serve, name: str) -> None:
    one, other, message = DIFFERENT[name]
    first, second = serve(*one), serve(*other)
    with pytest.raises(ModelError) as e:
        ask(spec(base_urls=(first.url, second.url)))
    assert str(e.value) == "models: " + message.format(first.url, second.url)
    assert first.prompts == second.prompts == []


ALIKE = {
    "no list": [None, CARD],
    "no root": [{"id": "m"}, CARD],
    "unlisted on all": [{"id": "x"}, {"id": "y"}],
    "hostile list": [{"name": ["<script>"]}, CARD],
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_list_that_tells_nothing_is_no_error(serve: Serve, name: str) -> None:
    servers = [serve(listing=False) if card is None else serve(card) for card in ALIKE[name]]
    responses, _ = ask(spec(base_urls=tuple(server.url for server in servers)))
    assert [response.text for response in responses] == REVERSED


WRONG = {
    "both": (
        {"base_url": "http://a/v1", "base_urls": ("http://b/v1",)},
        {},
        " has both base_url and base_urls; keep one of them",
    ),
    "twice": (
        {"base_urls": ("http://a/v1", "http://a/v1")},
        {},
        ": base_urls holds the same address twice; give each once",
    ),
    "too many keys": (
        {"base_urls": ("http://a/v1", "http://b/v1")},
        {"OPENAI_API_KEY": "one,two,three"},
        ": 3 keys in OPENAI_API_KEY for 2 addresses; give one key, or one for each address in the same order",
    ),
    "no address": (
        {},
        {"OPENAI_BASE_URL": "http://a/v1, b/v1"},
        ": OPENAI_BASE_URL is not an address that begins with http:// or https://",
    ),
    "no key": ({}, {"OPENAI_API_KEY": ","}, " needs an API key; set the environment variable OPENAI_API_KEY"),
}


@pytest.mark.parametrize("name", WRONG)
def test_servers_that_cannot_be_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, variables, message = WRONG[name]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ModelError) as e:
        PROVIDER.check(spec(**options))
    assert str(e.value) == f"models: 'openai:m'{message}"
