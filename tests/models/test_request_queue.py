from __future__ import annotations

import threading

from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Request

ASKED = [Request((("user", str(n)),)) for n in range(10)]


def test_the_oldest_come_first_and_the_end_is_an_empty_list() -> None:
    waiting = RequestQueue.only(ASKED[:5])
    assert waiting.take(3) == list(enumerate(ASKED))[:3]
    assert [number for number, _ in waiting.take(3, wait=False)] == [3, 4]
    assert waiting.take(3, wait=False) == []
    assert waiting.take(3) == []


def test_an_idle_model_waits_for_the_crowd() -> None:
    waiting, waits = RequestQueue(lambda: None), threading.Event()
    found: list[tuple[int, Request]] = []

    def take() -> None:
        waits.set()
        found.extend(waiting.take(10))

    thread = threading.Thread(target=take)
    thread.start()
    waits.wait()
    for number, request in enumerate(ASKED):
        waiting.put(number, request)
    thread.join(30)
    assert found == list(enumerate(ASKED))


def test_what_was_taken_and_not_answered_is_known() -> None:
    calls: list[list[int]] = []
    waiting = RequestQueue(lambda: calls.append(waiting.taken()))
    for number in range(3):
        waiting.put(number, ASKED[number])
    waiting.close()
    waiting.take(3)
    waiting.answered([1])
    assert waiting.take(3, wait=False) == []
    assert calls == []
    assert waiting.take(3) == []
    assert calls == [[0, 2]]
    waiting.answered([0, 2])
    waiting.take(3)
    assert len(calls) == 1  # it owes nothing, so there is nothing to settle
