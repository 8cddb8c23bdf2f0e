"""All gates of one model that may be decided early: they share alpha, and each task is asked until none needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_trustllm.formats import Record
from pytest_trustllm.gates.deciding import AnyDecider, Decision, GateDecider, Rule, ScoreDecider, SourcePlan, why_whole
from pytest_trustllm.gates.dropping import EarlierSample, control_of
from pytest_trustllm.gates.evidence import ValueEvidence
from pytest_trustllm.gates.planned import Bounds, Unit
from pytest_trustllm.gates.stopping import Stop
from pytest_trustllm.gates.tracking import TrackedMetric, why_unbounded
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.types import NOTHING


class LimitKeeper:
    """Limits of the ``value`` of a task's metrics, for the results of a run that stopped early.

    Args:
        plan: Of the task whose responses decide.
        bounds: Metric id -> what a gate compares it with; others are compared with the middle of their range.
        epochs: How often each sample is asked.
        level: Probability that a limit is wrong; None: only certain limits are kept.
        before: Metric id -> what the baseline has of its samples.
    """

    def __init__(
        self,
        plan: SourcePlan,
        bounds: Mapping[str, float],
        epochs: int,
        level: float | None,
        before: Mapping[str, Sequence[EarlierSample]] = NOTHING,
    ) -> None:
        self._level = level
        self._kept: list[tuple[str, TrackedMetric, ValueEvidence | None]] = []
        for task in plan.tasks.values():
            for spec in task.metrics:
                if why_unbounded(spec, "value") is not None:
                    continue
                id_ = task.metric_id(spec.name)
                tracked = TrackedMetric(task, spec, None, "value", plan.units, epochs)
                evidence = None
                if level is not None:
                    bound = bounds.get(id_, sum(spec.range) / 2)
                    control = control_of(tracked, plan.units, before.get(id_))
                    evidence = tracked.watch(plan.units, bound, bound, fixed_weights=True, control=control)
                self._kept.append((id_, tracked, evidence))

    def take(self, unit: Unit, records: Sequence[Record]) -> None:
        """Take the records of a unit, in the order of the plan."""
        for _, tracked, _ in self._kept:
            tracked.take(unit, records)

    def limits(self, rule: Rule) -> dict[str, Bounds]:
        """Return metric id -> limits, of those that have some under a rule."""
        limits: dict[str, Bounds] = {}
        for id_, tracked, evidence in self._kept:
            if tracked.problem is not None:
                continue
            if rule == "exact" and tracked.measured:
                limits[id_] = tracked.bounds()
            elif rule == "alpha" and self._level is not None and evidence is not None:
                limits[id_] = evidence.limits(self._level, alone=True)
        return limits

    def assisted(self, rule: Rule) -> dict[str, Bounds]:
        """Return metric id -> limits with the baseline's help, of those that it helps under a rule."""
        if rule == "exact" or self._level is None:
            return {}
        limits: dict[str, Bounds] = {}
        for id_, tracked, evidence in self._kept:
            if tracked.problem is None and evidence is not None and evidence.control is not None:
                limits[id_] = evidence.limits(self._level)
        return limits

    def confidence(self, rule: Rule) -> float:
        """Return the confidence of the limits under a rule."""
        if rule == "exact" or self._level is None:
            return 1.0
        return 1.0 - 2.0 * self._level


@dataclass(slots=True)
class Deciders:
    """All gates of one model, and which tasks still need answers.

    Attributes:
        plans: Source task -> its plan.
        deciders: Key of the gate -> what decides it.
        shares: Key of the gate -> its share of alpha, of those that have one.
        whole: Source tasks that are asked whole although every gate on them may be decided: they have no gate.
        keepers: Source task -> limits of its metrics, of tasks that may stop.
    """

    plans: Mapping[str, SourcePlan]
    deciders: Mapping[str, AnyDecider]
    shares: Mapping[str, float]
    whole: frozenset[str] = frozenset()
    keepers: Mapping[str, LimitKeeper] = field(default_factory=dict)
    _by_source: dict[str, list[AnyDecider]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for decider in self.deciders.values():
            for source in decider.sources:
                self._by_source.setdefault(source, []).append(decider)

    def take(self, source: str, unit: Unit, records: Sequence[Record]) -> None:
        """Take the records of a unit of a task, in the order of the task's plan."""
        for decider in self._by_source.get(source, ()):
            decider.take(source, unit, records)
        if source in self.keepers:
            self.keepers[source].take(unit, records)

    def needed(self, source: str) -> bool:
        """Return whether a task needs further answers."""
        if source in self.whole:
            return True
        return any(decider.decision is None for decider in self._by_source.get(source, ()))

    def rule(self, source: str) -> Rule:
        """Return by which rule a task was stopped: ``alpha`` if any of its gates was decided by evidence."""
        for decider in self._by_source.get(source, ()):
            if decider.decision is not None and decider.decision.rule == "alpha":
                return "alpha"
        return "exact"

    def decisions(self) -> Iterator[tuple[str, Decision]]:
        """Yield key and decision of every gate that was decided early."""
        for key, decider in self.deciders.items():
            if decider.decision is not None:
                yield key, decider.decision


def levels(gates: Mapping[str, tuple[Gate, Stop]], plans: Mapping[str, SourcePlan]) -> dict[str, float]:
    """Return every gate's share of alpha, of those that have one.

    Args:
        gates: Key -> gate and its rule, of one model.
        plans: Source task -> its plan.
    """
    sizes: dict[str, int] = {}
    for key, (gate, stop) in gates.items():
        if isinstance(stop, float) and may_use_alpha(gate, plans):
            sizes[key] = sum(plans[task].samples for task in gate.tasks)
    total = sum(sizes.values())
    shares: dict[str, float] = {}
    for key, size in sizes.items():
        stop = gates[key][1]
        assert isinstance(stop, float)  # noqa: S101 - chosen above
        # an interval has two ends: half of alpha is the most that leaves it with a confidence of 1 - alpha
        shares[key] = min(stop * size / total, stop / 2)
    return shares


def may_use_alpha(gate: Gate, plans: Mapping[str, SourcePlan]) -> bool:
    """Return whether evidence about a gate's number can be collected while its samples are asked."""
    if gate.metric_id is None or gate.tasks[0] not in plans:
        return False
    return why_whole(gate, plans[gate.tasks[0]]) is None


def deciders_of(
    gates: Mapping[str, tuple[Gate, Stop]],
    plans: Mapping[str, SourcePlan],
    epochs: int,
    *,
    ungated: bool = False,
    before: Mapping[str, Sequence[EarlierSample]] = NOTHING,
) -> Deciders:
    """Return what decides the gates of one model.

    Args:
        gates: Key -> gate and its rule. Those that are not to be decided early (``never``) keep their tasks whole.
        plans: Source task -> its plan.
        epochs: How often each sample is asked.
        ungated: Do not ask tasks that no gate is about.
        before: Id of a gate -> what the baseline has of the samples of its metric.
    """
    shares = levels(gates, plans)
    deciders: dict[str, AnyDecider] = {}
    whole: set[str] = set()
    gated: set[str] = set()
    for key, (gate, stop) in gates.items():
        gated.update(gate.tasks)
        sources = {task: plans[task] for task in gate.tasks if task in plans}
        if stop == "never" or not sources:
            whole.update(gate.tasks)
        elif gate.metric_id is None:
            deciders[key] = ScoreDecider(gate, sources, epochs)
        else:
            deciders[key] = GateDecider(gate, sources[gate.tasks[0]], epochs, shares.get(key), before.get(gate.id))
    if not ungated:
        whole.update(source for source in plans if source not in gated)
    keepers: dict[str, LimitKeeper] = {}
    for source, plan in plans.items():
        if source not in whole:
            keepers[source] = _keeper(plan, gates, shares, epochs, before)
    return Deciders(plans, deciders, shares, frozenset(whole), keepers)


def _keeper(
    plan: SourcePlan,
    gates: Mapping[str, tuple[Gate, Stop]],
    shares: Mapping[str, float],
    epochs: int,
    before: Mapping[str, Sequence[EarlierSample]],
) -> LimitKeeper:
    """Return what keeps the limits of a task's metrics, at the share of one of its gates."""
    bounds: dict[str, float] = {}
    earlier: dict[str, Sequence[EarlierSample]] = {}
    level: float | None = None
    for key, share in shares.items():
        gate = gates[key][0]
        metric, brace, _ = gate.metric.partition("{")
        task, _, _ = metric.rpartition(".")
        if gate.id in before and gate.scoring == "value" and not brace:
            earlier[f"{gate.dimension}/{metric}"] = before[gate.id]
        if f"{gate.dimension}/{task}" in plan.tasks:
            if gate.kind != "max_drop":
                bounds[f"{gate.dimension}/{metric}"] = gate.bound
            level = share if level is None else min(level, share)
    return LimitKeeper(plan, bounds, epochs, level, earlier)
