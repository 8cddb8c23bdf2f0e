"""How two observed things depend on each other."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_trustllm.metrics.base import Observation, numbers, observed
from pytest_trustllm.stats.dependence import correlation_limits, independence_limits
from pytest_trustllm.stats.intervals import LimitsAndMethod

if TYPE_CHECKING:
    from pytest_trustllm.stats.intervals import Array


@dataclass(frozen=True, slots=True)
class Pearson:
    """Pearson's correlation of the scores with another observed number.

    Attributes:
        against: Name of the other number, such as people's rating.
    """

    against: str = "human"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def compute(self, observations: Sequence[Observation]) -> float | None:
        """Return the correlation; None if one side is constant, as with fewer than two samples."""
        scores = numbers(observations, "value")
        others = numbers(observations, self.against)
        if len(set(scores)) < 2 or len(set(others)) < 2:
            return None
        return min(1.0, max(-1.0, statistics.correlation(scores, others)))  # rounding can lead just outside [-1, 1]

    @property
    def prior(self) -> Sequence[Hashable]:
        """Empty: any pair of numbers can occur."""
        return ()

    def limits(
        self, observations: Sequence[Observation], clusters: Sequence[Hashable], confidence: float
    ) -> LimitsAndMethod | None:
        """Return limits of the correlation."""
        return correlation_limits(self._pairs(observations), clusters, confidence)

    def outcomes(self, observations: Sequence[Observation]) -> Sequence[Hashable]:
        """Return (score, other number) of every sample."""
        return self._pairs(observations)

    def of_shares(self, outcomes: Sequence[Any], shares: Array) -> Array:
        """Return the correlation of the weighted samples; not a number where one side is constant."""
        import numpy as np

        x = np.array([score for score, _ in outcomes], dtype=float)
        y = np.array([other for _, other in outcomes], dtype=float)
        # centred first: the difference of two large squares below would lose the digits of a small variance
        x -= x.mean()
        y -= y.mean()
        mean_x = shares @ x
        mean_y = shares @ y
        covariance = shares @ (x * y) - mean_x * mean_y
        variances = (shares @ (x * x) - mean_x**2) * (shares @ (y * y) - mean_y**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            correlations: Array = covariance / np.sqrt(variances)
        return correlations

    def _pairs(self, observations: Sequence[Observation]) -> list[tuple[float, float]]:
        return list(zip(numbers(observations, "value"), numbers(observations, self.against), strict=True))


@dataclass(frozen=True, slots=True)
class ChiSquareP:
    """p-value of Pearson's chi-square test that the answers do not depend on an attribute; low if they do.

    Attributes:
        attribute: Observed field whose values are compared.

    Source:
        Disparagement in TrustLLM: scipy's test of independence of attribute and answer, with unrecognised answers as a
        category. It is computed here because importing ``scipy.stats.chi2_contingency`` would cost every run half a
        second and 45 MB; the tests compare the two.
    """

    attribute: str
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def compute(self, observations: Sequence[Observation]) -> float | None:
        """Return the p-value, 1 if all answers are the same; None without two values of the attribute to compare."""
        counts = Counter(self._cell(observation) for observation in observations)
        attributes = sorted({attribute for attribute, _ in counts})
        answers = sorted({answer for _, answer in counts})
        if len(attributes) < 2:
            return None
        if len(answers) < 2:
            return 1.0
        return _independence(counts, attributes, answers)

    def limits(
        self, observations: Sequence[Observation], clusters: Sequence[Hashable], confidence: float
    ) -> LimitsAndMethod | None:
        """Return limits of the p-value that the test typically gives."""
        table: dict[Hashable, dict[tuple[str, float], float]] = {}
        for observation, cluster in zip(observations, clusters, strict=True):
            cell = self._cell(observation)
            counts = table.setdefault(cluster, {})
            counts[cell] = counts.get(cell, 0.0) + 1.0
        return independence_limits(table, confidence)

    def _cell(self, observation: Observation) -> tuple[str, float]:
        """Return attribute and answer."""
        return str(observed(observation, self.attribute)), float(observed(observation, "value"))


def _independence(counts: Counter[tuple[str, float]], rows: Sequence[str], columns: Sequence[float]) -> float:
    """Return the p-value of the chi-square test of independence."""
    from scipy.special import chdtrc

    freedom = (len(rows) - 1) * (len(columns) - 1)
    row_totals = {row: sum(counts[row, column] for column in columns) for row in rows}
    column_totals = {column: sum(counts[row, column] for row in rows) for column in columns}
    terms: list[float] = []
    for row in rows:
        for column in columns:
            expected = row_totals[row] * column_totals[column] / counts.total()
            deviation = abs(counts[row, column] - expected)
            if freedom == 1:  # Yates's correction, which scipy makes in this case alone
                deviation -= min(0.5, deviation)
            terms.append(deviation**2 / expected)
    return float(chdtrc(freedom, math.fsum(terms)))
