"""Trying once more what a server refused for now."""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal

from pytest_trustllm.errors import one_line
from pytest_trustllm.models.options import DEADLINE, DELAY
from pytest_trustllm.models.pacing import LONGEST, Pace
from pytest_trustllm.records import Response

TRIES = 5
GONE = 16
"""Requests given up in a row after which a server counts as gone: no further one is sent to it."""

Strain = Literal["none", "refused", "troubled"]
"""What a failure says about the server: nothing; that there are too many calls; that it does not work."""

_KEYS = re.compile(r"\b(?:sk|bce-v3|AIza)[-_/A-Za-z0-9*.]{6,}")


class Failure(Exception):
    """A request did not succeed.

    Attributes:
        reason: One line, without secrets.
        again: Another try may succeed.
        fatal: No request can.
        pause: Seconds that the server asked to wait.
        strain: What it says about the server.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = False,
        fatal: bool = False,
        pause: float | None = None,
        strain: Strain = "none",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.fatal = fatal
        self.pause = pause
        self.strain: Strain = strain


class Retrying:
    """Repeats a call with growing, jittered pauses, at the pace of its model.

    Args:
        pace: Lets calls in, and learns from how they end.
        delay: Seconds before the second try; doubled each time.
        tries: Calls in all.
        deadline: Seconds for all tries of a request, counted from its first.
    """

    def __init__(self, pace: Pace, delay: float = DELAY, tries: int = TRIES, deadline: float = DEADLINE) -> None:
        self.pace = pace
        self._delay = delay
        self._tries = tries
        self._deadline = deadline
        self._random = random.Random()  # noqa: S311 - spreads tries over time; no result depends on it

    @classmethod
    def of(cls, options: Mapping[str, Any], most: int) -> Retrying:
        """Return what the keys of a models file's entry say.

        Args:
            options: The entry.
            most: Calls in flight at most.
        """
        delay = options.get("retry_delay", DELAY)
        pace = Pace(most, options.get("requests_per_minute"), options.get("tokens_per_minute"), delay)
        return cls(pace, delay, deadline=options.get("deadline", DEADLINE))

    async def __call__(self, call: Callable[[], Awaitable[Response]], tokens: int = 0) -> Response:
        """Return what the call returns, or a response with ``error`` after the last failure.

        Args:
            call: Asks once; raises Failure.
            tokens: What an answer will probably cost.

        Raises:
            Halted: The run wants no further call.
        """
        await self.pace.enter(tokens)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline
        failure, tries, late = Failure("no answer", again=True), 0, False
        try:
            async with asyncio.timeout_at(end):
                while True:
                    tries += 1
                    try:
                        return await self._once(call, tokens)
                    except Failure as e:
                        failure = e
                    if not failure.again or tries == self._tries:
                        break
                    pause = self._pause(tries, failure.pause)
                    if loop.time() + pause >= end:
                        late = True
                        break
                    await asyncio.sleep(pause)
                    await self.pace.enter(tokens)
        except TimeoutError:
            late = True
        gone = failure.strain == "troubled" and self.pace.gave_up() >= GONE
        return Response(error=failure.reason + self._told(tries, late, gone), fatal=failure.fatal or gone)

    async def _once(self, call: Callable[[], Awaitable[Response]], tokens: int) -> Response:
        start = asyncio.get_running_loop().time()
        used: int | None = None
        try:
            response = await call()
            if response.input_tokens is not None:
                used = response.input_tokens + (response.output_tokens or 0)
            self.pace.answered(start, response.output_tokens)
        except Failure as e:
            self._learn(e, start)
            raise
        finally:
            self.pace.leave(tokens, used)
        return response

    def _learn(self, failure: Failure, start: float) -> None:
        if failure.strain == "refused":
            self.pace.refused(start)
        elif failure.strain == "troubled":
            self.pace.troubled(start)
        if failure.pause is not None and failure.pause < self._deadline:
            self.pace.hold(failure.pause)

    def _pause(self, tries: int, asked: float | None) -> float:
        grown: float = min(LONGEST, self._delay * 2 ** (tries - 1))
        return (asked or 0.0) + grown * self._random.uniform(0.5, 1.0)

    def _told(self, tries: int, late: bool, gone: bool) -> str:
        told = [f"after {tries} tries"] if tries > 1 else []
        if late:
            told.append(f"deadline of {self._deadline:g} s")
        if gone:
            told.append(f"like {GONE - 1} requests before it")
        return f" ({', '.join(told)})" if told else ""


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
    strain: Strain = "troubled" if status >= 500 else "refused" if status == 429 and not spent else "none"
    return Failure(
        f"HTTP {status} from {host}: {message}",
        again=again,
        fatal=status in (401, 403, 404) or spent,
        pause=retry_after(headers) if again else None,
        strain=strain,
    )


def clean(text: object, secrets: Iterable[str] = ()) -> str:
    """Return a server's message on one line, with anything like a key taken out."""
    found = str(text)
    for secret in secrets:
        if len(secret) > 3:
            found = found.replace(secret, "***")
    return one_line(_KEYS.sub("***", found), 200)
