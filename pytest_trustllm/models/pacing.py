"""How fast an API is asked: as many calls at a time as it bears, and never above the limits of the user.

The number of calls in flight follows additive increase and multiplicative decrease, as in TCP: it doubles with every
round of answers until the server objects or slows down, grows by one per round afterwards, stands still while answers
take markedly longer than the best seen, and is halved when the server says that there are too many (HTTP 429).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable

START = 8
"""Calls in flight before anything is known about the server."""
LONGEST = 60.0
"""Longest pause that is ours to choose, in seconds."""
_SOME = 8
"""Answers of similar length whose mean time is compared with the best such mean."""
_RISE = 2.0
"""More than this times the best mean is a marked rise."""
_DOUBLINGS = 4
"""Pauses of a server in trouble grow so often; what is down for longer costs its calls."""
_LOOK = 1.0
"""Seconds after which a waiting call looks again whether the run wants it at all."""
_SOON = 1e-6


class Halted(Exception):
    """A call that waited will not be sent; its text says why."""


class Bucket:
    """Lets an amount per minute through, evenly: at most what flows in one second is let through at once.

    Args:
        per_minute: How much.
    """

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate)
        self._level = self._most
        self._then = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until an amount may pass; one larger than a full bucket passes when it is full."""
        filled = min(self._most, self._level + (now - self._then) * self._rate)
        self._level, self._then = max(self._level, filled), now
        return max(0.0, (min(amount, self._most) - self._level) / self._rate)

    def take(self, amount: float) -> None:
        """Take an amount, or give back what was taken too much."""
        self._level -= amount


class Pace:
    """Decides when the next call to a model may be sent. Lives in one event loop.

    Args:
        most: Calls in flight at most.
        requests_per_minute: Limit of the user; None: no limit.
        tokens_per_minute: Limit of the user, prompt and answer together; None: no limit.
        delay: Seconds of the first pause after a server that is in trouble; doubled each time.
    """

    def __init__(
        self,
        most: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        delay: float = 0.5,
    ) -> None:
        self._most = most
        self._delay = delay
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute)
        self._window = float(min(most, START))
        self._flying = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._resume = 0.0  # nothing is sent before
        self._asked_until = 0.0  # the server's part of it; ours ends with the next answer
        self._steady = False
        self._halved = -1.0
        self._troubles = 0
        self._troubled = -1.0
        self._given_up = 0
        self._slow = False
        self._times: dict[int, list[float]] = {}
        self._best: dict[int, float] = {}
        self._halted: Callable[[], str | None] = lambda: None
        self._random = random.Random()  # noqa: S311 - spreads pauses over clients; no result depends on it

    @property
    def window(self) -> int:
        """Calls that may be in flight now."""
        return int(self._window)

    def halt_when(self, reason: Callable[[], str | None]) -> None:
        """Refuse calls from the moment when ``reason`` returns a text."""
        self._halted = reason

    async def enter(self, tokens: int) -> None:
        """Wait until a call may be sent.

        Args:
            tokens: What it will probably cost.

        Raises:
            Halted: The run wants no further call.
        """
        if (reason := self._halted()) is not None:
            raise Halted(reason)
        if not self._waiting and self._wait(tokens) <= 0:
            self._take(tokens)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, future))
        self._pump()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave(tokens, 0)  # it was let in at the moment when nobody wanted it any more
            raise

    def leave(self, tokens: int, used: int | None) -> None:
        """Say that a call has ended.

        Args:
            tokens: As given to ``enter``.
            used: What it cost; None: unknown.
        """
        self._flying -= 1
        if self._tokens is not None and used is not None:
            self._tokens.take(used - tokens)
        self._pump()

    def answered(self, start: float, length: int | None) -> None:
        """Learn from an answer, before ``leave``.

        Args:
            start: Loop time at which the call was sent.
            length: Tokens of the answer; only answers of similar length are compared.
        """
        self._troubles = 0
        self._given_up = 0
        self._resume = self._asked_until
        self._compare((length or 0).bit_length(), self._now() - start)
        if not self._slow and self._flying >= self.window:  # a window that is not used up says nothing
            self._window = min(self._most, self._window + (1 / self._window if self._steady else 1.0))

    def _compare(self, kind: int, seconds: float) -> None:
        times = self._times.setdefault(kind, [])
        times.append(seconds)
        if len(times) == _SOME:
            mean = sum(times) / _SOME
            times.clear()
            best = self._best[kind] = min(mean, self._best.get(kind, mean))
            self._slow = mean > _RISE * best

    def refused(self, start: float) -> None:
        """Halve: the server says that there are too many calls. Calls sent before the last halving say nothing new."""
        self._steady = True
        if start > self._halved:
            self._halved = self._now()
            self._window = max(1.0, self._window / 2)

    def troubled(self, start: float) -> None:
        """Pause all calls until the next answer, longer each time: the server is broken, or cannot be reached."""
        if start > self._troubled:
            self._troubled = self._now()
            grown = min(LONGEST, self._delay * 2 ** min(self._troubles, _DOUBLINGS)) * self._random.uniform(0.5, 1.0)
            self._troubles += 1
            self._resume = max(self._resume, self._troubled + grown)

    def gave_up(self) -> int:
        """Note that a request is given up for a server in trouble; return how many were since the last answer."""
        self._given_up += 1
        return self._given_up

    def hold(self, seconds: float) -> None:
        """Send nothing for a time that the server asked for."""
        self._asked_until = max(self._asked_until, self._now() + seconds)
        self._resume = max(self._resume, self._asked_until)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _wait(self, tokens: int) -> float:
        """Return the seconds until a call may be sent; infinity: not before another one ends."""
        if self._flying >= self.window:
            return math.inf
        now = self._now()
        wait = self._resume - now
        if self._requests is not None:
            wait = max(wait, self._requests.wait(1, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(tokens, now))
        return wait if wait > _SOON else 0.0

    def _take(self, tokens: int) -> None:
        self._flying += 1
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def _pump(self) -> None:
        """Let in whoever may be, in the order in which they came."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            tokens, future = self._waiting[0]
            if not future.done():
                reason = self._halted()
                wait = 0.0 if reason is not None else self._wait(tokens)
                if wait > 0:
                    if wait < math.inf:
                        loop = asyncio.get_running_loop()
                        self._timer = loop.call_later(min(wait, _LOOK), self._pump)
                    return
                if reason is not None:
                    future.set_exception(Halted(reason))
                else:
                    self._take(tokens)
                    future.set_result(None)
            self._waiting.popleft()
