"""The radar of the dimensions, as coordinates that the template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report.page import leaderboard

_RADIUS = 100.0
_LEAST = 3  # axes; two make a line
_RINGS = (0.25, 0.5, 0.75, 1.0)
_UPRIGHT = 0.1  # sine of the angle up to which an axis is so steep that its name is centred


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension's axis.

    Attributes:
        name: The dimension.
        score: Its trust score.
        x: End of the axis; the centre is (0, 0), y grows downwards, as in SVG.
        y: The same.
        label: Place of its name: (x, y, text-anchor).
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


def radar(results: Results) -> Radar | None:
    """Return the radar; None if there are too few dimensions for one."""
    scores = results["scores"]
    if len(scores) < _LEAST:
        return None
    angles = [math.tau * number / len(scores) for number in range(len(scores))]
    axes, dots, medians = [], [], []
    for angle, (name, score) in zip(angles, scores.items(), strict=True):
        axes.append(_axis(angle, name, score["value"]))
        if score["value"] is not None:
            dots.append(_at(angle, score["value"]))
        board = leaderboard.dimension(results["metrics"], score["of"])
        if board is not None:
            medians.append(_at(angle, board.median))
    rings = []
    for share in _RINGS:
        ring = _polygon([_at(angle, share) for angle in angles])
        rings.append((share, ring, -_RADIUS * share))
    return Radar(
        axes=axes,
        rings=rings,
        own=_polygon(dots),
        dots=dots,
        median=_polygon(medians) if len(medians) == len(scores) else "",
    )


def _axis(angle: float, name: str, score: float | None) -> Axis:
    x, y = _at(angle, 1.0)
    label_x, label_y = _at(angle, 1.14)
    if abs(math.sin(angle)) < _UPRIGHT:
        anchor = "middle"
    else:
        anchor = "start" if x > 0 else "end"
    return Axis(one_line(name, 24), score, x, y, (label_x, label_y, anchor))


def _at(angle: float, share: float) -> tuple[float, float]:
    """Return the point that a share of the radius reaches, clockwise from the top."""
    distance = _RADIUS * share
    return round(distance * math.sin(angle), 2), round(-distance * math.cos(angle), 2)


def _polygon(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
