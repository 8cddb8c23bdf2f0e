"""A run among the published models: places, medians, and the two charts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import MetricEntry, Results
from pytest_trustllm.models import catalogue
from pytest_trustllm.registry import Registry
from pytest_trustllm.report.formatting import display_name
from pytest_trustllm.types import oriented

HARMFUL = ("safety/jailbreak.refusal_rate", "safety/misuse.refusal_rate")
HARMLESS = ("safety/exaggerated_safety.refusal_rate",)
UTILITY = (
    "truthfulness/misinformation_internal.accuracy",
    "truthfulness/misinformation_external.macro_f1",
    "truthfulness/hallucination.accuracy",
    "robustness/ood_generalization.f1",
    "ethics/emotional_awareness.accuracy",
)
"""Metrics that ask for a right answer; the mean on the other axis leaves them out."""

_Metrics = Mapping[str, MetricEntry]
_Scores = Mapping[str, float | None]
"""Metric -> value of one model."""
_Pair = tuple[float | None, float | None]
"""What a chart shows of a model: across, and up."""
_Label = tuple[float, float, str]
"""Place of a label: x and y of its baseline, and the text-anchor."""
_Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class Board:
    """A dimension among the published models, on the headline metrics that both have, in the parity reading.

    Attributes:
        metrics: The headline metrics that both have.
        own: This run's mean, on the scale of a trust score.
        others: The published models' means.
        place: This run's place, 1 is best.
        median: Of the published models.
    """

    metrics: Sequence[str]
    own: float
    others: Sequence[float]
    place: int
    median: float


@dataclass(frozen=True, slots=True)
class Point:
    """One model in a chart.

    Attributes:
        name: The model.
        kind: ``open``, ``proprietary`` or ``this``.
        value: Its two numbers.
        x: In the chart's units, as all coordinates; the chart is 400 wide and 300 high.
        y: Counted from the top, as in SVG.
        label: Place of its name: (x, y, text-anchor); None if there is no room for it.
    """

    name: str
    kind: str
    value: tuple[float, float]
    x: float = 0.0
    y: float = 0.0
    label: _Label | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """Models by two numbers between 0 and 1.

    Attributes:
        x: Title of the axis.
        y: Title of the axis.
        points: This run's model comes last, so that it is drawn above the others.
        across: Marks of the horizontal axis: (x, number).
        up: Marks of the vertical axis: (y, number).
        missing: Why this run's model is not among them; empty if it is.
        good: Left end of the corner where models should be; it is a third of the chart wide and high, at the top.
        cross: Intervals of this run: left, right, top and bottom; None where they are not known.
    """

    x: str
    y: str
    points: Sequence[Point]
    across: Sequence[tuple[float, float]]
    up: Sequence[tuple[float, float]]
    missing: str = ""
    good: float = 0.0
    cross: _Rectangle | None = None


def values(metric: str) -> list[float]:
    """Return the published models' values of a metric."""
    numbers = []
    for scores in catalogue.published_scores().scores.values():
        value = scores.get(metric)
        if value is not None:
            numbers.append(value)
    return numbers


def dimension(metrics: _Metrics, of: Sequence[str]) -> Board | None:
    """Return a dimension among the published models; None if they have no metric in common.

    Args:
        metrics: The run's.
        of: Headline metrics with a value.
    """
    board = catalogue.published_scores()
    common = [id_ for id_ in of if id_ in board.metrics and metrics[id_]["parity"] is not None]
    directions = _directions(metrics)
    own = _mean(_parity(metrics), common, directions)
    others = []
    for scores in board.scores.values():
        mean = _mean(scores, common, directions)
        if mean is not None:
            others.append(mean)
    if own is None or not others:
        return None
    place = 1 + sum(other > own for other in others)
    return Board(common, own, others, place, statistics.median(others))


def over_alignment(results: Results) -> Chart | None:
    """Return refusal of harmful prompts against refusal of harmless ones; None if the run is not about them."""
    if not any(id_ in results["metrics"] for id_ in (*HARMFUL, *HARMLESS)):
        return None

    def pair(scores: _Scores) -> _Pair:
        return _plain_mean(scores, HARMLESS), _plain_mean(scores, HARMFUL)

    published = {name: pair(scores) for name, scores in catalogue.published_scores().scores.items()}
    own = pair(_parity(results["metrics"]))
    halves = _half_interval(results["metrics"], HARMLESS), _half_interval(results["metrics"], HARMFUL)
    axes = "Harmless questions refused", "Harmful prompts refused"
    return _chart(axes, published, own, halves, _name(results))


def trust_and_utility(results: Results) -> Chart | None:
    """Return trust against utility; None if the run has neither.

    Utility is the mean of the metrics that ask for a right answer, or what a hook put into ``run.extra.utility``:
    ``{"name", "value", "models": {published model: value}}``, all in [0, 1]. Trust is the mean of the other headline
    metrics, those where lower is better inverted. A model is shown if both are known.
    """
    own, directions = _parity(results["metrics"]), _directions(results["metrics"])
    board = catalogue.published_scores()
    useful = [id_ for id_ in UTILITY if own.get(id_) is not None]
    trusted = [id_ for id_ in board.metrics if id_ not in UTILITY and own.get(id_) is not None]
    given = results["run"].get("extra", {}).get("utility")
    if not trusted or not (useful or given):
        return None
    utilities: dict[str, float | None]
    if isinstance(given, Mapping):
        title = one_line(given.get("name", "utility"), 60)
        utilities = {name: _share(value) for name, value in dict(given.get("models", {})).items()}
        own_utility = _share(given.get("value"))
    else:
        title = f"Utility: mean of {len(useful)} accuracies"
        utilities = {name: _mean(scores, useful, directions) for name, scores in board.scores.items()}
        own_utility = _mean(own, useful, directions)
    published = {}
    for name, scores in board.scores.items():
        published[name] = utilities.get(name), _mean(scores, trusted, directions)
    own_pair = own_utility, _mean(own, trusted, directions)
    half_utility = None if isinstance(given, Mapping) else _half_interval(results["metrics"], useful)
    halves = half_utility, _half_interval(results["metrics"], trusted)
    axes = title, f"Trust: mean of {len(trusted)} metrics"
    chart = _chart(axes, published, own_pair, halves, _name(results))
    return None if chart is None else replace(chart, good=2 / 3 * _SIZE[0])


def _name(results: Results) -> str:
    return display_name(results["run"]["model"]["name"], 24)


def _half_interval(metrics: _Metrics, ids: Sequence[str]) -> float | None:
    """Return half the width of the interval of a mean of metrics, by square-and-add; None if it is not known.

    The run's intervals are those of the value, so that they say nothing about a parity reading that differs from it.
    """
    squares = 0.0
    for id_ in ids:
        metric = metrics.get(id_)
        if metric is None or metric["ci"] is None or metric["value"] != metric["parity"]:
            return None
        low, high = metric["ci"]
        squares += ((high - low) / 2) ** 2
    return math.sqrt(squares) / len(ids) if ids else None


def _chart(axes: tuple[str, str], published: Mapping[str, _Pair], own: _Pair, halves: _Pair, name: str) -> Chart | None:
    """Return a chart; None if no model has both numbers.

    Args:
        axes: Titles of the horizontal and of the vertical axis.
        published: Published model -> its numbers.
        own: This run's.
        halves: Half the width of their intervals.
        name: Of this run's model.
    """
    x, y = axes
    kinds = _kinds()
    points = []
    for model, (across, up) in sorted(published.items()):
        if across is not None and up is not None:
            points.append(Point(model, kinds.get(model, "open"), (across, up)))
    missing = ""
    across, up = own
    if across is not None and up is not None:
        points.append(Point(name, "this", (across, up)))
    else:
        axis = x if across is None else y
        missing = f"This run has no value for “{axis.lower()}”."
    if not points:
        return None
    spans = _span([point.value[0] for point in points]), _span([point.value[1] for point in points])
    cross = None if missing else _cross(points[-1].value, halves, spans)
    return Chart(x, y, _labelled(points, spans), _marks(spans[0], 0), _marks(spans[1], 1), missing, cross=cross)


def _cross(
    value: tuple[float, float], halves: _Pair, spans: tuple[tuple[float, float], tuple[float, float]]
) -> _Rectangle | None:
    """Return the intervals of a point in the chart's units, cut off at the chart's edge; None unless both are known."""
    half_across, half_up = halves
    if half_across is None or half_up is None:
        return None
    ends = []
    for axis, half in enumerate((half_across, half_up)):
        low, high = spans[axis]
        ends += [_at(min(high, max(low, value[axis] + side * half)), spans[axis], axis) for side in (-1, 1)]
    left, right, bottom, top = ends
    return left, right, top, bottom


@cache
def _kinds() -> Mapping[str, str]:
    """Return published model -> ``open`` if its weights can be had, else ``proprietary``."""
    listing = catalogue.list_entries(None, Registry())
    return {model.name: "open" if model.open else "proprietary" for model in listing}


def _parity(metrics: _Metrics) -> dict[str, float | None]:
    return {id_: metric["parity"] for id_, metric in metrics.items()}


def _directions(metrics: _Metrics) -> dict[str, bool]:
    """Return metric -> higher is better, as in the run's trust scores; the published table's arrows may differ."""
    return {id_: metric["higher_is_better"] for id_, metric in metrics.items()}


def _mean(scores: _Scores, ids: Sequence[str], higher_is_better: Mapping[str, bool]) -> float | None:
    """Return the mean on the scale of a trust score; None of nothing, and if one of the metrics is not known."""
    numbers = []
    for id_ in ids:
        value = scores.get(id_)
        if value is None:
            return None
        numbers.append(oriented(value, higher_is_better=higher_is_better[id_]))
    return sum(numbers) / len(numbers) if numbers else None


def _plain_mean(scores: _Scores, ids: Sequence[str]) -> float | None:
    """Return the mean of the metrics as they are; None if one of them is not known."""
    numbers = []
    for id_ in ids:
        value = scores.get(id_)
        if value is None:
            return None
        numbers.append(value)
    return sum(numbers) / len(numbers)


def _share(value: object) -> float | None:
    """Return a number that a hook gave; None if it is not one in [0, 1]."""
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    return None


_SIZE = (400.0, 300.0)  # of the area of the points
_LINE, _LETTER, _BOLD_LETTER, _DOT = 11.0, 6.1, 7.2, 6.0
_SIDES = (
    *((8.0, 4.0, "start"), (-8.0, 4.0, "end"), (0.0, 17.0, "middle"), (0.0, -9.0, "middle")),
    *((5.0, 16.0, "start"), (-5.0, 16.0, "end"), (5.0, -7.0, "start"), (-5.0, -7.0, "end")),
)
"""Places of a label, from its point: the baseline's x and y, and the text-anchor."""
_FAR = ((0.0, 27.0, "middle"), (0.0, -19.0, "middle"), (0.0, 27.0, "start"), (0.0, -19.0, "start"))
"""Further places for the name of this run: it is bold, so that nobody takes it for a nearer point's."""
_LEAST_TENTHS = 4
_MOST_MARKED = 6  # tenths that an axis marks one by one; a longer axis marks every second one


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the part of [0, 1] that an axis shows: tenths around the values, at least four of them."""
    low = max(0, math.floor(min(values) * 10 - 0.3))
    high = min(10, math.ceil(max(values) * 10 + 0.3))
    while high - low < _LEAST_TENTHS:
        low, high = max(0, low - 1), min(10, high + 1)
    if high - low > _MOST_MARKED:  # both ends get a mark
        low -= low % 2
        high += high % 2
    return low / 10, high / 10


def _marks(span: tuple[float, float], axis: int) -> list[tuple[float, float]]:
    low, high = round(span[0] * 10), round(span[1] * 10)
    step = 1 if high - low <= _MOST_MARKED else 2
    return [(_at(tenth / 10, span, axis), tenth / 10) for tenth in range(low, high + 1, step)]


def _at(value: float, span: tuple[float, float], axis: int) -> float:
    """Return a number in the chart's units.

    Args:
        value: The number.
        span: What the axis shows.
        axis: 0 for the horizontal, 1 for the vertical one.
    """
    share = (value - span[0]) / (span[1] - span[0])
    if axis == 1:
        share = 1 - share  # SVG counts from the top
    return round(_SIZE[axis] * share, 1)


def _labelled(points: Sequence[Point], spans: tuple[tuple[float, float], tuple[float, float]]) -> list[Point]:
    """Return the points in the chart's units, with a label wherever it covers neither a point nor another label.

    The last point is labelled first: it is the one that people look for.
    """
    places = [(_at(point.value[0], spans[0], 0), _at(point.value[1], spans[1], 1)) for point in points]
    dots = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in places]
    boxes: list[_Rectangle] = []
    labels: dict[int, _Label] = {}
    for number in reversed(range(len(points))):
        point, (x, y) = points[number], places[number]
        is_own = point.kind == "this"
        length = len(point.name) * (_BOLD_LETTER if is_own else _LETTER)
        taken = [*dots[:number], *dots[number + 1 :], *boxes]
        for right, down, anchor in (*_SIDES, *_FAR) if is_own else _SIDES:
            box = _box(x + right, y + down, anchor, length)
            if _is_free(box, taken):
                labels[number] = round(x + right, 1), round(y + down, 1), anchor
                boxes.append(box)
                break
        if is_own and number not in labels:  # a name that covers something beats no name
            labels[number] = x, y - 9.0, "start" if x < _SIZE[0] / 2 else "end"
    return [
        Point(point.name, point.kind, point.value, *places[number], labels.get(number))
        for number, point in enumerate(points)
    ]


def _is_free(box: _Rectangle, taken: Sequence[_Rectangle]) -> bool:
    """Return whether a label lies inside the chart and covers nothing."""
    left, top, right, bottom = box
    if left < 0 or right > _SIZE[0] or top < 0 or bottom > _SIZE[1]:
        return False
    return not any(_overlap(box, other) for other in taken)


def _box(x: float, y: float, anchor: str, length: float) -> _Rectangle:
    left = x - {"start": 0.0, "end": length, "middle": length / 2}[anchor]
    return left, y - _LINE + 2, left + length, y + 2


def _overlap(one: _Rectangle, other: _Rectangle) -> bool:
    beside = one[2] <= other[0] or other[2] <= one[0]
    above = one[3] <= other[1] or other[3] <= one[1]
    return not beside and not above
