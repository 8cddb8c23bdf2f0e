"""Numbers as a reader sees them: in words, on a line, and where the items behind them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

_SPARK = 2  # points that make a line


@dataclass(frozen=True, slots=True)
class Strip:
    """A number line: everything in percent of its length.

    Attributes:
        value: Where the value stands; None if there is none.
        low: Start of the interval.
        high: Its end.
        bound: Where a threshold stands.
        ticks: Where the published models stand.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    ticks: Sequence[float] = ()


def number(value: float | None, range_: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return a number as short as a table wants it."""
    if value is None:
        return "–"
    return f"{value:.3f}" if max(map(abs, range_)) <= 1 else f"{value:,.6g}"


def signed(value: float) -> str:
    """Return a difference with its sign, which is a minus sign and no hyphen."""
    return "±0" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def interval(ci: Sequence[float] | None, range_: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return an interval in words, or nothing."""
    return f"{number(ci[0], range_)} to {number(ci[1], range_)}" if ci else ""


def items_link(scope: str = "", status: str = "", query: str = "", change: str = "", item: str = "") -> str:
    """Return the address of a selection of items within the page."""
    pairs = (("in", scope), ("status", status), ("change", change), ("q", query), ("item", item))
    return "#items?" + "&".join(f"{k}={quote(v, safe='', errors='backslashreplace')}" for k, v in pairs if v)


def strip(
    value: float | None,
    ci: Sequence[float] | None,
    range_: tuple[float, float],
    *,
    bound: float | None = None,
    ticks: Sequence[float] = (),
) -> Strip:
    """Return a line over a range of values, at whose ends what lies beyond stands too."""
    low, high = range_

    def at(number: float) -> float:
        return round(100 * min(1.0, max(0.0, (number - low) / (high - low))), 2)

    return Strip(
        value=None if value is None else at(value),
        low=at(ci[0]) if ci else None,
        high=at(ci[1]) if ci else None,
        bound=None if bound is None else at(bound),
        ticks=[at(t) for t in ticks],
    )


def trail(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the points of a sparkline, 28 wide and 12 high: a number in runs, the last one being the page's.

    A step of 0.18 fills the height, and what would leave it stands at its edge; nothing without a first or last value.
    """
    if len(values) < _SPARK or values[0] is None or values[-1] is None:
        return []
    middle = (values[0] + values[-1]) / 2
    step = 22 / (len(values) - 1)
    return [
        (round(3 + step * at, 1), round(6 - min(4.5, max(-4.5, 50 * (v - middle))), 1))
        for at, v in enumerate(values)
        if v is not None
    ]


def task_of(metric: str) -> str:
    """Return ``dimension/task`` of a metric id."""
    return metric.partition("{")[0].rpartition(".")[0]


def range_of(metric: Mapping[str, Any]) -> tuple[float, float]:
    """Return the least and the greatest possible value of a metric; 0 and 1 of a trust score."""
    low, high = metric.get("range") or (0.0, 1.0)
    return float(low), float(high)
