"""The line before a model: requests become rows, a window at a time, those of similar length side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pytest_trustllm.models._sampling import Draft, Row
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Request, Response

_WINDOW = 512


class Chat(Protocol):
    """What turns requests into token ids and token ids into responses."""

    def prepare(self, number: int, request: Request) -> Row | Response:
        """Return the row to compute, or why there is none."""
        ...

    def is_done(self, draft: Draft) -> bool:
        """Tell whether the last token ended the answer."""
        ...

    def respond(self, draft: Draft) -> Response:
        """Return the response of a finished answer."""
        ...


class Line:
    """Rows that wait for a place, window after window; in a window the longest answers, then prompts, come first.

    Args:
        waiting: Where requests come from.
        chat: What makes rows of them.

    Attributes:
        rows: Waiting, first come first; whoever computes some takes them off the front.
        chat: As given.
    """

    def __init__(self, waiting: Waiting, chat: Chat) -> None:
        self.rows: list[Row] = []
        self.chat = chat
        self._waiting = waiting
        self._refused: list[tuple[int, Response]] = []

    def fill(self, *, wait: bool) -> bool:
        """Take another window of requests.

        Returns:
            False if ``wait`` is set and there will be no more.
        """
        taken = self._waiting.take(_WINDOW, wait=wait)
        rows = []
        for number, request in taken:
            found = self.chat.prepare(number, request)
            if isinstance(found, Row):
                rows.append(found)
            else:
                self._refused.append((number, found))
        self.rows += sorted(rows, key=lambda row: (-row.room, -len(row.ids)))
        return bool(taken) or not wait

    def refused(self) -> Iterator[tuple[int, Response]]:
        """Yield the responses of requests that cannot be computed, each once."""
        while self._refused:
            yield self._refused.pop()

    def group(self, most: int) -> list[Row]:
        """Return up to ``most`` of the first rows, none longer than the first one or shorter than half of it."""
        width = len(self.rows[0].ids)
        found = self.rows[:1]
        for row in self.rows[1:most]:
            if not width // 2 <= len(row.ids) <= width:
                break
            found.append(row)
        return found
