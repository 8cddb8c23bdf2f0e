"""In which run the scores of the same samples changed.

The data are the scores of samples in a row of runs. The null hypothesis is that nothing changed: the scores of a sample
are exchangeable over the runs. The statistic is the greatest standardised cumulative sum of the deviations from each
sample's own mean (CUSUM), and its distribution comes from permuting the runs of every cluster of samples, independently
of the other clusters. So the test is exact for any kind of score, needs no interval of a single run, and a change of
several samples in the same run is evidence even if it is the last run. Further changes are looked for on both sides
(binary segmentation).

Source:
    Antoch and Hušková (2001), Permutation tests in change point analysis, Statistics & Probability Letters 53:37-46;
    binary segmentation: Vostrikova (1981), Soviet Mathematics Doklady 24:55-59; stopping early: Besag and Clifford
    (1991), Biometrika 78:301-304.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_trustllm.stats.bootstrap import seeded_generator

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array

PERMUTATIONS = 9_999
ENOUGH = 10
"""So many permutations with as great a statistic show that the p-value is large; no more are drawn then."""
_BATCH = 200
_EQUAL = 1e-9
"""Statistics that differ by less are equal, whatever the rounding of their sums."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change of level.

    Attributes:
        first: Index of the first run after the change.
        p: Probability of as great a statistic if nothing changed.
    """

    first: int
    p: float


def change_points(scores: Array, clusters: Sequence[Hashable], alpha: float, seed: int, name: str) -> list[ChangePoint]:
    """Return the changes in a row of runs, in the order of the runs.

    Args:
        scores: (samples, runs), without gaps.
        clusters: One per sample.
        alpha: Greatest p-value of a change.
        seed: Of the permutations.
        name: Of what is tested; different names draw different permutations.
    """
    found = list(_changes(scores, clusters, alpha, seeded_generator(seed, f"change/{name}"), 0))
    return sorted(found, key=lambda change: change.first)


def _changes(
    scores: Array, clusters: Sequence[Hashable], alpha: float, random: Any, offset: int
) -> Iterator[ChangePoint]:
    change = _greatest_change(scores, clusters, random)
    if change is None or change.p > alpha:
        return
    yield ChangePoint(offset + change.first, change.p)
    yield from _changes(scores[:, : change.first], clusters, alpha, random, offset)
    yield from _changes(scores[:, change.first :], clusters, alpha, random, offset + change.first)


def _greatest_change(scores: Array, clusters: Sequence[Hashable], random: Any) -> ChangePoint | None:
    """Return the likeliest change and its p-value; None if there are too few runs, or nothing ever differs."""
    import numpy as np

    runs = scores.shape[1]
    if runs < 2:
        return None
    deviations = scores - scores.mean(axis=1, keepdims=True)
    moving = np.abs(deviations).max(axis=1) > _EQUAL
    if not moving.any():
        return None
    deviations = _by_cluster(
        deviations[moving], [cluster for cluster, moves in zip(clusters, moving, strict=True) if moves]
    )
    observed = _statistics(deviations[None])
    first = int(np.argmax(observed[0])) + 1
    greatest = float(observed[0].max())
    return ChangePoint(first, _p_value(deviations, greatest, random))


def _by_cluster(deviations: Array, clusters: Sequence[Hashable]) -> Array:
    """Return the sums of the deviations of each cluster, (clusters, runs): its samples move together."""
    import numpy as np

    row_of = {cluster: row for row, cluster in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(row_of), deviations.shape[1]))
    np.add.at(sums, [row_of[cluster] for cluster in clusters], deviations)
    return sums


def _statistics(deviations: Array) -> Array:
    """Return the standardised cumulative sum at every place where a change may be.

    Args:
        deviations: (permutations, clusters, runs).

    Returns:
        (permutations, runs - 1), never negative.
    """
    import numpy as np

    runs = deviations.shape[2]
    sums = np.cumsum(deviations.sum(axis=1), axis=1)[:, :-1]
    before = np.arange(1, runs)
    statistics: Array = np.abs(sums) / np.sqrt(before * (runs - before) / runs)
    return statistics


def _p_value(deviations: Array, greatest: float, random: Any) -> float:
    """Return the share of permutations with as great a statistic, the observed one included."""
    clusters, runs = deviations.shape
    batch = max(1, min(_BATCH, math.ceil(4_000_000 / (clusters * runs))))
    drawn = 0
    as_great = 0
    while drawn < PERMUTATIONS:
        size = min(batch, PERMUTATIONS - drawn)
        permuted = random.permuted(deviations[None].repeat(size, axis=0), axis=2)
        as_great += int((_statistics(permuted).max(axis=1) >= greatest - _EQUAL).sum())
        drawn += size
        if as_great >= ENOUGH:
            break
    return (as_great + 1) / (drawn + 1)
