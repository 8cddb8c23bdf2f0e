"""Retries of requests that a server refused for now."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_trustllm.models.api.admission import Admission
from pytest_trustllm.models.api.error_bodies import ErrorBody
from pytest_trustllm.models.api.pacing import LONGEST, Pace
from pytest_trustllm.models.options import DEADLINE, DELAY
from pytest_trustllm.types import Response

TRIES = 5
GONE = 16
"""Requests given up in a row after which the server counts as gone and receives no further ones."""

Strain = Literal["none", "refused", "troubled"]
"""What a failure reveals about the server: nothing; that it gets too many calls; that it does not work."""


class RequestFailure(Exception):
    """A request did not succeed.

    Attributes:
        reason: One line, without secrets.
        again: Another try may succeed.
        fatal: No request to this model can succeed.
        pause: Seconds that the server asked to wait.
        strain: What the failure reveals about the server.
        denied: The server gave a reason that usually applies to every request: no permission, no such model, nothing
            left of a daily limit. Fatal if no request was ever answered, otherwise the error of this request alone.
        blocked: The provider's content filter turned the prompt away.
        adapted: The next try is another request, changed to what the server supports; it does not count as a retry.
        status: HTTP status; None if there was no reply.
        error_body: The reply's body.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = False,
        fatal: bool = False,
        pause: float | None = None,
        strain: Strain = "none",
        denied: bool = False,
        blocked: bool = False,
        adapted: bool = False,
        status: int | None = None,
        error_body: ErrorBody | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.fatal = fatal
        self.pause = pause
        self.strain: Strain = strain
        self.denied = denied
        self.blocked = blocked
        self.adapted = adapted
        self.status = status
        self.error_body = error_body


Call = Callable[[Pace], Awaitable[Response]]
"""Sends a request once, to the server of this pace."""


class AccessTracker:
    """Distinguishes a server that denies everybody from one that denied a single request.

    A wrong key gets HTTP 403, and so does a prompt that a firewall dislikes. A request that is denied before any other
    was answered waits for the requests in flight: if all of them are denied, the server denies everybody.
    """

    def __init__(self) -> None:
        self._was_answered = False
        self._in_flight = 0
        self._denied: list[asyncio.Future[bool]] = []

    def begin(self) -> None:
        """Note that a call is sent."""
        self._in_flight += 1

    def end(self) -> None:
        """Note that a call has ended, successfully or not."""
        self._in_flight -= 1
        self._decide()

    def answered(self) -> None:
        """Note that the server answered a call."""
        self._was_answered = True
        self._decide()

    async def is_hopeless(self) -> bool:
        """Wait until it is clear whether the server denies everybody; called between ``begin`` and ``end``."""
        if self._was_answered:
            return False
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._denied.append(verdict)
        self._decide()
        try:
            return await verdict
        finally:
            if verdict in self._denied:
                self._denied.remove(verdict)

    def _decide(self) -> None:
        all_denied = len(self._denied) >= self._in_flight
        if not self._was_answered and not all_denied:
            return
        denied = self._denied
        self._denied = []
        for verdict in denied:
            if not verdict.done():
                verdict.set_result(not self._was_answered)


class Retrying:
    """Repeats a call with growing, jittered pauses, at the pace of the model's server; or at once, on another server.

    Args:
        admission: Admits calls to the servers, whose paces learn from how the calls end.
        delay: Seconds before the second try; doubled each time.
        tries: Calls per request, the first included.
        deadline: Seconds for all tries of a request, counted from its first.
    """

    def __init__(
        self, admission: Admission, delay: float = DELAY, tries: int = TRIES, deadline: float = DEADLINE
    ) -> None:
        self.admission = admission
        self._delay = delay
        self._tries = tries
        self._deadline = deadline
        self._access = AccessTracker()
        self._final_response: Response | None = None
        self._random = random.Random()  # noqa: S311 - spreads tries over time; no result depends on it

    @classmethod
    def of(cls, options: Mapping[str, Any], *paces: Pace) -> Retrying:
        """Build it from the keys of a models file's entry, for servers of these paces."""
        return cls(Admission(*paces), options.get("retry_delay", DELAY), deadline=options.get("deadline", DEADLINE))

    async def __call__(self, call: Call, tokens: int = 0) -> Response:
        """Return what the call returns, or a response with ``error`` after the last failure.

        Args:
            call: Sends the request once, to the server of the pace that it is given; raises RequestFailure.
            tokens: Expected cost of a call.

        Raises:
            Halted: The run wants no further calls.
        """
        pace = await self.admission.enter(tokens)
        # A fatal failure came while this request waited; sending it would only fetch the same failure again
        if self._final_response is not None:
            self.admission.leave(pace, tokens, 0)
            return self._final_response
        attempts = _Attempts(pace)
        end = asyncio.get_running_loop().time() + self._deadline
        try:
            async with asyncio.timeout_at(end):
                response = await self._attempt(call, tokens, attempts, end)
        except TimeoutError:
            attempts.late = True
            response = None
        if response is not None:
            return response
        return self._given_up(attempts)

    def end(self, response: Response) -> None:
        """Give every request this response from now on, those that wait included."""
        self._final_response = response

    async def _attempt(self, call: Call, tokens: int, attempts: _Attempts, end: float) -> Response | None:
        """Call until there is a response, None if there will be none; every failure is noted in ``attempts``."""
        while True:
            try:
                return await self._once(call, tokens, attempts.pace)
            except RequestFailure as e:
                failure = attempts.failure = e
            if not failure.adapted:
                attempts.tries += 1
                attempts.failed_on.append(attempts.pace)
            if not failure.again or attempts.tries == self._tries:
                return None
            pause = self._pause(attempts, failure)
            if asyncio.get_running_loop().time() + pause >= end:
                attempts.late = True
                return None
            await asyncio.sleep(pause)
            attempts.pace = await self.admission.enter(tokens, attempts.failed_on)
            if self._final_response is not None:
                self.admission.leave(attempts.pace, tokens, 0)
                return self._final_response

    def _given_up(self, attempts: _Attempts) -> Response:
        failure = attempts.failure
        server_fails = failure.strain != "none" or failure.denied
        gone = server_fails and self.admission.gave_up() >= GONE
        response = Response(error=failure.reason + self._remarks(attempts, gone), fatal=failure.fatal or gone)
        if response.fatal:
            self._final_response = response
        return response

    async def _once(self, call: Call, tokens: int, pace: Pace) -> Response:
        start = asyncio.get_running_loop().time()
        used: int | None = None
        self._access.begin()
        try:
            response = await call(pace)
            if response.input_tokens is not None:
                used = response.input_tokens + (response.output_tokens or 0)
            pace.answered(start, response.output_tokens)
            self.admission.answered()
            self._access.answered()
        except RequestFailure as e:
            self._learn(e, pace, start)
            is_about_server = e.fatal or self._may_deny_everybody(e)
            if is_about_server and self.admission.has_alternative([pace]):
                # A key without credit, or a server without the model: the other servers may answer everybody
                pace.troubled(start)
                pace.hold(e.pause or 0.0)
                e.again = True
            elif self._may_deny_everybody(e) and await self._access.is_hopeless():
                e.fatal = True
                e.again = False
            raise
        finally:
            self._access.end()
            self.admission.leave(pace, tokens, used)
        return response

    def _may_deny_everybody(self, failure: RequestFailure) -> bool:
        """Return whether every request may fail so; a pause that exceeds the deadline rules out all of them too."""
        return failure.denied or self._exceeds_deadline(failure.pause)

    def _exceeds_deadline(self, pause: float | None) -> bool:
        return pause is not None and pause >= self._deadline

    def _learn(self, failure: RequestFailure, pace: Pace, start: float) -> None:
        if failure.strain == "refused":
            pace.refused(start)
        elif failure.strain == "troubled":
            pace.troubled(start)
        if failure.pause is not None and failure.pause < self._deadline:
            pace.hold(failure.pause)

    def _pause(self, attempts: _Attempts, failure: RequestFailure) -> float:
        if failure.adapted or self.admission.has_alternative(attempts.failed_on):
            return 0.0
        grown: float = min(LONGEST, self._delay * 2 ** (attempts.tries - 1))
        # Jitter, so that requests which failed together are not sent together again
        return (failure.pause or 0.0) + grown * self._random.uniform(0.5, 1.0)

    def _remarks(self, attempts: _Attempts, gone: bool) -> str:
        remarks: list[str] = []
        if attempts.tries > 1:
            remarks.append(f"after {attempts.tries} tries")
        pause = attempts.failure.pause
        if pause is not None and self._exceeds_deadline(pause):
            remarks.append(f"it asks to wait {pause:,.0f} s, longer than the deadline of {self._deadline:g} s")
        elif attempts.late:
            remarks.append(f"deadline of {self._deadline:g} s")
        if gone:
            remarks.append(f"like {GONE - 1} requests before it")
        if not remarks:
            return ""
        return f" ({', '.join(remarks)})"


@dataclass(slots=True)
class _Attempts:
    """What happened to one request so far.

    Attributes:
        pace: Of the server that gets the next call, or got the last one.
        failure: The last failure.
        failed_on: Paces of the servers on which calls failed.
        tries: Calls that failed; those after which the request was adapted do not count.
        late: The deadline has passed, or would before the next try.
    """

    pace: Pace
    failure: RequestFailure = field(default_factory=lambda: RequestFailure("no answer", again=True))
    failed_on: list[Pace] = field(default_factory=list)
    tries: int = 0
    late: bool = False
