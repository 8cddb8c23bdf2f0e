"""The queue before a model: requests become prompts, a window at a time, with those of similar length together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pytest_trustllm.models.local.sampling import Draft, PreparedPrompt
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Request, Response

_WINDOW = 512
"""Requests that are tokenized and sorted together: enough to find equals, few enough for a first answer soon."""


class ChatCodec(Protocol):
    """Turns requests into token ids, and token ids into responses."""

    def prepare(self, number: int, request: Request) -> PreparedPrompt | Response:
        """Return the prompt to compute, or a response that says why there is none."""
        ...

    def is_done(self, draft: Draft) -> bool:
        """Tell whether the last token ended the answer."""
        ...

    def respond(self, draft: Draft) -> Response:
        """Return the response of a finished answer."""
        ...


class PromptQueue:
    """Prompts that wait to be computed, window after window.

    Within a window, prompts with the longest allowed answers come first, so that no long answer is left to run
    alone at the end; among equals the longest prompts come first, so that neighbours need little padding.

    Args:
        waiting: Where requests come from.
        codec: Turns them into prompts.

    Attributes:
        prompts: Those that wait, first come first; whoever computes some removes them from the front.
        codec: As given.
    """

    def __init__(self, waiting: RequestQueue, codec: ChatCodec) -> None:
        self.prompts: list[PreparedPrompt] = []
        self.codec = codec
        self._waiting = waiting
        self._refused: list[tuple[int, Response]] = []

    def fill(self, *, wait: bool) -> bool:
        """Take another window of requests.

        Args:
            wait: Whether to block until there is a request or the run is over.

        Returns:
            False if ``wait`` is set and no requests will follow.
        """
        requests = self._waiting.take(_WINDOW, wait=wait)
        window = []
        for number, request in requests:
            prepared = self.codec.prepare(number, request)
            if isinstance(prepared, PreparedPrompt):
                window.append(prepared)
            else:
                self._refused.append((number, prepared))
        window.sort(key=lambda prompt: (-prompt.room, -len(prompt.ids)))
        self.prompts += window
        return bool(requests) or not wait

    def refused(self) -> Iterator[tuple[int, Response]]:
        """Yield the responses of requests that cannot be computed, each once."""
        while self._refused:
            yield self._refused.pop()

    def group(self, most: int) -> list[PreparedPrompt]:
        """Return up to ``most`` of the first prompts, without removing them.

        None is longer than the first one, which sets the width of the group, or shorter than half of it: padding
        takes at most half of the computation.
        """
        width = len(self.prompts[0].ids)
        group = self.prompts[:1]
        for prompt in self.prompts[1:most]:
            if not width // 2 <= len(prompt.ids) <= width:
                break
            group.append(prompt)
        return group
