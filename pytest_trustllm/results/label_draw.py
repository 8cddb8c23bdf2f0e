"""Which responses of a run people should label, so that a few labels show how often its judge errs.

Responses are drawn by verdict. The judge's rarer verdict gets more than its share, or a judge that calls 2 % of 1,400
responses a refusal would be checked on two of them; the more frequent one still gets most, since it decides the rate.
How likely each response was to be drawn is recorded with its label, so that both are weighted as they should be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.metrics.observations import ObservedSample
from pytest_trustllm.types import digest


class JudgedUnit(NamedTuple):
    """A response of a run, or the responses of a pair, with the verdict on it.

    Attributes:
        id: Of the sample.
        epoch: From 0.
        verdict: 1.0 if the rate counts it, else 0.0.
        cluster: Of the sample.
        fingerprint: Of the sample.
    """

    id: str
    epoch: int
    verdict: float
    cluster: str
    fingerprint: str

    @property
    def key(self) -> tuple[str, int]:
        """What distinguishes it from the task's other responses."""
        return self.id, self.epoch


class DrawnUnit(NamedTuple):
    """A response to be labelled.

    Attributes:
        unit: The response.
        chance: Probability that it was drawn, in (0, 1].
    """

    unit: JudgedUnit
    chance: float


def judged_units(samples: Iterable[ObservedSample]) -> list[JudgedUnit]:
    """Return the responses of a task that have a verdict, by id and epoch.

    Raises:
        ResultsError: A score is neither 0 nor 1, so that it is not a verdict that a rate counts.
    """
    units: list[JudgedUnit] = []
    for sample in samples:
        for epoch, observation in enumerate(sample.corrected):
            verdict = float(observation["value"])
            if verdict not in (0.0, 1.0):
                raise ResultsError(f"sample {sample.id} has the score {verdict:g}; only verdicts of 0 and 1 are a rate")
            units.append(JudgedUnit(sample.id, epoch, verdict, sample.cluster, sample.fingerprint))
    return sorted(units)


def frame_digest(units: Iterable[JudgedUnit]) -> str:
    """Return a hash of which responses have which verdict: labels drawn from others are not a random part of these."""
    return digest([[unit.id, unit.epoch, unit.verdict, unit.fingerprint] for unit in sorted(units)])[:32]


def draw(units: Sequence[JudgedUnit], count: int, seed: str) -> list[DrawnUnit]:
    """Draw responses by verdict, in random order.

    The same seed draws the same responses, and the first of more: who labelled 100 can go on to 200.

    Args:
        units: All responses of the task.
        count: How many to draw; all of them if there are fewer.
        seed: The choice depends on it alone.
    """
    strata: dict[float, list[JudgedUnit]] = {}
    for unit in sorted(units):
        strata.setdefault(unit.verdict, []).append(unit)
    members = list(strata.values())
    counts = allocation([len(stratum) for stratum in members], count)
    drawn: list[DrawnUnit] = []
    for stratum, of_stratum in zip(members, counts, strict=True):
        chosen = sorted(stratum, key=lambda unit: digest([seed, "drawn", *unit.key]))[:of_stratum]
        drawn += [DrawnUnit(unit, of_stratum / len(stratum)) for unit in chosen]
    # another order than that of the draw, in which the rarer verdict would come last and betray itself
    return sorted(drawn, key=lambda one: digest([seed, "shown", *one.unit.key]))


def allocation(sizes: Sequence[int], count: int) -> list[int]:
    """Return how many to draw of each stratum: in proportion to the square root of its size.

    They are dealt one by one (Sainte-Laguë), so that more are drawn of no stratum if fewer are drawn in all.

    Args:
        sizes: Of the strata, each at least 1.
        count: How many in all; all of them if there are fewer.

    Source:
        Bankier (1988), Power allocations, The American Statistician 42:174-177, with power one half.
    """
    dealt = [0] * len(sizes)
    for _ in range(min(count, sum(sizes))):
        open_strata = [index for index, size in enumerate(sizes) if dealt[index] < size]
        next_one = max(open_strata, key=lambda index: math.sqrt(sizes[index]) / (2 * dealt[index] + 1))
        dealt[next_one] += 1
    return dealt
