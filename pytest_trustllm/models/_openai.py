"""Chat completions and embeddings through OpenAI's own client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import openai

from pytest_trustllm.errors import one_line
from pytest_trustllm.models.asked import AskedClassifier
from pytest_trustllm.models.base import AsyncModel, LoadSettings, ModelSpec, encodable
from pytest_trustllm.models.openai import CONCURRENCY, TIMEOUT, base_url
from pytest_trustllm.models.retrying import Failure, Retrying, clean, status_failure
from pytest_trustllm.records import NOTHING, Request, Response, tokens_of

_INPUTS = 64
_FINISH = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


def load(spec: ModelSpec, settings: LoadSettings) -> AsyncModel:
    """Return a chat model, an embedder, or a chat model that classifies refusals."""
    if spec.kind == "embedder":
        return Embedder(spec, settings)
    chat = Chat(spec, settings)
    return AskedClassifier(chat) if spec.kind == "classifier" else chat


class Endpoint:
    """One client for one model, made in the event loop that uses it.

    Attributes:
        model: The API's name of the model.
        options: Of the models file.
        concurrency: HTTP requests in flight at most.
        info: See the model protocol.
    """

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        self.model = spec.target
        self.options = spec.options
        self.concurrency = settings.max_concurrency or spec.options.get("max_concurrency", CONCURRENCY)
        self._url = base_url(spec)
        self._key = os.environ.get(spec.options.get("api_key_env", "OPENAI_API_KEY"), "")
        self._headers = {name: os.path.expandvars(value) for name, value in spec.options.get("headers", {}).items()}
        self._timeout = float(spec.options.get("timeout", TIMEOUT))
        self.retrying = Retrying.of(spec.options, self.concurrency)
        self._client: openai.AsyncOpenAI | None = None
        parts = urlsplit(self._url)
        self.host = parts.hostname or ""
        self.info: Mapping[str, Any] = {
            "provider": spec.provider,
            "id": self.model,
            "revision": spec.revision,
            "kind": spec.kind,
            # a query or a password in the address may be a secret
            "base_url": urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")),
            "headers": sorted(self._headers),
            "omit": sorted(spec.options.get("omit", ())),
            "system_prompt": spec.options.get("system_prompt"),
            "about": {"licence": spec.options.get("licence"), "openai": openai.__version__},
        }

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The client; its own retries are off, for they know nothing of each other."""
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=self._url,
                default_headers=self._headers,
                max_retries=0,
                timeout=self._timeout,
                http_client=_http_client(self.concurrency, self._timeout),
            )
        return self._client

    async def call(self, sent: Any) -> Any:
        """Return what an awaitable of the client returns.

        Raises:
            Failure: It did not succeed, or not in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await sent
        except openai.APIStatusError as e:
            spent = e.code in ("insufficient_quota", "billing_hard_limit_reached")
            raise status_failure(self.host, e.status_code, self._message(e), e.response.headers, spent=spent) from None
        except (openai.APIConnectionError, TimeoutError) as e:
            causes = _causes(e)
            # the aiohttp transport calls every connection error a timeout: only the name of the first cause counts
            if any(isinstance(c, TimeoutError) for c in causes) or type(causes[-1]).__name__.endswith("Timeout"):
                reason = f"no answer from {self.host} within {self._timeout:g} s"
            else:
                reason = f"no connection to {self.host}: {clean(causes[-1], (self._key,))}"
            raise Failure(reason, again=True, strain="troubled") from None
        except (openai.APIResponseValidationError, ValueError, TypeError, KeyError) as e:
            raise Failure(f"{self.host} sent what is no answer: {clean(e, (self._key,))}", again=True) from None
        except openai.APIError as e:
            raise Failure(f"{self.host}: {clean(e.message, (self._key,))}") from None

    def _message(self, error: openai.APIStatusError) -> str:
        body = error.body
        found = body.get("message") if isinstance(body, dict) else None
        return clean(found or error.message, (self._key, *self._headers.values()))

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and what caused it, the first cause last."""
    found = [error]
    while found[-1].__cause__ is not None:
        found.append(found[-1].__cause__)
    return found


def _http_client(concurrency: int, timeout: float) -> Any:
    """Return the client's aiohttp transport, twice as fast as its default one; without aiohttp the default."""
    try:
        import httpx2 as httpx
    except ImportError:  # openai 2 and older
        return None
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        return openai.DefaultAioHttpClient(limits=limits, timeout=timeout)
    except RuntimeError:  # openai without its aiohttp extra
        return openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout)


class Chat:
    """A chat model behind an OpenAI-compatible API."""

    stored = True

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        self._endpoint = Endpoint(spec, settings)
        self.info = self._endpoint.info
        self.max_concurrency = self._endpoint.concurrency
        self.pace = self._endpoint.retrying.pace
        self._omit = frozenset(spec.options.get("omit", ()))
        self._system = spec.options.get("system_prompt")
        self._limit = "max_tokens"

    async def answer(self, request: Request) -> Response:
        """Return the answer of the first choice."""
        messages = [{"role": role, "content": encodable(content)} for role, content in request.messages]
        if self._system is not None and not any(role == "system" for role, _ in request.messages):
            messages.insert(0, {"role": "system", "content": self._system})
        tokens = request.tokens + request.generation.max_new_tokens
        return await self._endpoint.retrying(lambda: self._ask(request, messages), tokens)

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def _ask(self, request: Request, messages: Sequence[Mapping[str, str]]) -> Response:
        loop = asyncio.get_running_loop()
        start = loop.time()
        limit = self._limit
        try:
            found = await self._endpoint.call(self._create(request, messages))
        except Failure as e:
            # newer models of OpenAI refuse the name that all other servers know
            if "HTTP 400" in e.reason and "max_completion_tokens" in e.reason and limit == "max_tokens":
                self._limit = "max_completion_tokens"
                raise Failure(e.reason, again=True, pause=0.0) from None
            raise
        return self._read(found, loop.time() - start)

    def _create(self, request: Request, messages: Sequence[Mapping[str, str]]) -> Any:
        g = request.generation
        settings: dict[str, Any] = {self._limit: g.max_new_tokens, "temperature": g.temperature}
        if g.temperature > 0:
            settings["seed"] = request.seed % 2**31
        if g.stop:
            settings["stop"] = list(g.stop)
        for name in self._omit:
            settings.pop(name, None)
        body = {"model": self._endpoint.model, "messages": messages, **settings}
        # chat.completions.create spends four tenths of a call on checking and building typed objects
        return self._endpoint.client.post("/chat/completions", body=body, cast_to=object)

    def _read(self, found: object, seconds: float) -> Response:
        host = self._endpoint.host
        whole = _mapping(found)
        choices = whole.get("choices")
        if not isinstance(choices, list) or not choices:
            raise Failure(f"{host} sent what is no chat completion", again=True)
        choice, usage, revision = _mapping(choices[0]), _mapping(whole.get("usage")), whole.get("model")
        message = _mapping(choice.get("message"))
        text = message.get("content") or message.get("refusal")
        why = str(choice.get("finish_reason"))
        common: dict[str, Any] = {
            "input_tokens": _tokens(usage.get("prompt_tokens")),
            "output_tokens": _tokens(usage.get("completion_tokens")),
            "finish": _FINISH.get(why),
            "seconds": seconds,
            "revision": encodable(revision) if isinstance(revision, str) and revision else None,
        }
        if not isinstance(text, str) or text == "":
            return Response(error=f"{host} returned an empty answer (finish_reason {one_line(why, 40)})", **common)
        return Response(text=encodable(text), **common)


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else NOTHING


def _tokens(found: object) -> int | None:
    return found if type(found) is int and found >= 0 else None


class Embedder:
    """An embedding model; texts that wait together travel together."""

    stored = True

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        self._endpoint = Endpoint(spec, settings)
        self.info = self._endpoint.info
        self.max_concurrency = self._endpoint.concurrency * _INPUTS
        self.pace = self._endpoint.retrying.pace
        self._waiting: list[tuple[str, asyncio.Future[Response]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request) -> Response:
        """Return the vector of a text; a blank one has none."""
        if not request.text.strip():
            return Response(error="a blank text has no embedding")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Response] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._send)  # after every coroutine that is ready now has put its text here
        self._waiting.append((encodable(request.text), future))
        return await future

    async def close(self) -> None:
        """Close the connections."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._endpoint.close()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _INPUTS):
            task = asyncio.create_task(self._embed(waiting[start : start + _INPUTS]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _embed(self, batch: Sequence[tuple[str, asyncio.Future[Response]]]) -> None:
        vectors: list[Response] = []
        try:
            texts = [text for text, _ in batch]
            failed = await self._endpoint.retrying(lambda: self._ask(texts, vectors), sum(map(tokens_of, texts)))
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as e:  # noqa: BLE001 - whoever waits for the text gets it
            for _, future in batch:
                future.set_exception(e)
            return
        if len(batch) > 1 and failed.error is not None and "HTTP 400" in failed.error:
            # one text that the server refuses must not take its neighbours along
            for pair in batch:
                await self._embed([pair])
            return
        for i, (_, future) in enumerate(batch):
            if not future.done():
                future.set_result(vectors[i] if vectors else failed)

    async def _ask(self, texts: list[str], vectors: list[Response]) -> Response:
        loop = asyncio.get_running_loop()
        start = loop.time()
        # the client asks for base64 and decodes it: float32 exactly as the server had it
        create = self._endpoint.client.embeddings.create(model=self._endpoint.model, input=texts)
        found = await self._endpoint.call(create)
        data = getattr(found, "data", None)
        if not data or len(data) != len(texts):
            raise Failure(f"{self._endpoint.host} sent what are no embeddings", again=True)
        share = (loop.time() - start) / len(texts)
        usage = getattr(found, "usage", None)
        tokens = usage.prompt_tokens if usage else None
        vectors[:] = [
            Response(vector=tuple(map(float, entry.embedding)), input_tokens=part, seconds=share, revision=found.model)
            for entry, part in zip(sorted(data, key=lambda entry: entry.index), _parts(tokens, texts), strict=True)
        ]
        return Response(input_tokens=tokens)


def _parts(tokens: int | None, texts: Sequence[str]) -> list[int | None]:
    """Share the tokens of a call among its texts, by their length; the sum is what the server counted."""
    if tokens is None:
        return [None] * len(texts)
    whole = sum(map(len, texts))
    ends = [tokens * end // whole for end in accumulate(map(len, texts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
