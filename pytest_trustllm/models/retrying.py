"""Trying once more what a server refused for now."""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from pytest_trustllm.errors import one_line
from pytest_trustllm.records import Response

TRIES = 5
DELAY = 0.5
LONGEST = 60.0
PATIENCE = 600.0
"""A server that asks for a longer pause than this is not waited for."""

_KEYS = re.compile(r"\b(?:sk|bce-v3|AIza)[-_/A-Za-z0-9*.]{6,}")


class Failure(Exception):
    """A request did not succeed.

    Attributes:
        reason: One line, without secrets.
        again: Another try may succeed.
        fatal: No request can.
        pause: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, *, again: bool = False, fatal: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.fatal = fatal
        self.pause = pause


class Retrying:
    """Repeats a call with growing, jittered pauses; a pause that the server asks for holds all calls of the model.

    Args:
        delay: Seconds before the second try; doubled each time.
        tries: Calls in all.
    """

    def __init__(self, delay: float = DELAY, tries: int = TRIES) -> None:
        self._delay = delay
        self._tries = tries
        self._resume = 0.0
        self._random = random.Random()  # noqa: S311 - spreads tries over time; no result depends on it

    async def __call__(self, call: Callable[[], Awaitable[Response]]) -> Response:
        """Return what the call returns, or a response with ``error`` after the last failure."""
        for attempt in range(1, self._tries + 1):
            await self._wait_for_server()
            try:
                return await call()
            except Failure as e:
                failure = e
            if not failure.again or attempt == self._tries or (failure.pause or 0.0) > PATIENCE:
                break
            await self._pause(attempt, failure.pause)
        tried = f" (after {attempt} tries)" if attempt > 1 else ""
        return Response(error=failure.reason + tried, fatal=failure.fatal)

    async def _wait_for_server(self) -> None:
        while (wait := self._resume - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def _pause(self, attempt: int, asked: float | None) -> None:
        if asked is not None:
            self._resume = max(self._resume, time.monotonic() + asked)
        grown = min(LONGEST, self._delay * 2 ** (attempt - 1))
        await asyncio.sleep((asked or 0.0) + grown * self._random.uniform(0.5, 1.0))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for: a number or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        when = email.utils.parsedate_tz(value)
        return None if when is None else max(0.0, email.utils.mktime_tz(when) - time.time())


def status_failure(host: str, status: int, message: str, headers: Mapping[str, str], *, spent: bool = False) -> Failure:
    """Return the failure that an HTTP status means.

    Args:
        host: Who answered.
        status: HTTP status, 400 or more.
        message: What the body says, without secrets.
        headers: May hold ``Retry-After``.
        spent: The account has no credit: waiting does not help.
    """
    again = (status in (408, 409, 429) or status >= 500) and not spent
    return Failure(
        f"HTTP {status} from {host}: {message}",
        again=again,
        fatal=status in (401, 403, 404) or spent,
        pause=retry_after(headers) if again else None,
    )


def clean(text: object, secrets: Iterable[str] = ()) -> str:
    """Return a server's message on one line, with anything like a key taken out."""
    found = str(text)
    for secret in secrets:
        if len(secret) > 3:
            found = found.replace(secret, "***")
    return one_line(_KEYS.sub("***", found), 200)
