"""What a metric is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

Observation = Mapping[str, Any]
"""One scored sample: ``value`` (a number), what the scorer ``observed`` besides, and ``group`` (group name -> value)."""


class Metric(Protocol):
    """Turns the scored samples of a task into one number.

    A metric is a frozen dataclass; its fields are the parameters that a suite may give. Order of the observations
    never matters: sums are exact (``math.fsum``) where floats add up.
    """

    higher_is_better: ClassVar[bool]
    range: ClassVar[tuple[float, float]]

    def compute(self, observations: Sequence[Observation]) -> float | None:
        """Return the number, or None if nothing can be computed from these observations (never 0 for nothing)."""
        ...
