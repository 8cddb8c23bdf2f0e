"""What every HTTP client of this package does with replies, whatever carries them.

- **A reply belongs to its request.** In HTTP/1.1 only its place in the connection tells which request a reply answers.
  A proxy or a broken server that sends one reply too many would shift all answers of the connection by one: every
  prompt would get the answer to the one before. A connection on which bytes came that nobody asked for is therefore
  closed instead of being used again, and from then on each request to that server has a connection of its own.
- **A redirect to another origin is not followed.** It would carry the key, the headers and the prompt to a host that
  the user never named.
- **A body has an end.** Replies are read up to a limit, after decompression, so that a small compressed body cannot
  fill the memory.
"""

from __future__ import annotations

import contextlib
import select
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from pytest_trustllm.errors import one_line

try:
    import httpx2 as httpx
except ImportError:  # openai 2 and older
    import httpx  # type: ignore[import-not-found,no-redef,unused-ignore]

try:
    import aiohttp
except ImportError:  # openai without its aiohttp extra
    aiohttp = None  # type: ignore[assignment,unused-ignore]


def _transport_errors() -> tuple[type[BaseException], ...]:
    errors: list[type[BaseException]] = [httpx.HTTPError, httpx.InvalidURL]
    if aiohttp is not None:
        errors += [aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError]
    return tuple(errors)


TRANSPORT_ERRORS = _transport_errors()
"""What transports raise for a reply that is not HTTP; not all of them are wrapped in the client's own errors."""
MOST_BYTES = 8 * 2**20
"""Bytes of a reply's body that are read, for one that is no list of answers or numbers."""
MOST_FILE_BYTES = 1 << 30
"""Bytes of a downloaded file of answers that are read."""
BYTES_PER_TOKEN = 2048
"""Bytes of a body that a token may take: in a stream with log probabilities it takes about 400."""
BYTES_PER_VECTOR = 2**19
"""Bytes of a body that the vector of a text may take: 16,000 numbers with all their digits."""
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
"""Encodings that are asked for; their decoders give back a body piece by piece."""
_byte_limit: ContextVar[int] = ContextVar("byte_limit", default=MOST_BYTES)


class UnacceptableReply(Exception):
    """A reply that is not used; the text tells why, and continues a sentence that begins with the host.

    Attributes:
        again: Another try may get a better one.
    """

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


@contextlib.contextmanager
def byte_limit(most: int) -> Iterator[None]:
    """Refuse bodies of more bytes than this in the block."""
    token = _byte_limit.set(most)
    try:
        yield
    finally:
        _byte_limit.reset(token)


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address.

    Raises:
        ValueError: It is not an address.
    """
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def check_redirect(status: int, headers: Mapping[str, str], url: str) -> None:
    """Refuse a redirect to another origin.

    Args:
        status: HTTP status.
        headers: The reply's headers.
        url: Where the request was sent.

    Raises:
        UnacceptableReply: It is one, or a redirect to nowhere.
    """
    location = headers.get("location")
    if not 300 <= status <= 399 or location is None:
        return
    try:
        parts = urlsplit(location)
        if (parts.scheme or location.startswith("//")) and not parts.hostname:
            raise ValueError  # clients differ in where that leads
        target = urljoin(url, location)
        scheme, host, port = origin(target)
        is_foreign = (scheme, host, port) != origin(url)
    except ValueError:
        raise UnacceptableReply(f"redirects (HTTP {status}) to something that is not an address", again=False) from None
    if is_foreign:
        # Without path and query, which may repeat those of the request, and with them its secrets
        shown = one_line(f"{scheme}://{host}:{port}" if host else f"{scheme}:", 100)
        raise UnacceptableReply(
            f"redirects (HTTP {status}) to another server, {shown}; it was not sent the request. "
            "If it is the one you mean, give its address",
            again=False,
        )


async def read_whole(parts: AsyncIterator[bytes], most: int | None = None) -> bytes:
    """Return a body that comes in parts.

    Args:
        parts: Decoded.
        most: Bytes that are accepted; None: the limit of :func:`byte_limit`.

    Raises:
        UnacceptableReply: It has more.
    """
    limit = _byte_limit.get() if most is None else most
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > limit:
            raise UnacceptableReply(f"sent a reply of more than {limit / 2**20:,.0f} MiB", again=True)
    return bytes(body)


def _without_encoding(headers: httpx.Headers) -> httpx.Headers:
    """Return the headers of a reply that was decoded.

    Raises:
        UnacceptableReply: Its encoding was not asked for.
    """
    encodings = {part.strip().lower() for part in headers.get("content-encoding", "").split(",")}
    if not encodings <= _ENCODINGS:
        raise UnacceptableReply("sent a reply in an encoding that was not asked for", again=True)
    decoded = headers.copy()
    for name in ("content-encoding", "content-length", "transfer-encoding"):
        decoded.pop(name, None)
    return decoded


class BoundedTransport(httpx.AsyncBaseTransport):
    """Reads the replies of another transport whole, as far as they are acceptable.

    Args:
        inner: The other transport.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the reply with its decoded body.

        Raises:
            UnacceptableReply: See the module.
        """
        # Only what the decoders give back in pieces: another one may inflate a body at once
        request.headers["accept-encoding"] = "gzip, deflate"
        reply = await self._inner.handle_async_request(request)
        reply.request = request
        try:
            check_redirect(reply.status_code, reply.headers, str(request.url))
            headers = reply.headers
            # A transport that is no network's hands over a body that it has read, which has no raw bytes any more
            if "content-encoding" in headers or reply.is_stream_consumed:
                headers = _without_encoding(headers)
                content = await read_whole(reply.aiter_bytes())
            else:
                content = await read_whole(reply.aiter_raw())
        finally:
            await reply.aclose()
        return httpx.Response(
            reply.status_code, headers=headers, content=content, request=request, extensions=reply.extensions
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def http_client(
    concurrency: int,
    transport: Any = None,
    *,
    direct: bool = False,
    on_surplus: Callable[[], None] = lambda: None,
) -> Any:
    """Return an HTTP client with the settings of OpenAI's library.

    It uses aiohttp, which is twice as fast as the default; without aiohttp, the default. It waits without a limit:
    whoever sends a request limits the whole of it, connecting and reading included.

    Args:
        concurrency: Connections at most.
        transport: Carries requests elsewhere than over the network; None: it does not.
        direct: The proxies of the environment are not for this server.
        on_surplus: Called for each connection on which the server sent something that nobody asked for.
    """
    if transport is not None:
        import openai

        return openai.DefaultAsyncHttpxClient(transport=BoundedTransport(transport), timeout=None)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    return _bounded(_client_class(), on_surplus)(limits=limits, timeout=None, trust_env=not direct)


def _client_class() -> Any:
    import openai

    if aiohttp is not None and httpx.__name__ == "httpx2":
        return openai.DefaultAioHttpClient
    return openai.DefaultAsyncHttpxClient


def _bounded(base: Any, on_surplus: Callable[[], None]) -> Any:
    class BoundedClient(base):  # type: ignore[misc]
        # A transport that is passed in would turn off the proxies of the environment; these two methods are what
        # OpenAI's own aiohttp client overrides.
        def _init_transport(self, **options: Any) -> Any:
            return BoundedTransport(_with_clean_connections(super()._init_transport(**options), on_surplus))

        def _init_proxy_transport(self, proxy: Any, **options: Any) -> Any:
            return BoundedTransport(
                _with_clean_connections(super()._init_proxy_transport(proxy, **options), on_surplus)
            )

    return BoundedClient


def _with_clean_connections(transport: Any, on_surplus: Callable[[], None]) -> Any:
    """Let a transport of aiohttp use a clean connector; httpcore drops connections with unread bytes by itself."""
    if not hasattr(transport, "ssl_context"):
        return transport
    limits, context = transport.limits, transport.ssl_context

    def session() -> Any:
        lifetime = limits.keepalive_expiry
        return aiohttp.ClientSession(
            connector=clean_connector(limits.max_connections, on_surplus, ssl=context, keepalive_timeout=lifetime)
        )

    transport.client = session
    return transport


def clean_connector(limit: int | None, on_surplus: Callable[[], None] = lambda: None, **options: Any) -> Any:
    """Return a connector of aiohttp that hands out no connection on which bytes arrived that nobody asked for.

    Once that has happened, every request gets a connection of its own: bytes that arrive while the next request is
    under way cannot be told from its reply.

    Args:
        limit: Connections at most; None: any number.
        on_surplus: Called for each connection on which such bytes arrived.
        options: For aiohttp's connector.
    """

    class CleanConnector(aiohttp.TCPConnector):
        def __init__(self) -> None:
            super().__init__(limit=limit or 0, **options)
            self._used: weakref.WeakSet[Any] = weakref.WeakSet()
            self._is_server_sound = True

        async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
            while True:
                connection = await super().connect(req, traces, timeout)
                protocol: Any = connection.protocol
                was_used = protocol in self._used
                state = _state(protocol) if was_used else "clean"
                if state == "clean":
                    self._used.add(protocol)
                    if not self._is_server_sound:
                        protocol.force_close()
                    return connection
                connection.close()
                if state == "surplus":
                    self._is_server_sound = False
                    on_surplus()

    return CleanConnector()


_CLOSED = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def _state(protocol: Any) -> Literal["clean", "surplus", "closed"]:
    """Return whether an idle connection has bytes that no request has read."""
    if not protocol.is_connected():
        return "closed"
    if protocol.should_close:
        return "surplus"
    # What has arrived since the event loop last looked
    poll = select.poll()
    poll.register(protocol.transport.get_extra_info("socket").fileno(), select.POLLIN | _CLOSED)
    events = sum(event for _, event in poll.poll(0))
    if events & _CLOSED:
        return "closed"
    return "surplus" if events else "clean"
