"""Gates that need no further answer: their verdict is certain, or wrong with no more than an agreed probability.

``exact``: whatever the samples not yet asked answer, or if they get no score, the verdict stays. ``alpha``: evidence
that holds at any moment (:mod:`pytest_trustllm.stats.sequences`) says so. Its alpha is shared by all gates of a model
that are decided in this way, in proportion to the samples that each is about. Of the two wrong verdicts on a gate only
one is possible, since its number is on one side of the bound. So, with a gate's share s:

- the verdict of the gate differs from that of the full run with a probability of at most s;
- any verdict of the model differs with a probability of at most the sum of the shares, which is alpha;
- the interval of its number misses the full run's number, at whatever moment one looks, with a probability of at most
  2 s, which is at most alpha.

A gate with a ``confidence`` judges the interval that the full run will have. For a share of independent samples, two
counts say on which side of the bound that interval is, and the evidence is about these: the guarantee is the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_trustllm.formats import Record
from pytest_trustllm.gates.dropping import DropEvidence, EarlierSample, control_of
from pytest_trustllm.gates.evidence import CoverageEvidence, ValueEvidence
from pytest_trustllm.gates.planned import Bounds, Unit
from pytest_trustllm.gates.tracking import TrackedMetric, why_unbounded
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.metrics.base import Bounded
from pytest_trustllm.stats.shares import share_limits
from pytest_trustllm.suites.metric_specs import MetricSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import oriented

Rule = Literal["exact", "alpha"]
_LOOKS = 400
"""A gate is looked at again once this part of its samples is new."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of a gate that needs no further sample.

    Attributes:
        outcome: The verdict.
        rule: How it was reached.
        limits: Of the final value; None if the rule gives none.
        confidence: Of the limits; 1 if they are certain.
        asked: Samples of the gate's tasks whose answers it rests on.
        planned: All samples of those tasks.
        course: Samples asked, and the limits at that time, at a few moments; empty if the rule gives no such limits.
        helped: The baseline helped to find the limits.
    """

    outcome: Literal["passed", "failed"]
    rule: Rule
    limits: Bounds | None
    confidence: float
    asked: int
    planned: int
    course: Sequence[tuple[int, float, float]] = ()
    helped: bool = False


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """The planned samples of a task that sends prompts.

    Attributes:
        units: In the order in which they are asked.
        tasks: Id -> the task itself, and those that read its responses.
    """

    units: Sequence[Unit]
    tasks: Mapping[str, Task]

    @property
    def samples(self) -> int:
        """Number of planned samples."""
        return sum(len(unit) for unit in self.units)


class GateDecider:
    """Decides one gate on a metric as early as possible.

    Args:
        gate: The gate.
        plan: Of the task whose responses decide.
        epochs: How often each sample is asked.
        level: The gate's share of alpha; None: only what is certain decides.
        before: What the baseline has of its samples; None: nothing is known.

    Attributes:
        decision: None as long as there is none.
        problem: Why it cannot be decided early; None if it can.
    """

    def __init__(
        self,
        gate: Gate,
        plan: SourcePlan,
        epochs: int,
        level: float | None,
        before: Sequence[EarlierSample] | None = None,
    ) -> None:
        self.gate = gate
        self.decision: Decision | None = None
        self._level = level
        self._planned = plan.samples
        self._asked = 0
        self._next_look = 0
        self._value: ValueEvidence | None = None
        self._limits: ValueEvidence | None = None
        self._coverage: CoverageEvidence | None = None
        self._tracked: TrackedMetric | None = None
        self._drop: DropEvidence | None = None
        self.problem = why_whole(gate, plan)
        if self.problem is None:
            self._track(plan, epochs, before)

    @property
    def sources(self) -> tuple[str, ...]:
        """Ids of the tasks whose samples decide it."""
        return self.gate.tasks

    def _track(self, plan: SourcePlan, epochs: int, before: Sequence[EarlierSample] | None) -> None:
        task, spec, group = metric_of(self.gate, plan.tasks)
        self._tracked = TrackedMetric(task, spec, group, self.gate.reading, plan.units, epochs)
        if self._level is None:
            if self.gate.kind == "max_drop" or self.gate.confidence is not None:
                self.problem = "a drop or an interval is decided early by evidence alone, with an alpha"
            return
        if self.gate.kind == "max_drop":
            self._track_drop(self._tracked, plan, before)
            return
        bound = self.gate.bound
        control = control_of(self._tracked, plan.units, before)
        if self.gate.confidence is None:
            self._value = self._tracked.watch(plan.units, bound, bound, control=control)
        else:
            low, high = interval_bounds(self.gate, self.gate.confidence, self._tracked.planned)
            self._value = self._tracked.watch(plan.units, low, high, fixed_weights=True, control=control)
        self._limits = self._tracked.watch(plan.units, bound, bound, fixed_weights=True, control=control)
        self._coverage = self._tracked.watch_coverage(plan.units, self.gate.policy.min_scored)

    def _track_drop(self, tracked: TrackedMetric, plan: SourcePlan, before: Sequence[EarlierSample] | None) -> None:
        """Watch the pairs with the baseline, if it has enough of the samples."""
        if tracked.is_macro:
            self.problem = "the drop of a macro average is not bounded before all samples are asked"
            return
        self._drop = DropEvidence(self.gate, tracked, plan.units, before or ())
        if self._drop.pairs < max(1.0, self.gate.policy.min_paired * tracked.planned):
            self.problem = "the baseline has too few of its samples"
            return
        tracked.watch_with(self._drop)
        self._coverage = tracked.watch_coverage(plan.units, self.gate.policy.min_scored)

    def take(self, source: str, unit: Unit, records: Sequence[Record]) -> None:
        """Take the records of a unit, in the order of the plan."""
        if self.problem is not None or self.decision is not None or self._tracked is None:
            return
        self._tracked.take(unit, records)
        self._asked += len(unit)
        self.problem = self._tracked.problem
        if self.problem is None and self._asked >= self._next_look:
            self._next_look = self._asked + max(1, self._asked // _LOOKS)
            self.decision = self._decided(self._tracked)

    def _decided(self, tracked: TrackedMetric) -> Decision | None:
        if not tracked.measured:
            return None
        gate, min_scored = self.gate, self.gate.policy.min_scored
        bounds = tracked.bounds()
        if tracked.coverage.hopeless(min_scored):
            return self._certain("failed", bounds)
        if gate.kind == "max_drop":
            return self._decided_by_drop(tracked)
        if gate.confidence is not None:
            return self._decided_by_interval(tracked)
        if _misses(gate, bounds):
            return self._certain("failed", bounds)
        if _meets(gate, bounds) and tracked.coverage.assured(min_scored):
            return self._certain("passed", bounds)
        if self._level is None or self._value is None or self._coverage is None:
            return None
        if self._is_beyond(self._value, self._level):
            return self._probable("failed", self._level)
        reaches = _meets(gate, bounds) or self._is_within(self._value, self._level)
        covered = tracked.coverage.assured(min_scored) or self._coverage.assured(self._level)
        if reaches and covered:
            return self._probable("passed", self._level)
        return None

    def _decided_by_drop(self, tracked: TrackedMetric) -> Decision | None:
        """Return the decision of a gate on a drop."""
        if self._level is None or self._drop is None or self._coverage is None or not self._drop.usable:
            return None
        # with a confidence, a drop beyond the bound fails only if chance does not explain it: that takes all samples
        if self.gate.confidence is None and self._drop.is_beyond(self._level):
            return self._probable("failed", self._level)
        covered = tracked.coverage.assured(self.gate.policy.min_scored) or self._coverage.assured(self._level)
        if covered and self._drop.is_within(self._level):
            return self._probable("passed", self._level)
        return None

    def _decided_by_interval(self, tracked: TrackedMetric) -> Decision | None:
        """Return the decision of a gate that judges the interval which the full run will have."""
        if tracked.fractions:  # the interval of such numbers depends on how they vary
            self.problem = "the interval of numbers other than 0 and 1 is not known before all samples are asked"
            return None
        if self._level is None or self._value is None or self._coverage is None:
            return None
        if self._is_beyond(self._value, self._level):
            return self._probable("failed", self._level)
        covered = tracked.coverage.assured(self.gate.policy.min_scored) or self._coverage.assured(self._level)
        if covered and self._is_within(self._value, self._level):
            return self._probable("passed", self._level)
        return None

    def _is_within(self, evidence: ValueEvidence, level: float) -> bool:
        """Return whether the value is on the good side of the bound."""
        if self.gate.kind == "at_least":
            return evidence.exceeds(level)
        return evidence.falls_below(level)

    def _is_beyond(self, evidence: ValueEvidence, level: float) -> bool:
        """Return whether the value is on the bad side of the bound."""
        if self.gate.kind == "at_least":
            return evidence.falls_below(level)
        return evidence.exceeds(level)

    def _certain(self, outcome: Literal["passed", "failed"], bounds: Bounds) -> Decision:
        return Decision(outcome, "exact", bounds, 1.0, self._asked, self._planned)

    def _probable(self, outcome: Literal["passed", "failed"], level: float) -> Decision:
        limits, course, helped = None, [], False
        if self._limits is not None:
            limits = self._limits.limits(level)
            course = self._limits.course(level)
            helped = self._limits.control is not None
        return Decision(outcome, "alpha", limits, 1.0 - 2.0 * level, self._asked, self._planned, course, helped)


def _meets(gate: Gate, bounds: Bounds) -> bool:
    """Return whether all values that are still possible pass the gate."""
    return bounds.low >= gate.bound if gate.kind == "at_least" else bounds.high <= gate.bound


def _misses(gate: Gate, bounds: Bounds) -> bool:
    """Return whether no value that is still possible passes the gate."""
    return bounds.high < gate.bound if gate.kind == "at_least" else bounds.low > gate.bound


def why_whole(gate: Gate, plan: SourcePlan) -> str | None:
    """Return why a gate on a metric needs all of its samples; None if it may not."""
    task, spec, group = metric_of(gate, plan.tasks)
    if gate.scoring == "corrected":
        return "its correction needs the verdicts on all samples"
    if group is not None and group[0] not in task.group:
        return "it is about a part of the scores"
    if gate.kind == "max_drop":
        return _why_no_pairs(spec, gate)
    if gate.confidence is not None and not _has_share_interval(spec, group, gate, plan):
        return "its interval depends on how the answers of all samples vary"
    return why_unbounded(spec, gate.reading)


def _why_no_pairs(spec: MetricSpec, gate: Gate) -> str | None:
    """Return why a drop is not the mean of what pairs of answers lost; None if it is."""
    reading = spec.value if gate.scoring == "value" else spec.parity
    if not isinstance(reading.metric, Bounded) or not reading.metric.equal_weights or reading.digits:
        return "its drop is not the mean of what its samples lost"
    return None


def _has_share_interval(spec: MetricSpec, group: object, gate: Gate, plan: SourcePlan) -> bool:
    """Return whether the interval is that of a share of independent samples: two counts determine it."""
    reading = spec.value if gate.scoring == "value" else spec.parity
    independent = all(len(unit) == 1 for unit in plan.units)
    one_part = reading.average == "pooled" or group is not None
    low, high = reading.metric.range
    return independent and one_part and not reading.digits and (low, high) == (0.0, 1.0)


def interval_bounds(gate: Gate, confidence: float, planned: int) -> tuple[float, float]:
    """Return bounds on the full run's share that decide a gate on the interval of that share.

    If the share is below the first, or above the second, the interval lies on one side of the gate's bound. Between
    the two it is inconclusive. A sample without a score counts against either: that leaves the interval wider.

    Args:
        gate: The gate.
        confidence: Of its interval.
        planned: Samples of the full run.

    Returns:
        Half-way between two counts, so that no rounding decides; 0 and 1 where no count will do.
    """
    limits = [share_limits(count, planned, confidence) for count in range(planned + 1)]
    low_count, high_count = -1, planned + 1
    while low_count < planned and limits[low_count + 1][1] < gate.bound:
        low_count += 1
    while high_count > 0 and limits[high_count - 1][0] > gate.bound:
        high_count -= 1
    return max(0.0, (low_count + 0.5) / planned), min(1.0, (high_count - 0.5) / planned)


def metric_of(gate: Gate, tasks: Mapping[str, Task]) -> tuple[Task, MetricSpec, tuple[str, str] | None]:
    """Return the task and the metric of a gate, and name and value of the group if it is about a sub-metric."""
    metric, brace, group = gate.metric.partition("{")
    task_name, _, name = metric.rpartition(".")
    task = tasks[f"{gate.dimension}/{task_name}"]
    spec = next(spec for spec in task.metrics if spec.name == name)
    if not brace:
        return task, spec, None
    group_name, _, value = group.removesuffix("}").partition("=")
    return task, spec, (group_name, value)


class ScoreDecider:
    """Decides a gate on a trust score through its parts, once the verdict is certain.

    Args:
        gate: The gate.
        plans: Source task -> its plan, of all tasks of the dimension.
        epochs: How often each sample is asked.
    """

    def __init__(self, gate: Gate, plans: Mapping[str, SourcePlan], epochs: int) -> None:
        self.gate = gate
        self.decision: Decision | None = None
        self.problem: str | None = None
        self._planned = sum(plan.samples for plan in plans.values())
        self._asked = 0
        self._next_look = 0
        self._parts: list[tuple[str, MetricSpec, TrackedMetric]] = []
        for source, plan in plans.items():
            for task in plan.tasks.values():
                self._add_part(source, plan, task, epochs)
        if gate.kind == "max_drop" or gate.confidence is not None:
            self.problem = "its interval or difference is not known before all samples are asked"
        if set(plans) != set(gate.tasks):
            self.problem = "tasks of the dimension have no sample in this run"

    @property
    def sources(self) -> tuple[str, ...]:
        """Ids of the tasks whose samples decide it."""
        return self.gate.tasks

    def _add_part(self, source: str, plan: SourcePlan, task: Task, epochs: int) -> None:
        headline = task.metrics[0]
        problem = why_unbounded(headline, "value")
        if problem is not None:
            self.problem = f"{task.metric_id(headline.name)}: {problem}"
            return
        self._parts.append((source, headline, TrackedMetric(task, headline, None, "value", plan.units, epochs)))

    def take(self, source: str, unit: Unit, records: Sequence[Record]) -> None:
        """Take the records of a unit, in the order of the plan."""
        if self.problem is not None or self.decision is not None:
            return
        self._asked += len(unit)
        for part_source, _, tracked in self._parts:
            if part_source == source:
                tracked.take(unit, records)
                self.problem = self.problem or tracked.problem
        if self.problem is None and self._asked >= self._next_look:
            self._next_look = self._asked + max(1, self._asked // _LOOKS)
            self.decision = self._decided()

    def _decided(self) -> Decision | None:
        min_scored = self.gate.policy.min_scored
        lows: list[float] = []
        highs: list[float] = []
        for _, spec, tracked in self._parts:
            # without all headline metrics the verdict is 'no data', which is neither passed nor failed
            if not tracked.measured or not tracked.coverage.assured(min_scored):
                return None
            ends = [oriented(end, higher_is_better=spec.higher_is_better) for end in tracked.bounds()]
            lows.append(min(ends))
            highs.append(max(ends))
        rounding = 1e-9
        bounds = Bounds(math.fsum(lows) / len(lows) - rounding, math.fsum(highs) / len(highs) + rounding)
        if _misses(self.gate, bounds):
            return Decision("failed", "exact", bounds, 1.0, self._asked, self._planned)
        if _meets(self.gate, bounds):
            return Decision("passed", "exact", bounds, 1.0, self._asked, self._planned)
        return None


AnyDecider = GateDecider | ScoreDecider
