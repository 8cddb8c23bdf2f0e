"""Whether a run has anything under way apart from requests that wait for a batch."""

from __future__ import annotations

import asyncio

_MOMENT = 0.25
"""Seconds without an event after which nothing more is expected to happen by itself."""


class Activity:
    """What all models of a run do together. It belongs to one event loop."""

    def __init__(self) -> None:
        self._under_way = 0
        self._events = 0

    def begin(self) -> None:
        """Note that something begins that can lead to further requests."""
        self._under_way += 1

    def end(self) -> None:
        """Note that it has ended."""
        self._under_way -= 1
        self._events += 1

    def note(self) -> None:
        """Note that a request has come."""
        self._events += 1

    async def calm(self) -> None:
        """Wait until nothing is under way and nothing has happened for a moment.

        A request that comes later all the same is in a batch of its own: that costs time, and no answer.
        """
        last_seen = -1
        while self._under_way or self._events != last_seen:
            last_seen = self._events
            await asyncio.sleep(_MOMENT)
