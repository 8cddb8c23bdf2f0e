"""What a run of a part of the samples would have measured on all of them, estimated with the help of its baseline.

The baseline has asked all samples. Those that this run has asked too tell by how much the model has changed since
(:mod:`pytest_trustllm.stats.assisted`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import AssistedEntry, MetricEntry, StoppedTaskEntry
from pytest_trustllm.gates.estimated import Estimate
from pytest_trustllm.gates.verdict import Drop, Gate
from pytest_trustllm.metrics.base import Bounded
from pytest_trustllm.metrics.observations import ObservedSample, Scoring
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.results.metric_inputs import MetricInput, interval_around
from pytest_trustllm.stats.assisted import LEAST_PAIRS, Assisted, Stratum, assisted_mean
from pytest_trustllm.stats.intervals import CONFIDENCE
from pytest_trustllm.suites.pairing import Pairing, pair
from pytest_trustllm.types import NOTHING, Interval, MetricValue, Selection

METHOD = "regression on the baseline, of all samples (Cochran 1977)"
SEQUENCE = "confidence sequence without replacement, of numbers and of changes since the baseline"
NO_SEQUENCE = "no gate on it was decided with the baseline's help"
NOT_RANDOM = "only --trust-limit draws samples at random"
"""Why nothing is estimated from samples that, for example, ``-k`` selected."""


@dataclass(frozen=True, slots=True)
class Assistance:
    """An estimate of the value that all samples would give.

    Attributes:
        interval: Of that value; None: the baseline does not help, for the ``reason``.
        value: The estimate.
        before: The baseline's value over all of its samples.
        shared: Samples with a score in both runs.
        of: Samples with a score in the baseline.
        weight: Of the baseline, in [0, 1].
        flips: Share of the shared samples that flipped; for numbers between 0 and 1, mean square of the changes.
        most_flips: From so many flips on, a baseline is no help.
        worth: How many answers without a baseline would be as precise.
        reason: Why the plain value is used instead.
    """

    shared: int
    of: int
    interval: Interval | None = None
    value: float | None = None
    before: float | None = None
    weight: float | None = None
    flips: float | None = None
    most_flips: float | None = None
    worth: float | None = None
    reason: str | None = None

    def entry(self) -> AssistedEntry:
        """Return its entry in the results."""
        entry: AssistedEntry = {
            "value": self.value,
            "ci": None if self.interval is None else [self.interval.low, self.interval.high],
            "confidence": None if self.interval is None else self.interval.confidence,
            "method": None if self.interval is None else self.interval.method,
            "shared": self.shared,
            "of": self.of,
            "weight": self.weight,
            "flips": self.flips,
            "most_flips": self.most_flips,
            "worth": self.worth,
        }
        if self.reason is not None:
            entry["reason"] = self.reason
        return entry


class _NoHelpError(Exception):
    """The baseline does not help, for the reason in the message."""


def assist(before: MetricInput, after: MetricInput, confidence: float, scoring: Scoring = "value") -> Assistance:
    """Estimate the value that all samples would give.

    Args:
        before: The metric in the baseline, over all samples.
        after: The metric in this run, over a part of them that was drawn at random.
        confidence: Of the interval, in (0, 1).
        scoring: Which reading.
    """
    pairing = pair(before.samples, after.samples, lambda sample: (sample.fingerprint, sample.id))
    usable = [(old, new) for old, new in pairing.shared if _counts(old, scoring) and _counts(new, scoring)]
    population = [sample for sample in before.samples if _counts(sample, scoring)]
    try:
        assisted = assisted_mean(_strata(before, pairing, usable, population, scoring), confidence)
    except _NoHelpError as e:
        return Assistance(len(usable), len(population), reason=str(e))
    return _assistance(before, assisted, len(usable), len(population), confidence, scoring)


def _counts(sample: ObservedSample, scoring: Scoring) -> bool:
    return sample.applies and bool(sample.observations(scoring))


def _strata(
    before: MetricInput,
    pairing: Pairing[ObservedSample],
    usable: Sequence[tuple[ObservedSample, ObservedSample]],
    population: Sequence[ObservedSample],
    scoring: Scoring,
) -> list[Stratum]:
    """Return the groups of a macro average, or all samples as one.

    Raises:
        _NoHelpError: The metric is no mean, the samples are others, or there are too few.
    """
    reading = before.reading(scoring)
    metric, limits = reading.metric, reading.metric.range
    if not isinstance(metric, Bounded) or not metric.equal_weights or reading.digits:
        raise _NoHelpError("it is not the mean of a number of every sample")
    unpaired = len(pairing.changed) + len(pairing.added)
    if unpaired:
        raise _NoHelpError(f"{unpaired} of its asked samples are not the baseline's")
    numbers = _Numbers(metric, limits, scoring)
    by = before.by if reading.average == "macro" else None
    if by is None:
        return [_stratum(numbers, usable, population, "all")]
    strata: list[Stratum] = []
    for group in before.groups:
        asked = [(old, new) for old, new in usable if new.group.get(by) == group]
        members = [sample for sample in population if sample.group.get(by) == group]
        strata.append(_stratum(numbers, asked, members, group))
    return strata


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Reads the number of a sample, moved from the metric's range to [0, 1].

    Attributes:
        metric: Whose number.
        range: Of the metric.
        scoring: Which reading.
    """

    metric: Bounded
    range: tuple[float, float]
    scoring: Scoring

    def of(self, sample: ObservedSample) -> float:
        """Return the mean over the epochs."""
        low, high = self.range
        terms = self.metric.terms(sample.observations(self.scoring))
        mean = math.fsum(number for number, _ in terms) / len(terms)
        return min(1.0, max(0.0, (mean - low) / (high - low)))


def _stratum(
    numbers: _Numbers,
    asked: Sequence[tuple[ObservedSample, ObservedSample]],
    population: Sequence[ObservedSample],
    name: str,
) -> Stratum:
    if len(asked) < LEAST_PAIRS:
        raise _NoHelpError(f"too few of its samples were asked ({one_line(name, 40)}: {len(asked)})")
    earlier = math.fsum(numbers.of(sample) for sample in population) / len(population)
    old = [numbers.of(sample) for sample, _ in asked]
    new = [numbers.of(sample) for _, sample in asked]
    return Stratum(old, new, len(population), earlier)


def _assistance(
    before: MetricInput, assisted: Assisted, shared: int, of: int, confidence: float, scoring: Scoring
) -> Assistance:
    """Return the estimate in the metric's own range, or why it is none."""
    if not assisted.helps:
        flips, spread = f"{assisted.flips:.1%}", f"{assisted.spread:.1%}"
        reason = f"{flips} of its {shared} shared samples flipped; a baseline helps below {spread}"
        if assisted.flips == assisted.spread == 0:
            reason = f"its {shared} shared samples are all alike, in both runs"
        return Assistance(shared, of, flips=assisted.flips, most_flips=assisted.spread, reason=reason)
    low, high = before.reading(scoring).metric.range
    span = high - low
    least, greatest = (low + span * limit for limit in assisted.limits)
    return Assistance(
        shared,
        of,
        interval=Interval(least, greatest, confidence, METHOD),
        value=low + span * assisted.value,
        before=before.compute(scoring).value,
        weight=assisted.weight,
        flips=assisted.flips,
        most_flips=assisted.spread,
        worth=assisted.worth,
    )


class AssistedNumbers:
    """Estimates for every metric of a run that asked a part of the samples, and that has a baseline.

    Args:
        now: The run's numbers.
        before: The baseline's.
        ran: What the run asked, out of how many.
        earlier: Task that sends prompts -> samples that the baseline asked.
        limit: Of ``--trust-limit``, which draws at random; None: there was none.
        early: Task that sends prompts -> what was not asked of it, because no gate needed it.
    """

    def __init__(
        self,
        now: RunNumbers,
        before: RunNumbers,
        ran: Selection,
        earlier: Mapping[str, int],
        limit: int | None,
        early: Mapping[str, StoppedTaskEntry] = NOTHING,
    ) -> None:
        self._now = now
        self._before = before
        self._ran = ran
        self._earlier = earlier
        self._limit = limit
        self._early = early
        self._known: dict[tuple[str, float, Scoring], Assistance] = {}

    def of(self, id_: str, confidence: float = CONFIDENCE, scoring: Scoring = "value") -> Assistance | None:
        """Return the estimate of a metric; None if all of its samples were asked, or the baseline does not have it.

        Args:
            id_: Of the metric.
            confidence: Of the interval, in (0, 1).
            scoring: Which reading.
        """
        before = self._before.metric_input(id_)
        after = self._now.metric_input(id_)
        if before is None or after is None or not self._ran.partial([after.task.answers_from]):
            return None
        key = (id_, confidence, scoring)
        if key not in self._known:
            problem = self._why_not(after.task.answers_from)
            if problem is None:
                self._known[key] = assist(before, after, confidence, scoring)
            else:
                self._known[key] = Assistance(0, len(before.samples), reason=problem)
        return self._known[key]

    def _why_not(self, task: str) -> str | None:
        """Return why the asked samples of a task say nothing about the others; None if they were drawn at random."""
        if not is_random_part(task, self._ran, self._limit):
            return NOT_RANDOM
        earlier, total = self._earlier.get(task, 0), self._ran.totals[task]
        if earlier != total:
            return f"the baseline has {earlier} samples of {task}, and its data {total}"
        return None

    def mark(self, metrics: Mapping[str, MetricEntry]) -> None:
        """Add the estimates to the entries of the metrics in the results."""
        for id_, entry in metrics.items():
            assistance = self._stopped(id_) or self.of(id_)
            if assistance is not None:
                entry["estimate"] = "plain" if assistance.interval is None else "baseline-assisted"
                entry["assisted"] = assistance.entry()

    def _stopped(self, id_: str) -> Assistance | None:
        """Return the estimate of a metric that was asked until its gates were decided; None if it was asked whole.

        An interval for a number of samples that was fixed beforehand does not hold for it: a confidence sequence does.
        """
        before, after = self._before.metric_input(id_), self._now.metric_input(id_)
        if before is None or after is None or after.task.answers_from not in self._early:
            return None
        limits = self._early[after.task.answers_from].get("assisted", {}).get(id_)
        if limits is None:
            return Assistance(0, len(before.samples), reason=NO_SEQUENCE)
        low, high, confidence = limits
        assisted = assist(before, after, CONFIDENCE)
        if assisted.value is None:
            return assisted
        value = min(high, max(low, assisted.value))
        return dataclasses.replace(
            assisted, value=value, interval=Interval(low, high, confidence, SEQUENCE), worth=None
        )


def is_random_part(task: str, ran: Selection, limit: int | None) -> bool:
    """Return whether the samples of a task that a run asked are just those that ``--trust-limit`` drew."""
    return limit is not None and ran.planned.get(task) == limit


# --- what gates judge -------------------------------------------------------------------------------------------------


def estimate_for(
    gate: Gate, metric: MetricValue, assisted: Assistance | None, plain: Interval | None, earlier: Interval | None
) -> Estimate | None:
    """Return what a gate on a metric judges of a part of the samples that was drawn at random.

    A gate without ``confidence`` compares the value of all samples, and the interval of that value decides. A gate with
    one judges how the model does on samples of the same kind, of which all samples are a part themselves: the interval
    is wider by what they leave open, which the interval of the whole baseline shows.

    Args:
        gate: Not on a drop.
        metric: Of the run.
        assisted: With the baseline's help, at the gate's confidence; None without a baseline.
        plain: Interval of the number over the samples that were asked.
        earlier: Interval of the whole baseline's number.

    Returns:
        None if the number has no interval.
    """
    if assisted is None or assisted.interval is None or assisted.value is None or assisted.before is None:
        return _plain_estimate(gate, metric, assisted, plain)
    interval = assisted.interval
    if gate.confidence is not None:
        if earlier is None:
            return None
        below = math.hypot(assisted.value - interval.low, assisted.before - earlier.low)
        above = math.hypot(interval.high - assisted.value, earlier.high - assisted.before)
        limits = ((assisted.value - below, assisted.value + above), interval.method)
        interval = interval_around(assisted.value, limits, metric.range, interval.confidence)
    how = f"by {assisted.shared} of {assisted.of} samples and the baseline"
    return Estimate(assisted.value, interval, how)


def _plain_estimate(
    gate: Gate, metric: MetricValue, assisted: Assistance | None, plain: Interval | None
) -> Estimate | None:
    value = metric.value if gate.scoring == "value" else metric.parity
    if value is None or plain is None:
        return None
    how = f"over {metric.scored} samples"
    if assisted is not None:
        how += f" (the baseline does not help: {assisted.reason})"
    return Estimate(value, plain, how)


def drop_estimate(drop: Drop) -> Estimate | None:
    """Return what a gate on a drop judges of a part of the samples: the interval of the paired difference."""
    if drop.value is None or drop.interval is None:
        return None
    return Estimate(drop.value, drop.interval, f"on {drop.scored} shared samples")
