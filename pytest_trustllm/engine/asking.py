"""The order in which one model's samples are asked where gates may be decided early, and when to stop.

The clusters of every task are shuffled by the run's seed; the tasks take turns, so that all of them are equally far at
any time. The deciders see the samples in that order, whenever each was answered: answers that come late may be others
than those that come soon. So only a few samples are ahead of those that are complete, as many as keep the model busy.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.engine.keys import key_of
from pytest_trustllm.engine.messages import GateFields, StopReport
from pytest_trustllm.engine.scored_samples import ScoredSample, ScoredSamples
from pytest_trustllm.formats import DecisionEntry, Record, StoppedTaskEntry
from pytest_trustllm.gates.deciding import SourcePlan
from pytest_trustllm.gates.dropping import EarlierSample
from pytest_trustllm.gates.family import Deciders, deciders_of
from pytest_trustllm.gates.planned import PlannedSample, Unit
from pytest_trustllm.gates.stopping import Stop
from pytest_trustllm.gates.tracking import TrackedMetric
from pytest_trustllm.gates.verdict import Gate, Policy
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import NOTHING, Sample

_UNGATED = "no gate is about its task"


def shuffled_units(samples: Sequence[Sample], seed: int) -> list[Unit]:
    """Return the samples of one task by cluster, in an order that depends on the seed, the task and the samples."""
    clusters: dict[str, list[PlannedSample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.id):  # in whatever order the tests are
        # a cluster's name is that of a source item, and may be the id of another sample
        name = f"sample {sample.id}" if sample.cluster is None else f"cluster {sample.cluster}"
        clusters.setdefault(name, []).append(
            PlannedSample(sample.id, sample.group, sample.cluster or sample.id, sample.fingerprint)
        )
    units = [tuple(unit) for unit in clusters.values()]
    if samples:
        random.Random(f"{seed}:{samples[0].task}:asking").shuffle(units)  # noqa: S311 - reproducible, not a secret
    return units


def interleaved(units: Mapping[str, Sequence[Unit]]) -> list[tuple[str, Unit]]:
    """Return task and unit of all units, such that at any place all tasks are equally far."""
    places: list[tuple[float, str, Unit]] = []
    for task, units_of_task in units.items():
        for number, unit in enumerate(units_of_task):
            places.append(((number + 0.5) / len(units_of_task), task, unit))
    places.sort(key=lambda place: place[:2])
    return [(task, unit) for _, task, unit in places]


def read_gates(fields: Mapping[str, GateFields]) -> dict[str, tuple[Gate, Stop]]:
    """Return the gates of a message, by their keys."""
    gates: dict[str, tuple[Gate, Stop]] = {}
    for key, entry in fields.items():
        values = dict(entry["gate"])
        values["policy"] = Policy(**values["policy"])
        values["tasks"] = tuple(values["tasks"])
        values["tags"] = tuple(values["tags"])
        gates[key] = (Gate(**values), entry["stop"])
    return gates


@dataclass(frozen=True, slots=True)
class Ahead:
    """How many samples are under way while gates are being decided.

    Attributes:
        samples: So many at most.
        in_rounds: Only when all of them are done, the next ones are started: a judge needs the GPUs of the model under
            test, and every change between them takes minutes.
    """

    samples: int
    in_rounds: bool = False


class _Places:
    """Lets samples start, as long as not too many are under way."""

    def __init__(self, ahead: Ahead) -> None:
        self._free = asyncio.Semaphore(ahead.samples)
        self._in_rounds = ahead.in_rounds
        self._taken = 0
        self._returned = 0

    async def take(self) -> None:
        """Wait for a place."""
        await self._free.acquire()
        self._taken += 1

    def give_back(self) -> None:
        """Note that the sample of a place is done."""
        self._taken -= 1
        self._returned += 1
        if self._in_rounds and self._taken:
            return
        for _ in range(self._returned):
            self._free.release()
        self._returned = 0


class Asking:
    """Asks one model's samples until no gate needs more.

    Args:
        model: Its label.
        samples: Runs them.
        plans: Task -> its samples in order, and the tasks that score its responses.
        gates: Key -> gate and its rule.
        epochs: How often each sample is asked.
        ungated: Do not ask tasks that no gate is about.
        required: Keys of samples that are asked in any case.
        before: Id of a gate -> what the baseline has of the samples of its metric.
    """

    def __init__(
        self,
        model: str,
        samples: ScoredSamples,
        plans: Mapping[str, SourcePlan],
        gates: Mapping[str, tuple[Gate, Stop]],
        epochs: int,
        *,
        ungated: bool,
        required: frozenset[str],
        before: Mapping[str, Sequence[EarlierSample]] = NOTHING,
    ) -> None:
        self._model = model
        self._samples = samples
        self._plans = plans
        self._deciders: Deciders = deciders_of(gates, plans, epochs, ungated=ungated, before=before)
        self._required = required
        self._order = interleaved({task: plan.units for task, plan in plans.items()})
        self._next_unit = dict.fromkeys(plans, 0)
        self._keys: set[str] = set()
        for task, plan in plans.items():
            self._keys.update(key_of(model, task, sample.id) for unit in plan.units for sample in unit)
        self._started: set[str] = set()
        self._unneeded: dict[str, str] = {}
        self._decided: set[str] = set()
        self._over = False
        self._moved = asyncio.Condition()

    @property
    def tasks(self) -> Collection[str]:
        """Ids of the tasks whose samples are asked."""
        return self._plans.keys()

    @property
    def unneeded(self) -> int:
        """Number of samples that are not asked."""
        return len(self._unneeded)

    async def run(self, ahead: Ahead) -> None:
        """Start the samples, so many that ``ahead`` of them are under way, until no gate needs more."""
        try:
            await self._start_in_order(_Places(ahead))
        finally:  # whatever happened, no test may wait for ever
            self._over = True
            await self._notify()

    async def _start_in_order(self, places: _Places) -> None:
        for task, unit in self._order:
            for sample in unit:
                key = key_of(self._model, task, sample.id)
                if key in self._required:
                    await self._start(key, None)
                    continue
                if self._needs_no_more(task):
                    continue
                await places.take()
                if self._needs_no_more(task):  # decided while this waited
                    places.give_back()
                    continue
                await self._start(key, places.give_back)
            await self._notify()

    def _needs_no_more(self, task: str) -> bool:
        if task not in self._decided and not self._deciders.needed(task):
            self._decided.add(task)
            self._forgo(task)
        return task in self._decided

    async def _start(self, key: str, release: Callable[[], None] | None) -> None:
        running = self._samples.start(key)
        self._started.add(key)
        if release is not None:
            running.add_done_callback(lambda _: release())
        running.add_done_callback(lambda _: self._advance(key))

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _advance(self, key: str) -> None:
        """Show the deciders all units of a sample's task that are complete now, in order."""
        task = key.rsplit("|", 2)[1]
        units = self._plans[task].units
        while self._next_unit[task] < len(units):
            unit = units[self._next_unit[task]]
            records = self._records(task, unit)
            if records is None:
                return
            self._next_unit[task] += 1
            self._deciders.take(task, unit, records)

    def _records(self, task: str, unit: Unit) -> list[Record] | None:
        """Return the records of a unit; None as long as one of them is missing."""
        keys = [key_of(self._model, task, sample.id) for sample in unit]
        scored = self._samples.finished(keys)
        if scored is None:
            return None
        return [json.loads(sample.record) for sample in scored]

    def _forgo(self, task: str) -> None:
        """Mark all samples of a task that were not started as not needed."""
        plan = self._plans[task]
        keys = [key_of(self._model, task, sample.id) for unit in plan.units for sample in unit]
        rest = [key for key in keys if key not in self._started and key not in self._required]
        if not any(task in decider.sources for decider in self._deciders.deciders.values()):
            reason = _UNGATED
        else:
            reason = f"gates decided after {len(keys) - len(rest)} of {len(keys)} samples"
        for key in rest:
            self._unneeded.setdefault(key, reason)

    def has(self, key: str) -> bool:
        """Return whether a sample is among those that are asked here."""
        return key in self._keys

    async def outcome(self, key: str) -> ScoredSample | None:
        """Return a sample once it has run; None once it is known not to be needed."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._over or key in self._started or key in self._unneeded)
        if key in self._unneeded:
            return None
        return await self._samples.start(key)

    def why_unneeded(self, key: str) -> str | None:
        """Return why a sample is not asked; None if it is, or may be."""
        return self._unneeded.get(key)

    # --- the report -----------------------------------------------------------------------------------------------

    def report(self) -> StopReport:
        """Return what stopping came to."""
        decisions: dict[str, DecisionEntry] = {}
        for key, decision in self._deciders.decisions():
            decisions[key] = {
                "outcome": decision.outcome,
                "rule": decision.rule,
                "limits": None if decision.limits is None else list(decision.limits),
                "confidence": decision.confidence,
                "asked": decision.asked,
                "planned": decision.planned,
                "course": [list(moment) for moment in decision.course],
                "min_scored": self._deciders.deciders[key].gate.policy.min_scored,
            }
            if decision.helped:
                decisions[key]["helped"] = True
        whole: dict[str, str] = {}
        for key, decider in self._deciders.deciders.items():
            if decider.problem is not None and decider.decision is None:
                whole[key] = decider.problem
        return {
            "decisions": decisions,
            "whole": whole,
            "shares": dict(self._deciders.shares),
            "tasks": {task: self._stopped_task(task, plan) for task, plan in self._stopped_tasks()},
        }

    def _stopped_tasks(self) -> list[tuple[str, SourcePlan]]:
        tasks = {key.rsplit("|", 2)[1] for key in self._unneeded}
        return [(task, plan) for task, plan in self._plans.items() if task in tasks]

    def _stopped_task(self, task: str, plan: SourcePlan) -> StoppedTaskEntry:
        limits: dict[str, list[float]] = {}
        keeper = self._deciders.keepers.get(task)
        rule = self._deciders.rule(task)
        assisted: dict[str, list[float]] = {}
        if keeper is not None:
            confidence = keeper.confidence(rule)
            limits = {metric_id: [*bounds, confidence] for metric_id, bounds in keeper.limits(rule).items()}
            assisted = {metric_id: [*bounds, confidence] for metric_id, bounds in keeper.assisted(rule).items()}
        unneeded = sum(key.rsplit("|", 2)[1] == task for key in self._unneeded)
        entry: StoppedTaskEntry = {"unneeded": unneeded, "rule": rule, "limits": limits, "planned": _planned(plan)}
        if assisted:
            entry["assisted"] = assisted
        return entry


def _planned(plan: SourcePlan) -> dict[str, int]:
    """Return for every metric and sub-metric how many planned samples it is about."""
    counts: dict[str, int] = {}
    for task in plan.tasks.values():
        for spec in task.metrics:
            whole = TrackedMetric(task, spec, None, "value", plan.units, 1)
            id_ = task.metric_id(spec.name)
            counts[id_] = whole.planned
            for unit in plan.units:
                for sample in unit:
                    if whole.counts(sample):
                        _count_groups(counts, id_, task, sample)
    return counts


def _count_groups(counts: dict[str, int], metric_id: str, task: Task, sample: PlannedSample) -> None:
    for name in task.group:
        if name in sample.group:
            sub_metric = f"{metric_id}{{{name}={sample.group[name]}}}"
            counts[sub_metric] = counts.get(sub_metric, 0) + 1
