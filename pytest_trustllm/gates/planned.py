"""The samples that a run plans to ask, as gates that may stop it see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample of the plan.

    Attributes:
        id: Of the sample.
        group: Group name -> value.
        cluster: Samples of the same cluster depend on each other.
        fingerprint: Changes when the sample does; for pairs with a baseline.
    """

    id: str
    group: Mapping[str, str]
    cluster: str
    fingerprint: str = ""


Unit = tuple[PlannedSample, ...]
"""Samples that are asked together: one, or all of a cluster."""


class Bounds(NamedTuple):
    """Between which numbers a metric will end, whatever the samples that are still open answer."""

    low: float
    high: float


class Contribution(NamedTuple):
    """What one sample adds to a part."""

    part: str
    number: float
    weight: float
