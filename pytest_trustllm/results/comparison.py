"""Two runs of a metric, compared sample by sample."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_trustllm.formats import DifferenceEntry
from pytest_trustllm.metrics.base import Averaged
from pytest_trustllm.metrics.observations import ObservedSample, Scoring
from pytest_trustllm.results.differences import SharedSamples, estimate_difference
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.results.metric_inputs import MetricInput, interval_around, whole_of
from pytest_trustllm.stats import intervals, means
from pytest_trustllm.suites.pairing import pair
from pytest_trustllm.types import Interval, oriented

ROUNDING = 1e-12
"""In floating point, 0.8 - 0.7 is a little more than 0.1: a loss of exactly the margin must pass."""
ComparisonOutcome = Literal["passed", "failed", "inconclusive", "no_data"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric in two runs, over the samples that both have.

    Attributes:
        id: Of the metric, or ``dimension/score``.
        margin: Loss that is accepted.
        confidence: Of interval and verdict.
        shared: Samples with a score in both runs.
        unscored: Samples of both runs that lack a score in one of them.
        old: The earlier number over the shared samples; None if there is none.
        new: The later number, likewise.
        difference: New minus old.
        interval: Of the difference, two-sided.
        worse_by: How much the metric got worse, in its own direction; negative if it got better.
        p_worse: One-sided p-value of "no worse than before".
        p_margin: One-sided p-value of "worse by no more than the margin".
        test: How ``p_worse`` was computed.
        changed: Ids that both runs have and that name different samples.
        added: Ids that only the new run has.
        removed: Ids that only the old run has.
        lost: Ids of samples that were right and are wrong now; empty for metrics of other numbers than 0 and 1.
        won: Ids of samples that were wrong and are right now, likewise.
    """

    id: str
    margin: float
    confidence: float
    shared: int
    unscored: int
    old: float | None = None
    new: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    worse_by: float | None = None
    p_worse: float | None = None
    p_margin: float | None = None
    test: str | None = None
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    won: tuple[str, ...] = ()

    @property
    def outcome(self) -> ComparisonOutcome:
        """The verdict of a gate whose greatest accepted drop is the margin.

        It passes if the loss is within the margin. A greater loss fails if chance does not explain it, that is, if an
        equal model would lose as much in less than 1 - confidence of the runs; otherwise it is inconclusive.
        """
        if self.worse_by is None:
            return "no_data"
        if self.worse_by <= self.margin + ROUNDING:
            return "passed"
        if self.p_worse is not None and self.p_worse <= 1 - self.confidence:
            return "failed"
        return "inconclusive"

    @property
    def further(self) -> int | None:
        """About how many more samples would decide an inconclusive verdict; None if this cannot be estimated."""
        if self.difference is None or self.interval is None:
            return None
        limits = self.interval.low, self.interval.high
        return intervals.further_observations(self.difference, 0.0, limits, self.shared)

    def entry(self) -> DifferenceEntry | None:
        """Return the difference as results file and report hold it; None if no sample is shared."""
        if self.old is None or self.new is None or self.difference is None or self.worse_by is None:
            return None
        limits = None if self.interval is None else [self.interval.low, self.interval.high]
        return {
            "old": self.old,
            "new": self.new,
            "difference": self.difference,
            "worse_by": self.worse_by,
            "ci": limits,
            "confidence": self.confidence,
            "p_worse": self.p_worse,
            "test": self.test,
            "shared": self.shared,
        }


def compare(
    old: RunNumbers,
    new: RunNumbers,
    id_: str,
    *,
    margin: float = 0.0,
    confidence: float = intervals.CONFIDENCE,
    scoring: Scoring = "value",
) -> Comparison | None:
    """Compare a metric, or a trust score, in two runs.

    Args:
        old: The baseline.
        new: The run.
        id_: Of the metric, or ``dimension/score``.
        margin: Loss that is accepted, at least 0.
        confidence: In (0, 1).
        scoring: Which reading.

    Returns:
        None if one of the runs does not have it. A part of a score that one run alone has, such as a guard's category,
        is compared if the scorer says what it is for a sample without it.
    """
    if id_.endswith("/score"):
        return _compare_scores(old, new, id_, margin, confidence)
    if id_ not in old.metrics and id_ not in new.metrics:
        return None
    before = old.compared_input(id_)
    after = new.compared_input(id_)
    if before is None or after is None:
        return None
    return _compare_metric(before, after, margin, confidence, scoring)


def compared_metrics(old: RunNumbers, new: RunNumbers) -> list[str]:
    """Return the ids of the later run's metrics, and those of parts of its scores that the earlier run alone has.

    Such a part stands after the parts of the same metric that the later run has.
    """
    ids = list(new.metrics)
    for id_ in old.metrics:
        if id_ in new.metrics or new.compared_input(id_) is None:
            continue
        places = [place for place, other in enumerate(ids) if whole_of(other) == whole_of(id_)]
        ids.insert(places[-1] + 1, id_)
    return ids


def difference_entries(
    old: RunNumbers, new: RunNumbers, compare_id: Callable[[str], Comparison | None]
) -> dict[str, DifferenceEntry]:
    """Return id -> its difference as the results file holds it, for everything that both runs have.

    Args:
        old: The earlier run.
        new: The later run.
        compare_id: Takes the id of a metric, or ``dimension/score``; compares the two runs.
    """
    scores = [f"{dimension}/score" for dimension in new.scores]
    entries: dict[str, DifferenceEntry] = {}
    for id_ in [*scores, *compared_metrics(old, new)]:
        comparison = compare_id(id_)
        entry = None if comparison is None else comparison.entry()
        if entry is not None:
            entries[id_] = entry
    return entries


# --- one metric -------------------------------------------------------------------------------------------------------


def _compare_metric(
    old: MetricInput, new: MetricInput, margin: float, confidence: float, scoring: Scoring
) -> Comparison:
    pairing = pair(old.samples, new.samples, lambda sample: (sample.fingerprint, sample.id))
    usable_before: list[ObservedSample] = []
    usable_after: list[ObservedSample] = []
    concerned = 0
    for before, after in pairing.shared:
        if before.applies and after.applies:
            concerned += 1
        if _is_usable(before, scoring) and _is_usable(after, scoring):
            usable_before.append(before)
            usable_after.append(after)
    comparison = Comparison(
        id=new.id,
        margin=margin,
        confidence=confidence,
        shared=len(usable_after),
        unscored=concerned - len(usable_after),
        changed=pairing.changed,
        added=pairing.added,
        removed=pairing.removed,
    )
    if not usable_after:
        return comparison
    shared = SharedSamples(
        dataclasses.replace(old, samples=usable_before),
        dataclasses.replace(new, samples=usable_after),
        scoring,
        margin,
        confidence,
    )
    return _with_difference(comparison, shared)


def _is_usable(sample: ObservedSample, scoring: Scoring) -> bool:
    if scoring == "value":
        return sample.scored
    return bool(sample.parity)


def _with_difference(comparison: Comparison, shared: SharedSamples) -> Comparison:
    """Return the comparison with its numbers, as far as the shared samples yield some."""
    old = shared.old.compute(shared.scoring).value
    new = shared.new.compute(shared.scoring).value
    if old is None or new is None:
        return dataclasses.replace(comparison, old=old, new=new)
    difference = new - old
    lost: tuple[str, ...] = ()
    won: tuple[str, ...] = ()
    estimate = None
    # a user's metric that breaks on fewer samples has a difference without interval
    with contextlib.suppress(Exception):
        lost, won = _flipped(shared)
        estimate = estimate_difference(shared, difference)
    comparison = dataclasses.replace(
        comparison,
        old=old,
        new=new,
        difference=difference,
        worse_by=-shared.sign * difference,
        lost=lost,
        won=won,
    )
    if estimate is None:
        return comparison
    low, high = shared.new.spec.range
    limits_and_method = (estimate.limits, estimate.method)
    return dataclasses.replace(
        comparison,
        interval=interval_around(difference, limits_and_method, (low - high, high - low), shared.confidence),
        p_worse=estimate.p_worse,
        p_margin=estimate.p_margin,
        test=estimate.test,
    )


def _flipped(shared: SharedSamples) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of lost and won samples; neither if the metric counts other numbers than 0 and 1."""
    lost: list[str] = []
    won: list[str] = []
    for before, after in shared.pairs():
        old = _numbers(before, shared)
        new = _numbers(after, shared)
        if not {*old, *new} <= {0.0, 1.0}:
            return (), ()
        if not old or not new:
            continue
        # over several epochs the majority decides
        was_one = sum(old) / len(old) > 0.5
        is_one = sum(new) / len(new) > 0.5
        if was_one == is_one:
            continue
        one_is_better = shared.sign > 0
        if is_one == one_is_better:
            won.append(after.id)
        else:
            lost.append(after.id)
    return tuple(sorted(lost)), tuple(sorted(won))


def _numbers(sample: ObservedSample, shared: SharedSamples) -> list[float]:
    """Return what the metric counts of a sample, per epoch; empty if it does not count the sample."""
    observations = sample.observations(shared.scoring)
    metric = shared.reading.metric
    if isinstance(metric, Averaged):
        return [number / weight for number, weight in metric.terms(observations) if weight]
    return [float(observation["value"]) for observation in observations]


# --- trust scores -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Headline:
    """A headline metric in two runs.

    Attributes:
        comparison: Of the metric, in its own direction.
        higher_is_better: That direction.
        old: The earlier number on a trust score's scale.
        new: The later number, likewise.
    """

    comparison: Comparison
    higher_is_better: bool
    old: float
    new: float

    @property
    def difference(self) -> float:
        """New minus old, on a trust score's scale."""
        return self.new - self.old

    def limits(self) -> intervals.Limits | None:
        """Return the limits of the difference on a trust score's scale; None if the metric has none."""
        interval = self.comparison.interval
        if interval is None:
            return None
        low, high = interval.low, interval.high
        if not self.higher_is_better:
            low, high = -high, -low
        # numbers outside [0, 1] are clipped there, which can put the difference outside the metric's own limits
        return min(low, self.difference), max(high, self.difference)


def _compare_scores(old: RunNumbers, new: RunNumbers, id_: str, margin: float, confidence: float) -> Comparison | None:
    """Compare trust scores over the headline metrics that have a value in both runs."""
    dimension = id_.removesuffix("/score")
    if dimension not in old.scores or dimension not in new.scores:
        return None
    headlines = _headlines(old, new, new.scores[dimension].of, confidence)
    if not headlines:
        return Comparison(id_, margin, confidence, shared=0, unscored=0)
    old_score = math.fsum(headline.old for headline in headlines) / len(headlines)
    new_score = math.fsum(headline.new for headline in headlines) / len(headlines)
    difference = new_score - old_score
    comparison = Comparison(
        id_,
        margin,
        confidence,
        shared=sum(headline.comparison.shared for headline in headlines),
        unscored=0,
        old=old_score,
        new=new_score,
        difference=difference,
        worse_by=-difference,
    )
    parts: list[tuple[Hashable, float, intervals.Limits]] = []
    for headline in headlines:
        limits = headline.limits()
        if limits is None:
            return comparison
        parts.append((new.answers_from(headline.comparison.id), headline.difference, limits))
    low, high = means.mean_by_source(parts)
    method = "square-and-add of the headline metrics' paired intervals (Zou et al. 2009)"
    # square-and-add limits are not symmetric: the test uses the side that faces zero
    distance = difference - low if difference > 0 else high - difference
    error = distance / intervals.normal_quantile(confidence)
    return dataclasses.replace(
        comparison,
        interval=interval_around(difference, ((low, high), method), (-1.0, 1.0), confidence),
        p_worse=intervals.upper_tail(-difference, error),
        p_margin=intervals.upper_tail(-difference - margin, error),
        test=method,
    )


def _headlines(old: RunNumbers, new: RunNumbers, ids: Sequence[str], confidence: float) -> list[_Headline]:
    headlines: list[_Headline] = []
    for id_ in ids:
        comparison = compare(old, new, id_, margin=0.0, confidence=confidence)
        if comparison is None or comparison.old is None or comparison.new is None:
            continue
        higher = new.metrics[id_].higher_is_better
        headlines.append(
            _Headline(
                comparison,
                higher,
                old=oriented(comparison.old, higher_is_better=higher),
                new=oriented(comparison.new, higher_is_better=higher),
            )
        )
    return headlines
