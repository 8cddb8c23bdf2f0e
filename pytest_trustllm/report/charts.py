"""The radar of the dimensions, as coordinates that the template draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.report import published

_RADIUS = 100.0
_LEAST = 3  # axes; two make a line


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension's axis.

    Attributes:
        name: The dimension.
        score: Its trust score.
        x: Where the axis ends; the centre is (0, 0), y goes down, as in SVG.
        y: The same.
        label: Where its name stands: (x, y, text-anchor).
    """

    name: str
    score: float | None
    x: float
    y: float
    label: tuple[float, float, str]


@dataclass(frozen=True, slots=True)
class Radar:
    """The dimensions around a centre.

    Attributes:
        axes: Clockwise from the top.
        rings: (Mark, its polygon, where it crosses the upper axis) of 0.25, 0.5, 0.75 and 1.
        own: This run's polygon; a dimension without a score is left out.
        dots: Its corners.
        median: Polygon of the published models' medians; empty if one is missing.
    """

    axes: Sequence[Axis]
    rings: Sequence[tuple[float, str, float]]
    own: str
    dots: Sequence[tuple[float, float]]
    median: str


def radar(results: Mapping[str, Any]) -> Radar | None:
    """Return the radar; None if there are too few dimensions for one."""
    scores = results["scores"]
    if len(scores) < _LEAST:
        return None
    directions = [math.tau * i / len(scores) for i in range(len(scores))]
    axes, dots, medians = [], [], []
    for angle, (name, score) in zip(directions, scores.items(), strict=True):
        x, y = _at(angle, 1.0)
        anchor = "middle" if abs(math.sin(angle)) < 0.1 else "start" if x > 0 else "end"
        lx, ly = _at(angle, 1.14)
        axes.append(Axis(one_line(name, 24), score["value"], x, y, (lx, ly, anchor)))
        if score["value"] is not None:
            dots.append(_at(angle, score["value"]))
        board = published.dimension(results["metrics"], score["of"])
        if board is not None:
            medians.append(_at(angle, board.median))
    return Radar(
        axes=axes,
        rings=[
            (share, _polygon([_at(angle, share) for angle in directions]), -_RADIUS * share)
            for share in (0.25, 0.5, 0.75, 1.0)
        ],
        own=_polygon(dots),
        dots=dots,
        median=_polygon(medians) if len(medians) == len(scores) else "",
    )


def _at(angle: float, share: float) -> tuple[float, float]:
    return round(_RADIUS * share * math.sin(angle), 2), round(-_RADIUS * share * math.cos(angle), 2)


def _polygon(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
