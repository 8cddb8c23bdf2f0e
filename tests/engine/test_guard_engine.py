"""Why the guard's role has no verdict."""

from __future__ import annotations

import asyncio

from pytest_trustllm.engine.engine import Engine
from pytest_trustllm.engine.guard import GuardEngine
from pytest_trustllm.models.guard.templates import templates
from pytest_trustllm.models.python import CallableModel
from pytest_trustllm.types import Request, Response

TALK = (("user", "hi"), ("assistant", "yo"))


def verdict(reply: Response) -> Response:
    async def ask() -> Response:
        engine = Engine(CallableModel(lambda _: reply, "guard"), None)
        return await GuardEngine(engine, templates()["llama_guard"]).ask(Request(TALK))

    return asyncio.run(ask())


def test_a_reply_that_was_cut_says_so() -> None:
    found = verdict(Response(text="unsafe\nS1", finish="length"))
    assert (found.text, found.error) == (None, r"its reply was cut before its end: 'unsafe\\nS1'")
    found = verdict(Response(text="unsafe\nS1", finish="stop"))
    assert (found.text, found.error) == ("unsafe\nS1", None)


def test_a_reply_that_is_no_verdict_is_shown() -> None:
    assert verdict(Response(text="unsafe\nsafe")).error == r"replied 'unsafe\\nsafe', expected its verdict"
