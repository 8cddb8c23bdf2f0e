"""What a metric is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pytest_trustllm.errors import ScorerError

if TYPE_CHECKING:
    from pytest_trustllm.uncertainty import Array, Estimated

Observation = Mapping[str, Any]
"""One scored sample: ``value`` (a number), what the scorer ``observed`` besides, and ``group`` (name -> value)."""


class Metric(Protocol):
    """Turns the scored samples of a task into one number.

    A metric is a frozen dataclass; its fields are the parameters that a suite may give. Order of the observations
    never matters: sums are exact (``math.fsum``) where floats add up. Direction and range may be class variables, or
    properties where a parameter decides. A metric that is one of the protocols below too gets the interval that suits
    its kind; any other one gets a jackknife's, which computes it 40 times more.
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


@runtime_checkable
class Averaged(Protocol):
    """A metric that is a weighted mean; its interval is that of a share or a mean."""

    def terms(self, observations: Sequence[Observation]) -> Sequence[tuple[float, float]]:
        """Return (weighted number, weight) per observation, so that the metric is the ratio of the two sums."""
        ...


@runtime_checkable
class Tabled(Protocol):
    """A metric that depends on how often each outcome occurs; its interval is a bootstrap's."""

    @property
    def prior(self) -> Sequence[Hashable]:
        """Outcomes that may occur although they did not; empty if there are too many to name."""
        ...

    def outcomes(self, observations: Sequence[Observation]) -> Sequence[Hashable]:
        """Return the outcome of every observation."""
        ...

    def of_shares(self, outcomes: Sequence[Any], shares: Array) -> Array:
        """Return the metric for several draws at once; shares: (draws, outcomes), result: (draws,)."""
        ...


@runtime_checkable
class SelfBounded(Protocol):
    """A metric that has its own kind of interval."""

    def limits(
        self, observations: Sequence[Observation], clusters: Sequence[Hashable], confidence: float
    ) -> Estimated | None:
        """Return limits and method; None if these observations give none."""
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
