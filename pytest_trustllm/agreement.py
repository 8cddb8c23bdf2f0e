"""How well a judge or classifier agrees with people, and what a rate becomes when its mistakes are taken out.

Statistics about two readings of the same responses: *human* is the label that people gave, *model* the one that the
judge or classifier gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number out of a sample.

    Attributes:
        value: None if the sample says nothing about it.
        ci: Confidence interval; None if there is none.
        n: Size of the sample that it comes from.
        reason: Why value or interval is missing.
    """

    value: float | None
    ci: Interval | None
    n: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model's labels against people's.

    Attributes:
        labels: All labels, in the order of the table.
        table: Counts; a row for people's label, a column for the model's.
        positive: The label that sensitivity and specificity are about.
        confidence: Of the intervals.
        sensitivity: Share of ``positive`` among what people call so.
        specificity: Share of any other label among what people call otherwise.
        accuracy: Share of equal labels.
        kappa: Cohen's kappa, in [-1, 1]: agreement beyond what the frequencies of the labels bring about.
    """

    labels: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]
    positive: str
    confidence: float
    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate
    kappa: Estimate


def agreement(
    pairs: Iterable[tuple[str, str]], labels: Sequence[str], positive: str, confidence: float = 0.95
) -> Agreement:
    """Compare labels.

    Args:
        pairs: (human, model) labels, both out of ``labels``.
        labels: All labels that could occur.
        positive: One of them.
        confidence: Of the intervals, in (0, 1).
    """
    at = {label: i for i, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for human, model in pairs:
        counts[at[human]][at[model]] += 1
    table = tuple(map(tuple, counts))
    total, p = sum(map(sum, table)), at[positive]
    hits, called = table[p][p], sum(table[p])
    false_alarms = sum(row[p] for row in table) - hits
    same = sum(table[i][i] for i in range(len(labels)))
    return Agreement(
        labels=tuple(labels),
        table=table,
        positive=positive,
        confidence=confidence,
        sensitivity=proportion(hits, called, confidence, f"people call none {positive}"),
        specificity=proportion(
            total - called - false_alarms, total - called, confidence, f"people call all {positive}"
        ),
        accuracy=proportion(same, total, confidence, "nothing to compare"),
        kappa=kappa(table, confidence),
    )


def proportion(successes: int, n: int, confidence: float, nothing: str = "no sample") -> Estimate:
    """Return a share with Wilson's interval.

    Args:
        successes: At most ``n``.
        n: Trials.
        confidence: In (0, 1).
        nothing: Why there is no value if ``n`` is 0.
    """
    if n == 0:
        return Estimate(None, None, 0, nothing)
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Estimate(successes / n, (float(found.low), float(found.high)), n)


def kappa(table: Sequence[Sequence[int]], confidence: float) -> Estimate:
    """Return Cohen's kappa with its large-sample interval.

    Args:
        table: Square table of counts.
        confidence: In (0, 1).

    Returns:
        No value without samples, or if people and model use one and the same label throughout. No interval under
        perfect agreement, where the large-sample error is 0 whatever the size of the sample.

    Source:
        Cohen (1960), Educational and Psychological Measurement 20:37-46; the error is that of Fleiss, Cohen and
        Everitt (1969), Psychological Bulletin 72:323-327.
    """
    n = sum(map(sum, table))
    if n == 0:
        return Estimate(None, None, 0, "nothing to compare")
    size = range(len(table))
    human = [sum(table[i]) / n for i in size]
    model = [sum(row[j] for row in table) / n for j in size]
    observed = sum(table[i][i] for i in size) / n
    chance = sum(human[i] * model[i] for i in size)
    if 1 - chance < 1e-12:
        return Estimate(None, None, n, "only one label occurs")
    value = (observed - chance) / (1 - chance)
    if observed == 1:
        return Estimate(1.0, None, n, "no interval under perfect agreement")
    rest = 1 - value
    diagonal = sum(table[i][i] / n * (1 - (human[i] + model[i]) * rest) ** 2 for i in size)
    beside = rest**2 * sum(table[i][j] / n * (model[i] + human[j]) ** 2 for i in size for j in size if i != j)
    variance = (diagonal + beside - (value - chance * rest) ** 2) / ((1 - chance) ** 2 * n)
    half = _z(confidence) * math.sqrt(max(variance, 0.0))
    return Estimate(value, (max(-1.0, value - half), min(1.0, value + half)), n)


def corrected_rate(rate: float, n: int, sensitivity: Estimate, specificity: Estimate, confidence: float) -> Estimate:
    """Return what a rate would be if the model that counted it made no mistakes.

    Args:
        rate: Observed share of the positive label, in [0, 1].
        n: Number of responses that it comes from.
        sensitivity: Of the model, from other responses than these.
        specificity: Likewise.
        confidence: In (0, 1).

    Returns:
        The corrected rate, clipped to [0, 1], with an interval that knows that all three numbers are estimates. No
        value if the model does no better than guessing.

    Source:
        Rogan and Gladen (1978), American Journal of Epidemiology 107:71-76; the interval is that of Lang and Reiczigel
        (2014), Preventive Veterinary Medicine 113:13-22.
    """
    se, sp = sensitivity.value, specificity.value
    if se is None or sp is None:
        return Estimate(None, None, n, sensitivity.reason or specificity.reason)
    if se + sp <= 1:
        return Estimate(None, None, n, "sensitivity and specificity add up to 1 or less: the labels tell nothing")
    value = min(1.0, max(0.0, (rate + sp - 1) / (se + sp - 1)))
    z = _z(confidence)
    # all three shares are drawn towards one half, as Agresti and Coull do: the plain interval is too short
    trials, seen, alike = n + z * z, sensitivity.n + 2, specificity.n + 2
    rate_, se_, sp_ = (n * rate + z * z / 2) / trials, (sensitivity.n * se + 1) / seen, (specificity.n * sp + 1) / alike
    slope = se_ + sp_ - 1
    if slope <= 0:
        return Estimate(value, None, n, "too few labels for an interval")
    middle = (rate_ + sp_ - 1) / slope
    of_se, of_sp = se_ * (1 - se_) / seen, sp_ * (1 - sp_) / alike
    shift = 2 * z * z * (middle * of_se - (1 - middle) * of_sp)
    variance = rate_ * (1 - rate_) / trials + middle**2 * of_se + (1 - middle) ** 2 * of_sp
    half = z * math.sqrt(variance) / slope
    low, high = (min(1.0, max(0.0, middle + shift + side * half)) for side in (-1, 1))
    return Estimate(value, (low, high), n)


def _z(confidence: float) -> float:
    """Return the normal quantile of a two-sided interval."""
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))
