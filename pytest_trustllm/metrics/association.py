"""How two things go together."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_trustllm.metrics.base import Observation, numbers, observed
from pytest_trustllm.uncertainty import Estimated, correlation_limits, independence_limits

if TYPE_CHECKING:
    from pytest_trustllm.uncertainty import Array


@dataclass(frozen=True, slots=True)
class Pearson:
    """Pearson's correlation of the answers with another observed number.

    Attributes:
        against: Name of the other number.
    """

    against: str = "human"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def compute(self, observations: Sequence[Observation]) -> float | None:
        """Return the correlation; None for fewer than two samples or if one side is constant."""
        ours, theirs = numbers(observations, "value"), numbers(observations, self.against)
        if len(set(ours)) < 2 or len(set(theirs)) < 2:
            return None
        return min(1.0, max(-1.0, statistics.correlation(ours, theirs)))

    @property
    def prior(self) -> Sequence[Hashable]:
        """None: answers and numbers can be anything."""
        return ()

    def limits(
        self, observations: Sequence[Observation], clusters: Sequence[Hashable], confidence: float
    ) -> Estimated | None:
        """Return limits of the correlation."""
        pairs = list(zip(numbers(observations, "value"), numbers(observations, self.against), strict=True))
        return correlation_limits(pairs, clusters, confidence)

    def outcomes(self, observations: Sequence[Observation]) -> Sequence[Hashable]:
        """Return (answer, other number) of every sample."""
        return list(zip(numbers(observations, "value"), numbers(observations, self.against), strict=True))

    def of_shares(self, outcomes: Sequence[Any], shares: Array) -> Array:
        """Return the correlation of the weighted samples."""
        import numpy as np

        x, y = (np.array(side, dtype=float) for side in zip(*outcomes, strict=True))
        x, y = x - x.mean(), y - y.mean()
        mean_x, mean_y = shares @ x, shares @ y
        spread = (shares @ (x * x) - mean_x**2) * (shares @ (y * y) - mean_y**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = (shares @ (x * y) - mean_x * mean_y) / np.sqrt(spread)
        return found


@dataclass(frozen=True, slots=True)
class ChiSquareP:
    """p-value of Pearson's chi-square test that the answers do not depend on an attribute; low means they do.

    Attributes:
        attribute: Observed field whose values are compared.

    Source:
        Disparagement in TrustLLM: scipy's test of independence over attribute and answer, unrecognised answers being
        a category of their own. The tests compare with ``scipy.stats.chi2_contingency``, whose import would cost every
        run half a second and 45 MB.
    """

    attribute: str
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def compute(self, observations: Sequence[Observation]) -> float | None:
        """Return the p-value, 1 if all answers are the same; None without two values of the attribute to compare."""
        pairs = [(str(observed(o, self.attribute)), float(observed(o, "value"))) for o in observations]
        rows, columns = sorted({a for a, _ in pairs}), sorted({v for _, v in pairs})
        if len(rows) < 2:
            return None
        if len(columns) < 2:
            return 1.0
        return _independence(Counter(pairs), rows, columns)

    def limits(
        self, observations: Sequence[Observation], clusters: Sequence[Hashable], confidence: float
    ) -> Estimated | None:
        """Return limits of the p-value that the test typically gives."""
        table: dict[Hashable, dict[tuple[str, float], float]] = {}
        for observation, cluster in zip(observations, clusters, strict=True):
            pair = str(observed(observation, self.attribute)), float(observed(observation, "value"))
            cells = table.setdefault(cluster, {})
            cells[pair] = cells.get(pair, 0.0) + 1.0
        return independence_limits(table, confidence)


def _independence(counts: Counter[tuple[str, float]], rows: Sequence[str], columns: Sequence[float]) -> float:
    """Return the p-value of the chi-square test, with Yates's correction where there is one degree of freedom."""
    from scipy.special import chdtrc

    freedom = (len(rows) - 1) * (len(columns) - 1)
    down = {r: sum(counts[r, c] for c in columns) for r in rows}
    across = {c: sum(counts[r, c] for r in rows) for c in columns}
    terms = []
    for row in rows:
        for column in columns:
            expected = down[row] * across[column] / counts.total()
            off = abs(counts[row, column] - expected)
            terms.append((off - min(0.5, off) if freedom == 1 else off) ** 2 / expected)
    return float(chdtrc(freedom, math.fsum(terms)))
