from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pytest_trustllm.models.api.admission import Admission
from pytest_trustllm.models.api.pacing import Pace
from pytest_trustllm.models.api.retrying import RequestFailure, Retrying
from pytest_trustllm.types import Response


def run(*outcomes: RequestFailure | Response, tries: int = 5) -> tuple[Response, int]:
    calls = 0

    async def call(_: Pace) -> Response:
        nonlocal calls
        calls += 1
        outcome = outcomes[calls - 1]
        if isinstance(outcome, RequestFailure):
            raise outcome
        return outcome

    return asyncio.run(Retrying(Admission(Pace(1)), 0.001, tries)(call)), calls


def test_a_success_ends_it() -> None:
    again = RequestFailure("x", again=True)
    assert run(again, again, Response(text="ok")) == (Response(text="ok"), 3)


def test_a_failure_that_lasts() -> None:
    assert run(*[RequestFailure("down", again=True)] * 3, tries=3) == (Response(error="down (after 3 tries)"), 3)
    assert run(RequestFailure("wrong", fatal=True)) == (Response(error="wrong", fatal=True), 1)


def together(outcomes: Sequence[RequestFailure | Response], **settings: float) -> list[Response]:
    """Ask once per outcome, all at a time; a response comes later than a failure."""
    retrying = Retrying(Admission(Pace(8)), 0.001, **settings)  # type: ignore[arg-type]

    async def ask(outcome: RequestFailure | Response) -> Response:
        async def call(_: Pace) -> Response:
            await asyncio.sleep(0.001 if isinstance(outcome, RequestFailure) else 0.02)
            if isinstance(outcome, RequestFailure):
                raise outcome
            return outcome

        return await retrying(call)

    async def all_of_them() -> list[Response]:
        return list(await asyncio.gather(*map(ask, outcomes)))

    return asyncio.run(all_of_them())


LATE = "busy (it asks to wait 3,600 s, longer than the deadline of 600 s)"


def test_a_server_that_asks_everybody_for_too_much_patience_ends_the_run() -> None:
    assert run(RequestFailure("busy", again=True, pause=3600)) == (Response(error=LATE, fatal=True), 1)
    found = together([RequestFailure("busy", again=True, pause=3600) for _ in range(3)])
    assert found == [Response(error=LATE, fatal=True)] * 3


def test_a_server_that_asks_one_for_too_much_patience_does_not() -> None:
    found = together([RequestFailure("busy", again=True, pause=3600), Response(text="ok")])
    assert found == [Response(error=LATE), Response(text="ok")]


def test_who_is_turned_away_waits_to_see_what_becomes_of_the_others() -> None:
    denied = [RequestFailure("no", denied=True), RequestFailure("no", denied=True)]
    assert together(denied) == [Response(error="no", fatal=True)] * 2
    denied = [RequestFailure("no", denied=True), RequestFailure("no", denied=True)]
    assert [r.fatal for r in together([*denied, Response(text="ok")])] == [False, False, False]
    other = RequestFailure("too long")  # it has an error of its own, which says nothing of those turned away
    assert [r.fatal for r in together([RequestFailure("no", denied=True), other])] == [True, False]


def test_a_wait_for_the_others_ends_with_the_deadline() -> None:
    async def asked() -> list[Response]:
        retrying = Retrying(Admission(Pace(8)), 0.001, deadline=0.05)

        async def denied(_: Pace) -> Response:
            await asyncio.sleep(0.001)
            raise RequestFailure("no", denied=True)

        async def silent(_: Pace) -> Response:
            await asyncio.sleep(10)
            return Response(text="late")

        return list(await asyncio.gather(retrying(denied), retrying(silent)))

    found = asyncio.run(asked())
    assert [r.error for r in found] == ["no answer (deadline of 0.05 s)"] * 2


def one_after_another(outcomes: Sequence[RequestFailure | Response], limit: int = 100) -> list[Response]:
    retrying, calls = Retrying(Admission(Pace(1)), 0.0001, tries=2), iter(outcomes)

    async def call(_: Pace) -> Response:
        outcome = next(calls)
        if isinstance(outcome, RequestFailure):
            raise outcome
        return outcome

    async def all_of_them() -> list[Response]:
        found: list[Response] = []
        while len(found) < limit and not (found and found[-1].fatal):
            found.append(await retrying(call))
        return found

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("failure", [{"denied": True}, {"again": True, "strain": "refused"}])
def test_what_is_never_answered_again_ends_the_run(failure: dict[str, object]) -> None:
    outcomes = [Response(text="ok"), *(RequestFailure("no", **failure) for _ in range(100))]  # type: ignore[arg-type]
    found = one_after_another(outcomes)
    assert len(found) == 1 + 16
    assert found[-1].error is not None
    assert found[-1].error.endswith("like 15 requests before it)")
    assert [r.fatal for r in found] == [False] * 16 + [True]


def test_nothing_more_is_sent_after_a_fatal_failure() -> None:
    calls = 0

    async def call(_: Pace) -> Response:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise RequestFailure("no credit", fatal=True)

    async def all_of_them() -> list[Response]:
        retrying = Retrying(Admission(Pace(4)), 0.001)
        return list(await asyncio.gather(*(retrying(call) for _ in range(50))))

    assert asyncio.run(all_of_them()) == [Response(error="no credit", fatal=True)] * 50
    assert calls == 4


def test_another_request_is_no_further_try() -> None:
    adapted = [RequestFailure("unsupported", again=True, adapted=True) for _ in range(4)]
    again = RequestFailure("busy", again=True)
    assert run(*adapted, again, again, again, again, Response(text="ok")) == (Response(text="ok"), 9)
