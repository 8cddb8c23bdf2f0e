"""Models that need the same GPUs take turns: one answers all that it was asked, then the next one is loaded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

_QUIET_SECONDS = 0.5
"""How long a model must have nothing to do before the next one gets the GPUs: loading takes minutes."""


class Turn:
    """A model's place in a circle of models of which one is loaded at a time. Used in one event loop.

    Args:
        unload: Frees the GPUs of the model; its next request loads it again.
    """

    def __init__(self, unload: Callable[[], Awaitable[None]]) -> None:
        self.unload = unload
        self.open = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._circle = _Circle()

    def share_with(self, other: Turn) -> None:
        """Take turns with another model, and with those that it takes turns with; before the first request."""
        self._circle = other._circle

    def shares_with(self, other: Turn) -> bool:
        """Return whether it takes turns with another model."""
        return self._circle is other._circle

    @property
    def is_first(self) -> bool:
        """Whether the model is loaded, or none of the circle is."""
        return self._circle.current in (None, self)

    async def enter(self) -> None:
        """Wait for the model's turn; called before each request, and followed by ``leave``."""
        if self._circle.current is None:
            self._circle.current = self
        if self._circle.current is not self or self._circle.is_switching:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            self._circle.look_soon(self)
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():  # its turn came in the same round of the loop
                    self.leave()
                raise
        else:
            self.open += 1

    def leave(self) -> None:
        """Note that a request has ended."""
        self.open -= 1
        self._circle.look_soon()


class _Circle:
    """Who is loaded, and who waits."""

    def __init__(self) -> None:
        self.current: Turn | None = None
        self.is_switching = False
        self._line: deque[Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._switch: asyncio.Task[None] | None = None

    def look_soon(self, newcomer: Turn | None = None) -> None:
        """See in a moment whether the loaded model is done and another one waits."""
        if newcomer is not None and newcomer not in self._line:
            self._line.append(newcomer)
        if not self._line:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._look)

    def _look(self) -> None:
        if self._line and not self.is_switching and (self.current is None or not self.current.open):
            self.is_switching = True
            self._switch = asyncio.ensure_future(self._give_to_next())

    async def _give_to_next(self) -> None:
        following = self._line.popleft()
        try:
            if self.current is not None and self.current is not following:
                await self.current.unload()
        finally:
            self.current = following
            self.is_switching = False
            while following.waiting:
                future = following.waiting.popleft()
                if not future.done():
                    following.open += 1
                    future.set_result(None)
            self.look_soon()
