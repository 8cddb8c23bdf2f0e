"""HTTP requests to one server with an OpenAI-compatible API, through OpenAI's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import openai

from pytest_trustllm.config import secrets
from pytest_trustllm.config.secrets import Scrubber
from pytest_trustllm.models.api import error_bodies, http_errors
from pytest_trustllm.models.api.connection import TIMEOUT, Server
from pytest_trustllm.models.api.http_errors import clean
from pytest_trustllm.models.api.pacing import START, Pace
from pytest_trustllm.models.api.retrying import RequestFailure
from pytest_trustllm.models.api.transport import (
    MOST_BYTES,
    MOST_FILE_BYTES,
    TRANSPORT_ERRORS,
    UnacceptableReply,
    byte_limit,
    http_client,
)
from pytest_trustllm.models.options import DELAY

try:
    import httpx2 as httpx
except ImportError:  # openai 2 and older
    import httpx  # type: ignore[import-not-found,no-redef,unused-ignore]

_ABOUT_THIS_MACHINE = dict.fromkeys(
    [
        f"X-Stainless-{name}"
        for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
    ],
    openai.Omit(),
)
"""Headers in which OpenAI's client tells every server about the machine; they are not sent."""
_FILE_SECONDS = 900.0
"""How long a file of requests or answers may take, whatever the timeout of an answer is."""


class Endpoint:
    """One server of a model, asked by a client that is made in the event loop that uses it.

    Args:
        server: Address and key.
        headers: Extra headers.
        options: The model's entry.
        concurrency: HTTP requests in flight at most.
        start: HTTP requests in flight before anything is known about the server.

    Attributes:
        host: The server's name.
        public_url: Its address without password and query.
        pace: How fast it is asked.
        scrub: Removes secrets from what the server sends.
        unasked: Connections on which the server sent something that nobody had asked for.
    """

    def __init__(
        self,
        server: Server,
        headers: Mapping[str, str],
        options: Mapping[str, Any],
        concurrency: int,
        start: int = START,
    ) -> None:
        self.pace = Pace(
            concurrency,
            options.get("requests_per_minute"),
            options.get("tokens_per_minute"),
            options.get("retry_delay", DELAY),
            start,
        )
        self._headers = headers
        self._concurrency = concurrency
        self._timeout = float(options.get("timeout", TIMEOUT))
        self._client: openai.AsyncOpenAI | None = None
        self.unasked = 0
        self._set_server(server)

    def _set_server(self, server: Server) -> None:
        url = urlsplit(server.url)
        self.host = url.hostname or ""
        self.public_url = secrets.public_url(server.url)
        self._url = urlunsplit((url.scheme, url.netloc, url.path, "", ""))
        # Not a part of the base URL: the client appends paths to that, which would put them behind the query
        self._query = f"?{url.query}" if url.query else ""
        self._key = server.key
        self._transport = server.transport
        self._direct = server.direct
        self.scrub = Scrubber([self._key, *self._headers.values(), *secrets.of_url(server.url)])

    async def move(self, server: Server) -> None:
        """Send further requests to another address."""
        await self.close()
        self._set_server(server)

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The client, without its own retries, which are not coordinated among requests."""
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=self._url,
                default_headers={**_ABOUT_THIS_MACHINE, **self._headers},
                max_retries=0,
                timeout=self._timeout,
                http_client=http_client(
                    self._concurrency,
                    self._timeout,
                    self._transport,
                    direct=self._direct,
                    on_surplus=self._note_unasked,
                ),
            )
        return self._client

    def _note_unasked(self) -> None:
        self.unasked += 1

    async def post(self, path: str, body: Mapping[str, Any], most_bytes: int = MOST_BYTES) -> str:
        """Send a request and return the whole body of the reply, of a stream as well.

        Args:
            path: Of the API.
            body: The request's, as JSON.
            most_bytes: The reply's body may not be longer.

        Raises:
            RequestFailure: The status is an error, or there was no acceptable reply in time.
        """
        sent = self.client.post(self._with_query(path), body=body, cast_to=httpx.Response)
        return await self._sent(sent, most_bytes=most_bytes)

    async def get(self, path: str) -> str:
        """Fetch something and return the whole body of the reply.

        Args:
            path: May have a query.

        Raises:
            RequestFailure: As for ``post``.
        """
        return await self._sent(self.client.get(self._with_query(path), cast_to=httpx.Response))

    async def upload(self, path: str, name: str, content: bytes) -> str:
        """Upload a file of requests and return the whole body of the reply.

        Raises:
            RequestFailure: As for ``post``.
        """
        seconds = max(self._timeout, _FILE_SECONDS)
        sent = self.client.post(
            self._with_query(path),
            body={"purpose": "batch"},
            files={"file": (name, content, "application/jsonl")},
            options={"headers": {"Content-Type": "multipart/form-data"}, "timeout": seconds},
            cast_to=httpx.Response,
        )
        return await self._sent(sent, seconds)

    async def download(self, path: str) -> str:
        """Fetch a file, which may be large.

        Raises:
            RequestFailure: As for ``post``.
        """
        seconds = max(self._timeout, _FILE_SECONDS)
        sent = self.client.get(self._with_query(path), options={"timeout": seconds}, cast_to=httpx.Response)
        return await self._sent(sent, seconds, MOST_FILE_BYTES)

    def _with_query(self, path: str) -> str:
        # The whole address: the client takes longer to join the two parts
        url = f"{self._url.rstrip('/')}{path}"
        if "?" in path:
            return f"{url}{self._query.replace('?', '&', 1)}"
        return f"{url}{self._query}"

    async def _sent(self, request: Awaitable[Any], seconds: float | None = None, most_bytes: int = MOST_BYTES) -> str:
        try:
            with byte_limit(most_bytes):
                async with asyncio.timeout(seconds or self._timeout):
                    reply = await request
            # Strictly: an answer with replacement characters is not what the model wrote
            return self.scrub.content(bytes(reply.content).decode("utf-8-sig"))
        except openai.APIStatusError as e:
            error = error_bodies.read(e.response.text)
            raise http_errors.status_failure(self.host, e.status_code, error, e.response.headers, self.scrub) from None
        except UnacceptableReply as e:
            # A server that redirects one request elsewhere does so with all of them
            raise RequestFailure(f"{self.host} {self.clean(e)}", again=e.again, denied=not e.again) from None
        except (openai.APIConnectionError, TimeoutError) as e:
            raise RequestFailure(self._connection_problem(e), again=True, strain="troubled") from None
        # Whatever else a client's library raises for what a server sent is the server's fault
        except (openai.APIError, ValueError, ArithmeticError, LookupError, TypeError, *TRANSPORT_ERRORS) as e:
            raise RequestFailure(f"{self.host} sent a reply that cannot be read: {self.clean(e)}", again=True) from None

    def _connection_problem(self, error: BaseException) -> str:
        cause = _first_cause(error)
        is_timeout = isinstance(error, TimeoutError) or isinstance(cause, TimeoutError)
        # The aiohttp transport calls every connection error a timeout: only the name of the first cause counts
        if is_timeout or type(cause).__name__.endswith("Timeout"):
            return f"no answer from {self.host} within {self._timeout:g} s"
        return f"no connection to {self.host}: {self.clean(cause)}"

    def did_not_send(self, expected: str, error: Exception) -> str:
        """Return the reason of a failure whose reply is not what was expected; the error tells what it is instead."""
        detail = self.clean(error)
        if detail:
            return f"{self.host} did not send {expected}: {detail}"
        return f"{self.host} did not send {expected}"

    def clean(self, text: object) -> str:
        """Return a text on one line without the secrets of this model."""
        return clean(text, self.scrub)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
