"""How few samples could decide a gate: if all answers were right, or all wrong."""

from __future__ import annotations

import math

from pytest_trustllm.gates.deciding import SourcePlan, interval_bounds, metric_of, why_whole
from pytest_trustllm.gates.tracking import TrackedMetric
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.stats.sequences import HIGH_STAKES, STAKES, Evidence

_ROUNDING = 1e-9


def least_samples(gate: Gate, plan: SourcePlan, level: float | None) -> int:
    """Return the least number of samples of a task that could decide a gate on one of its metrics.

    Args:
        gate: On a metric.
        plan: Of the task whose responses decide.
        level: The gate's share of alpha; None: only what is certain decides.

    Returns:
        All samples if the gate cannot be decided early. Of a macro average and of clusters, the number is approximate.
    """
    takes_evidence = gate.kind == "max_drop" or gate.confidence is not None
    if why_whole(gate, plan) is not None or (takes_evidence and level is None):
        return plan.samples
    task, spec, group = metric_of(gate, plan.tasks)
    tracked = TrackedMetric(task, spec, group, gate.reading, plan.units, 1)
    counted = tracked.planned
    if not counted:
        return plan.samples
    reading = spec.value if gate.scoring == "value" else spec.parity
    low, high = reading.metric.range
    passes, fails = _null_shares(gate, low, high, counted)
    covered = _until_share(gate.policy.min_scored, counted, level, HIGH_STAKES)
    to_pass = max(covered, _until_share(passes, counted, level, STAKES))
    needed = min(to_pass, _until_share(fails, counted, level, STAKES))
    # a sub-metric counts a part of the samples, which are asked in random order
    return min(plan.samples, math.ceil(needed * plan.samples / counted))


def _null_shares(gate: Gate, low: float, high: float, counted: int) -> tuple[float, float]:
    """Return the shares of ideal answers that decide for a pass, and for a failure."""
    span = high - low
    if gate.kind == "max_drop":  # ideal pairs gain all of the range, or lose it
        null = (span - gate.bound) / (2 * span)
        return null, 1 - null
    below = above = gate.bound
    if gate.confidence is not None:
        below, above = interval_bounds(gate, gate.confidence, counted)
    if gate.kind == "at_least":
        return (above - low) / span, 1 - (below - low) / span
    return 1 - (below - low) / span, (above - low) / span


def _until_share(share: float, counted: int, level: float | None, stakes: tuple[float, ...]) -> int:
    """Return how many ideal answers show that the share of ideal answers among all is at least ``share``."""
    certain = min(counted, max(1, math.ceil(share * counted - _ROUNDING)))
    if level is None or not 0 < share < 1:
        return certain
    evidence = Evidence(counted, share, stakes)
    for number in range(1, certain):
        evidence.add(1.0)
        if evidence.reaches(level):
            return number
    return certain
