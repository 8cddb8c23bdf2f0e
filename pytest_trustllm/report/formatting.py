"""How numbers are shown: in words, on a number line, and with a link to the items behind them."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import DifferenceEntry, MetricEntry

_SHOWN_AS_ZERO = 0.0005
"""A smaller difference would be printed as 0.000."""
_MODEL_PATH = re.compile(r"(?P<provider>[a-z_]+:)?(?:~|\.{0,2})/(?:\S*/)?(?P<last>[^/\s]+)/?")
_MINUTES = 120
"""A time of so many seconds or more is given in minutes."""
_HOURS = 7200
_LINE_POINTS = 2
"""A sparkline needs two points."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A number line: everything in percent of its length.

    Attributes:
        value: Position of the value; None if there is none.
        low: Start of the interval.
        high: Its end.
        bound: Position of a threshold.
        ticks: Positions of the published models.
        median: Position of their median; None if there are none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    ticks: Sequence[float] = ()
    median: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """How the limits of a number closed in on it while samples were asked, in a box 100 wide and 40 high.

    Attributes:
        band: The area between the limits, as points of a polygon.
        bound: Height of the threshold.
        asked: Samples at the right end.
    """

    band: str
    bound: float
    asked: int


def course_of(moments: Sequence[Sequence[float]], bound: float, metric_range: tuple[float, float]) -> Course | None:
    """Return the course of a gate that was decided early; None if there are too few moments for a picture.

    Args:
        moments: Samples asked, lower and upper limit, in the order of time.
        bound: What the number is compared with.
        metric_range: Least and greatest possible value.
    """
    if len(moments) < 2:
        return None
    least, most = metric_range
    asked = moments[-1][0]

    def height(value: float) -> float:
        share = (value - least) / (most - least)
        return 40.0 * (1.0 - min(1.0, max(0.0, share)))

    upper = [f"{100 * count / asked:.1f},{height(high):.1f}" for count, _, high in moments]
    lower = [f"{100 * count / asked:.1f},{height(low):.1f}" for count, low, _ in moments]
    return Course(" ".join([*upper, *reversed(lower)]), round(height(bound), 1), int(asked))


@dataclass(frozen=True, slots=True)
class Change:
    """How a number changed between two runs, over the samples that both have.

    Attributes:
        difference: The later number less the earlier one.
        old: The earlier number.
        new: The later number.
        better: The difference is for the better; None if there is none.
        sure: The interval of the difference does not contain 0; otherwise chance may explain it.
        interval: In words; empty if there is none.
        limits: Of the interval; None if there is none.
        shared: Samples with a score in both runs.
    """

    difference: float
    old: float
    new: float
    better: bool | None
    sure: bool
    interval: str
    limits: tuple[float, float] | None
    shared: int


def change_of(entry: DifferenceEntry | None) -> Change | None:
    """Return a difference of a results document, or of a comparison, for the page; None if there is none."""
    if entry is None:
        return None
    sure, words, limits = False, "", None
    if entry["ci"] is not None:
        low, high = limits = (entry["ci"][0], entry["ci"][1])
        sure = not low <= 0 <= high
        words = f"{100 * entry['confidence']:.4g} % interval {signed(low)} to {signed(high)}"
    better = None
    if entry["worse_by"]:
        better = entry["worse_by"] < 0
    return Change(
        difference=entry["difference"],
        old=entry["old"],
        new=entry["new"],
        better=better,
        sure=sure,
        interval=words,
        limits=limits,
        shared=entry["shared"],
    )


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as ``1 gate`` and ``2 gates``."""
    plural = "" if count == 1 else "s"
    return f"{count:,} {noun}{plural}"


def display_name(model: str, limit: int = 60) -> str:
    """Return a model's name; of one that is a path, the file or directory after its provider."""
    path = _MODEL_PATH.fullmatch(model)
    if path is None:
        return one_line(model, limit)
    return one_line((path["provider"] or "") + path["last"], limit)


def duration(seconds: float) -> str:
    """Return a duration in the unit that a reader would use."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < _MINUTES:
        return f"{seconds:.0f} s"
    if seconds < _HOURS:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def moment(started: str) -> str:
    """Return a moment in ISO 8601 as people write it."""
    return one_line(started, 40).replace("T", " ").replace("+00:00", " UTC")


def number(value: float | None, range_: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return a number as short as a table needs it."""
    if value is None:
        return "–"
    if max(map(abs, range_)) <= 1:
        return f"{value:.3f}"
    return f"{value:,.6g}"


def signed(value: float) -> str:
    """Return a difference with its sign; a negative one has a minus sign, not a hyphen."""
    if abs(value) < _SHOWN_AS_ZERO:
        return "±0"
    return f"{value:+.3f}".replace("-", "−")


def interval(ci: Sequence[float] | None, range_: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return an interval in words; empty if there is none."""
    if ci is None:
        return ""
    low, high = ci
    return f"{number(low, range_)} to {number(high, range_)}"


def items_link(
    scope: str = "", status: str = "", query: str = "", change: str = "", item: str = "", tag: str = ""
) -> str:
    """Return the address of a selection of items within the page."""
    parameters = {"in": scope, "tag": tag, "status": status, "change": change, "q": query, "item": item}
    parts = []
    for name, value in parameters.items():
        if value:
            # ids and reasons are other people's text and may hold lone surrogates, which have no UTF-8
            parts.append(f"{name}={quote(value, safe='', errors='backslashreplace')}")
    return "#items?" + "&".join(parts)


def strip(
    value: float | None,
    ci: Sequence[float] | None,
    range_: tuple[float, float],
    *,
    bound: float | None = None,
    ticks: Sequence[float] = (),
) -> Strip:
    """Return a line over a range of values; what lies outside the range is drawn at its ends."""
    low, high = (None, None) if ci is None else ci
    return Strip(
        value=_position(value, range_),
        low=_position(low, range_),
        high=_position(high, range_),
        bound=_position(bound, range_),
        ticks=[_clamped(tick, range_) for tick in ticks],
        median=_clamped(statistics.median(ticks), range_) if ticks else None,
    )


def _position(value: float | None, range_: tuple[float, float]) -> float | None:
    if value is None:
        return None
    return _clamped(value, range_)


def _clamped(value: float, range_: tuple[float, float]) -> float:
    """Return where a value is within a range, in percent from 0 to 100."""
    low, high = range_
    share = (value - low) / (high - low)
    share = min(1.0, max(0.0, share))
    return round(100 * share, 2)


def trail(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the points of a sparkline, 28 wide and 12 high: a number in several runs, the last being the page's.

    A difference of 0.18 fills the height; values beyond are drawn at the edge. Empty without a first or last value.
    """
    if len(values) < _LINE_POINTS:
        return []
    first, last = values[0], values[-1]
    if first is None or last is None:
        return []
    centre = (first + last) / 2
    step = 22 / (len(values) - 1)
    points = []
    for place, value in enumerate(values):
        if value is None:
            continue
        rise = min(4.5, max(-4.5, 50 * (value - centre)))
        # SVG's y axis points down
        points.append((round(3 + step * place, 1), round(6 - rise, 1)))
    return points


def task_of(metric: str) -> str:
    """Return ``dimension/task`` of a metric id."""
    return metric.partition("{")[0].rpartition(".")[0]


def range_of(metric: MetricEntry) -> tuple[float, float]:
    """Return the least and the greatest possible value of a metric."""
    low, high = metric["range"]
    return float(low), float(high)
