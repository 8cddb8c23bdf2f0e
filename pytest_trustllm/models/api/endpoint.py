"""HTTP requests to one server with an OpenAI-compatible API, through the HTTP client of OpenAI's library.

The library's own layer above that client is left out: nothing of its work (retries, pages, typed replies, headers about
the machine) is used here, and it took two fifths of the CPU time of a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pytest_trustllm.config import secrets
from pytest_trustllm.config.secrets import Scrubber
from pytest_trustllm.models import environment
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

_JSON = "application/json"
_PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_FILE_SECONDS = 900.0
"""How long a file of requests or answers may take, whatever the timeout of an answer is."""
_UNREADABLE: tuple[type[BaseException], ...] = (ValueError, ArithmeticError, LookupError, TypeError, *TRANSPORT_ERRORS)
"""Errors for what a server sent whose text says enough without their name."""


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
        self._client: httpx.AsyncClient | None = None
        self.unasked = 0
        self._set_server(server)

    def _set_server(self, server: Server) -> None:
        url = urlsplit(server.url)
        self.host = url.hostname or ""
        self.public_url = secrets.public_url(server.url)
        self._url = urlunsplit((url.scheme, url.netloc, url.path.rstrip("/"), "", ""))
        self._query = url.query
        self._addresses: dict[str, httpx.URL] = {}
        shared = {"Accept": _JSON, "User-Agent": "pytest-trustllm", "Authorization": f"Bearer {server.key}"}
        self._json_headers = httpx.Headers({**shared, "Content-Type": _JSON})
        self._json_headers.update(self._headers)
        # Without the type of a body: a request has another one, which only it knows, or none
        self._shared_headers = self._json_headers.copy()
        del self._shared_headers["Content-Type"]
        self._transport = server.transport
        self._direct = server.direct
        self.scrub = Scrubber([server.key, *self._headers.values(), *secrets.of_url(server.url)])

    async def move(self, server: Server) -> None:
        """Send further requests to another address."""
        await self.close()
        self._set_server(server)

    def _opened(self) -> httpx.AsyncClient:
        """Return the client.

        Raises:
            RequestFailure: The environment names a proxy or certificates that cannot be used.
        """
        if self._client is None:
            try:
                self._client = http_client(
                    self._concurrency, self._transport, direct=self._direct, on_surplus=self._note_unasked
                )
            except (ValueError, OSError, ImportError, httpx.InvalidURL) as e:
                variables = _CERTIFICATE_VARIABLES if isinstance(e, OSError) else _PROXY_VARIABLES
                named = ", ".join(name for name in variables if environment.value(name))
                reason = f"the HTTP client cannot use {named or 'the environment'}: {self.clean(e)}"
                raise RequestFailure(reason, fatal=True) from None
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
        try:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except ValueError as e:
            raise RequestFailure(f"the request cannot be written as JSON: {self.clean(e)}") from None
        request = httpx.Request("POST", self._address(path), headers=self._json_headers, content=content)
        return await self._send(request, most_bytes)

    async def get(self, path: str) -> str:
        """Fetch something and return the whole body of the reply.

        Args:
            path: May have a query.

        Raises:
            RequestFailure: As for ``post``.
        """
        return await self._send(httpx.Request("GET", self._address(path), headers=self._shared_headers))

    async def upload(self, path: str, name: str, content: bytes) -> str:
        """Upload a file of requests and return the whole body of the reply.

        Raises:
            RequestFailure: As for ``post``.
        """
        request = httpx.Request(
            "POST",
            self._address(path),
            headers=self._shared_headers,
            data={"purpose": "batch"},
            files={"file": (name, content, "application/jsonl")},
        )
        return await self._send(request, seconds=max(self._timeout, _FILE_SECONDS))

    async def download(self, path: str) -> str:
        """Fetch a file, which may be large.

        Raises:
            RequestFailure: As for ``post``.
        """
        request = httpx.Request("GET", self._address(path), headers=self._shared_headers)
        return await self._send(request, MOST_FILE_BYTES, max(self._timeout, _FILE_SECONDS))

    def _address(self, path: str) -> httpx.URL:
        """Return the address of a path of the API; the query of the API's address comes after the path's own.

        Raises:
            RequestFailure: The client does not accept it.
        """
        address = self._addresses.get(path)
        if address is None:
            separator = "&" if "?" in path else "?"
            query = f"{separator}{self._query}" if self._query else ""
            try:
                address = self._addresses[path] = httpx.URL(f"{self._url}{path}{query}")
            except httpx.InvalidURL as e:
                raise RequestFailure(f"the server's address cannot be used: {self.clean(e)}", fatal=True) from None
        return address

    async def _send(self, request: httpx.Request, most_bytes: int = MOST_BYTES, seconds: float | None = None) -> str:
        client = self._opened()
        if client.cookies:
            client.cookies.set_cookie_header(request)
        try:
            with byte_limit(most_bytes):
                async with asyncio.timeout(seconds or self._timeout):
                    reply = await client.send(request)
            if not reply.is_success:
                raise self._status_failure(reply)
            # Strictly: an answer with replacement characters is not what the model wrote
            return self.scrub.content(reply.content.decode("utf-8-sig"))
        except RequestFailure:
            raise
        except UnacceptableReply as e:
            # A server that redirects one request elsewhere does so with all of them
            raise RequestFailure(f"{self.host} {self.clean(e)}", again=e.again, denied=not e.again) from None
        except (httpx.RequestError, OSError) as e:
            raise RequestFailure(self._connection_problem(e), again=True, strain="troubled") from None
        except asyncio.CancelledError:  # also raised for a request that waits for a connection when they are closed
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RequestFailure(f"the connections to {self.host} were closed", again=True, strain="troubled") from None
        except Exception as e:  # noqa: BLE001 - whatever a client's library raises for a reply is the server's fault
            problem = self.clean(e if isinstance(e, _UNREADABLE) else f"{type(e).__name__}: {e}")
            raise RequestFailure(f"{self.host} sent a reply that cannot be read: {problem}", again=True) from None

    def _status_failure(self, reply: httpx.Response) -> RequestFailure:
        error = error_bodies.read(reply.text)
        return http_errors.status_failure(self.host, reply.status_code, error, reply.headers, self.scrub)

    def _connection_problem(self, error: BaseException) -> str:
        cause = _first_cause(error)
        # Not what the aiohttp transport makes of it, which calls every connection error a timeout
        if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
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
            await self._client.aclose()
            self._client = None


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
