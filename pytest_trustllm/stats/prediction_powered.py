"""A share of responses as people would count it, from a judge's verdicts on all of them and people's labels on some.

The estimate is that of prediction-powered inference with power tuning (PPI++): with verdicts f, labels Y and the
weight w of a labelled response, which is how many responses it was drawn for,

    power * mean(f over all) + mean(Y - power * f over the labelled, weighted by w)

The first term uses every verdict, the second corrects their mistakes. The power that makes the variance least is the
slope of Y on f. PPI++ has the labelled responses apart from the others; here they are some of them, and in terms of
that paper the power is multiplied by 1 + labelled / others.

Responses are drawn by verdict: so many of those that the judge called positive, so many of the others (*strata*).
Within a stratum f is constant, so the estimate is the same for every power: each stratum's share of positive labels,
weighted by how frequent the verdict is. The power then tells how much a verdict says. It is the difference between the
two shares: 1 for a perfect judge, 0 for one that guesses. Interrupted labelling does no harm, since the order in which
responses are shown is random: weights follow from the labels that are there.

Source:
    Angelopoulos, Duchi and Zrnic (2023), PPI++, arXiv:2311.01453. Strata: Fisch et al. (2024), arXiv:2406.04291.
    Weights: Zrnic and Candès (2024), Active statistical inference, arXiv:2403.03208.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pytest_trustllm.stats.intervals import Limits
from pytest_trustllm.stats.means import Tally, effective_trials
from pytest_trustllm.stats.shares import jeffreys_limits

METHOD = "PPI++ by verdict (arXiv:2311.01453, 2406.04291), Jeffreys limits, square-and-add"


class Unit(NamedTuple):
    """A response with its verdict.

    Attributes:
        verdict: 1.0 if the judge counts it, else 0.0.
        label: 1.0 if people count it, else 0.0; None: people did not label it.
        cluster: Responses of one cluster depend on each other.
    """

    verdict: float
    label: float | None
    cluster: Hashable


@dataclass(frozen=True, slots=True)
class PoweredShare:
    """A share estimated from verdicts and labels.

    Attributes:
        value: None if the labels do not determine it, for the reason in ``reason``.
        ci: Its interval.
        labels: How many responses people labelled.
        power: How much the verdicts count; None without a value.
        reason: Why there is no value.
    """

    value: float | None
    ci: Limits | None
    labels: int
    power: float | None
    reason: str | None = None


@dataclass(slots=True)
class _Stratum:
    """The responses with one verdict.

    Attributes:
        verdict: 0.0 or 1.0.
        size: How many there are.
        labels: Those that people labelled.
    """

    verdict: float
    size: int
    labels: Tally

    @property
    def share(self) -> float:
        """Share of positive labels."""
        return self.labels.mean

    @property
    def weight(self) -> float:
        """How many responses a labelled one was drawn for."""
        return self.size / self.labels.observations


def powered_share(units: Sequence[Unit], confidence: float) -> PoweredShare:
    """Return the share that people would count.

    Args:
        units: All responses. Within a verdict, those with a label are a random part.
        confidence: In (0, 1).

    Returns:
        The share with an interval for responses of this kind, not for these alone: with a label on each of n responses,
        it is about that of a share of n trials.
    """
    strata = _strata(units)
    labels = sum(stratum.labels.observations for stratum in strata)
    if not strata:
        return PoweredShare(None, None, 0, None, "no response has a verdict")
    for stratum in strata:
        if not stratum.labels.observations:
            kind = "counts" if stratum.verdict else "does not count"
            reason = f"no label on any of the {stratum.size} responses that the judge {kind}"
            return PoweredShare(None, None, labels, None, reason)
    power = _power(strata)
    value = _estimate(strata, power)
    return PoweredShare(value, _limits(units, strata, value, confidence), labels, power)


def _strata(units: Sequence[Unit]) -> list[_Stratum]:
    strata: dict[float, _Stratum] = {}
    for unit in units:
        stratum = strata.setdefault(unit.verdict, _Stratum(unit.verdict, 0, Tally()))
        stratum.size += 1
        if unit.label is not None:
            stratum.labels.add(unit.cluster, unit.label, 1.0)
    return [strata[verdict] for verdict in sorted(strata)]


def _power(strata: Sequence[_Stratum]) -> float:
    """Return the slope of labels on verdicts: weighted covariance over variance, within [0, 1] as PPI++ has it."""
    size = sum(stratum.size for stratum in strata)
    mean_verdict = math.fsum(stratum.size * stratum.verdict for stratum in strata) / size
    mean_label = math.fsum(stratum.size * stratum.share for stratum in strata) / size
    variance = math.fsum(stratum.size * (stratum.verdict - mean_verdict) ** 2 for stratum in strata)
    if not variance:  # the judge says the same of all responses
        return 0.0
    covariance = math.fsum(
        stratum.size * (stratum.verdict - mean_verdict) * (stratum.share - mean_label) for stratum in strata
    )
    return min(1.0, max(0.0, covariance / variance))


def _estimate(strata: Sequence[_Stratum], power: float) -> float:
    size = sum(stratum.size for stratum in strata)
    verdicts = power * math.fsum(stratum.size * stratum.verdict for stratum in strata) / size
    corrections: list[float] = []
    for stratum in strata:
        labels = stratum.labels.observations
        corrections.append(stratum.weight * labels * (stratum.share - power * stratum.verdict))
    return min(1.0, max(0.0, verdicts + math.fsum(corrections) / size))


def _limits(units: Sequence[Unit], strata: Sequence[_Stratum], value: float, confidence: float) -> Limits:
    """Return limits of the share: what is uncertain are each stratum's share of positive labels, and its frequency.

    A normal interval is too short where a judge makes few mistakes: none among 60 labels does not show that there are
    none. So each of these shares gets limits of its own, and their distances add up in squares (Zou, Huang and Zhang
    2009). ``tools/simulate_labels.py`` shows how often the interval holds the true share.
    """
    size = len(units)
    squares_below = 0.0
    squares_above = 0.0
    for stratum in strata:
        trials = effective_trials(stratum.labels, confidence)
        low, high = jeffreys_limits(stratum.share, trials, confidence)
        frequency = stratum.size / size
        squares_below += (frequency * (stratum.share - low)) ** 2
        squares_above += (frequency * (high - stratum.share)) ** 2
    if len(strata) > 1:
        below, above = _frequency_distances(units, strata, confidence)
        squares_below += below**2
        squares_above += above**2
    factor = math.sqrt(_dependence(units, strata, value))
    low = value - factor * math.sqrt(squares_below)
    high = value + factor * math.sqrt(squares_above)
    return max(0.0, low), min(1.0, high)


def _frequency_distances(units: Sequence[Unit], strata: Sequence[_Stratum], confidence: float) -> tuple[float, float]:
    """Return how far the value may be off below and above because the frequency of the verdicts is an estimate."""
    tally = Tally()
    for unit in units:
        tally.add(unit.cluster, unit.verdict, 1.0)
    low, high = jeffreys_limits(tally.mean, effective_trials(tally, confidence), confidence)
    slope = strata[1].share - strata[0].share
    distances = abs(slope) * (tally.mean - low), abs(slope) * (high - tally.mean)
    return distances if slope >= 0 else (distances[1], distances[0])


def _dependence(units: Sequence[Unit], strata: Sequence[_Stratum], value: float) -> float:
    """Return the variance of the value over the sum of its parts' variances, at least 1.

    Where clusters have responses in both strata, or labelled and others, the parts err together. A cluster moves the
    value by the sum of what its responses do: (share of its stratum - value) / n each, and a labelled one by
    weight * (label - share) / n in addition.
    """
    by_verdict = {stratum.verdict: stratum for stratum in strata}
    moves: dict[Hashable, dict[object, float]] = {}
    for unit in units:
        stratum = by_verdict[unit.verdict]
        parts = moves.setdefault(unit.cluster, {})
        parts["frequency"] = parts.get("frequency", 0.0) + stratum.share - value
        if unit.label is not None:
            parts[unit.verdict] = parts.get(unit.verdict, 0.0) + stratum.weight * (unit.label - stratum.share)
    together = math.fsum(math.fsum(parts.values()) ** 2 for parts in moves.values())
    apart = math.fsum(part**2 for parts in moves.values() for part in parts.values())
    if not apart:
        return 1.0
    return max(1.0, together / apart)
