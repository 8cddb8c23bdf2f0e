"""The guard's role: one question about a response becomes the prompts of the guard's template, and one verdict."""

from __future__ import annotations

import asyncio
import dataclasses

from pytest_trustllm.engine.engine import Accept, Engine
from pytest_trustllm.errors import one_line
from pytest_trustllm.models.guard.templates import GuardTemplate
from pytest_trustllm.types import Request, Response


class GuardEngine:
    """Asks a guard model in its own words.

    Args:
        engine: Of the model.
        template: Its words.
    """

    def __init__(self, engine: Engine, template: GuardTemplate) -> None:
        self._engine = engine
        self._template = template

    async def ask(self, request: Request, accept: Accept | None = None) -> Response:
        """Return the verdict on the last message of a request: ``safe``, or ``unsafe`` and a line of categories.

        Args:
            request: The conversation, with the response as its last message.
            accept: Not needed: what the template reads is stored.
        """
        questions = self._template.questions(request.messages)
        waits = []
        for _, messages in questions:
            asked = dataclasses.replace(request, messages=messages, generation=self._template.generation)
            waits.append(self._engine.ask(asked, self._reads))
        replies = await asyncio.gather(*waits)
        verdicts = []
        for reply in replies:
            verdict = self._template.read(reply)
            if verdict is None:
                return _unread(reply)
            verdicts.append(verdict)
        verdict = self._template.verdict([category for category, _ in questions], verdicts)
        return dataclasses.replace(_summed(replies), text=str(verdict))

    def _reads(self, reply: Response) -> bool:
        return self._template.read(reply) is not None


def _unread(reply: Response) -> Response:
    """Return a reply without a verdict as an error that shows it."""
    if reply.error is not None or reply.unanswered is not None:
        return reply
    shown = repr(one_line(reply.text, 60))
    why = f"replied {shown}, expected its verdict"
    if reply.finish == "length":
        why = f"its reply was cut before its end: {shown}"
    return dataclasses.replace(reply, text=None, error=why)


def _summed(replies: list[Response]) -> Response:
    """Return the first reply, with the tokens of all."""
    first = replies[0]
    return dataclasses.replace(
        first,
        input_tokens=_total([reply.input_tokens for reply in replies]),
        output_tokens=_total([reply.output_tokens for reply in replies]),
        cached=all(reply.cached for reply in replies),
        finish="stop",
    )


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
