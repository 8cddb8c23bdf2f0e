"""How fast requests go to an API: as concurrently as it can take them, and never above the user's limits.

The number of calls in flight follows additive increase and multiplicative decrease, as in TCP: it doubles with every
round of answers until the server objects or slows down, then grows by one per round, stays the same while answers take
markedly longer than the best seen, and is halved when the server reports too many requests (HTTP 429).
"""

from __future__ import annotations

import asyncio
import math
import random

START = 8
"""Calls in flight before anything is known about the server."""
LONGEST = 60.0
"""Longest pause in seconds that is chosen here; a server may ask for a longer one."""
_SAMPLE_SIZE = 8
"""Answers of similar length whose mean time is compared with the best such mean."""
_SLOWDOWN = 2.0
"""A mean that is more than this many times the best one means that the server slows down."""
_MAX_DOUBLINGS = 4
"""How often the pause for a server in trouble is doubled; one that is down for longer costs its calls."""
_NEGLIGIBLE = 1e-6
"""Shorter waits are rounding errors of the loop's clock."""


class RateLimiter:
    """A token bucket: admits an amount per minute evenly, with bursts of at most one second's amount.

    Args:
        per_minute: The amount.
    """

    def __init__(self, per_minute: float) -> None:
        self._per_second = per_minute / 60
        self._capacity = max(1.0, self._per_second)
        self._level = self._capacity
        self._updated = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until an amount may pass; one larger than a full bucket passes when it is full."""
        refilled = min(self._capacity, self._level + (now - self._updated) * self._per_second)
        # An amount that was given back may have raised the level above the capacity
        self._level = max(self._level, refilled)
        self._updated = now
        missing = min(amount, self._capacity) - self._level
        return max(0.0, missing / self._per_second)

    def take(self, amount: float) -> None:
        """Take an amount; a negative one is given back."""
        self._level -= amount


class Pace:
    """Decides when the next call to a server may be sent. Used in one event loop.

    Args:
        most: Calls in flight at most.
        requests_per_minute: The user's limit; None: no limit.
        tokens_per_minute: The user's limit, prompts and answers together; None: no limit.
        delay: Seconds of the first pause for a server in trouble; doubled each time.
        start: Calls in flight before anything is known about the server.

    Attributes:
        in_flight: Calls that are sent and have not ended.
        suspended: No call may be sent, however long it waits: the server is being started again.
    """

    def __init__(
        self,
        most: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        delay: float = 0.5,
        start: int = START,
    ) -> None:
        self._most = most
        self._delay = delay
        self._requests = None if requests_per_minute is None else RateLimiter(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else RateLimiter(tokens_per_minute)
        self._window = float(min(most, start))
        self.in_flight = 0
        self.suspended = False
        self._expected_tokens = 0
        self._paused_until = 0.0
        # The part of the pause that the server asked for; the rest of it ends with the next answer
        self._held_until = 0.0
        self._additive = False
        self._last_halving = -1.0
        self._troubles = 0
        self._last_trouble = -1.0
        self._slow = False
        self._seconds: dict[int, list[float]] = {}
        self._best_mean: dict[int, float] = {}
        self._random = random.Random()  # noqa: S311 - spreads pauses over clients; no result depends on it

    @property
    def window(self) -> int:
        """Calls that may be in flight now."""
        return int(self._window)

    @property
    def load(self) -> float:
        """Expected tokens of the calls in flight, in relation to how many of them the server can take."""
        return (self._expected_tokens + self.in_flight) / self._window

    @property
    def in_trouble(self) -> bool:
        """Whether the server has failed since its last answer, or is being started again."""
        return self._troubles > 0 or self.suspended

    def seconds_to_wait(self, tokens: int) -> float:
        """Return the seconds until a call may be sent; infinity: not before another one ends.

        Args:
            tokens: Its expected cost.
        """
        if self.suspended or self.in_flight >= self.window:
            return math.inf
        now = self._now()
        seconds = self._paused_until - now
        if self._requests is not None:
            seconds = max(seconds, self._requests.wait(1, now))
        if self._tokens is not None:
            seconds = max(seconds, self._tokens.wait(tokens, now))
        if seconds <= _NEGLIGIBLE:
            return 0.0
        return seconds

    def enter(self, tokens: int) -> None:
        """Note that a call is sent.

        Args:
            tokens: Its expected cost.
        """
        self.in_flight += 1
        self._expected_tokens += tokens
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def leave(self, tokens: int, used: int | None) -> None:
        """Note that a call has ended.

        Args:
            tokens: As given to ``enter``.
            used: Its cost; None: unknown.
        """
        self.in_flight -= 1
        self._expected_tokens -= tokens
        if self._tokens is not None and used is not None:
            self._tokens.take(used - tokens)

    def answered(self, start: float, length: int | None) -> None:
        """Learn from an answer, before ``leave``.

        Args:
            start: Loop time at which the call was sent.
            length: Tokens of the answer; only answers of similar length are compared.
        """
        self._troubles = 0
        self._paused_until = self._held_until
        # Answers of up to twice the length share a class
        length_class = (length or 0).bit_length()
        self._compare(length_class, self._now() - start)
        # A window that is not used up tells nothing about what the server can take
        if self._slow or self.in_flight < self.window:
            return
        growth = 1.0  # per answer: doubles the window with every round of answers
        if self._additive:
            growth = 1 / self._window
        self._window = min(self._most, self._window + growth)

    def _compare(self, length_class: int, seconds: float) -> None:
        """Compare the mean time of some answers with the best mean of answers of similar length."""
        sample = self._seconds.setdefault(length_class, [])
        sample.append(seconds)
        if len(sample) < _SAMPLE_SIZE:
            return
        mean = sum(sample) / _SAMPLE_SIZE
        sample.clear()
        best = min(mean, self._best_mean.get(length_class, mean))
        self._best_mean[length_class] = best
        self._slow = mean > _SLOWDOWN * best

    def refused(self, start: float) -> None:
        """Halve the window: the server reports too many calls.

        Args:
            start: Loop time at which the call was sent; calls sent before the last halving report nothing new.
        """
        self._additive = True
        if start > self._last_halving:
            self._last_halving = self._now()
            self._window = max(1.0, self._window / 2)

    def troubled(self, start: float) -> None:
        """Pause all calls until the next answer, longer each time: the server is broken or cannot be reached.

        Args:
            start: Loop time at which the call was sent; calls sent before the last trouble report nothing new.
        """
        if start <= self._last_trouble:
            return
        self._last_trouble = self._now()
        doubled: float = self._delay * 2 ** min(self._troubles, _MAX_DOUBLINGS)
        pause = min(LONGEST, doubled) * self._random.uniform(0.5, 1.0)
        self._troubles += 1
        self._paused_until = max(self._paused_until, self._last_trouble + pause)

    def resume(self) -> None:
        """Send calls again: the server was started again, and is ready."""
        self.suspended = False
        self._troubles = 0
        self._paused_until = self._held_until = 0.0

    def hold(self, seconds: float) -> None:
        """Send nothing for as long as the server asked to wait."""
        self._held_until = max(self._held_until, self._now() + seconds)
        self._paused_until = max(self._paused_until, self._held_until)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
