"""One reading of a metric over the samples of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_trustllm.metricspec import Reading


def compute(
    reading: Reading, observations: Sequence[Mapping[str, Any]], groups: Iterable[str], by: str | None
) -> float | None:
    """Return one reading of a metric.

    Args:
        reading: What to compute.
        observations: Usable samples, each with ``group``.
        groups: All values of the group among the samples of the run, usable or not.
        by: Name of the group that a macro average goes over.

    Returns:
        The number; where there is none, what the reading says that nothing counts as: usually None.
    """
    if reading.average == "pooled" or by is None:
        found: float | None = reading.metric.compute(observations)
        if found is None:
            return None if reading.raises_if_empty else reading.empty
        digits = reading.digits.get("*")
        return found if digits is None else round(found, digits)
    parts: list[float] = []
    for group in groups:
        usable = [o for o in observations if o["group"].get(by) == group]
        part = reading.metric.compute(usable)
        if part is None:
            if reading.raises_if_empty or (not usable and reading.empty is None):
                return None  # the mean of the groups that survived is another number than the mean of all groups
            part = reading.empty
        if part is not None:
            digits = reading.digits.get(group, reading.digits.get("*"))
            parts.append(part if digits is None else round(part, digits))
    return math.fsum(parts) / len(parts) if parts else None
