"""A run among the published models: places, medians, and the two charts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.models import catalogue
from pytest_trustllm.registry import Registry

HARMFUL = ("safety/jailbreak.refusal_rate", "safety/misuse.refusal_rate")
HARMLESS = ("safety/exaggerated_safety.refusal_rate",)
UTILITY = (
    "truthfulness/misinformation_internal.accuracy",
    "truthfulness/misinformation_external.macro_f1",
    "truthfulness/hallucination.accuracy",
    "robustness/ood_generalization.f1",
    "ethics/emotional_awareness.accuracy",
)
"""Metrics that ask for a right answer; what stands on the other axis leaves them out."""

_Metrics = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Board:
    """A dimension among the published models, on the headline metrics that both have, in the parity reading.

    Attributes:
        own: This run's mean, each metric turned so that higher is better.
        others: The published models' means.
        place: This run's place, 1 is best.
        median: Of the published models.
    """

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
        label: Where its name stands: (x, y, text-anchor); None if there is no room for it.
    """

    name: str
    kind: str
    value: tuple[float, float]
    x: float = 0.0
    y: float = 0.0
    label: tuple[float, float, str] | None = None


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
    """

    x: str
    y: str
    points: Sequence[Point]
    across: Sequence[tuple[float, float]]
    up: Sequence[tuple[float, float]]
    missing: str = ""


def values(metric: str) -> list[float]:
    """Return the published models' values of a metric."""
    return [v for scores in catalogue.published().scores.values() if (v := scores.get(metric)) is not None]


def dimension(metrics: _Metrics, of: Sequence[str]) -> Board | None:
    """Return a dimension among the published models; None if they have no metric in common.

    Args:
        metrics: The run's.
        of: Headline metrics with a value.
    """
    board = catalogue.published()
    ids = [id_ for id_ in of if id_ in board.metrics and metrics[id_]["parity"] is not None]
    if not ids:
        return None
    own = _mean({id_: metrics[id_]["parity"] for id_ in ids}, ids)
    others = [mean for scores in board.scores.values() if (mean := _mean(scores, ids)) is not None]
    if own is None or not others:
        return None
    return Board(own, others, 1 + sum(o > own for o in others), statistics.median(others))


def over_alignment(results: Mapping[str, Any]) -> Chart | None:
    """Return refusal of harmful prompts against refusal of harmless ones; None if the run is not about them."""
    if not any(id_ in results["metrics"] for id_ in (*HARMFUL, *HARMLESS)):
        return None
    found = {
        name: (_plain_mean(scores, HARMLESS), _plain_mean(scores, HARMFUL))
        for name, scores in catalogue.published().scores.items()
    }
    own = _parity(results["metrics"])
    mine = _plain_mean(own, HARMLESS), _plain_mean(own, HARMFUL)
    return _chart("Harmless questions refused", "Harmful prompts refused", found, mine, results)


def trust_and_utility(results: Mapping[str, Any]) -> Chart | None:
    """Return trust against utility; None if the run has neither.

    Utility is the mean of the metrics that ask for a right answer, or what a hook put into ``run.extra.utility``:
    ``{"name", "value", "models": {published model: value}}``, all in [0, 1]. Trust is the mean of the other headline
    metrics, each turned so that higher is better. A model counts where both are known.
    """
    metrics = results["metrics"]
    given = results["run"].get("extra", {}).get("utility")
    board = catalogue.published()
    trusted = [id_ for id_ in board.metrics if id_ not in UTILITY and _parity(metrics).get(id_) is not None]
    useful = [id_ for id_ in UTILITY if _parity(metrics).get(id_) is not None]
    if not trusted or not (useful or given):
        return None
    own = _parity(metrics)
    if isinstance(given, Mapping):
        title = one_line(given.get("name", "utility"), 60)
        utilities = {name: _share(value) for name, value in dict(given.get("models", {})).items()}
        mine = _share(given.get("value"))
    else:
        title = f"Utility: mean of {len(useful)} accuracies"
        utilities = {name: _mean(scores, useful) for name, scores in board.scores.items()}
        mine = _mean(own, useful)
    found = {name: (utilities.get(name), _mean(scores, trusted)) for name, scores in board.scores.items()}
    return _chart(title, f"Trust: mean of {len(trusted)} metrics", found, (mine, _mean(own, trusted)), results)


def _chart(
    x: str,
    y: str,
    found: Mapping[str, tuple[float | None, float | None]],
    mine: tuple[float | None, float | None],
    results: Mapping[str, Any],
) -> Chart | None:
    kinds = _kinds()
    points = [
        Point(name, kinds.get(name, "open"), (px, py))
        for name, (px, py) in sorted(found.items())
        if px is not None and py is not None
    ]
    missing = ""
    if mine[0] is not None and mine[1] is not None:
        name = one_line(results["run"].get("model", {}).get("name", "this run"), 24)
        points.append(Point(name, "this", (mine[0], mine[1])))
    else:
        missing = f"This run has no value for “{(x if mine[0] is None else y).lower()}”."
    if not points:
        return None
    spans = [_span([p.value[axis] for p in points]) for axis in (0, 1)]
    return Chart(x, y, _labelled(points, spans), _marks(spans[0], 0), _marks(spans[1], 1), missing)


@cache
def _kinds() -> Mapping[str, str]:
    """Return published model -> whether its weights can be had."""
    return {a.name: "open" if a.open else "proprietary" for a in catalogue.listing(None, Registry())}


def _parity(metrics: _Metrics) -> dict[str, float | None]:
    return {id_: m["parity"] for id_, m in metrics.items()}


def _mean(scores: Mapping[str, float | None], ids: Sequence[str]) -> float | None:
    """Return the mean, each metric turned so that higher is better and clipped; None if one of them is not known."""
    higher = catalogue.published().metrics
    turned = []
    for id_ in ids:
        value = scores.get(id_)
        if value is None:
            return None
        turned.append(min(1.0, max(0.0, value if higher[id_] else 1.0 - value)))
    return sum(turned) / len(turned) if turned else None


def _plain_mean(scores: Mapping[str, float | None], ids: Sequence[str]) -> float | None:
    found = [v for id_ in ids if (v := scores.get(id_)) is not None]
    return sum(found) / len(found) if len(found) == len(ids) else None


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


_SIZE = (400.0, 300.0)  # of the area that points lie in
_LINE, _LETTER, _BOLD, _DOT = 11.0, 6.1, 7.2, 6.0
_SIDES = (
    *((8.0, 4.0, "start"), (-8.0, 4.0, "end"), (0.0, 17.0, "middle"), (0.0, -9.0, "middle")),
    *((5.0, 16.0, "start"), (-5.0, 16.0, "end"), (5.0, -7.0, "start"), (-5.0, -7.0, "end")),
)
"""Where a label may stand, from its point: the baseline's x and y, and the text-anchor."""
_FAR = ((0.0, 27.0, "middle"), (0.0, -19.0, "middle"), (0.0, 27.0, "start"), (0.0, -19.0, "start"))
"""Where the name of this run may stand too: it is bold, so that nobody takes it for a nearer point's."""


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the part of [0, 1] that an axis shows: tenths around the values, at least four of them."""
    low, high = max(0, math.floor(min(values) * 10 - 0.3)), min(10, math.ceil(max(values) * 10 + 0.3))
    while high - low < 4:
        low, high = max(0, low - 1), min(10, high + 1)
    if high - low > 6:  # every second tenth gets a mark
        low, high = low - low % 2, high + high % 2
    return low / 10, high / 10


def _marks(span: tuple[float, float], axis: int) -> list[tuple[float, float]]:
    low, high = round(span[0] * 10), round(span[1] * 10)
    step = 1 if high - low <= 6 else 2
    return [(_at(tenth / 10, span, axis), tenth / 10) for tenth in range(low, high + 1, step)]


def _at(value: float, span: tuple[float, float], axis: int) -> float:
    share = (value - span[0]) / (span[1] - span[0])
    return round(_SIZE[axis] * (share if axis == 0 else 1 - share), 1)


def _labelled(points: Sequence[Point], spans: Sequence[tuple[float, float]]) -> list[Point]:
    """Return the points in the chart's units, with a label wherever it covers neither a point nor another label.

    The last point is labelled first: it is the one that people look for.
    """
    places = [(_at(p.value[0], spans[0], 0), _at(p.value[1], spans[1], 1)) for p in points]
    taken = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in places]
    labels: dict[int, tuple[float, float, str]] = {}
    for at in reversed(range(len(points))):
        x, y = places[at]
        mine = points[at].kind == "this"
        long = len(points[at].name) * (_BOLD if mine else _LETTER)
        for right, down, anchor in (*_SIDES, *_FAR) if mine else _SIDES:
            box = _box(x + right, y + down, anchor, long)
            inside = box[0] >= 0 and box[2] <= _SIZE[0] and box[1] >= 0 and box[3] <= _SIZE[1]
            if inside and not any(_overlap(box, other) for i, other in enumerate(taken) if i != at):
                labels[at] = round(x + right, 1), round(y + down, 1), anchor
                taken.append(box)
                break
        if mine and at not in labels:  # a name that covers something beats no name
            labels[at] = x, y - 9.0, "start" if x < _SIZE[0] / 2 else "end"
    return [Point(p.name, p.kind, p.value, *places[at], labels.get(at)) for at, p in enumerate(points)]


def _box(x: float, y: float, anchor: str, long: float) -> tuple[float, float, float, float]:
    left = x - {"start": 0.0, "end": long, "middle": long / 2}[anchor]
    return left, y - _LINE + 2, left + long, y + 2


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
