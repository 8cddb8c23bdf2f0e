"""Several servers of one model: who gets how much of the work, and what becomes of the work of those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from virtual_time import run

from pytest_trustllm.models.api.admission import Admission
from pytest_trustllm.models.api.pacing import Pace
from pytest_trustllm.models.api.retrying import RequestFailure, Retrying
from pytest_trustllm.types import Response

Answer = Callable[[float], Response]


class Servers:
    """Servers that answer in virtual time.

    Args:
        seconds: How long an answer of each takes.
        answers: Returns the response of each at a time, or raises a failure; a server without one answers 'ok'.

    Attributes:
        starts: (number of the server, time) of every call.
        ended: When the last request ended.
    """

    def __init__(self, *seconds: float, answers: dict[int, Answer] | None = None, most: int = 8) -> None:
        self._seconds = seconds
        self._answers = answers or {}
        self._most = most
        self.starts: list[tuple[int, float]] = []
        self.ended = 0.0

    def calls(self, server: int) -> int:
        return sum(number == server for number, _ in self.starts)

    def ask(self, count: int, tokens: int = 0) -> list[Response]:
        """Ask many times at once and return the responses."""

        async def work() -> list[Response]:
            loop = asyncio.get_running_loop()
            paces = [Pace(self._most) for _ in self._seconds]

            async def call(pace: Pace) -> Response:
                number = paces.index(pace)
                self.starts.append((number, loop.time()))
                await asyncio.sleep(self._seconds[number])
                return self._answers.get(number, lambda _: Response(text="ok"))(loop.time())

            ask = Retrying(Admission(*paces))
            responses = list(await asyncio.gather(*(ask(call, tokens) for _ in range(count))))
            self.ended = loop.time()
            return responses

        found: list[Response] = run(work())
        return found


def failing(until: float = float("inf"), since: float = 0.0, **failure: object) -> Answer:
    def answer(now: float) -> Response:
        if since <= now < until:
            raise RequestFailure("fails", **failure)  # type: ignore[arg-type]
        return Response(text="ok")

    return answer


BROKEN = {"again": True, "strain": "troubled"}


@pytest.mark.parametrize("tokens", [0, 300])
def test_equal_servers_share_the_work_and_take_half_the_time(tokens: int) -> None:
    alone = Servers(1.0)
    alone.ask(800, tokens)
    pair = Servers(1.0, 1.0)
    assert {r.text for r in pair.ask(800, tokens)} == {"ok"}
    assert abs(pair.calls(0) - pair.calls(1)) <= 8
    assert pair.ended == pytest.approx(alone.ended / 2, abs=1.0)


def test_a_faster_server_gets_more() -> None:
    servers = Servers(1.0, 0.25)
    servers.ask(1000)
    assert servers.calls(1) == pytest.approx(4 * servers.calls(0), rel=0.1)


@pytest.mark.parametrize(
    "failure",
    [BROKEN, {"fatal": True}, {"denied": True}, {"again": True, "denied": True}, {"again": True, "pause": 3600.0}],
    ids=["broken", "fatal", "denied", "no such model", "a daily limit"],
)
def test_what_one_server_refuses_the_others_answer(failure: dict[str, object]) -> None:
    servers = Servers(0.01, 1.0, 1.0, answers={0: failing(**failure)})
    assert {r.text for r in servers.ask(500)} == {"ok"}
    assert servers.calls(0) <= 8 + servers.ended  # all at once, then one by one
    assert servers.ended <= 500 / 16 + 3


def test_a_server_that_refuses_too_many_calls_costs_nobody_a_pause() -> None:
    servers = Servers(1.0, 1.0, answers={0: failing(until=20.0, again=True, strain="refused", pause=15.0)})
    assert {r.text for r in servers.ask(400)} == {"ok"}
    assert servers.ended < 400 / 8 + 2


def test_a_server_that_asks_to_wait_for_an_hour_gets_that_hour() -> None:
    servers = Servers(0.01, 1.0, answers={0: failing(again=True, pause=3600.0)})
    assert {r.text for r in servers.ask(500)} == {"ok"}
    assert servers.calls(0) <= 8


def test_a_server_that_comes_back_gets_work_again() -> None:
    servers = Servers(1.0, 1.0, answers={0: failing(since=10.0, until=30.0, **BROKEN)})
    assert {r.text for r in servers.ask(1000)} == {"ok"}
    starts = [at for number, at in servers.starts if number == 0]
    assert sum(10 <= at < 30 for at in starts) <= 16 + 8
    assert sum(at >= 30 for at in starts) > 100


def test_a_server_that_hangs_keeps_only_the_calls_it_got() -> None:
    hanging = Servers(120.0, 1.0, answers={0: failing(**BROKEN)})
    assert {r.text for r in hanging.ask(2000)} == {"ok"}
    assert hanging.calls(0) <= 8 + 3


@pytest.mark.parametrize("failure", [{"fatal": True}, {"denied": True}], ids=["fatal", "denied"])
def test_what_all_servers_refuse_everybody_ends_the_run_after_a_few_calls(failure: dict[str, object]) -> None:
    servers = Servers(1.0, 1.0, answers={0: failing(**failure), 1: failing(**failure)})
    found = servers.ask(500)
    assert {r.error and r.error.partition(" (")[0] for r in found} == {"fails"}
    assert found[-1].fatal
    assert len(servers.starts) <= 40


def test_servers_that_are_all_gone_end_the_run() -> None:
    servers = Servers(0.1, 0.1, answers={0: failing(**BROKEN), 1: failing(**BROKEN)})
    found = servers.ask(200)
    assert found[-1].fatal
    assert found[-1].error == "fails (after 5 tries, like 15 requests before it)"
