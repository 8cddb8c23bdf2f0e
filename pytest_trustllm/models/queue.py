"""The queue of requests to a batch model: the engine adds to it, the model takes from it when it has room."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from pytest_trustllm.types import Request

_LINGER = 0.01
"""Seconds without a new request after which an idle model begins: many come at once, and a full batch costs less."""


class RequestQueue:
    """Numbered requests that no model has taken yet; any thread may put, one thread takes.

    Args:
        on_idle: Called when the model waits because it has nothing to do.
        at_once: Requests given out at once at most; None: as many as the model asks for.
    """

    def __init__(self, on_idle: Callable[[], None] | None = None, at_once: int | None = None) -> None:
        self._requests: deque[tuple[int, Request]] = deque()
        self._changed = threading.Condition()
        self._taken: set[int] = set()
        self._closed = False
        self._on_idle = on_idle
        self._at_once = at_once

    @classmethod
    def only(cls, requests: Iterable[Request]) -> RequestQueue:
        """Return a closed queue of these requests, numbered from 0."""
        queue = cls()
        queue._requests.extend(enumerate(requests))
        queue._closed = True
        return queue

    def put(self, number: int, request: Request) -> None:
        """Add a request."""
        with self._changed:
            self._requests.append((number, request))
            self._changed.notify()

    def close(self) -> None:
        """Announce that no further requests follow."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, most: int, *, wait: bool = True) -> list[tuple[int, Request]]:
        """Return up to ``most`` of the waiting requests with their numbers, oldest first.

        Args:
            most: At least 1.
            wait: If there are none, wait for some; only for a model that has answered everything it took. An empty list
                then means that the run is over. Without ``wait``, an empty list means that there are none right now.
        """
        if self._at_once is not None:
            most = min(most, self._at_once)
        if wait and self._taken and not self._requests and self._on_idle is not None:
            self._on_idle()
        with self._changed:
            if wait:
                self._wait_for_requests(most)
            count = min(most, len(self._requests))
            batch = [self._requests.popleft() for _ in range(count)]
        self._taken.update(number for number, _ in batch)
        return batch

    def _wait_for_requests(self, most: int) -> None:
        """Wait for the first request, then for more while they keep coming."""
        while not self._requests and not self._closed:
            self._changed.wait()
        while len(self._requests) < most and not self._closed:
            notified = self._changed.wait(_LINGER)
            if not notified:
                return

    def answered(self, numbers: Iterable[int]) -> None:
        """Note that requests need no answer any more; called in the thread that takes."""
        self._taken.difference_update(numbers)

    def taken(self) -> list[int]:
        """Return the numbers of requests that were taken and not answered; called in the thread that takes."""
        return sorted(self._taken)
