"""How well two readings of the same things agree, and what a share becomes when a reading's errors are taken out.

*Reference* labels are taken as right; *predicted* labels are those whose errors are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pytest_trustllm.stats.intervals import CONFIDENCE, Limits, normal_quantile
from pytest_trustllm.stats.means import Tally, effective_trials
from pytest_trustllm.stats.shares import wilson

_ROUNDING = 1e-12
"""Sums of weights that are equal may differ by so much."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number estimated from a sample.

    Attributes:
        value: None if the sample has no information about it.
        ci: Confidence interval; None if there is none.
        n: Size of the sample.
        reason: Why value or interval is missing.
    """

    value: float | None
    ci: Limits | None
    n: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Predicted labels against reference labels.

    Attributes:
        labels: All labels, in the order of the table.
        table: Counts; a row for the reference label, a column for the predicted one.
        positive: The label that sensitivity and specificity are about.
        confidence: Of the intervals.
        sensitivity: Share predicted ``positive`` among those whose reference label is ``positive``.
        specificity: Share predicted otherwise among those whose reference label is another.
        accuracy: Share of equal labels.
        kappa: Cohen's kappa, in [-1, 1]: agreement beyond what the frequencies of the labels bring about by chance.
    """

    labels: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]
    positive: str
    confidence: float
    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate
    kappa: Estimate


class WeightedPair(NamedTuple):
    """Two labels of one thing that was drawn from many.

    Attributes:
        reference: The label that is taken as right.
        predicted: The other one.
        weight: How many things it was drawn for, or in proportion to that; above 0.
        cluster: Things of the same cluster depend on each other.
    """

    reference: str
    predicted: str
    weight: float
    cluster: Hashable


def weighted_agreement(
    pairs: Sequence[WeightedPair], labels: Sequence[str], positive: str, confidence: float = CONFIDENCE
) -> Agreement:
    """Compare labels of things some kinds of which were drawn more often than others.

    Shares and kappa are those of all things that could have been drawn; the table has the counts of those that were.
    ``n`` of an estimate is the effective number: as many independent things, drawn with equal chances, would determine
    it as well.

    Args:
        pairs: Labels out of ``labels``.
        labels: All labels that could occur.
        positive: One of them.
        confidence: Of the intervals, in (0, 1).
    """
    plain = [(pair.reference, pair.predicted) for pair in pairs]
    clusters = {pair.cluster for pair in pairs}
    if len({pair.weight for pair in pairs}) <= 1 and len(clusters) == len(pairs):
        return agreement(plain, labels, positive, confidence)
    positives = [pair for pair in pairs if pair.reference == positive]
    negatives = [pair for pair in pairs if pair.reference != positive]
    return Agreement(
        labels=tuple(labels),
        table=_table(plain, labels),
        positive=positive,
        confidence=confidence,
        sensitivity=_weighted_share(
            positives, lambda pair: pair.predicted == positive, confidence, f"no reference label is {positive!r}"
        ),
        specificity=_weighted_share(
            negatives, lambda pair: pair.predicted != positive, confidence, f"every reference label is {positive!r}"
        ),
        accuracy=_weighted_share(
            pairs, lambda pair: pair.predicted == pair.reference, confidence, "no labels to compare"
        ),
        kappa=kappa(_weighted_table(pairs, labels), confidence),
    )


def _weighted_share(
    pairs: Sequence[WeightedPair],
    is_success: Callable[[WeightedPair], bool],
    confidence: float,
    reason_without_trials: str,
) -> Estimate:
    """Return a weighted share with Wilson's interval for the effective number of pairs."""
    if not pairs:
        return Estimate(None, None, 0, reason_without_trials)
    tally = Tally()
    for pair in pairs:
        tally.add(pair.cluster, pair.weight * is_success(pair), pair.weight)
    trials = effective_trials(tally, confidence)
    return Estimate(tally.mean, wilson(tally.mean, trials, normal_quantile(confidence)), max(1, round(trials)))


def _weighted_table(pairs: Sequence[WeightedPair], labels: Sequence[str]) -> list[list[float]]:
    """Return the table of all things that could have been drawn, scaled to the effective number of those that were."""
    index_of = {label: index for index, label in enumerate(labels)}
    table = [[0.0] * len(labels) for _ in labels]
    for pair in pairs:
        table[index_of[pair.reference]][index_of[pair.predicted]] += pair.weight
    total = math.fsum(pair.weight for pair in pairs)
    scale = total / math.fsum(pair.weight**2 for pair in pairs) if total else 0.0
    return [[scale * entry for entry in row] for row in table]


def agreement(
    pairs: Iterable[tuple[str, str]], labels: Sequence[str], positive: str, confidence: float = CONFIDENCE
) -> Agreement:
    """Compare labels.

    Args:
        pairs: (reference, predicted) labels, both out of ``labels``.
        labels: All labels that could occur.
        positive: One of them.
        confidence: Of the intervals, in (0, 1).
    """
    table = _table(pairs, labels)
    total = sum(map(sum, table))
    positive_index = labels.index(positive)
    true_positives = table[positive_index][positive_index]
    positives = sum(table[positive_index])
    predicted_positives = sum(row[positive_index] for row in table)
    negatives = total - positives
    true_negatives = negatives - (predicted_positives - true_positives)
    equal = sum(table[index][index] for index in range(len(labels)))
    return Agreement(
        labels=tuple(labels),
        table=table,
        positive=positive,
        confidence=confidence,
        sensitivity=proportion(true_positives, positives, confidence, f"no reference label is {positive!r}"),
        specificity=proportion(true_negatives, negatives, confidence, f"every reference label is {positive!r}"),
        accuracy=proportion(equal, total, confidence, "no labels to compare"),
        kappa=kappa(table, confidence),
    )


def _table(pairs: Iterable[tuple[str, str]], labels: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return counts; a row for the reference label, a column for the predicted one."""
    index_of = {label: index for index, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for reference, predicted in pairs:
        counts[index_of[reference]][index_of[predicted]] += 1
    return tuple(map(tuple, counts))


def proportion(successes: int, n: int, confidence: float, reason_without_trials: str = "no trials") -> Estimate:
    """Return a share with Wilson's interval.

    Args:
        successes: At most ``n``.
        n: Trials.
        confidence: In (0, 1).
        reason_without_trials: Why there is no value if ``n`` is 0.
    """
    if n == 0:
        return Estimate(None, None, 0, reason_without_trials)
    share = successes / n
    return Estimate(share, wilson(share, n, normal_quantile(confidence)), n)


def kappa(table: Sequence[Sequence[float]], confidence: float) -> Estimate:
    """Return Cohen's kappa with its large-sample interval.

    Args:
        table: Square table of counts; they need not be whole.
        confidence: In (0, 1).

    Returns:
        No value without observations, or if a single label occurs in both readings. No interval under perfect
        agreement, where the large-sample error is 0 whatever the size of the sample.

    Source:
        Cohen (1960), Educational and Psychological Measurement 20:37-46; the error is that of Fleiss, Cohen and
        Everitt (1969), Psychological Bulletin 72:323-327.
    """
    n = sum(map(sum, table))
    if n == 0:
        return Estimate(None, None, 0, "no labels to compare")
    indices = range(len(table))
    row_shares = [sum(table[i]) / n for i in indices]
    column_shares = [sum(row[j] for row in table) / n for j in indices]
    observed = sum(table[i][i] for i in indices) / n
    by_chance = sum(row_shares[i] * column_shares[i] for i in indices)
    if 1 - by_chance < _ROUNDING:
        return Estimate(None, None, round(n), "only one label occurs")
    value = (observed - by_chance) / (1 - by_chance)
    if 1 - observed < _ROUNDING:
        return Estimate(1.0, None, round(n), "no interval under perfect agreement")

    # Fleiss, Cohen and Everitt: terms of the cells on the diagonal, of the other cells, and of kappa itself
    disagreement = 1 - value
    diagonal = 0.0
    off_diagonal = 0.0
    for i in indices:
        diagonal += table[i][i] / n * (1 - (row_shares[i] + column_shares[i]) * disagreement) ** 2
        for j in indices:
            if i != j:
                off_diagonal += table[i][j] / n * (column_shares[i] + row_shares[j]) ** 2
    terms = diagonal + disagreement**2 * off_diagonal - (value - by_chance * disagreement) ** 2
    variance = terms / ((1 - by_chance) ** 2 * n)
    half_width = normal_quantile(confidence) * math.sqrt(variance if variance > _ROUNDING else 0.0)
    return Estimate(value, (max(-1.0, value - half_width), min(1.0, value + half_width)), round(n))


def corrected_rate(rate: float, n: float, sensitivity: Estimate, specificity: Estimate, confidence: float) -> Estimate:
    """Return what the share of a label would be if the reading that counted it made no errors.

    Args:
        rate: Observed share of the positive label, in [0, 1].
        n: Independent observations that it comes from, or effective ones; need not be whole.
        sensitivity: Of the reading, estimated from other observations than these.
        specificity: Likewise.
        confidence: In (0, 1).

    Returns:
        The corrected share, clipped to [0, 1], with an interval that allows for all three numbers being estimates. It
        is never narrower than if sensitivity and specificity were known, so that it contains the share. No value if the
        reading is no better than guessing.

    Source:
        Rogan and Gladen (1978), American Journal of Epidemiology 107:71-76; the interval is that of Lang and Reiczigel
        (2014), Preventive Veterinary Medicine 113:13-22, joined with the corrected limits of the observed share.
    """
    if sensitivity.value is None or specificity.value is None:
        return Estimate(None, None, round(n), sensitivity.reason or specificity.reason)
    # of a true share p the reading counts p * sensitivity + (1 - p) * (1 - specificity); solved for p
    informedness = sensitivity.value + specificity.value - 1
    if informedness <= 0:
        reason = "sensitivity and specificity add up to 1 or less: the labels carry no information"
        return Estimate(None, None, round(n), reason)
    value = _clipped((rate + specificity.value - 1) / informedness)
    quantile = normal_quantile(confidence)
    limits = _lang_reiczigel_limits(
        _Share(rate, n),
        _Share(sensitivity.value, sensitivity.n),
        _Share(specificity.value, specificity.n),
        quantile,
    )
    if limits is None:
        return Estimate(value, None, round(n), "too few labels for an interval")
    low, high = limits
    # with one to three labels of a class, the shares drawn towards one half are so far from the observed ones that the
    # value may be outside: doubt about sensitivity and specificity only adds to that about the rate
    least_rate, greatest_rate = wilson(rate, n, quantile)
    low = min(low, _clipped((least_rate + specificity.value - 1) / informedness))
    high = max(high, _clipped((greatest_rate + specificity.value - 1) / informedness))
    return Estimate(value, (low, high), round(n))


def with_part_by_rule(
    corrected: Estimate, judged_share: float, limits: Limits, by_rule: float, *, together: bool
) -> Estimate:
    """Return a corrected share of a part of the observations as that of all of them.

    Args:
        corrected: Of the part that was judged.
        judged_share: How large that part is, in [0, 1].
        limits: Of ``judged_share``, which is an estimate too.
        by_rule: Share of the positive label in the other part, which is known without error.
        together: Observations of both parts depend on each other, so that the distances to the limits add up as they
            are; otherwise they add up in squares (see :func:`pytest_trustllm.stats.means.mean_by_source`).

    Returns:
        Without value or interval if ``corrected`` has none.
    """
    if corrected.value is None:
        return corrected
    value = _clipped(judged_share * corrected.value + (1 - judged_share) * by_rule)
    if corrected.ci is None:
        return Estimate(value, None, corrected.n, corrected.reason)
    below = judged_share * (corrected.value - corrected.ci[0])
    above = judged_share * (corrected.ci[1] - corrected.value)
    slope = corrected.value - by_rule
    share_below = abs(slope) * (judged_share - limits[0])
    share_above = abs(slope) * (limits[1] - judged_share)
    if slope < 0:
        share_below, share_above = share_above, share_below
    if together:
        low, high = value - below - share_below, value + above + share_above
    else:
        low, high = value - math.hypot(below, share_below), value + math.hypot(above, share_above)
    return Estimate(value, (_clipped(low), _clipped(high)), corrected.n)


class _Share(NamedTuple):
    """A share and the number of trials that it comes from."""

    value: float
    trials: float

    def towards_half(self, trials: float) -> _Share:
        """Return the share after further trials, half of them successes."""
        total = self.trials + trials
        return _Share((self.trials * self.value + trials / 2) / total, total)

    @property
    def variance(self) -> float:
        """Variance of the share."""
        return self.value * (1 - self.value) / self.trials


def _lang_reiczigel_limits(rate: _Share, sensitivity: _Share, specificity: _Share, z: float) -> Limits | None:
    """Return limits of a corrected share; None if the reading might be no better than guessing.

    The plain interval is too short, so all three shares are first drawn towards one half, as Agresti and Coull do: the
    observed one by z² trials, the other two by two trials each.
    """
    rate = rate.towards_half(z * z)
    sensitivity = sensitivity.towards_half(2)
    specificity = specificity.towards_half(2)
    informedness = sensitivity.value + specificity.value - 1
    if informedness <= 0:
        return None
    centre = (rate.value + specificity.value - 1) / informedness
    shift = 2 * z * z * (centre * sensitivity.variance - (1 - centre) * specificity.variance)
    variance = rate.variance + centre**2 * sensitivity.variance + (1 - centre) ** 2 * specificity.variance
    half_width = z * math.sqrt(variance) / informedness
    return _clipped(centre + shift - half_width), _clipped(centre + shift + half_width)


def _clipped(share: float) -> float:
    return min(1.0, max(0.0, share))
