"""What the gates of a run can see: how stable their verdicts are, and how large a drop turns them red."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pytest_trustllm.formats import GateOutcome, PowerEntry
from pytest_trustllm.gates.verdict import Drop, Gate, GateResult
from pytest_trustllm.metrics.base import Bounded
from pytest_trustllm.metrics.observations import Scoring
from pytest_trustllm.results.baseline import Baseline
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.results.metric_inputs import MetricInput
from pytest_trustllm.stats.intervals import CONFIDENCE, normal_quantile
from pytest_trustllm.stats.power import Noise, NormalNoise, ShareNoise, least_with
from pytest_trustllm.stats.shares import wilson
from pytest_trustllm.types import Interval, MetricValue, Selection, TrustScore

POWER, MORE_POWER = 0.8, 0.95
"""The drop that a gate sees is the one that turns it red with this probability; and what more samples should give."""
_MOST_TIMES = 1000.0
"""More than so many times the samples are not searched for."""


class GatedRun(Protocol):
    """What is needed of a :class:`~pytest_trustllm.results.measurement.MeasuredRun`."""

    baseline: Baseline | None
    ran: Selection
    numbers: RunNumbers

    @property
    def metrics(self) -> Mapping[str, MetricValue]:
        """Name -> metric."""
        ...

    @property
    def scores(self) -> Mapping[str, TrustScore]:
        """Dimension -> trust score."""
        ...

    def drop(self, gate: Gate) -> Drop:
        """Return how much worse the gate's number is than the baseline's."""
        ...

    def flip_rate(self, tasks: Sequence[str]) -> float | None:
        """Return the share of the samples of some tasks that flip from epoch to epoch; None without epochs."""
        ...


class Measured(NamedTuple):
    """The number that a gate judges.

    Attributes:
        value: The number; for ``max_drop`` the drop, positive where it got worse.
        samples: Samples that it comes from.
        noise: How it varies from run to run.
        source: What tells that: ``epochs``, ``binomial`` or ``interval``.
        interval: At the gate's confidence; None if the value alone decides.
        range: Least and greatest possible value.
        epochs: Of every sample.
    """

    value: float
    samples: int
    noise: Noise
    source: str
    interval: Interval | None
    range: tuple[float, float]
    epochs: int = 1


class _Limits(NamedTuple):
    """From where on a gate passes, and up to where it fails; between the two it is inconclusive."""

    passes: float
    fails: float


@dataclass(frozen=True, slots=True)
class GatePower:
    """The verdicts of a gate in runs yet to come. Everything is turned such that more is better.

    Attributes:
        gate: The gate.
        measured: Its number.
        size: Samples of the run to come, as a multiple of this one's.
    """

    gate: Gate
    measured: Measured
    size: float = 1.0

    @property
    def _sign(self) -> float:
        return 1.0 if self.gate.kind == "at_least" else -1.0

    def _limits(self, size: float) -> _Limits:
        bound = self.gate.bound
        if self.gate.confidence is None:
            return _Limits(bound, bound)
        if self.gate.kind == "max_drop":
            # a greater drop than the bound fails only if chance does not explain it
            chance = _one_sided(self.gate.confidence) * self._error / math.sqrt(size)
            return _Limits(bound, max(bound, chance))
        return self._interval_limits(size)

    @property
    def _error(self) -> float:
        noise = self.measured.noise
        return noise.error if isinstance(noise, NormalNoise) else 0.0

    def _interval_limits(self, size: float) -> _Limits:
        gate, noise, interval = self.gate, self.measured.noise, self.measured.interval
        assert gate.confidence is not None  # noqa: S101 - else there is no interval
        if isinstance(noise, ShareNoise):
            quantile, trials = normal_quantile(gate.confidence), noise.trials * size
            above = least_with(lambda share: float(wilson(share, trials, quantile)[0] >= gate.bound), 1.0, 0.0, 1.0)
            below = least_with(lambda share: float(wilson(share, trials, quantile)[1] >= gate.bound), 1.0, 0.0, 1.0)
            ends = (2.0 if above is None else above, 2.0 if below is None else below)
        elif interval is None:
            ends = (gate.bound, gate.bound)
        else:
            narrower = math.sqrt(size)
            ends = (
                gate.bound + (self.measured.value - interval.low) / narrower,
                gate.bound - (interval.high - self.measured.value) / narrower,
            )
        passes, fails = ends if gate.kind == "at_least" else (ends[1], ends[0])
        return _Limits(passes, fails)

    def _verdicts(self, at_least: Callable[[float], float], size: float) -> dict[GateOutcome, float]:
        """Return the probability of every verdict, from that of a number or more."""
        limits = self._limits(size)
        if self._sign > 0:
            passed, not_failed = at_least(limits.passes), at_least(limits.fails)
        else:  # 'or less' of a continuous number; of a share, the next greater count is none of it
            passed, not_failed = 1 - at_least(_next(limits.passes)), 1 - at_least(_next(limits.fails))
        not_failed = max(passed, not_failed)
        return {"passed": passed, "failed": 1 - not_failed, "inconclusive": not_failed - passed}

    def another_verdict(self, outcome: GateOutcome) -> float:
        """Return the probability that the run to come, of the same model, gets another verdict."""
        noise, size = self.measured.noise, self.size
        verdicts = self._verdicts(lambda least: noise.again(least, size), size)
        return min(1.0, max(0.0, 1 - verdicts.get(outcome, 0.0)))

    def red(self, drop: float, size: float) -> float:
        """Return the probability that the build is red if the true number is worse than the measured by a drop."""
        noise = self.measured.noise
        true = self._start - self._sign * drop
        verdicts = self._verdicts(lambda least: noise.given(true, least, size), size)
        red = verdicts["failed"]
        if self.gate.policy.on_inconclusive == "fail":
            red += verdicts["inconclusive"]
        return red

    @property
    def _start(self) -> float:
        """From where a drop is counted: the measured number, or no drop since the baseline."""
        return 0.0 if self.gate.kind == "max_drop" else self.measured.value

    def drop(self) -> float | None:
        """Return the least drop that turns the gate red with the probability ``POWER``; None if none does."""
        low, high = self.measured.range
        room = self._start - low if self._sign > 0 else high - self._start
        return least_with(lambda drop: self.red(drop, self.size), POWER, 0.0, room)

    def times(self, drop: float) -> float | None:
        """Return how many times the samples would turn the gate red for a drop with the probability ``MORE_POWER``."""
        return least_with(lambda times: self.red(drop, self.size * times), MORE_POWER, 1.0, _MOST_TIMES)


def _one_sided(confidence: float) -> float:
    """Return the z of a one-sided test at a level of 1 - confidence."""
    return normal_quantile(2 * confidence - 1) if confidence > 0.5 else 0.0


def _next(number: float) -> float:
    """Return a number a little greater, so that 'or more' excludes the number itself."""
    return number + 2e-9


def power_of(run: GatedRun, result: GateResult, limit: int | None = None) -> PowerEntry | None:
    """Return what a gate of a run can see; None if it has no verdict on all of its samples, or none can be told.

    Args:
        run: The run.
        result: The verdict of the gate.
        limit: Samples of each task in the run to come; None: as many as in this one.
    """
    gate = result.gate
    itself = gate.kind == "max_drop" and run.baseline is None
    judged = result.outcome in ("passed", "failed", "inconclusive") and result.lacking is None
    if result.early is not None or run.ran.partial(gate.tasks) or not (judged or itself):
        return None
    measured = _measured_score(run, gate) if gate.metric_id is None else _measured_metric(run, gate, gate.metric_id)
    if gate.kind == "max_drop":
        if run.baseline is None:
            measured = None if measured is None else drop_from_itself(measured, run.flip_rate(gate.tasks))
        else:
            low, high = (0.0, 1.0) if gate.metric_id is None else run.metrics[gate.metric_id].range
            measured = measured_drop(run.drop(gate), high - low)
    if measured is None or not measured.samples:
        return None
    size = 1.0 if limit is None else _share_of_limit(run, gate, limit)
    return power_entry(gate, "passed" if itself else result.outcome, measured, size)


def _share_of_limit(run: GatedRun, gate: Gate, limit: int) -> float:
    """Return how many of a gate's samples a run of at most ``limit`` samples per task has, as a share of this run's."""
    asked = [run.ran.planned.get(task, 0) for task in gate.tasks]
    return sum(min(limit, count) for count in asked) / max(1, sum(asked))


def power_entry(gate: Gate, outcome: GateOutcome, measured: Measured, size: float = 1.0) -> PowerEntry:
    """Return what a gate can see, as results and ``pytest-trustllm power`` have it.

    Args:
        gate: The gate.
        outcome: Its verdict in this run.
        measured: Its number.
        size: Samples of the run to come, as a multiple of this one's.
    """
    samples = max(1, round(measured.samples * size))
    power = GatePower(gate, measured, size)
    drop = power.drop()
    times = None if drop is None or drop <= 0 else power.times(drop)
    needed = None if times is None else math.ceil(times * samples)
    epochs = None
    if measured.source == "epochs" and times is not None:
        epochs = math.ceil(measured.epochs * times)
    return {
        "source": measured.source,
        "samples": samples,
        "another_verdict": power.another_verdict(outcome),
        "drop": drop,
        "samples_more": needed,
        "epochs_more": epochs,
    }


# --- how numbers vary -------------------------------------------------------------------------------------------------


def _measured_metric(run: GatedRun, gate: Gate, id_: str) -> Measured | None:
    """Return the number of a gate on a metric, and how it varies; None if that is not known."""
    metric_input, metric = run.numbers.metric_input(id_), run.metrics.get(id_)
    # how a corrected rate varies, few labels decide more than many samples
    if metric_input is None or metric is None or gate.scoring == "corrected":
        return None
    value = metric.value if gate.scoring == "value" else metric.parity
    if value is None:
        return None
    samples = metric.scored
    interval = None
    if gate.confidence is not None:
        interval = run.numbers.interval(id_, gate.confidence, gate.reading)
    range_ = metric_input.reading(gate.reading).metric.range
    within = _error_within(metric_input, gate.reading)
    if within is not None:
        error, epochs = within
        return Measured(value, samples, NormalNoise(value, error), "epochs", interval, range_, epochs)
    trials = metric_input.share_trials(gate.reading, CONFIDENCE)
    if trials is not None:
        return Measured(value, samples, ShareNoise(value, trials), "binomial", interval, range_)
    wide = run.numbers.interval(id_, CONFIDENCE, gate.reading)
    if wide is None:
        return None
    return Measured(value, samples, NormalNoise(value, error_of(wide)), "interval", interval, range_)


def _measured_score(run: GatedRun, gate: Gate) -> Measured | None:
    """Return a trust score, and how it varies; None if that is not known."""
    score = run.scores.get(gate.dimension)
    wide = run.numbers.interval(f"{gate.dimension}/score", CONFIDENCE)
    if score is None or score.value is None or wide is None:
        return None
    interval = None
    if gate.confidence is not None:
        interval = run.numbers.interval(f"{gate.dimension}/score", gate.confidence)
    samples = sum(run.metrics[id_].scored for id_ in score.of)
    noise = NormalNoise(score.value, error_of(wide))
    return Measured(score.value, samples, noise, "interval", interval, (0.0, 1.0))


def error_of(interval: Interval) -> float:
    """Return the standard error that an interval shows."""
    return (interval.high - interval.low) / 2 / normal_quantile(interval.confidence)


def _error_within(metric_input: MetricInput, scoring: Scoring) -> tuple[float, int] | None:
    """Return how much a mean varies if the same samples are asked again, and the epochs that show it; None without."""
    reading = metric_input.reading(scoring)
    metric = reading.metric
    if not isinstance(metric, Bounded) or not metric.equal_weights:
        return None
    numbers: dict[str | None, list[list[float]]] = {}
    for sample in metric_input.samples:
        observations = sample.observations(scoring)
        if observations:
            group = sample.group.get(metric_input.by or "") if reading.average == "macro" else None
            numbers.setdefault(group, []).append([number for number, _ in metric.terms(observations)])
    epochs = [len(of_sample) for samples in numbers.values() for of_sample in samples]
    if not epochs or min(epochs) < 2:
        return None
    variance = 0.0
    for samples in numbers.values():
        total = math.fsum(_variance_of_mean(of_sample) for of_sample in samples)
        variance += total / len(samples) ** 2 / len(numbers) ** 2
    return math.sqrt(variance), min(epochs)


def _variance_of_mean(numbers: list[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1) / len(numbers)


def measured_drop(drop: Drop, span: float) -> Measured | None:
    """Return the number of a gate on a drop from its comparison with the baseline; None without an interval."""
    if drop.value is None or drop.interval is None or not drop.scored:
        return None
    noise = NormalNoise(drop.value, error_of(drop.interval))
    return Measured(drop.value, drop.scored, noise, "interval", drop.interval, (-span, span))


def drop_from_itself(measured: Measured, flip_rate: float | None) -> Measured | None:
    """Return how a drop varies if this run is the baseline and the model does not change.

    Args:
        measured: The metric's own number.
        flip_rate: Share of the samples that flip from epoch to epoch; None: unknown. Then the answers are taken to be
            independent of each other, which is the most that they can flip.
    """
    low, high = measured.range
    span = high - low
    if flip_rate is not None:
        error = span * math.sqrt(flip_rate / measured.samples / measured.epochs)
    elif isinstance(measured.noise, ShareNoise):
        error = math.sqrt(2 * measured.value * (1 - measured.value) / measured.noise.trials)
    elif isinstance(measured.noise, NormalNoise):
        error = math.sqrt(2) * measured.noise.error
    else:
        return None
    noise = NormalNoise(0.0, error, certain=True)
    return Measured(0.0, measured.samples, noise, measured.source, None, (-span, span), measured.epochs)
