from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from virtual_time import run

from pytest_trustllm.models.api.admission import Admission, Halted
from pytest_trustllm.models.api.pacing import START, Pace
from pytest_trustllm.models.api.retrying import RequestFailure, Retrying
from pytest_trustllm.types import Response

Answer = Callable[["Server"], Response]


@dataclass
class Server:
    """Takes calls, sleeps and answers, all in virtual time.

    Attributes:
        pace: What lets the calls in.
        seconds: How long an answer takes when ``flying`` calls are in flight.
        answer: Returns a response, or raises a failure.
        starts: When each call came.
        most: Calls in flight at most.
    """

    pace: Pace
    seconds: Callable[[int], float] = lambda flying: 1.0
    answer: Answer = lambda server: Response(text="ok")
    starts: list[float] = field(default_factory=list)
    flying: int = 0
    most: int = 0

    async def call(self, _: Pace) -> Response:
        loop = asyncio.get_running_loop()
        self.starts.append(loop.time())
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(self.seconds(self.flying))
            return self.answer(self)
        finally:
            self.flying -= 1

    def ask(self, count: int, tokens: int = 0, **retrying: float) -> list[Response]:
        """Ask many times at once and return the responses."""

        async def work() -> list[Response]:
            ask = Retrying(Admission(self.pace), **{"delay": 0.5, **retrying})  # type: ignore[arg-type]
            return list(await asyncio.gather(*(ask(self.call, tokens) for _ in range(count))))

        found: list[Response] = run(work())
        return found


def test_calls_in_flight_grow_while_answers_take_no_longer_and_stop_at_the_maximum() -> None:
    server = Server(Pace(50))
    assert [r.text for r in server.ask(1000)] == ["ok"] * 1000
    assert server.starts.count(0.0) == START
    assert server.most == 50
    assert len(server.starts) == 1000


@pytest.mark.parametrize("most", [1, 3])
def test_a_small_maximum_holds_from_the_start(most: int) -> None:
    server = Server(Pace(most))
    server.ask(40)
    assert server.most == most


def test_they_stop_growing_when_answers_take_markedly_longer() -> None:
    server = Server(Pace(1000), seconds=lambda flying: max(1.0, flying / 20))  # it computes 20 at a time
    server.ask(3000)
    assert 20 <= server.most <= 100  # of the thousand that were allowed


def test_long_answers_are_not_mistaken_for_a_slow_server() -> None:
    lengths: dict[object, int] = {}

    def seconds(_: int) -> float:
        lengths[asyncio.current_task()] = length = 4 if len(server.starts) <= 20 else 400
        return length / 10

    server = Server(Pace(200), seconds, lambda _: Response(text="ok", output_tokens=lengths[asyncio.current_task()]))
    server.ask(3000)
    assert server.most == 200


def test_too_many_requests_halve_once_a_round_and_nothing_is_lost_or_asked_twice() -> None:
    answered = 0

    def answer(server: Server) -> Response:
        nonlocal answered
        if server.flying > 30:
            raise RequestFailure("HTTP 429", again=True, strain="refused")
        answered += 1
        return Response(text="ok")

    server = Server(Pace(512), answer=answer)
    found = server.ask(2000, tries=50)
    assert [r.text for r in found] == ["ok"] * 2000
    assert answered == 2000
    assert len(server.starts) < 2.0 * 2000  # the server's 30 are found: refusals are the exception


def test_a_round_of_refusals_is_one_halving() -> None:
    def answer(server: Server) -> Response:
        if len(server.starts) <= 8:
            raise RequestFailure("HTTP 429", again=True, strain="refused")
        return Response(text="ok")

    pace = Pace(64)
    windows: list[int] = []
    server = Server(pace, answer=answer)
    server.seconds = lambda _: windows.append(pace.window) or 1.0  # type: ignore[func-returns-value]
    server.ask(8)
    assert windows[:8] == [START] * 8
    assert windows[8] == START // 2


def test_a_pause_that_the_server_asked_for_holds_all_calls() -> None:
    def answer(server: Server) -> Response:
        if len(server.starts) == 8:
            raise RequestFailure("HTTP 429", again=True, pause=30, strain="refused")
        return Response(text="ok")

    server = Server(Pace(8), answer=answer)
    server.seconds = lambda _: 1.0 + len(server.starts) / 100
    found = server.ask(40)
    assert [r.text for r in found] == ["ok"] * 40
    pauses = [b - a for a, b in zip(server.starts, server.starts[1:], strict=False)]
    assert max(pauses) >= 29
    first = next(at for at, pause in enumerate(pauses) if pause > 20)
    assert server.starts[first] < 2.5  # nothing began in the meantime


def test_a_pause_holds_even_if_nothing_else_is_in_flight() -> None:
    def answer(server: Server) -> Response:
        if len(server.starts) == 1:
            raise RequestFailure("HTTP 429", again=True, pause=30, strain="refused")
        return Response(text="ok")

    server = Server(Pace(1), answer=answer)
    server.ask(3)
    assert server.starts[1] >= 31


def test_a_broken_server_is_left_alone_for_longer_and_longer() -> None:
    up = 60.0

    def answer(_: Server) -> Response:
        if asyncio.get_running_loop().time() < up:
            raise RequestFailure("HTTP 503", again=True, strain="troubled")
        return Response(text="ok")

    server = Server(Pace(8), answer=answer, seconds=lambda _: 0.01)
    found = server.ask(100, tries=40)
    assert [r.text for r in found] == ["ok"] * 100
    assert sum(start < up for start in server.starts) < 8 * 20
    assert max(server.starts) < up + 70


def test_a_server_counts_as_gone_after_many_requests_without_any_answer() -> None:
    def answer(server: Server) -> Response:
        if 70 <= len(server.starts) < 80:
            return Response(text="ok")
        raise RequestFailure("HTTP 503", again=True, strain="troubled")

    found = Server(Pace(4), answer=answer).ask(60)
    gone = "HTTP 503 (after 5 tries, like 15 requests before it)"
    assert {r.error for r in found if r.fatal} == {gone}
    assert [r.error for r in found if r.error and not r.fatal] == ["HTTP 503 (after 5 tries)"] * 15


def test_one_bad_prompt_does_not_hold_up_the_others() -> None:
    pace = Pace(8, delay=20.0)

    async def good(_: Pace) -> Response:
        await asyncio.sleep(0.1)
        return Response(text="ok")

    async def bad(_: Pace) -> Response:
        await asyncio.sleep(0.1)
        raise RequestFailure("HTTP 500", again=True, strain="troubled")

    async def work() -> float:
        ask = Retrying(Admission(pace), delay=20.0)
        sick = asyncio.ensure_future(ask(bad))
        await asyncio.gather(*(ask(good) for _ in range(80)))
        sick.cancel()
        return asyncio.get_running_loop().time()

    assert run(work()) < 5


@pytest.mark.parametrize(("limit", "count"), [(60, 150), (6, 13), (600, 1500)])
def test_requests_per_minute_hold_in_every_minute(limit: int, count: int) -> None:
    server = Server(Pace(100, requests_per_minute=limit), seconds=lambda _: 0.2)
    server.ask(count)
    burst = max(1, limit / 60)
    assert len(server.starts) == count
    assert all(sum(start <= s < start + 60 for s in server.starts) <= limit + burst for start in server.starts)
    assert max(server.starts) <= 60 * count / limit  # and it is used


def test_retries_count_as_requests() -> None:
    def answer(server: Server) -> Response:
        if len(server.starts) % 2:
            raise RequestFailure("HTTP 409", again=True)
        return Response(text="ok")

    server = Server(Pace(100, requests_per_minute=60), answer=answer, seconds=lambda _: 0.01)
    server.ask(60, tries=1000)
    assert all(sum(start <= s < start + 60 for s in server.starts) <= 61 for start in server.starts)


def test_tokens_per_minute_count_what_the_server_told() -> None:
    told = Response(text="ok", input_tokens=60, output_tokens=40)
    server = Server(Pace(100, tokens_per_minute=6000), answer=lambda _: told)
    server.ask(300, tokens=400)  # four times too many were expected
    assert all(100 * sum(start <= s < start + 60 for s in server.starts) <= 6000 + 400 for start in server.starts)
    assert 240 < max(server.starts) <= 300


def test_the_deadline_ends_a_request_between_tries_and_within_one() -> None:
    def answer(_: Server) -> Response:
        raise RequestFailure("HTTP 503", again=True)

    # pauses of 10 to 20, 20 to 40 and 40 to 80 s, whatever the jitter: the third try ends by 63 s, no fourth before 70
    (found,) = Server(Pace(8), answer=answer).ask(1, delay=20.0, deadline=70.0)
    assert found.error == "HTTP 503 (after 3 tries, deadline of 70 s)"
    (found,) = Server(Pace(8), seconds=lambda _: 1000.0).ask(1, deadline=60.0)
    assert found.error == "no answer (deadline of 60 s)"


def test_waiting_for_a_place_does_not_use_up_the_deadline() -> None:
    server = Server(Pace(1, requests_per_minute=1))
    found = server.ask(5, deadline=30.0)
    assert [r.text for r in found] == ["ok"] * 5


def test_who_gives_up_waiting_takes_no_place_along() -> None:
    async def work() -> None:
        admission = Admission(Pace(1))
        pace = await admission.enter(0)
        waiting = asyncio.ensure_future(admission.enter(0))
        await asyncio.sleep(0)
        admission.leave(pace, 0, None)  # lets the other in ...
        waiting.cancel()  # ... which is gone
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(admission.enter(0), 1)

    run(work())


def test_a_halt_refuses_who_waits_and_who_comes_and_lets_the_others_end() -> None:
    async def work() -> list[object]:
        admission, spent = Admission(Pace(2, requests_per_minute=1)), []
        admission.halt_when(lambda: "budget" if spent else None)

        async def call(_: Pace) -> Response:
            await asyncio.sleep(5)
            spent.append(1)
            return Response(text="ok")

        ask = Retrying(admission)
        found = await asyncio.gather(*(ask(call) for _ in range(4)), return_exceptions=True)
        with pytest.raises(Halted, match="budget"):
            await ask(call)
        assert asyncio.get_running_loop().time() < 10  # nobody waited for the next minute
        return found

    first, *others = run(work())
    assert first == Response(text="ok")
    assert [str(e) for e in others] == ["budget"] * 3
