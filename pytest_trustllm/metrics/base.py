"""What a metric is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytest_trustllm.errors import ScorerError

Observation = Mapping[str, Any]
"""One scored sample: ``value`` (a number), what the scorer ``observed`` besides, and ``group`` (name -> value)."""


class Metric(Protocol):
    """Turns the scored samples of a task into one number.

    A metric is a frozen dataclass; its fields are the parameters that a suite may give. Order of the observations
    never matters: sums are exact (``math.fsum``) where floats add up. Direction and range may be class variables, or
    properties where a parameter decides.
    """

    @property
    def higher_is_better(self) -> bool:
        """Direction."""
        ...

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest possible value."""
        ...

    def compute(self, observations: Sequence[Observation]) -> float | None:
        """Return the number, or None if nothing can be computed from these observations (never 0 for nothing)."""
        ...


def observed(observation: Observation, name: str) -> Any:
    """Return what a scorer observed.

    Raises:
        ScorerError: It does not observe that.
    """
    if name not in observation:
        known = ", ".join(sorted(k for k in observation if k != "group"))
        raise ScorerError(f"a metric needs {name!r}, which the task's scorer does not observe; it observes {known}")
    return observation[name]


def numbers(observations: Sequence[Observation], name: str) -> list[float]:
    """Return one observed number of every sample.

    Raises:
        ScorerError: The scorer does not observe it.
    """
    return [float(observed(o, name)) for o in observations]
