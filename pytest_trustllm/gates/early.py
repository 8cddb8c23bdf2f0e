"""Verdicts on gates whose samples were not all asked."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_trustllm.formats import DecisionEntry, StopRule
from pytest_trustllm.gates.verdict import Gate, GateResult, digits_of, reading_of
from pytest_trustllm.types import Interval, MetricValue

STOP_METHODS: Mapping[StopRule, str] = {
    "exact": "what the samples not asked could still make of it",
    "alpha": "confidence sequence without replacement (Waudby-Smith and Ramdas 2020)",
}
"""How the limits of a number come about whose samples were not all asked."""


def judge_early(
    gate: Gate, decision: DecisionEntry | None, metrics: Mapping[str, MetricValue], value: float | None
) -> GateResult:
    """Return the verdict on a gate some of whose samples were not asked.

    Args:
        gate: The gate.
        decision: How it was decided early; None: the samples were not needed for other gates.
        metrics: Of the run, over the samples that were asked.
        value: What the gate judges, over the same samples; None if there is none.
    """
    if decision is not None:
        return _decided(gate, decision, value)
    metric = None if gate.metric_id is None else metrics.get(gate.metric_id)
    limits = None if metric is None else metric.interval
    judges_limits = gate.scoring == "value" and gate.confidence is None and gate.kind != "max_drop"
    if metric is None or limits is None or not judges_limits:
        problem = "not all of its samples were asked, for other gates needed no more"
        return GateResult(gate, "no_data", value, f"no data: {problem}; run again with this gate")
    if metric.scored < gate.policy.min_scored * metric.expected:
        reason = f"{metric.scored} of {metric.expected} samples that were asked have a score"
        return GateResult(gate, "failed", value, reason, limits)
    return _judged_by_limits(gate, metric, limits, value)


def _decided(gate: Gate, decision: DecisionEntry, value: float | None) -> GateResult:
    interval: Interval | None = None
    if decision["limits"] is not None:
        low, high = decision["limits"]
        interval = Interval(low, high, decision["confidence"], STOP_METHODS[decision["rule"]])
    how = "no further answer can change that"
    if decision["rule"] == "alpha":
        how = "by a sequence"
        # samples without a score can make limits wider than the evidence on the bound itself
        if interval is not None and not interval.low < gate.bound < interval.high:
            help_ = " with the baseline's help" if decision.get("helped") else ""
            how += f", {_percent(interval.confidence)} limits{help_} {interval.low:.3f} to {interval.high:.3f}"
    measured = _measured(gate, value, passed=decision["outcome"] == "passed")
    reason = f"{measured}, decided after {decision['asked']} of {decision['planned']} samples: {how}"
    return GateResult(gate, decision["outcome"], value, reason, interval, early=decision)


def _measured(gate: Gate, value: float | None, *, passed: bool) -> str:
    """Return the number over the samples asked, and on which side of the bound it is."""
    if value is None:
        return f"{gate.metric} has no value yet"
    what = f"{gate.metric}: drop" if gate.kind == "max_drop" else f"{gate.metric} ="
    number = f"{what} {digits_of(value + 0.0, gate.bound)}{reading_of(gate)}"  # a drop of -0.0 is one of 0
    if gate.kind == "at_least":
        met, signs = value >= gate.bound, ("<", "≥")
    else:
        met, signs = value <= gate.bound, (">", "≤")
    if met and not passed:
        return f"{number}, but coverage.min_scored = {gate.policy.min_scored:.1%} is out of reach"
    return f"{number} {signs[met]} {gate.bound:g}"


def _judged_by_limits(gate: Gate, metric: MetricValue, limits: Interval, value: float | None) -> GateResult:
    """Return the verdict on another bound than the one that the run was stopped for: the limits hold for any."""
    if gate.kind == "at_least":
        passed, failed = limits.low >= gate.bound, limits.high < gate.bound
    else:
        passed, failed = limits.high <= gate.bound, limits.low > gate.bound
    reason = (
        f"{gate.metric}: {_percent(limits.confidence)} limits {digits_of(limits.low, gate.bound)} to "
        f"{digits_of(limits.high, gate.bound)} after {metric.asked} of {metric.planned} samples, bound {gate.bound:g}"
    )
    if passed:
        return GateResult(gate, "passed", value, reason, limits)
    if failed:
        return GateResult(gate, "failed", value, reason, limits)
    return GateResult(gate, "inconclusive", value, f"{reason}; run again with this gate", limits)


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.4g}%"
