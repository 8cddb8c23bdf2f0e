"""What a run may spend: money, tokens, time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm.errors import BudgetError, one_line
from pytest_trustllm.records import Request, Response, tokens_of

Kind = Literal["usd", "tokens", "seconds"]

_PART = re.compile(
    r"(?P<amount>\d+(\.\d+)?)\s*"
    r"((?P<usd>usd)|(?P<scale>[km]?)\s*(?P<tokens>tokens?)|(?P<unit>s|min|h))",
    re.IGNORECASE,
)
_HAIR = 1e-9
"""Sums of prices are not exact: what is short of a limit by less has reached it."""
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

    kind: Kind
    amount: float
    text: str


def parse(text: str) -> tuple[Limit, ...]:
    """Read a budget such as ``5 USD, 2M tokens, 30 min``.

    Raises:
        BudgetError: It is not one.
    """
    found: dict[Kind, Limit] = {}
    for part in text.split(","):
        limit = _limit(part.strip())
        if limit is None or limit.kind in found:
            problem = "is no amount" if limit is None else "is a second amount of its kind"
            raise BudgetError(
                f"--trust-budget: {one_line(repr(part.strip()), 60)} {problem}; expected one or more of 'N USD', "
                "'N tokens' ('Nk', 'NM tokens') and 'N min' ('N s', 'N h'), such as '5 USD, 2M tokens, 30 min'"
            )
        found[limit.kind] = limit
    return tuple(found.values())


def _limit(part: str) -> Limit | None:
    match = _PART.fullmatch(part)
    if match is None or float(match["amount"]) <= 0:
        return None
    amount = float(match["amount"])
    if match["usd"]:
        return Limit("usd", amount, part)
    if match["tokens"]:
        return Limit("tokens", amount * _SCALES[match["scale"].lower()], part)
    return Limit("seconds", amount * _SECONDS[match["unit"].lower()], part)


def cost(price: Mapping[str, float], input_tokens: int, output_tokens: int) -> float:
    """Return US dollars for tokens, by a price per million of them."""
    return (price["input"] * input_tokens + price["output"] * output_tokens) / 1_000_000


class Ledger:
    """What the models of a run have spent together.

    Args:
        limits: The budget; empty: everything is allowed, and counted all the same.
        clock: Tells the time, in seconds.
    """

    def __init__(self, limits: Sequence[Limit], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._started: float | None = None
        self._spent: dict[Kind, float] = {"usd": 0.0, "tokens": 0.0}
        self._reached: str | None = None

    @property
    def limited(self) -> bool:
        """There is a budget."""
        return bool(self._limits)

    def start(self) -> None:
        """Let the time of the budget run, once."""
        if self._started is None:
            self._started = self._clock()

    def charge(self, request: Request, response: Response, price: Mapping[str, float] | None) -> None:
        """Count a request that was sent; where the backend tells no tokens, by the length of the texts."""
        answered = response.error is None
        sent, got = response.input_tokens, response.output_tokens
        if sent is None:
            sent = request.tokens if answered else 0
        if got is None:
            got = tokens_of(response.text or "")
        self._spent["tokens"] += sent + got
        if price is not None:
            self._spent["usd"] += cost(price, sent, got)

    def spent(self) -> dict[Kind, float]:
        """Return what was spent so far."""
        seconds = 0.0 if self._started is None else self._clock() - self._started
        return {**self._spent, "seconds": seconds}

    def reached(self) -> str | None:
        """Return which part of the budget is spent, as the reason of a sample that is not asked any more."""
        if self._reached is None and self._limits:
            spent = self.spent()
            text = next((limit.text for limit in self._limits if spent[limit.kind] >= limit.amount - _HAIR), None)
            self._reached = None if text is None else f"budget: {text} reached"
        return self._reached

    def summary(self) -> dict[str, Any]:
        """Return what the results file says about the budget, as plain JSON."""
        return {
            "given": {limit.kind: limit.amount for limit in self._limits},
            "spent": self.spent(),
            "reached": self._reached,
        }
