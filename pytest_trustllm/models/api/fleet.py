"""The servers of one model, usually one: which of them gets a request, and whether they serve the same model."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import openai

from pytest_trustllm.config.secrets import SECRET_NAME, without_secrets
from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.api.connection import (
    CONCURRENCY,
    Server,
    environment_headers,
    header_texts,
    headers_of,
    servers_of,
)
from pytest_trustllm.models.api.endpoint import Endpoint
from pytest_trustllm.models.api.pacing import START, Pace
from pytest_trustllm.models.api.retrying import RequestFailure, Retrying
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.types import Response, digest

_NOT_STARTED = Server("http://127.0.0.1:0/v1", "-")
"""Stands for a server of the run until it is started."""
_LISTING_SECONDS = 10.0
"""How long the first request waits for a server's list of models."""


class Fleet:
    """All servers of one model.

    Args:
        spec: The model.
        settings: Those of the command line.
        own: How many servers the run itself will start for the model; None: the entry names servers that run already.

    Attributes:
        model: The API's name of the model.
        host: Name of the first server.
        endpoints: Its servers.
        on_failure: Called with the number of a server that failed, as far as that is the server's fault.
        notes_ties: Greedy answers come with log probabilities, which tell how close each choice was.
        answers: Number of a server -> how many requests it has answered.
        concurrency: HTTP requests in flight at most, of all servers together.
        admission: The queue in front of the servers.
        about: What the results file records although it changes no answer; grows during the run.
        info: See the model protocol.
    """

    def __init__(self, spec: ModelSpec, settings: LoadSettings, own: int | None = None) -> None:
        options = spec.options
        servers = servers_of(spec) if own is None else (_NOT_STARTED,) * own
        headers = headers_of(spec)
        from_environment = environment_headers(spec) if own is None else {}
        concurrency = settings.max_concurrency or options.get("max_concurrency", CONCURRENCY)
        # A server of the run has no other client, and a queue of its own
        start = START if own is None else concurrency

        def new_endpoint(server: Server) -> Endpoint:
            return Endpoint(server, {**from_environment, **headers}, options, concurrency, start)

        self._new_endpoint = new_endpoint
        self.endpoints = [new_endpoint(server) for server in servers]
        self._numbers: dict[Pace, int] = {endpoint.pace: i for i, endpoint in enumerate(self.endpoints)}
        self._retrying = Retrying.of(options, *self._numbers)
        self._urls = sorted({endpoint.public_url for endpoint in self.endpoints})
        self.on_failure: Callable[[int], None] = lambda number: None
        self.notes_ties = False
        self.answers: Counter[int] = Counter()
        self.model = spec.target
        self.host = self.endpoints[0].host
        self.concurrency = concurrency * len(self.endpoints)
        self.admission = self._retrying.admission
        self.about: dict[str, Any] = {"licence": options.get("licence"), "openai": openai.__version__}
        if from_environment:
            self.about["environment_headers"] = sorted(from_environment)
        info: dict[str, Any] = {
            "provider": spec.provider,
            "id": self.model,
            "revision": spec.revision,
            "kind": spec.kind,
            "headers": sorted(headers),
            "omit": sorted(options.get("omit", ())),
            "system_prompt": options.get("system_prompt"),
            **_identity(options, servers),
            "about": self.about,
        }
        if own is None:
            # Answers of a fleet stay valid in whatever order its servers are named
            info["base_url"] = ", ".join(self._urls)
        else:
            for endpoint in self.endpoints:
                endpoint.pace.suspended = True
        self.info: Mapping[str, Any] = info

    async def start(self) -> None:
        """Make sure, before the first request, that all servers serve the same model.

        Raises:
            ModelError: They do not.
        """
        if len(self._urls) > 1:
            difference = await self._find_difference()
            if difference is not None:
                raise ModelError(f"models: {difference}")

    @property
    def only_endpoint(self) -> Endpoint | None:
        """The one server with its one key; None if there are several."""
        if len(self.endpoints) > 1:
            return None
        return self.endpoints[0]

    async def __call__(self, call: Callable[[Endpoint], Awaitable[Response]], tokens: int) -> Response:
        """Return the response of a server, or one with ``error`` after the last failure.

        Args:
            call: Sends the request once, to the server it is given; raises RequestFailure.
            tokens: Expected cost of a call.

        Raises:
            Halted: The run wants no further calls.
        """

        async def send(pace: Pace) -> Response:
            number = self._numbers[pace]
            try:
                response = await call(self.endpoints[number])
            except RequestFailure as e:
                if e.strain == "troubled":
                    self.on_failure(number)
                raise
            self._note_answer(number)
            return response

        return await self._retrying(send, tokens)

    def add(self) -> int:
        """Make room for another server of the run, which is suspended until it is resumed; return its number."""
        number = len(self.endpoints)
        endpoint = self._new_endpoint(_NOT_STARTED)
        endpoint.pace.suspended = True
        self.endpoints.append(endpoint)
        self._numbers[endpoint.pace] = number
        self.admission.add(endpoint.pace)
        return number

    def suspend(self, number: int) -> None:
        """Send nothing to a server until it is resumed; its requests wait, or go to the others."""
        self.endpoints[number].pace.suspended = True

    async def resume(self, number: int, server: Server) -> None:
        """Send requests to a server again, which may have another address now."""
        endpoint = self.endpoints[number]
        await endpoint.move(server)
        self.host = endpoint.host
        endpoint.pace.resume()
        self.admission.admit_waiting()

    def end(self, reason: str) -> None:
        """Give every request this reason as its error from now on."""
        self._retrying.end(Response(error=reason, fatal=True))
        for endpoint in self.endpoints:
            endpoint.pace.resume()
        self.admission.admit_waiting()

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    def _note_answer(self, number: int) -> None:
        """Record how many requests each of several addresses answered."""
        self.answers[number] += 1
        unasked = sum(endpoint.unasked for endpoint in self.endpoints)
        if unasked:
            self.about["unasked_replies"] = unasked
        if len(self._urls) > 1:
            answered = Counter[str]()
            for i, count in self.answers.items():
                answered[self.endpoints[i].public_url] += count
            self.about["servers"] = dict(answered)

    async def _find_difference(self) -> str | None:
        served = await asyncio.gather(*(_served_models(endpoint) for endpoint in self.endpoints))
        by_url = {endpoint.public_url: models for endpoint, models in zip(self.endpoints, served, strict=True)}
        if not any(self.model in models for models in by_url.values()):
            return None  # a gateway may accept names that it does not list
        roots: dict[str, str] = {}
        for url, models in by_url.items():
            if models and self.model not in models:
                others = one_line(", ".join(sorted(models)), 120)
                return f"{url} does not serve {self.model!r}, as other servers of the model do, but {others}"
            root = models.get(self.model)
            if root is not None:
                roots[url] = root
        if len(set(roots.values())) > 1:
            origins = ", ".join(f"{url} serves {one_line(root, 120)}" for url, root in roots.items())
            return f"the servers of {self.model!r} serve different models under this name: {origins}"
        return None


async def _served_models(endpoint: Endpoint) -> dict[str, str | None]:
    """Return name -> root of the models that a server lists; empty if it lists none or cannot be asked.

    vLLM and SGLang report as ``root`` which repository or directory a name stands for; elsewhere it is None.
    """
    try:
        async with asyncio.timeout(_LISTING_SECONDS):
            document = error_bodies.parsed(await endpoint.get("/models"))
        return {str(card["id"]): card.get("root") and str(card["root"]) for card in document["data"]}
    except (RequestFailure, TimeoutError, ValueError, TypeError, KeyError, AttributeError):
        # Not every API lists its models, and a server that is down may be up again when its first request comes
        return {}


_ANSWER_OPTIONS = ("extra_body", "reasoning_effort", "thinking_budget", "max_completion_tokens", "template_options")
"""Keys of an entry that can change an answer, and that most entries do not have."""


def _identity(options: Mapping[str, Any], servers: Sequence[Server]) -> dict[str, Any]:
    """Return what else distinguishes models, without secrets.

    Only keys that the entry has are in it, so that stored answers stay valid when a release adds a key.
    """
    identity: dict[str, Any] = {}
    for name in _ANSWER_OPTIONS:
        if options.get(name) is not None:
            identity[name] = without_secrets(options[name])
    # As written in the file, a variable by its name: stored answers stay valid when a key changes
    headers = {name: text for name, text in header_texts(options).items() if not SECRET_NAME.search(name)}
    if headers:
        identity["header_values"] = digest(headers)[:16]
    parameters = []
    for url in sorted({server.url for server in servers}):
        for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
            if not SECRET_NAME.search(name):
                parameters.append((name, value))
    if parameters:
        identity["query"] = digest(parameters)[:16]
    return identity
