"""The queue in front of a model's servers: which call is sent next, and to which of them."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pytest_trustllm.models.api.pacing import Pace

_RECHECK_SECONDS = 1.0
"""How often a waiting call checks whether the run still wants it."""


class Halted(Exception):
    """A call that waited is not sent after all; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class _WaitingCall:
    tokens: int
    avoided: Collection[Pace]
    admitted: asyncio.Future[Pace]


class Admission:
    """Lets calls wait, in the order in which they came, until a server can take them. Used in one event loop.

    With several servers, a call goes to the one with the least open work for its pace. A server that fails gets one
    call at a time until it answers again, and the calls that failed there go to the others.

    Args:
        paces: One for each server of the model, at least one.
    """

    def __init__(self, *paces: Pace) -> None:
        self._paces = paces
        self._waiting: deque[_WaitingCall] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._given_up = 0
        self._halt_reason: Callable[[], str | None] = lambda: None

    def add(self, pace: Pace) -> None:
        """Send calls to another server too."""
        self._paces = (*self._paces, pace)

    def halt_when(self, reason: Callable[[], str | None]) -> None:
        """Refuse calls from the moment when ``reason`` returns a text."""
        self._halt_reason = reason

    async def enter(self, tokens: int, avoided: Collection[Pace] = ()) -> Pace:
        """Wait until a call may be sent; return the pace of the server that it may be sent to.

        Args:
            tokens: Its expected cost.
            avoided: Servers that are taken only if all others are in trouble.

        Raises:
            Halted: The run wants no further calls.
        """
        reason = self._halt_reason()
        if reason is not None:
            raise Halted(reason)
        call = _WaitingCall(tokens, avoided, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self.admit_waiting()
        try:
            return await call.admitted
        except asyncio.CancelledError:
            admitted = call.admitted
            was_admitted = admitted.done() and not admitted.cancelled() and admitted.exception() is None
            if was_admitted:  # in the same round of the loop in which it was cancelled
                self.leave(admitted.result(), tokens, 0)
            raise

    def leave(self, pace: Pace, tokens: int, used: int | None) -> None:
        """Note that a call has ended.

        Args:
            pace: What ``enter`` returned.
            tokens: As given to ``enter``.
            used: Its cost; None: unknown.
        """
        pace.leave(tokens, used)
        self.admit_waiting()

    def answered(self) -> None:
        """Note that a server answered a call, before ``leave``."""
        self._given_up = 0

    def gave_up(self) -> int:
        """Note that a request was given up because a server fails; return how many were since the last answer."""
        self._given_up += 1
        return self._given_up

    def has_alternative(self, avoided: Collection[Pace]) -> bool:
        """Return whether there is a server outside ``avoided`` that is not in trouble."""
        return any(pace not in avoided and not pace.in_trouble for pace in self._paces)

    def admit_waiting(self) -> None:
        """Admit waiting calls in the order in which they came, as many as may be sent now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            call = self._waiting[0]
            if not call.admitted.done():
                reason = self._halt_reason()
                if reason is not None:
                    call.admitted.set_exception(Halted(reason))
                else:
                    seconds, pace = self._next_server(call)
                    if seconds > 0:
                        self._look_again_in(seconds)
                        return
                    pace.enter(call.tokens)
                    call.admitted.set_result(pace)
            self._waiting.popleft()

    def _next_server(self, call: _WaitingCall) -> tuple[float, Pace]:
        """Return in how many seconds a server takes a call, and which: of several that take it now, the idlest."""
        candidates = self._paces
        if self.has_alternative(call.avoided):
            candidates = tuple(pace for pace in self._paces if pace not in call.avoided)
        waits = [(self._seconds_to_wait(pace, call.tokens), pace.load, pace) for pace in candidates]
        seconds, _, pace = min(waits, key=lambda wait: wait[:2])
        return seconds, pace

    def _seconds_to_wait(self, pace: Pace, tokens: int) -> float:
        # One call finds out whether a failing server is back; the others are better off elsewhere
        if pace.in_trouble and pace.in_flight and self.has_alternative([pace]):
            return math.inf
        return pace.seconds_to_wait(tokens)

    def _look_again_in(self, seconds: float) -> None:
        # Infinity: the end of a call in flight looks again
        if seconds < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(seconds, _RECHECK_SECONDS), self.admit_waiting)
