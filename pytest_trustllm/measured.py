"""One run of one model as gates see it: its numbers, how sure they are, and what the baseline had."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_trustllm import baseline as earlier
from pytest_trustllm import results as resulting
from pytest_trustllm.baseline import Baseline, Pairs
from pytest_trustllm.comparison import Comparison, compare
from pytest_trustllm.correction import corrections
from pytest_trustllm.coverage import coverage_of, reached, reasons_of, uncut
from pytest_trustllm.evidence import Record, Row, Scoring, rows_by_task
from pytest_trustllm.gates import Drop, Findings, Gate, GateResult, judge
from pytest_trustllm.records import Interval, Selection
from pytest_trustllm.stability import agreements, judging, stability
from pytest_trustllm.suites import Task
from pytest_trustllm.uncertainty import CONFIDENCE, further_samples


class Measured:
    """Everything that follows from the records of a run; the run itself and ``pytest-trustllm gate`` share it.

    Args:
        tasks: All tasks.
        records: Of one model, one per sample; the order does not matter.
        selection: What was planned, of how much.
        seed: Of the run; intervals that are drawn depend on it.
        baseline: The earlier run to compare with.
        stopped: The run ended before its last sample.

    Attributes:
        ran: What was asked of what was planned: the run may have stopped, or its budget may have been spent.
        cut: Samples that the budget left for another run.
        reasons: (task, why, how many) of the unscored samples.
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
        self.selection = selection
        self.baseline = baseline
        self.stopped = stopped
        found = list(records)
        self.ran = uncut(reached(selection, found) if stopped else selection, found)
        self.cut = sum(bool(record.get("cut")) for record in found)
        self.reasons = reasons_of(found)
        self.coverage = coverage_of(tasks, found, selection)
        self._stability = stability(found)
        self._agreements = agreements(found)
        self.pairs: Mapping[str, Pairs] = {}
        before: dict[str, list[Row]] | None = None
        if baseline is not None:
            mine = [r for r in baseline.records if selection.planned.get(r["task"])]
            self.pairs = earlier.pair(mine, found)
            before, planned = rows_by_task(mine), Counter(r["task"] for r in mine)
        rows = rows_by_task(found)
        del found  # the numbers need a fifth of its memory
        self._measurement = resulting.Measurement(tasks, rows, selection, seed=seed)
        self.metrics, self.scores = self._measurement.metrics, self._measurement.scores
        self._before: resulting.Measurement | None = None
        if before is not None:
            self._before = resulting.Measurement(tasks, before, Selection(planned, planned), seed=seed)

    def document(
        self, run: Mapping[str, Any], gates: Iterable[GateResult], usage: Mapping[str, Any], samples: str | None
    ) -> dict[str, Any]:
        """Return the results document.

        Args:
            run: What it says about the run.
            gates: Verdicts.
            usage: What was asked and spent.
            samples: Name of the samples file beside it.
        """
        found = resulting.document(run, self.metrics, self.scores, [g.entry() for g in gates], usage, samples)
        found |= {"coverage": self.coverage, "baseline": self.compared(run)}
        for id_, corrected in corrections(run.get("judge_checks", ()), self.tasks, self.metrics).items():
            found["metrics"][id_]["judge_corrected"] = corrected
        more = {"stability": self._stability, "judging": judging(self._agreements, run.get("judge_votes", 1))}
        return found | {name: value for name, value in more.items() if value is not None}

    def judge(self, gate: Gate, *, failed_before: bool = False) -> GateResult:
        """Return the verdict of one gate."""
        findings = Findings(
            metrics=self.metrics,
            scores=self.scores,
            selection=self.ran,
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

    def compare(
        self, id_: str, margin: float = 0.0, confidence: float = CONFIDENCE, scoring: Scoring = "value"
    ) -> Comparison | None:
        """Return a metric, or ``dimension/score``, beside the baseline's; None if one of the runs does not have it."""
        if self._before is None:
            return None
        return compare(self._before, self._measurement, id_, margin=margin, confidence=confidence, scoring=scoring)

    def _interval(self, gate: Gate) -> Interval | None:
        assert gate.confidence is not None  # noqa: S101 - a gate without confidence asks for no interval
        id_ = gate.metric_id or f"{gate.dimension}/score"
        return self._measurement.interval(id_, gate.confidence, gate.scoring)

    def _further(self, gate: Gate) -> int | None:
        interval, name = self._interval(gate), gate.metric_id
        score = self.scores.get(gate.dimension)
        metrics = [self.metrics[m] for m in ((score.of if score is not None else ()) if name is None else (name,))]
        value = score.value if name is None and score is not None else getattr(metrics[0], gate.scoring)
        if interval is None or value is None:
            return None
        return further_samples(value, gate.bound, (interval.low, interval.high), sum(m.scored for m in metrics))

    def _drop(self, gate: Gate) -> Drop:
        if self.baseline is None:
            return Drop(problem="there is no baseline; give one with --trust-baseline=PATH.json")
        id_ = gate.metric_id or f"{gate.dimension}/score"
        found = self.compare(id_, gate.bound, gate.confidence or CONFIDENCE, gate.scoring)
        if found is None or found.worse_by is None:
            return Drop(problem=f"{self.baseline.file} and this run share no scored sample of {', '.join(gate.tasks)}")
        parts = [found] if gate.metric_id is not None else self._headlines(gate.dimension)
        changed = earlier.changes(self.pairs[t] for t in gate.tasks if t in self.pairs)
        return Drop(
            value=found.worse_by,
            before=found.old,
            now=found.new,
            selected=sum(self.metrics[c.id].expected for c in parts),
            shared=sum(c.shared + c.unscored for c in parts),
            scored=sum(c.shared for c in parts),
            interval=_of_drop(found.interval, higher_is_better=gate.higher_is_better),
            outcome=found.outcome,
            p_worse=found.p_worse,
            test=found.test,
            further=found.further,
            changes=changed,
        )

    def _headlines(self, dimension: str) -> list[Comparison]:
        """Return the comparisons that a trust score's is made of."""
        score = self.scores[dimension]
        return [c for m in (*score.of, *score.missing) if (c := self.compare(m)) is not None]


def _of_drop(found: Interval | None, *, higher_is_better: bool) -> Interval | None:
    """Return the interval of a drop from that of a difference, new minus old."""
    if found is None or not higher_is_better:
        return found
    return dataclasses.replace(found, low=-found.high, high=-found.low)
