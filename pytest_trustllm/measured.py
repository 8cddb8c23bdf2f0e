"""One run of one model as gates see it: its numbers, how sure they are, and what the baseline had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_trustllm import baseline as earlier
from pytest_trustllm import results as resulting
from pytest_trustllm.baseline import Baseline, Pairs, Record
from pytest_trustllm.coverage import coverage_of, reached
from pytest_trustllm.gates import Drop, Findings, Gate, GateResult, judge
from pytest_trustllm.records import Interval, MetricValue, Selection
from pytest_trustllm.suites import MetricSpec, Task


@dataclass(frozen=True, slots=True)
class _Shared:
    """Samples of one metric that the baseline has too.

    Attributes:
        before: Records of the baseline, of those that both runs scored.
        now: Records of this run, in the same order.
        asked: Samples that both runs asked alike.
        selected: Samples of the metric in this run.
    """

    before: tuple[Record, ...]
    now: tuple[Record, ...]
    asked: int
    selected: int


class Measured:
    """Everything that follows from the records of a run; the run itself and ``pytest-trustllm gate`` share it.

    Args:
        tasks: All tasks.
        records: Of one model, one per sample; the order does not matter.
        selection: What was planned, of how much.
        seed: Of the run; intervals that are drawn depend on it.
        baseline: The earlier run to compare with.
        stopped: The run ended before its last sample.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        records: Iterable[Record],
        selection: Selection,
        *,
        seed: int = 0,
        baseline: Baseline | None = None,
        stopped: bool = False,
    ) -> None:
        self.tasks = tasks
        self.records = list(records)
        self.selection = selection
        self.baseline = baseline
        self.stopped = stopped
        self._measurement = resulting.Measurement(tasks, self.records, selection, seed=seed)
        self.metrics, self.scores = self._measurement.metrics, self._measurement.scores
        self.coverage = coverage_of(tasks, self.records, selection)
        self.pairs: Mapping[str, Pairs] = {}
        if baseline is not None:
            mine = {task for task, planned in selection.planned.items() if planned}
            self.pairs = earlier.pair((r for r in baseline.records if r["task"] in mine), self.records)

    def judge(self, gate: Gate, *, failed_before: bool = False) -> GateResult:
        """Return the verdict of one gate."""
        findings = Findings(
            metrics=self.metrics,
            scores=self.scores,
            selection=reached(self.selection, self.records) if self.stopped else self.selection,
            coverage=self.coverage,
            interval=self._interval,
            further=self._further,
            drop=self._drop,
            stopped=self.stopped,
        )
        return judge(gate, findings, failed_before=failed_before)

    def compared(self, run: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the results say about the baseline; None without one.

        Args:
            run: What the results say about this run.
        """
        if self.baseline is None:
            return None
        return earlier.entry(self.baseline, self.pairs, earlier.warnings(self.baseline, run))

    def _interval(self, gate: Gate) -> Interval | None:
        assert gate.confidence is not None  # noqa: S101 - a gate without confidence asks for no interval
        id_ = gate.metric_id or f"{gate.dimension}/score"
        return self._measurement.interval(id_, gate.confidence, gate.scoring)

    def _further(self, gate: Gate) -> int | None:
        return None

    def _drop(self, gate: Gate) -> Drop:
        if self.baseline is None:
            return Drop(problem="there is no baseline; give one with --trust-baseline=PATH.json")
        found = [(task, self._shared(gate, task, spec)) for task, spec in self._concerned(gate)]
        shared, scored = sum(s.asked for _, s in found), sum(len(s.now) for _, s in found)
        if not scored:
            what = "scored in both runs" if shared else "in both runs"
            return Drop(problem=f"no sample of {', '.join(gate.tasks)} is {what} ({self.baseline.file})")
        before, of = self._number(gate, [(task, s.before) for task, s in found])
        now, of_now = self._number(gate, [(task, s.now) for task, s in found])
        if before is None or now is None or of != of_now:
            return Drop(problem=f"{gate.metric} cannot be computed on the samples that {self.baseline.file} shares")
        return Drop(
            value=before - now if gate.higher_is_better else now - before,
            before=before,
            now=now,
            shared=shared,
            selected=sum(s.selected for _, s in found),
            scored=scored,
            changes=earlier.changes(self.pairs[t] for t in gate.tasks if t in self.pairs),
        )

    def _concerned(self, gate: Gate) -> list[tuple[Task, MetricSpec]]:
        """Return the metrics that a gate is about: its own, or the headlines of its dimension."""
        if gate.metric_id is None:
            return [(t, t.metrics[0]) for t in self.tasks if t.dimension == gate.dimension]
        name = gate.metric_id.partition("{")[0]
        return [(t, m) for t in self.tasks for m in t.metrics if t.metric_id(m.name) == name]

    def _shared(self, gate: Gate, task: Task, spec: MetricSpec) -> _Shared:
        """Return the samples of a metric that both runs have, and of them those that both scored."""
        wanted = {k: str(v) for k, v in spec.where.items()}
        name = gate.metric_id or task.metric_id(spec.name)
        if "{" in name:
            group, _, value = name.partition("{")[2].removesuffix("}").partition("=")
            wanted[group] = value
        pairs = self.pairs.get(task.asked)
        both = [] if pairs is None else list(zip(pairs.before, pairs.now, strict=True))
        both = [(b, n) for b, n in both if all(n["group"].get(k) == v for k, v in wanted.items())]
        both = [(b, n) for b, n in both if _applies(b, task) and _applies(n, task)]
        usable = [(b, n) for b, n in both if _usable(b, task, gate) and _usable(n, task, gate)]
        selected = self.metrics[name].expected if name in self.metrics else 0
        return _Shared(tuple(b for b, _ in usable), tuple(n for _, n in usable), len(both), selected)

    def _number(
        self, gate: Gate, records: Iterable[tuple[Task, Sequence[Record]]]
    ) -> tuple[float | None, tuple[str, ...]]:
        """Return the gate's number over some records of its tasks, and the metrics that it is made of."""
        metrics: dict[str, MetricValue] = {}
        for task, mine in records:
            metrics.update(resulting.metrics_of([task], mine, Selection({}, {task.asked: len(mine)})))
        if gate.metric_id is None:
            score = resulting.scores_of(self.tasks, metrics).get(gate.dimension)
            return (None, ()) if score is None else (score.value, score.of)
        found = metrics.get(gate.metric_id)
        return (None if found is None else found.value if gate.scoring == "value" else found.parity), (gate.metric,)


def _score(record: Record, task: Task) -> Mapping[str, Any] | None:
    """Return what a task made of a record."""
    if record["task"] == task.id:
        return record
    found: Mapping[str, Any] | None = record["also"].get(task.id)
    return found


def _applies(record: Record, task: Task) -> bool:
    score = _score(record, task)
    return score is not None and bool(score.get("applies", True))


def _usable(record: Record, task: Task, gate: Gate) -> bool:
    score = _score(record, task)
    if score is None:
        return False
    if gate.scoring == "parity" and score["parity"] != "same":
        return score["parity"] is not None
    return score["value"] is not None
