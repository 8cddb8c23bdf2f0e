from __future__ import annotations

import asyncio

import pytest

from pytest_trustllm.engine.budget import Ledger, Limit, cost, parse
from pytest_trustllm.engine.engine import Engine
from pytest_trustllm.errors import BudgetError
from pytest_trustllm.models.python import CallableModel
from pytest_trustllm.types import Request, Response


def ask(text: str) -> Request:
    return Request((("user", text),))


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("5 USD", "usd", 5.0),
        ("0.25usd", "usd", 0.25),
        ("2M tokens", "tokens", 2e6),
        ("200 k tokens", "tokens", 2e5),
        ("1 token", "tokens", 1.0),
        ("30 min", "seconds", 1800.0),
        ("1.5h", "seconds", 5400.0),
        ("90 s", "seconds", 90.0),
    ],
)
def test_an_amount_is_read_and_keeps_its_words(text: str, kind: str, amount: float) -> None:
    (limit,) = parse(text)
    assert (limit.kind, limit.amount, limit.text) == (kind, amount, text)


def test_amounts_stand_together() -> None:
    assert [limit.kind for limit in parse("5 USD, 2M tokens, 30 min")] == ["usd", "tokens", "seconds"]


@pytest.mark.parametrize("text", ["", "5", "5 EUR", "0 USD", "-1 USD", "2G tokens", "M tokens", "5 USD,", "nan USD"])
def test_what_is_no_amount_says_what_is(text: str) -> None:
    with pytest.raises(
        BudgetError, match=r"^--trust-budget: '.*' is not a valid amount; expected one or more of 'N USD', "
    ):
        parse(text)


def test_one_amount_of_a_kind() -> None:
    with pytest.raises(BudgetError, match="'1 h' is a second amount of the same kind"):
        parse("30 min, 1 h")


def test_hostile_text_is_shown_on_one_line() -> None:
    with pytest.raises(BudgetError) as caught:
        parse("\x1b[31m\n" + "5" * 5000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_price_is_per_million_tokens() -> None:
    assert cost({"input": 2.0, "output": 8.0}, 1_000_000, 500_000) == 6.0


def test_the_ledger_names_the_first_limit_that_is_reached_and_stays_with_it() -> None:
    now = 100.0
    ledger = Ledger(parse("1 USD, 100 tokens, 10 s"), lambda: now)
    ledger.start()
    assert ledger.reached() is None
    ledger.charge(ask("x"), Response(text="y", input_tokens=90, output_tokens=9), None)
    assert ledger.reached() is None
    now = 111.0
    assert ledger.reached() == "budget: 10 s reached"
    ledger.charge(ask("x"), Response(text="y", input_tokens=90, output_tokens=9), {"input": 1e6, "output": 1e6})
    assert ledger.reached() == "budget: 10 s reached"
    assert ledger.spent() == {"usd": 99.0, "tokens": 198.0, "seconds": 11.0}


def test_tokens_that_nobody_told_are_counted_by_length() -> None:
    ledger = Ledger(parse("1k tokens"))
    ledger.charge(ask("x" * 400), Response(text="y" * 40), {"input": 10.0, "output": 0.0})
    assert ledger.spent()["tokens"] == 110
    assert ledger.spent()["usd"] == pytest.approx(0.001)
    ledger.charge(ask("x" * 400), Response(error="no connection"), None)
    assert ledger.spent()["tokens"] == 110


def test_money_is_unknown_and_not_zero_where_nothing_has_a_price() -> None:
    ledger = Ledger(parse("10 USD"))
    assert ledger.summary()["spent"]["usd"] == 0.0
    ledger.charge(ask("x"), Response(text="y"), None)
    assert ledger.summary()["spent"]["usd"] is None
    ledger.charge(ask("x"), Response(text="y", input_tokens=1, output_tokens=1), {"input": 1e6, "output": 0.0})
    assert ledger.summary()["spent"]["usd"] == 1.0


def test_tokens_are_unknown_and_not_zero_where_an_answer_has_none() -> None:
    responses = [Response(text="y", input_tokens=3, output_tokens=2), Response(error="down"), Response(text="y")]

    class Bot(CallableModel):
        async def answer(self, request: Request) -> Response:
            return responses[int(request.text)]

    async def run() -> list[tuple[int | None, int | None]]:
        engine = Engine(Bot(str, "bot"), None)
        found = []
        for number in range(3):
            await engine.ask(ask(str(number)))
            found.append((engine.usage.input_tokens, engine.usage.output_tokens))
        await engine.close()
        return found

    assert asyncio.run(run()) == [(3, 2), (3, 2), (None, None)]


def test_without_a_budget_nothing_is_ever_reached() -> None:
    ledger = Ledger(())
    ledger.charge(ask("x"), Response(text="y", input_tokens=10**12), None)
    assert ledger.reached() is None


@pytest.mark.parametrize("told", [True, False])
def test_cost_is_known_only_if_price_and_tokens_are(told: bool) -> None:
    class Bot(CallableModel):
        async def answer(self, request: Request) -> Response:
            return Response(text="y", input_tokens=1000 if told else None, output_tokens=10)

    async def run(price: dict[str, float] | None) -> float | None:
        engine = Engine(Bot(str, "bot"), None, price=price)
        await engine.ask(ask("x"))
        await engine.ask(ask("x"))
        await engine.close()
        return engine.usage.cost_usd

    assert asyncio.run(run({"input": 1.0, "output": 100.0})) == (pytest.approx(0.004) if told else None)
    assert asyncio.run(run(None)) is None


def test_what_is_in_flight_ends_and_nothing_is_sent_afterwards() -> None:
    sent: list[str] = []

    async def run() -> list[Response]:
        ledger = Ledger([Limit("tokens", 1, "1 token")])
        go = asyncio.Event()

        async def answer(prompt: str) -> str:
            sent.append(prompt)
            await go.wait()
            return "ok"

        engine = Engine(CallableModel(answer, "bot", 2), None, ledger=ledger)
        asked = [asyncio.ensure_future(engine.ask(ask(str(i)))) for i in range(10)]
        while len(sent) < 2:
            await asyncio.sleep(0)
        go.set()
        found = [await a for a in asked]
        assert engine.usage.requests == 2
        return [*found, await engine.ask(ask("late"))]

    found = asyncio.run(run())
    assert sent == ["0", "1"]
    assert [r.text for r in found[:2]] == ["ok", "ok"]
    assert found[2:] == [Response(error="budget: 1 token reached", cut=True)] * 9
