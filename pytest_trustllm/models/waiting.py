"""Requests on their way to a batch model: the engine puts them in, the model takes them when it has room."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from pytest_trustllm.records import Request

_LINGER = 0.01
"""Seconds without a newcomer after which an idle model begins: requests come in crowds, and a full batch costs less."""


class Waiting:
    """Numbered requests that nobody has taken yet; any thread may put, one thread takes.

    Args:
        on_idle: Called when the model waits because it has nothing to do.
        at_once: Given away at once at most; None: as many as the model asks for.
    """

    def __init__(self, on_idle: Callable[[], None] | None = None, at_once: int | None = None) -> None:
        self._requests: deque[tuple[int, Request]] = deque()
        self._changed = threading.Condition()
        self._taken: set[int] = set()
        self._closed = False
        self._on_idle = on_idle
        self._at_once = at_once

    @classmethod
    def only(cls, requests: Iterable[Request]) -> Waiting:
        """Return these requests, numbered from 0, with none to follow."""
        found = cls()
        found._requests.extend(enumerate(requests))
        found._closed = True
        return found

    def put(self, number: int, request: Request) -> None:
        """Add a request."""
        with self._changed:
            self._requests.append((number, request))
            self._changed.notify()

    def close(self) -> None:
        """Say that nothing follows."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, most: int, *, wait: bool = True) -> list[tuple[int, Request]]:
        """Return up to ``most`` of the requests that wait, with their numbers, oldest first.

        Args:
            most: At least 1.
            wait: If there are none, wait for some: only for a model that has answered all it took. An empty list then
                means that the run is over. Without it an empty list means that there are none just now.
        """
        most = most if self._at_once is None else min(most, self._at_once)
        if wait and self._taken and not self._requests and self._on_idle is not None:
            self._on_idle()
        with self._changed:
            if wait:
                while not self._requests and not self._closed:
                    self._changed.wait()
                while len(self._requests) < most and not self._closed and self._changed.wait(_LINGER):
                    pass
            found = [self._requests.popleft() for _ in range(min(most, len(self._requests)))]
        self._taken.update(number for number, _ in found)
        return found

    def answered(self, numbers: Iterable[int]) -> None:
        """Note that requests need no answer any more; called in the thread that takes."""
        self._taken.difference_update(numbers)

    def taken(self) -> list[int]:
        """Return the numbers of requests that were taken and not answered; called in the thread that takes."""
        return sorted(self._taken)
