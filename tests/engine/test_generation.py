"""Every request's way: store first, duplicates once, then the model; and what a dead model costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pytest_trustllm.engine.engine import Engine, loaded
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.errors import GenerationError, ModelError
from pytest_trustllm.models.generation_settings import GenerationOverrides
from pytest_trustllm.types import BLOCKED, Generation, Request, Response

T = TypeVar("T")
INFO = {"provider": "scripted", "id": "scripted"}


class Counting:
    """Answers each request with its text and how often it was asked; can be held and told to fail."""

    stored = True

    def __init__(self, max_concurrency: int = 100) -> None:
        self.info: Mapping[str, Any] = INFO
        self.max_concurrency = max_concurrency
        self.asked: list[str] = []
        self.under_way = self.most = 0
        self.gate: asyncio.Event | None = None
        self.fails: Callable[[Request], Response | Exception | None] = lambda r: None

    async def answer(self, request: Request) -> Response:
        self.asked.append(request.text)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
            failure = self.fails(request)
        finally:
            self.under_way -= 1
        if isinstance(failure, Exception):
            raise failure
        return failure or Response(text=f"{request.text} {self.asked.count(request.text)}", output_tokens=2)

    async def close(self) -> None:
        pass


def ask(text: str, **more: Any) -> Request:
    return Request((("user", text),), **more)


def go(work: Callable[[], Awaitable[T]]) -> T:
    async def inside() -> T:
        return await work()

    return asyncio.run(inside())


def engine(model: Counting, where: Path | None, **flags: bool) -> Engine:
    return Engine(model, Shelf(where, model.info) if where is not None else None, **flags)


async def texts(engine: Engine, *requests: Request) -> list[str | None]:
    return [r.text for r in await asyncio.gather(*map(engine.ask, requests))]


def test_what_is_stored_is_not_asked(tmp_path: Path) -> None:
    first, second = Counting(), Counting()

    async def work() -> None:
        one = engine(first, tmp_path)
        assert await texts(one, ask("a"), ask("b")) == ["a 1", "b 1"]
        assert (await one.ask(ask("a"))).cached
        await one.close()
        two = engine(second, tmp_path)
        assert await texts(two, ask("b"), ask("c")) == ["b 1", "c 1"]
        assert (two.usage.requests, two.usage.cached, two.usage.output_tokens) == (1, 1, 2)

    go(work)
    assert first.asked == ["a", "b"]
    assert second.asked == ["c"]


def test_equal_requests_under_way_are_asked_once(tmp_path: Path) -> None:
    model = Counting()

    async def work() -> None:
        model.gate = asyncio.Event()
        one = engine(model, tmp_path)
        waiting = [asyncio.ensure_future(one.ask(ask(t))) for t in ("a", "a", "b", "a")]
        while len(model.asked) < 2:
            await asyncio.sleep(0)
        model.gate.set()
        found = await asyncio.gather(*waiting)
        assert [r.text for r in found] == ["a 1", "a 1", "b 1", "a 1"]
        assert [r.cached for r in found] == [False, True, False, True]
        assert (one.usage.requests, one.usage.cached) == (2, 2)

    go(work)
    assert sorted(model.asked) == ["a", "b"]


def test_those_who_wait_for_an_equal_request_get_its_failure_and_the_next_one_asks_again(tmp_path: Path) -> None:
    model = Counting()
    model.fails = lambda r: Response(error="HTTP 500")

    async def work() -> None:
        one = engine(model, tmp_path)
        found = await asyncio.gather(one.ask(ask("a")), one.ask(ask("a")))
        assert [r.error for r in found] == ["HTTP 500"] * 2
        model.fails = lambda r: None
        assert (await one.ask(ask("a"))).text == "a 2"
        assert (one.usage.requests, one.usage.failed) == (2, 1)

    go(work)


def test_a_waiter_that_gives_up_takes_nobody_along(tmp_path: Path) -> None:
    model = Counting()

    async def work() -> None:
        model.gate = asyncio.Event()
        one = engine(model, tmp_path)
        first = asyncio.ensure_future(one.ask(ask("a")))
        second = asyncio.ensure_future(one.ask(ask("a")))
        third = asyncio.ensure_future(one.ask(ask("a")))
        while not model.asked:
            await asyncio.sleep(0)
        second.cancel()
        model.gate.set()
        assert [(await first).text, (await third).text] == ["a 1", "a 1"]

    go(work)


def test_sampled_answers_are_told_apart_by_their_seed(tmp_path: Path) -> None:
    model = Counting()
    sampled = Generation(temperature=1.0)

    async def work() -> None:
        one = engine(model, tmp_path)
        await texts(one, *(ask("a", generation=sampled, seed=seed) for seed in (1, 2, 1)))
        assert one.usage.requests == 2

    go(work)


def test_without_a_store_equal_requests_are_asked_again() -> None:
    model = Counting()

    async def work() -> None:
        assert sorted(map(str, await texts(engine(model, None), ask("a"), ask("a")))) == ["a 2", "a 2"]

    go(work)
    assert model.asked == ["a", "a"]


@pytest.mark.parametrize("failure", [Response(error="HTTP 500"), Response(error="x", raised=True), ValueError("bug")])
def test_what_failed_is_not_stored(failure: Any, tmp_path: Path) -> None:
    model = Counting()
    model.fails = lambda r: failure

    async def work() -> None:
        one = engine(model, tmp_path)
        assert (await one.ask(ask("a"))).error is not None
        await one.close()
        model.fails = lambda r: None
        two = engine(model, tmp_path)
        assert await texts(two, ask("a")) == ["a 2"]

    go(work)


def test_what_the_asker_refuses_is_not_stored(tmp_path: Path) -> None:
    model = Counting()

    async def work() -> None:
        one = engine(model, tmp_path)
        assert (await one.ask(ask("a"), lambda r: False)).text == "a 1"
        assert (await one.ask(ask("a"), lambda r: r.text == "a 2")).text == "a 2"
        assert (await one.ask(ask("a"), lambda r: False)).text == "a 2"  # stored, since the second asker took it

    go(work)
    assert model.asked == ["a", "a"]


def test_a_fresh_request_is_asked_again_and_its_answer_takes_the_place(tmp_path: Path) -> None:
    model = Counting()

    async def work() -> None:
        one = engine(model, tmp_path)
        assert await texts(one, ask("a")) == ["a 1"]
        assert await texts(one, ask("a", fresh=True)) == ["a 2"]
        assert await texts(one, ask("a")) == ["a 2"]

    go(work)


def test_a_fresh_run_asks_again_once_and_stores_the_answer(tmp_path: Path) -> None:
    model = Counting()

    async def work() -> None:
        await texts(engine(model, tmp_path), ask("a"))
        fresh = engine(model, tmp_path, fresh=True)
        assert await texts(fresh, ask("a"), ask("a")) == ["a 2", "a 2"]
        await fresh.close()
        assert await texts(engine(model, tmp_path), ask("a")) == ["a 2"]

    go(work)


def test_offline_nothing_is_asked(tmp_path: Path) -> None:
    model = Counting()

    async def work() -> None:
        await texts(engine(model, tmp_path), ask("a"))
        offline = engine(model, tmp_path, offline=True)
        assert await texts(offline, ask("a")) == ["a 1"]
        missing = await offline.ask(ask("b"))
        assert (missing.error, missing.raised) == ("no stored response, and --trust-offline forbids requests", True)
        assert (await offline.ask(ask("a", fresh=True))).error == missing.error
        assert offline.usage.requests == 0

    go(work)
    assert model.asked == ["a"]


def test_a_model_that_keeps_nothing_is_asked_offline_too() -> None:
    model = Counting()

    async def work() -> None:  # a replay's answers are a file: nothing leaves the machine
        assert await texts(engine(model, None, offline=True), ask("a")) == ["a 1"]

    go(work)


@pytest.mark.parametrize(
    "failure", [Response(error="HTTP 401", fatal=True), ModelError("HTTP 401"), GenerationError("HTTP 401")]
)
def test_after_a_fatal_answer_nothing_more_is_sent(failure: Any, tmp_path: Path) -> None:
    model = Counting(max_concurrency=1)
    model.fails = lambda r: failure if r.text == "b" else None

    async def work() -> None:
        one = engine(model, tmp_path)
        assert await texts(one, ask("a")) == ["a 1"]
        found = await asyncio.gather(*(one.ask(ask(t)) for t in "bcd"))
        assert [(r.error, r.fatal) for r in found] == [("HTTP 401", True)] * 3
        assert one.dead is not None
        assert await texts(one, ask("a")) == ["a 1"]  # what is stored can still be had
        assert (await one.ask(ask("e"))).fatal

    go(work)
    assert model.asked == ["a", "b"]


def test_a_models_own_bug_costs_one_request_and_is_named(tmp_path: Path) -> None:
    model = Counting()
    model.fails = lambda r: KeyError("oops\n") if r.text == "a" else None

    async def work() -> None:
        one = engine(model, tmp_path)
        found = await one.ask(ask("a"))
        assert (found.error, found.raised, found.fatal) == ("KeyError: 'oops\\n'", True, False)
        assert await texts(one, ask("b")) == ["b 1"]

    go(work)


def test_an_answer_of_another_type_is_the_models_bug() -> None:
    model = Counting()
    model.fails = lambda r: "text"  # type: ignore[assignment,return-value]

    async def work() -> None:
        found = await engine(model, None).ask(ask("a"))
        assert (found.error, found.raised) == ("the model returned str, expected Response", True)

    go(work)


class Odd:
    """No number of Python's, like those of numpy."""

    def __repr__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("response", "error", "raised"),
    [
        (Response(text=Odd()), "the model's response holds odd", True),  # type: ignore[arg-type]
        (Response(text="a", output_tokens=Odd()), "the model's response holds odd", True),  # type: ignore[arg-type]
        (Response(vector=(0.5, Odd())), "the model's response holds odd", True),  # type: ignore[arg-type]
        (Response(text="refusal", number=float("nan")), "the model returned a number that is not finite", False),
        (Response(vector=(0.5, float("inf"))), "the model returned a number that is not finite", False),
    ],
)
def test_what_cannot_be_scored_or_stored_is_no_answer(
    response: Response, error: str, raised: bool, tmp_path: Path
) -> None:
    model = Counting()
    model.fails = lambda r: response if r.text == "a" else None

    async def work() -> None:
        one = engine(model, tmp_path)
        found = await asyncio.gather(*(one.ask(ask(t)) for t in "aab"))
        assert [(r.text, r.error, r.raised) for r in found] == [(None, error, raised)] * 2 + [("b 1", None, False)]
        assert (one.usage.requests, one.usage.failed) == (2, 1)
        await one.close()
        assert len(Shelf(tmp_path, model.info)) == 1

    go(work)


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), pytest.fail.Exception("x")], ids=repr
)
def test_whatever_a_model_raises_is_an_answer(raised: BaseException) -> None:
    model = Counting()

    async def answer(request: Request) -> Response:
        raise raised

    model.answer = answer  # type: ignore[method-assign]

    async def work() -> None:
        found = await engine(model, None).ask(ask("a"))
        assert found.raised
        assert str(found.error).startswith(type(raised).__name__)

    go(work)


def test_no_more_requests_are_under_way_than_the_model_wants() -> None:
    model = Counting(max_concurrency=3)

    async def work() -> None:
        one = engine(model, None)
        await texts(one, *(ask(str(i)) for i in range(20)))
        assert one.usage.requests == 20

    go(work)
    assert model.most == 3


def test_a_store_that_is_full_uses_the_answer_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Counting()

    async def work() -> None:
        one = engine(model, tmp_path)

        def full(*_: Any) -> None:
            raise GenerationError("--trust-store: x cannot be written: No space left on device")

        monkeypatch.setattr(Shelf, "put", full)
        assert await texts(one, ask("a")) == ["a 1"]
        found = await one.ask(ask("b"))
        assert (found.fatal, found.error) == (True, "--trust-store: x cannot be written: No space left on device")

    go(work)
    assert model.asked == ["a"]


def test_the_thread_that_loads_a_model_ends_and_takes_its_pool_of_threads_along() -> None:
    """One that stays idle beside the model's own thread costs a third of a CPU's throughput (benchmarks/README.md)."""
    threads: list[threading.Thread] = []

    def load() -> Counting:
        threads.append(threading.current_thread())
        return Counting()

    async def run() -> bool:
        return isinstance(await loaded(load), Counting) and not threads[0].is_alive()

    assert go(run)
    assert threads[0] is not threading.main_thread()


def test_reasoning_is_stored_apart_and_counted_apart(tmp_path: Path) -> None:
    model = Counting()
    model.fails = lambda request: Response(text="<think>Hm.</think>Yes.", output_tokens=9, reasoning_tokens=4)

    async def work() -> None:
        one = engine(model, tmp_path)
        first = await one.ask(ask("a"))
        assert (first.reasoning, first.text) == ("Hm.", "Yes.")
        assert (one.usage.output_tokens, one.usage.reasoning_tokens) == (9, 4)
        again = await engine(model, tmp_path).ask(ask("a"))
        assert (again.reasoning, again.text, again.cached) == ("Hm.", "Yes.", True)

    go(work)


@pytest.mark.parametrize(
    "reply", [Response(text="<think>Hm", finish="length"), Response(unanswered=BLOCKED)], ids=["cut", "blocked"]
)
def test_a_reply_without_an_answer_is_asked_once_and_kept(tmp_path: Path, reply: Response) -> None:
    model = Counting()
    model.fails = lambda request: reply

    async def work() -> None:
        first = await engine(model, tmp_path).ask(ask("a"))
        again = await engine(model, tmp_path).ask(ask("a"))
        assert first.text is again.text is None
        assert first.unanswered == again.unanswered is not None
        assert (first.cached, again.cached) == (False, True)

    go(work)
    assert len(model.asked) == 1


def test_settings_of_the_models_file_keep_answers_apart(tmp_path: Path) -> None:
    model = Counting()
    tunings = [
        GenerationOverrides.of(options)
        for options in ({}, {"thinking_tokens": 9}, {"generation": {"max_new_tokens": 3}})
    ]
    tunings += [
        GenerationOverrides.of({"reasoning": "none"}),
        GenerationOverrides.of({"reasoning": {"start": "<a>", "end": "</a>"}}),
    ]

    async def work() -> None:
        for tuning in [*tunings, *tunings]:
            shelf = Shelf(tmp_path, tuning.described(model.info))
            await Engine(model, shelf, tuning=tuning).ask(ask("a"))

    go(work)
    assert len(model.asked) == len(tunings)
