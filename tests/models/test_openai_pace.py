"""The pace of an API on a real server: how many calls are in flight, and what holds them back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_openai_provider import completion, refusing, spec, user

from pytest_trustllm.engine.budget import Ledger, Limit
from pytest_trustllm.engine.engine import Engine
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.models.api.openai import PROVIDER
from pytest_trustllm.models.base import LoadSettings
from pytest_trustllm.types import Response

pytest.importorskip("openai")

Reply = tuple[int, dict[str, str], Any]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")


class Gauge:
    """Wraps a server's reply and counts what is in flight.

    Attributes:
        most: Calls in flight at most.
        arrivals: When each call came.
        answered: Prompt -> how often it was answered with 200.
    """

    def __init__(self, server: Any, reply: Callable[[str, int, int], Reply], seconds: float = 0.02) -> None:
        self.most = 0
        self.arrivals: list[float] = []
        self.answered: Counter[str] = Counter()
        self._flying = 0
        self._lock = threading.Lock()

        def measured(_path: str, body: Any, number: int) -> Reply:
            prompt = body["messages"][-1]["content"]
            with self._lock:
                self._flying += 1
                self.most = max(self.most, self._flying)
                self.arrivals.append(time.monotonic())
                flying = self._flying
            try:
                time.sleep(seconds)  # the server's latency
                found = reply(prompt, number, flying)
            finally:
                with self._lock:
                    self._flying -= 1
            if found[0] == 200:
                with self._lock:
                    self.answered[prompt] += 1
            return found

        server.reply(measured)


def good(prompt: str, *_: int) -> Reply:
    return 200, {}, completion(f"good {prompt}")


def ask(
    server: Any, count: int, shelf: Path | None = None, ledger: Ledger | None = None, **options: Any
) -> list[Response]:
    async def run() -> list[Response]:
        model = PROVIDER.load(spec(server.url, **options), LoadSettings())
        engine = Engine(model, Shelf(shelf, model.info) if shelf else None, ledger=ledger)
        try:
            return list(await asyncio.gather(*(engine.ask(user(str(i))) for i in range(count))))
        finally:
            await engine.close()

    return asyncio.run(run())


@pytest.mark.parametrize("most", [pytest.param(3, marks=pytest.mark.slow), 24])
def test_calls_in_flight_grow_to_the_maximum_of_the_run_and_no_further(server: Any, most: int) -> None:
    gauge = Gauge(server, good)
    found = ask(server, 400, max_concurrency=most)
    assert [r.text for r in found] == [f"good {i}" for i in range(400)]
    assert min(most, 9) <= gauge.most <= most
    assert gauge.answered == Counter({str(i): 1 for i in range(400)})


def test_a_server_that_bears_few_calls_is_asked_by_few_and_nothing_is_lost_or_asked_twice(
    server: Any, tmp_path: Path
) -> None:
    def reply(prompt: str, _: int, flying: int) -> Reply:
        return (429, {"Retry-After": "0"}, {}) if flying > 6 else good(prompt)

    gauge = Gauge(server, reply)
    found = ask(server, 300, tmp_path, max_concurrency=200, retry_delay=0.05)
    answered = [i for i, r in enumerate(found) if r.error is None]
    assert len(answered) >= 290  # one may meet a full server five times in a row
    assert all(count == 1 for count in gauge.answered.values())
    assert len(gauge.answered) == len(answered)
    assert gauge.most < 100
    refused = len(gauge.arrivals) - len(answered)
    assert refused < len(answered)
    again = ask(server, 300, tmp_path, max_concurrency=4)
    assert all(r.error is None for r in again)
    assert sum(gauge.answered.values()) == 300


def test_retry_after_leaves_a_gap_for_all(server: Any) -> None:
    refused = threading.Event()

    def reply(prompt: str, number: int, _: int) -> Reply:
        if number == 20 and not refused.is_set():
            refused.set()
            return 429, {"Retry-After": "1.5"}, {}
        return good(prompt)

    gauge = Gauge(server, reply)
    found = ask(server, 60, max_concurrency=4)
    assert all(r.error is None for r in found)
    arrivals = sorted(gauge.arrivals)
    gaps = [b - a for a, b in pairwise(arrivals)]
    assert max(gaps) >= 1.3


def test_requests_per_minute_are_spread_over_it(server: Any) -> None:
    gauge = Gauge(server, good, seconds=0.0)
    found = ask(server, 250, requests_per_minute=6000)
    assert all(r.error is None for r in found)
    arrivals = sorted(gauge.arrivals)
    assert arrivals[-1] - arrivals[0] >= 1.0  # a hundred at once, the others in a second and a half


def test_the_deadline_counts_over_all_tries(server: Any) -> None:
    server.reply(lambda *_: refusing(503, "down"))
    (found,) = ask(server, 1, retry_delay=0.2, deadline=0.5)
    assert found.error is not None
    assert found.error.startswith("HTTP 503 from 127.0.0.1: down (")
    assert found.error.endswith("deadline of 0.5 s)")
    assert 1 <= len(server.seen) < 5


def test_a_spent_budget_ends_what_waits_for_a_place(server: Any) -> None:
    gauge = Gauge(server, good)
    ledger = Ledger([Limit("tokens", 100, "100 tokens")])
    found = ask(server, 200, ledger=ledger, max_concurrency=2, requests_per_minute=6000)
    answered = [r for r in found if r.error is None]
    assert len(answered) == sum(gauge.answered.values())
    assert 10 <= len(answered) <= 11  # ten tokens each; one more may be in flight
    assert {r.error for r in found if r.cut} == {"budget: 100 tokens reached"}
    assert len(answered) + sum(r.cut for r in found) == 200


def test_tokens_of_an_embedding_call_are_shared_out(server: Any) -> None:
    from test_openai_provider import vectors

    server.reply(lambda _p, body, _n: (200, {}, vectors(body["input"], True)))

    async def run() -> list[Response]:
        model = PROVIDER.load(spec(server.url, "embedder"), LoadSettings())
        found = await asyncio.gather(*(model.answer(user(text)) for text in ("x", "yyyy", "zz")))
        await model.close()
        return list(found)

    assert [r.input_tokens for r in asyncio.run(run())] == [0, 3, 2]
