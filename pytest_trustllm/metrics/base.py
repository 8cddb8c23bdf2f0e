"""What a metric is, and how it gets its interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pytest_trustllm.errors import ScorerError

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array, LimitsAndMethod

Observation = Mapping[str, Any]
"""One scored sample: ``value`` (a number), whatever else the scorer observed, ``group`` (name -> value), ``met`` (its
target is met) and ``item`` (equal for all ways and epochs in which one row is asked)."""


class Metric(Protocol):
    """Turns the scored samples of a task into one number.

    A metric is a frozen dataclass; its fields are the parameters that a suite may set. The order of the observations
    never matters: where floats are added, sums are exact (``math.fsum``). Direction and range are class variables, or
    properties where a parameter decides. A metric that also implements one of the protocols below gets the interval of
    that protocol; any other gets a jackknife interval, for which it is computed up to 40 more times.
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
        """Return the number; None if it cannot be computed from these observations: a missing number is not a zero."""
        ...


@runtime_checkable
class Averaged(Protocol):
    """A metric that is a weighted mean; it gets the interval of a share or a mean."""

    def terms(self, observations: Sequence[Observation]) -> Sequence[tuple[float, float]]:
        """Return (weight * number, weight) per observation; the metric is the ratio of the two sums."""
        ...


@runtime_checkable
class Bounded(Averaged, Protocol):
    """A weighted mean that the samples not yet asked can move only so far: a gate on it can be decided early.

    No weight is below 0 or above 1, and every number lies within the metric's range.
    """

    @property
    def equal_weights(self) -> bool:
        """Every observation weighs 1, so that the group of a sample tells how much the sample will count."""
        ...


@runtime_checkable
class Tabled(Protocol):
    """A metric that depends on how often each outcome occurs; it gets a bootstrap interval."""

    @property
    def prior(self) -> Sequence[Hashable]:
        """Outcomes that can occur, whether they did or not; empty if they cannot be listed."""
        ...

    def outcomes(self, observations: Sequence[Observation]) -> Sequence[Hashable]:
        """Return the outcome of every observation."""
        ...

    def of_shares(self, outcomes: Sequence[Any], shares: Array) -> Array:
        """Return the metric for many draws at once.

        Args:
            outcomes: Distinct outcomes.
            shares: How often each occurs, (draws, outcomes); rows add up to 1.

        Returns:
            One number per draw, (draws,).
        """
        ...


@runtime_checkable
class SelfBounded(Protocol):
    """A metric that computes its own interval."""

    def limits(
        self, observations: Sequence[Observation], clusters: Sequence[Hashable], confidence: float
    ) -> LimitsAndMethod | None:
        """Return limits and method; None if these observations have none.

        Args:
            observations: What the metric is computed from.
            clusters: One per observation; observations of one cluster depend on each other.
            confidence: In (0, 1).
        """
        ...


def observed(observation: Observation, name: str) -> Any:
    """Return what a scorer observed under a name.

    Raises:
        ScorerError: It observes nothing under that name.
    """
    if name not in observation:
        names = ", ".join(sorted(key for key in observation if key != "group"))
        raise ScorerError(f"a metric needs {name!r}, which the task's scorer does not observe; it observes {names}")
    return observation[name]


def numbers(observations: Sequence[Observation], name: str) -> list[float]:
    """Return one observed number of every sample.

    Raises:
        ScorerError: The scorer does not observe it.
    """
    return [float(observed(observation, name)) for observation in observations]


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None without values."""
    if not values:
        return None
    return math.fsum(values) / len(values)
