"""One reading of a metric over the samples of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_trustllm.suites.metric_specs import Reading


def compute_reading(
    reading: Reading, observations: Sequence[Mapping[str, Any]], groups: Iterable[str], by: str | None
) -> float | None:
    """Return one reading of a metric.

    Args:
        reading: What to compute.
        observations: Usable samples, each with ``group``.
        groups: All values of the group among the samples of the run, usable or not.
        by: Name of the group that a macro average is taken over.

    Returns:
        The number; without a usable sample, ``reading.empty``, which is usually None.
    """
    if reading.average == "pooled" or by is None:
        return _pooled(reading, observations)
    return _macro(reading, observations, groups, by)


def _pooled(reading: Reading, observations: Sequence[Mapping[str, Any]]) -> float | None:
    number: float | None = reading.metric.compute(observations)
    if number is None:
        return None if reading.raises_if_empty else reading.empty
    return _rounded(number, reading.digits.get("*"))


def _macro(reading: Reading, observations: Sequence[Mapping[str, Any]], groups: Iterable[str], by: str) -> float | None:
    group_numbers: list[float] = []
    for group in groups:
        usable = [observation for observation in observations if observation["group"].get(by) == group]
        number = reading.metric.compute(usable)
        if number is None:
            if reading.raises_if_empty or (not usable and reading.empty is None):
                return None  # the mean of the groups that survived is another number than the mean of all groups
            number = reading.empty
        if number is not None:
            digits = reading.digits.get(group, reading.digits.get("*"))
            group_numbers.append(_rounded(number, digits))
    if not group_numbers:
        return None
    return math.fsum(group_numbers) / len(group_numbers)


def _rounded(number: float, digits: int | None) -> float:
    return number if digits is None else round(number, digits)
