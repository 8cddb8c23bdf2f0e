"""What a run may spend: money, tokens, time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_trustllm.engine.messages import Spending
from pytest_trustllm.errors import BudgetError, one_line
from pytest_trustllm.types import Request, Response, tokens_of

LimitKind = Literal["usd", "tokens", "seconds"]

_PART = re.compile(
    r"(?P<amount>\d+(\.\d+)?)\s*"
    r"((?P<usd>usd)|(?P<scale>[km]?)\s*(?P<tokens>tokens?)|(?P<unit>s|min|h))",
    re.IGNORECASE,
)
_TOLERANCE = 1e-9
"""Sums of floating-point prices are inexact: an amount that falls short of a limit by less than this has reached it."""
_SCALES = {"": 1, "k": 1_000, "m": 1_000_000}
_SECONDS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Limit:
    """One part of a budget.

    Attributes:
        kind: What is counted.
        amount: US dollars, tokens of prompts and answers, or seconds; more than 0.
        text: As the user wrote it.
    """

    kind: LimitKind
    amount: float
    text: str


def parse(text: str) -> tuple[Limit, ...]:
    """Read a budget such as ``5 USD, 2M tokens, 30 min``.

    Raises:
        BudgetError: The text is not a budget.
    """
    limits: dict[LimitKind, Limit] = {}
    for part in text.split(","):
        limit = _limit(part.strip())
        if limit is None:
            raise _rejected(part, "is not a valid amount")
        if limit.kind in limits:
            raise _rejected(part, "is a second amount of the same kind")
        limits[limit.kind] = limit
    return tuple(limits.values())


def _rejected(part: str, problem: str) -> BudgetError:
    return BudgetError(
        f"--trust-budget: {one_line(repr(part.strip()), 60)} {problem}; expected one or more of 'N USD', "
        "'N tokens' ('Nk', 'NM tokens') and 'N min' ('N s', 'N h'), such as '5 USD, 2M tokens, 30 min'"
    )


def _limit(part: str) -> Limit | None:
    """Return the limit that one part of a budget sets; None if it sets none."""
    match = _PART.fullmatch(part)
    if match is None or float(match["amount"]) <= 0:
        return None
    amount = float(match["amount"])
    if match["usd"]:
        return Limit("usd", amount, part)
    if match["tokens"]:
        return Limit("tokens", amount * _SCALES[match["scale"].lower()], part)
    return Limit("seconds", amount * _SECONDS[match["unit"].lower()], part)


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was set aside for a request whose answer comes later.

    Attributes:
        amounts: Kind -> amount.
        refused: Which limit does not allow it, as the reason why it is not sent; None: it may be sent.
    """

    amounts: Mapping[LimitKind, float]
    refused: str | None = None


def cost(price: Mapping[str, float], input_tokens: int, output_tokens: int) -> float:
    """Return US dollars for tokens, at a price in US dollars per million tokens."""
    return (price["input"] * input_tokens + price["output"] * output_tokens) / 1_000_000


class Ledger:
    """What the models of a run have spent together.

    Args:
        limits: The budget; empty: nothing is limited, but everything is counted.
        clock: Returns the time, in seconds.
    """

    def __init__(self, limits: Sequence[Limit], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._started: float | None = None
        self._spent: dict[LimitKind, float] = {"usd": 0.0, "tokens": 0.0}
        self._reserved: dict[LimitKind, float] = {"usd": 0.0, "tokens": 0.0}
        self._reached: str | None = None
        self._refused: str | None = None
        self._some_priced = False
        self._some_unpriced = False

    @property
    def limited(self) -> bool:
        """There is a budget."""
        return bool(self._limits)

    def start(self) -> None:
        """Start the clock; later calls do nothing."""
        if self._started is None:
            self._started = self._clock()

    def reserve(self, sent: int, received: int, price: Mapping[str, float] | None, share: float) -> Reservation:
        """Set aside what a request can cost at most, if the rest of the budget allows it.

        Args:
            sent: Its tokens.
            received: Tokens of its answer at most.
            price: US dollars per million tokens; None: unknown.
            share: What is charged, as a share of the price.
        """
        amounts: dict[LimitKind, float] = {"tokens": float(sent + received), "usd": 0.0}
        if price is not None:
            amounts["usd"] = share * cost(price, sent, received)
        spent = self.spent()
        for limit in self._limits:
            planned = spent[limit.kind] + self._reserved.get(limit.kind, 0.0) + amounts.get(limit.kind, 0.0)
            if planned > limit.amount + _TOLERANCE:
                self._refused = f"budget: {limit.text} does not cover the whole batch"
                return Reservation({}, self._refused)
        for kind, amount in amounts.items():
            self._reserved[kind] += amount
        return Reservation(amounts)

    def release(self, reservation: Reservation) -> None:
        """Note that a request was answered, and will be charged for, or was not sent."""
        for kind, amount in reservation.amounts.items():
            self._reserved[kind] -= amount

    def charge(
        self, request: Request, response: Response, price: Mapping[str, float] | None, share: float = 1.0
    ) -> None:
        """Count a request that was sent; if the backend reports no tokens, by the length of the texts.

        Args:
            request: What was sent.
            response: What came back.
            price: US dollars per million tokens; None: unknown.
            share: What is charged, as a share of the price.
        """
        sent, received = response.input_tokens, response.output_tokens
        if sent is None:
            # Nothing shows that a request that failed was processed, so it is not counted.
            sent = request.tokens if response.error is None else 0
        if received is None:
            received = tokens_of(response.text or "")
        self._spent["tokens"] += sent + received
        if price is None:
            self._some_unpriced = True
        else:
            self._some_priced = True
            self._spent["usd"] += share * cost(price, sent, received)

    def spent(self) -> dict[LimitKind, float]:
        """Return what has been spent so far."""
        seconds = 0.0
        if self._started is not None:
            seconds = self._clock() - self._started
        return {**self._spent, "seconds": seconds}

    def reached(self) -> str | None:
        """Return which limit has been reached, as the reason why a sample is not sent; None: the run may continue.

        A limit that was reached stays reached.
        """
        if self._reached is None and self._limits:
            spent = self.spent()
            for limit in self._limits:
                if spent[limit.kind] >= limit.amount - _TOLERANCE:
                    self._reached = f"budget: {limit.text} reached"
                    break
        return self._reached

    def summary(self) -> Spending:
        """Return what the results file records about the budget."""
        spent: dict[str, float | None] = dict(self.spent().items())
        if self._some_unpriced and not self._some_priced:
            spent["usd"] = None  # no request had a price: the cost is unknown, not zero
        return {
            "given": {limit.kind: limit.amount for limit in self._limits},
            "spent": spent,
            "reached": self._reached or self._refused,
        }
