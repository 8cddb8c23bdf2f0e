"""The engine and a batch model: requests join, and whatever the model does every request gets a response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_trustllm.engine.engine import Engine
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Request, Response

Generate = Callable[[RequestQueue], Iterator[tuple[int, Response]]]


class Model:
    def __init__(self, generate: Generate) -> None:
        self.info = {"provider": "test", "id": "test"}
        self.stored = False
        self.generate = generate


def ask(generate: Generate, *rounds: int) -> list[list[Response]]:
    """Ask crowds of requests one after the other."""

    async def run() -> list[list[Response]]:
        engine = Engine(Model(generate), None)
        try:
            return [
                await asyncio.gather(*(engine.ask(Request((("user", f"{i}-{n}"),))) for n in range(count)))
                for i, count in enumerate(rounds)
            ]
        finally:
            await engine.close()

    return asyncio.run(asyncio.wait_for(run(), 60))


def echo(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
    while taken := waiting.take(4):
        for number, request in taken:
            yield number, Response(text=request.text)


def test_every_request_gets_its_own_answer() -> None:
    found = ask(echo, 11, 3)
    assert [r.text for r in found[0]] == [f"0-{n}" for n in range(11)]
    assert [r.text for r in found[1]] == ["1-0", "1-1", "1-2"]


def test_batches_are_full() -> None:
    sizes = []

    def model(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        while taken := waiting.take(16):
            sizes.append(len(taken))
            for number, _ in taken:
                yield number, Response(text="")

    ask(model, 160)
    assert sizes == [16] * 10


def test_a_request_joins_while_another_is_computed() -> None:
    """The first answer is held back until a request that was sent after it has been answered."""

    async def run() -> list[str | None]:
        joined = asyncio.Event()
        loop = asyncio.get_running_loop()

        def model(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
            ((first, request),) = waiting.take(1)
            loop.call_soon_threadsafe(joined.set)
            later: list[tuple[int, Request]] = []
            while not later:
                later = waiting.take(1, wait=False)
            yield later[0][0], Response(text=later[0][1].text)
            yield first, Response(text=request.text)
            assert waiting.take(1) == []

        engine, order = Engine(Model(model), None), []

        async def send(text: str) -> None:
            order.append((await engine.ask(Request((("user", text),)))).text)

        first = asyncio.ensure_future(send("first"))
        await joined.wait()
        await asyncio.gather(send("second"), first)
        await engine.close()
        return order

    assert asyncio.run(asyncio.wait_for(run(), 60)) == ["second", "first"]


def test_a_forgotten_request_is_told_so() -> None:
    def model(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        while taken := waiting.take(8):
            for number, _ in taken[1:]:
                yield number, Response(text="")

    (found,) = ask(model, 8)
    assert (found[0].error, found[0].raised, found[0].fatal) == ("the model returned no answer", True, False)
    assert [r.text for r in found[1:]] == [""] * 7


def test_answers_that_nobody_asked_for_are_dropped() -> None:
    def model(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        while taken := waiting.take(4):
            for number, request in taken:
                yield number, Response(text=request.text)
                yield number, Response(text="twice")
                yield -number, Response(text="never asked")

    found = ask(model, 9, 2)
    assert [r.text for r in found[0] + found[1]] == [*(f"0-{n}" for n in range(9)), "1-0", "1-1"]


@pytest.mark.parametrize(
    ("raised", "error", "ours"),
    [
        (ModelError("the disk is gone"), "the disk is gone", True),
        (KeyError("x"), "KeyError: 'x'", False),
        (SystemExit(3), "SystemExit: 3", False),
    ],
)
def test_what_the_model_raises_answers_all_that_wait_and_follow(raised: BaseException, error: str, ours: bool) -> None:
    def model(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        (number, _), *_ = waiting.take(3)
        yield number, Response(text="good")
        raise raised

    found = ask(model, 9, 2)
    assert found[0][0].text == "good"
    assert {(r.error, r.fatal, r.raised) for r in [*found[0][1:], *found[1]]} == {(error, True, not ours)}


def test_a_model_that_stops_early_leaves_nobody_waiting() -> None:
    def model(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        for number, _ in waiting.take(2):
            yield number, Response(text="good")

    found = ask(model, 5, 1)
    assert [r.text for r in found[0]][:2] == ["good", "good"]
    assert {r.error for r in [*found[0][2:], *found[1]]} == {"the model stopped before the run was over"}


def test_near_ties_are_counted() -> None:
    def model(waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        while taken := waiting.take(8):
            for number, _ in taken:
                yield number, Response(text="", near_tie=True if number % 2 else None)

    async def run() -> Any:
        engine = Engine(Model(model), None)
        await asyncio.gather(*(engine.ask(Request((("user", str(n)),))) for n in range(6)))
        await engine.close()
        return engine.usage.near_ties

    assert asyncio.run(run()) == 3
