"""An event loop whose clock jumps to the next timer: hours pass at once, and exactly."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if timeout is None and not found:
            raise AssertionError("everybody waits, and nothing can happen any more")
        if timeout and not found:
            self._loop.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in virtual time; it can only wait for timers."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
