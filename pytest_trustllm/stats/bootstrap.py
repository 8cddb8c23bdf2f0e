"""The Bayesian bootstrap: draws of a number that depends on the shares of several outcomes.

A draw gives every observation an exponential weight and computes the number from the weighted shares. That is a draw
from the posterior distribution of the shares after the observations, under a prior that rules out whatever did not
occur; a prior observation repairs the latter.

Source:
    Rubin (1981), Annals of Statistics 9:130-134; of tables of labels and answers: Goutte and Gaussier (2005), ECIR,
    345-359.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from pytest_trustllm.stats.intervals import Limits, student_quantile

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array

DRAWS = 2000


def seeded_generator(seed: int, name: str) -> Any:
    """Return a numpy generator that depends on the seed and the name alone."""
    import numpy as np

    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def bootstrap_draws(
    outcomes: Sequence[Hashable],
    clusters: Sequence[Hashable],
    prior: Sequence[Hashable],
    of_shares: Callable[[Sequence[Any], Array], Array],
    weights: Mapping[Hashable, Array] | None,
    random: Any,
) -> Array:
    """Draw what a number that depends on the shares of the outcomes could be.

    Args:
        outcomes: One per observation.
        clusters: One per observation.
        prior: Outcomes that may occur. Together they count as one more observation (one more cluster if there are
            weights), so that what did not occur is not ruled out.
        of_shares: Takes distinct outcomes and their shares, (draws, outcomes), to numbers, (draws,).
        weights: Cluster -> draws of its weight, from :func:`cluster_weights`; None: every observation is independent.
        random: Numpy generator.

    Returns:
        The numbers, (draws,).
    """
    # sorted, so that the draws do not depend on the order of the observations
    distinct = sorted({*outcomes, *prior}, key=repr)
    column_of = {outcome: column for column, outcome in enumerate(distinct)}
    observed = [column_of[outcome] for outcome in outcomes]
    if weights is None:
        mass = _independent_mass(observed, len(distinct), random)
        size = 1.0
    else:
        mass = _clustered_mass(observed, len(distinct), clusters, weights)
        size = len(outcomes) / len({*clusters})
    if prior:
        columns = [column_of[outcome] for outcome in prior]
        mass[:, columns] += size * random.standard_gamma(1 / len(prior), (DRAWS, len(prior)))
    return of_shares(distinct, mass / mass.sum(axis=1, keepdims=True))


def _independent_mass(observed: Sequence[int], outcomes: int, random: Any) -> Array:
    """Return draws of every outcome's weight, (draws, outcomes), if each observation has a weight of its own.

    Observations of one outcome need not be drawn one by one: the sum of n exponential numbers is a gamma number.
    """
    import numpy as np

    counts = np.bincount(observed, minlength=outcomes)
    occurring = np.flatnonzero(counts)
    mass = np.zeros((DRAWS, outcomes))
    mass[:, occurring] = random.standard_gamma(counts[occurring], (DRAWS, len(occurring)))
    return mass


def _clustered_mass(
    observed: Sequence[int], outcomes: int, clusters: Sequence[Hashable], weights: Mapping[Hashable, Array]
) -> Array:
    """Return draws of every outcome's weight, (draws, outcomes), if the observations of a cluster share theirs."""
    import numpy as np

    names = sorted({*clusters}, key=repr)
    row_of = {name: row for row, name in enumerate(names)}
    counts = np.zeros((len(names), outcomes))
    np.add.at(counts, ([row_of[cluster] for cluster in clusters], observed), 1.0)
    mass: Array = np.stack([weights[name] for name in names], axis=1) @ counts
    return mass


def cluster_weights(clusters: Iterable[Hashable], random: Any) -> dict[Hashable, Array]:
    """Return draws of every cluster's weight, so that a cluster in several groups has the same weight in all."""
    names = sorted({*clusters}, key=repr)
    weights = random.standard_exponential((len(names), DRAWS))
    return dict(zip(names, weights, strict=True))


def posterior_widening(clusters: int) -> float:
    """Return by how much the spread of bootstrap draws is too small for an estimate from few clusters.

    Exponential weights give a mean of C clusters the variance Σ(x - mean)² / C(C + 1); its unbiased estimate is
    Σ(x - mean)² / C(C - 1).

    Args:
        clusters: At least 2.
    """
    return math.sqrt((clusters + 1) / (clusters - 1))


def percentiles(draws: Array, clusters: int, confidence: float) -> Limits | None:
    """Return the limits that leave equal shares of the draws outside: smaller ones if there are few clusters.

    Args:
        draws: One number each.
        clusters: How many were weighted; if they were weighted by group, one less for every group but the first.
        confidence: In (0, 1).

    Returns:
        None if a draw is not a finite number, or if there are fewer than two clusters.

    Source:
        Expanded percentiles: Hesterberg (2015), The American Statistician 69:371-386.
    """
    import numpy as np

    if clusters < 2 or not np.isfinite(draws).all():
        return None
    quantile = posterior_widening(clusters) * student_quantile(confidence, clusters - 1)
    tail = NormalDist().cdf(-quantile)
    tail = max(tail, 0.5 / len(draws))  # beyond the outermost draw there is nothing
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
