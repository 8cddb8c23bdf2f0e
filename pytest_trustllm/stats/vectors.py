"""Vectors: the cosine of two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul

Vector = Sequence[float]


def cosine(left: Vector, right: Vector) -> float:
    """Return the cosine of the angle between two vectors, in [-1, 1] but for rounding.

    Args:
        left: Not all zero.
        right: As long as ``left``, and not all zero.

    Raises:
        ValueError: They differ in length.
    """
    if len(left) != len(right):
        raise ValueError(f"vectors of {len(left)} and {len(right)} numbers")
    return _dot(left, right) / math.sqrt(_dot(left, left) * _dot(right, right))


def _dot(left: Vector, right: Vector) -> float:
    # a plain sum depends on the order of its terms in the last digits
    return math.fsum(map(mul, left, right))
