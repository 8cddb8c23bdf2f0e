from __future__ import annotations

import asyncio
import email.utils
import time

import pytest

from pytest_trustllm.models.pacing import Pace
from pytest_trustllm.models.retrying import Failure, Retrying, clean, retry_after, status_failure
from pytest_trustllm.records import Response


def run(*outcomes: Failure | Response, tries: int = 5) -> tuple[Response, int]:
    calls = 0

    async def call() -> Response:
        nonlocal calls
        calls += 1
        outcome = outcomes[calls - 1]
        if isinstance(outcome, Failure):
            raise outcome
        return outcome

    return asyncio.run(Retrying(Pace(1), 0.001, tries)(call)), calls


def test_a_success_ends_it() -> None:
    again = Failure("x", again=True)
    assert run(again, again, Response(text="ok")) == (Response(text="ok"), 3)


def test_a_failure_that_lasts() -> None:
    assert run(*[Failure("down", again=True)] * 3, tries=3) == (Response(error="down (after 3 tries)"), 3)
    assert run(Failure("wrong", fatal=True)) == (Response(error="wrong", fatal=True), 1)


def test_a_server_that_asks_for_too_much_patience() -> None:
    assert run(Failure("busy", again=True, pause=3600)) == (Response(error="busy (deadline of 600 s)"), 1)


@pytest.mark.parametrize(("status", "again", "fatal"), [(429, True, False), (500, True, False), (401, False, True)])
def test_what_a_status_means(status: int, again: bool, fatal: bool) -> None:
    failure = status_failure("host", status, "why", {"retry-after": "2"})
    assert (failure.reason, failure.again, failure.fatal) == (f"HTTP {status} from host: why", again, fatal)
    assert failure.pause == (2.0 if again else None)


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after({}) is None
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after": "-3"}) == 0.0
    assert retry_after({"retry-after": "soon"}) is None
    soon = retry_after({"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)})
    assert soon is not None
    assert 25 < soon <= 30


def test_messages_lose_what_looks_like_a_key() -> None:
    assert clean("bad key sk-proj-abcDEF123456\nx", ["hunter22"]) == r"bad key ***\nx"
    assert clean("hunter22 is wrong", ["hunter22", ""]) == "*** is wrong"
