"""Verdicts on gates of a run that asked a random part of the samples: what would the run of all of them say?

That is only known up to an interval. So the interval decides, even if the gate would compare the value of all samples
alone: the gate passes or fails if the interval lies on one side of the bound, and is inconclusive otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_trustllm.gates.verdict import Gate, GateResult, digits_of, reading_of
from pytest_trustllm.types import Interval, MetricValue


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of the number that a gate would judge if all samples were asked.

    Attributes:
        value: The estimate; for ``max_drop`` the drop.
        interval: Of the number.
        how: What it comes from, in words.
    """

    value: float
    interval: Interval
    how: str


def judge_estimate(gate: Gate, estimate: Estimate, metric: MetricValue) -> GateResult:
    """Return the verdict on an estimate.

    Args:
        gate: On a metric.
        estimate: Of the number that it judges.
        metric: Its metric, over the samples that were asked.
    """
    least = gate.policy.min_scored
    if metric.expected and metric.scored / metric.expected < least:
        scored = f"{metric.scored} of {metric.expected} samples that were asked have a score"
        reason = f"{gate.metric}: {scored}; coverage.min_scored requires {least:.1%}"
        return GateResult(gate, "failed", estimate.value, reason, estimate.interval)
    low, high, bound = estimate.interval.low, estimate.interval.high, gate.bound
    if gate.kind == "at_least":
        passed, failed = low >= bound, high < bound
    else:
        passed, failed = high <= bound, low > bound
    what = "drop" if gate.kind == "max_drop" else "="
    level = f"{100 * estimate.interval.confidence:.6g}%"
    between = f"{level} interval {digits_of(low, bound)} to {digits_of(high, bound)}"
    reason = f"{gate.metric} {what} {estimate.value:.3f}{reading_of(gate)} {estimate.how}, {between}"
    if passed:
        return GateResult(gate, "passed", estimate.value, f"{reason}, bound {bound:g}", estimate.interval)
    if failed:
        return GateResult(gate, "failed", estimate.value, f"{reason}, bound {bound:g}", estimate.interval)
    return GateResult(gate, "inconclusive", estimate.value, f"{reason} contains {bound:g}", estimate.interval)
