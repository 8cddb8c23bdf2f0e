"""One run of one model as gates see it: its numbers, their intervals, and how they differ from the baseline."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm.formats import (
    BaselineEntry,
    DecisionEntry,
    DefinitionEntry,
    DifferenceEntry,
    GateEntry,
    JudgeCheckEntry,
    Record,
    Results,
    RunEntry,
    StoppedTaskEntry,
    UnjudgedEntry,
    UsageEntry,
)
from pytest_trustllm.gates.early import judge_early
from pytest_trustllm.gates.estimated import Estimate, judge_estimate
from pytest_trustllm.gates.verdict import CorrectedRate, Drop, Findings, Gate, GateResult, judge_gate
from pytest_trustllm.metrics.observations import ObservedSample, Scoring, observed_by_task
from pytest_trustllm.results.assistance import AssistedNumbers, drop_estimate, estimate_for, is_random_part
from pytest_trustllm.results.baseline import Baseline, baseline_entry, other_differences, sample_changes
from pytest_trustllm.results.comparison import Comparison, compare, compared_metrics, difference_entries
from pytest_trustllm.results.coverage import coverage_of, reached, reasons_of, uncut
from pytest_trustllm.results.document import RunNumbers, headline_id, results_document
from pytest_trustllm.results.judge_check_file import RunFacts
from pytest_trustllm.results.judge_correction import Corrections, ResponseKey
from pytest_trustllm.results.metric_inputs import whole_of
from pytest_trustllm.results.power import power_of
from pytest_trustllm.results.stability import agreements, judging, stability
from pytest_trustllm.stats.intervals import CONFIDENCE, further_observations
from pytest_trustllm.suites.definitions import changed as changed_definitions
from pytest_trustllm.suites.definitions import definitions_of
from pytest_trustllm.suites.pairing import Pairing, pair_by_task
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import NOTHING, GateScoring, Interval, MetricValue, Selection

Against = Literal["baseline", "base"]
_MISSING: Mapping[Against, str] = {
    "baseline": "there is no baseline; give one with {baseline_flag}=PATH.json",
    "base": "there is no base model; give one with --trust-base-model=NAME",
}


@dataclass(frozen=True, slots=True)
class Judging:
    """What is known of the mistakes of a run's judges.

    Attributes:
        checks: What :func:`~pytest_trustllm.results.judge_check_file.read_judge_check` returned.
        facts: Of the run, as far as checks must agree with them.
        responses: Hashes of the responses that people labelled, as far as this run has them.
    """

    checks: Sequence[JudgeCheckEntry]
    facts: RunFacts
    responses: Mapping[ResponseKey, str]


class MeasuredRun:
    """Everything that follows from the records of a run; the run itself and ``pytest-trustllm gate`` share it.

    Args:
        tasks: All tasks.
        records: Of one model, one per sample; the order does not matter.
        selection: Which samples were planned, out of how many.
        seed: Of the run; intervals that are drawn depend on it.
        baseline: The earlier run to compare with.
        base: The run of the bare model behind the app, over the same samples.
        stopped: The run ended before its last sample.
        definitions: Task -> its ``hashes`` in this run; None: those of ``tasks``.
        early: Task -> what was not asked of it, because no gate needed it.
        decisions: Id of the gate -> how it was decided early.
        judging: What is known of the mistakes of the run's judges.
        limit: Of ``--trust-limit``, which draws samples at random.
        baseline_flag: The option that names a baseline.

    Attributes:
        ran: The selection without what the run did not reach: it may have stopped, used up its budget, or left samples
            in batches.
        cut: Number of samples that the budget left for another run.
        pending: Task -> samples with requests in a batch that is not done.
        reasons: (task, why, how many) of the unscored samples.
        numbers: Metrics, trust scores and their intervals.
        assisted: What all samples would give, by the baseline's help; None without a baseline.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        records: Iterable[Record],
        selection: Selection,
        *,
        seed: int = 0,
        baseline: Baseline | None = None,
        base: MeasuredRun | None = None,
        stopped: bool = False,
        definitions: Mapping[str, DefinitionEntry] | None = None,
        early: Mapping[str, StoppedTaskEntry] = NOTHING,
        decisions: Mapping[str, DecisionEntry] = NOTHING,
        judging: Judging | None = None,
        limit: int | None = None,
        baseline_flag: str = "--trust-baseline",
    ) -> None:
        self.tasks = tasks
        self.selection = selection
        self.baseline = baseline
        self.base = base
        self.stopped = stopped
        self._definitions = definitions
        self._early = early
        self._decisions = decisions
        self._limit = limit
        self._baseline_flag = baseline_flag
        own_records = list(records)
        within_reach = reached(selection, own_records) if stopped else selection
        self.ran = uncut(within_reach, own_records)
        self.pending = Counter(record["task"] for record in own_records if record.get("pending"))
        self.cut = sum(bool(record.get("cut")) for record in own_records) - self.pending.total()
        unneeded = {task: entry["unneeded"] for task, entry in early.items()}
        self.coverage = coverage_of(tasks, own_records, selection, unneeded)
        self.reasons = reasons_of(own_records, self.coverage)
        self._stability = stability(own_records)
        self._agreements = agreements(own_records)
        self.pairs: Mapping[str, Pairing[Record]] = {}
        earlier_samples: dict[str, list[ObservedSample]] | None = None
        earlier_counts: Counter[str] = Counter()
        if baseline is not None:
            # the comparison leaves out the tasks that this run leaves out
            earlier_records = [record for record in baseline.records if selection.planned.get(record["task"])]
            part = {task for task in self.ran.totals if task in early or self.ran.partial([task])}
            self.pairs = pair_by_task(_asked_again(earlier_records, own_records, part), own_records)
            earlier_samples = observed_by_task(earlier_records)
            earlier_counts.update(record["task"] for record in earlier_records)
        samples = observed_by_task(own_records)
        del own_records  # the numbers need a fifth of its memory
        self.numbers = RunNumbers(tasks, samples, selection, seed=seed, early=early)
        self.metrics = self.numbers.metrics
        self.scores = self.numbers.scores
        self._corrections: Corrections | None = None
        if judging is not None and judging.checks:
            self._corrections = Corrections(
                judging.checks, judging.facts, samples, self.metrics, self.numbers.metric_input, judging.responses
            )
        self._baseline_numbers: RunNumbers | None = None
        self.assisted: AssistedNumbers | None = None
        self._comparisons: dict[tuple[str, float, float, Scoring, Against], Comparison | None] = {}
        if earlier_samples is not None:
            earlier_selection = Selection(earlier_counts, earlier_counts)
            self._baseline_numbers = RunNumbers(tasks, earlier_samples, earlier_selection, seed=seed)
            self.assisted = AssistedNumbers(
                self.numbers, self._baseline_numbers, self.ran, earlier_counts, limit, early
            )

    # --- the results document -------------------------------------------------------------------------------------

    def document(
        self,
        run: RunEntry,
        gates: Sequence[GateResult],
        usage: UsageEntry,
        samples: str | None,
        *,
        deselected: Sequence[Gate] = (),
        resembling: Sequence[str] = (),
        shipped: Collection[str] = (),
    ) -> Results:
        """Return the results document.

        Args:
            run: Its part about the run.
            gates: Verdicts.
            usage: Requests, tokens, seconds and cost.
            samples: Name of the samples file in the same directory.
            deselected: Gates of the run's threshold files that were not to be judged.
            resembling: Names of models in the threshold files that may be misspelt.
            shipped: Ids of the tasks that come with the package.
        """
        results = results_document(
            run=run,
            metrics=self.metrics,
            scores=self.scores,
            gates=[self._gate_entry(gate) for gate in gates],
            usage=usage,
            coverage=self.coverage,
            samples=samples,
            full=self._fully_run_tasks(run),
        )
        results["baseline"] = self.compared(run)
        results["unjudged"] = self._unjudged([result.gate for result in gates], deselected, resembling)
        for dimension, score in results["scores"].items():
            own = self._own_headlines(dimension, shipped)
            if own:
                score["own"] = own
        if self._corrections is not None:
            for id_, corrected in self._corrections.entries().items():
                results["metrics"][id_]["judge_corrected"] = corrected
        if self._stability is not None:
            results["stability"] = self._stability
        if self.assisted is not None:
            self.assisted.mark(results["metrics"])
        votes = judging(self._agreements, run.get("judge_votes", 1))
        if votes is not None:
            results["judging"] = votes
        return results

    def _gate_entry(self, result: GateResult) -> GateEntry:
        entry = result.entry()
        power = power_of(self, result)
        if power is not None:
            entry["power"] = power
        return entry

    def _unjudged(self, gates: Sequence[Gate], deselected: Sequence[Gate], resembling: Sequence[str]) -> UnjudgedEntry:
        """Return the run's tasks without a gate, and the gates that were left out."""
        gated_tasks = {f"{gate.dimension}/{gate.metric.partition('.')[0]}" for gate in gates}
        gated_scores = {gate.dimension for gate in gates if gate.metric_id is None}
        without: list[str] = []
        measured_tasks = 0
        for task in self.tasks:
            if headline_id(task) not in self.metrics:
                continue
            measured_tasks += 1
            if task.id not in gated_tasks and task.dimension not in gated_scores:
                without.append(task.id)
        return {
            "tasks": without,
            "of": measured_tasks,
            "gates": [gate.id for gate in deselected],
            "models": list(resembling),
        }

    def _own_headlines(self, dimension: str, shipped: Collection[str]) -> list[str]:
        """Return the project's own headline metrics in a trust score that also has shipped ones."""
        own_ids = {headline_id(task) for task in self.tasks if task.id not in shipped}
        score = self.scores[dimension]
        headlines = [*score.of, *score.missing]
        own = [id_ for id_ in headlines if id_ in own_ids]
        if len(own) == len(headlines):
            return []
        return own

    def _fully_run_tasks(self, run: RunEntry) -> frozenset[str]:
        """Return the tasks that ran over every row of the published data, so that a rank means something."""
        from pytest_trustllm.suites import full_data

        published_files = full_data.published_data().files
        hashes = run["data"]["files"]
        fully_asked: set[str] = set()
        for task in self.tasks:
            file = task.data.trustllm
            if file is None or file not in published_files:
                continue
            is_published = hashes.get(file) == published_files[file].sha256
            asked_whole = not self.stopped and not self.ran.partial([task.id]) and task.id not in self._early
            if is_published and asked_whole:
                fully_asked.add(task.id)
        return frozenset(task.id for task in self.tasks if task.answers_from in fully_asked)

    # --- gates ----------------------------------------------------------------------------------------------------

    def judge(self, gate: Gate, *, failed_before: bool = False) -> GateResult:
        """Return the verdict of one gate.

        Args:
            gate: The gate.
            failed_before: Its samples are those that failed in the run before (``--lf``).
        """
        if not self._early.keys().isdisjoint(gate.tasks) and not self.stopped:
            value = self.drop(gate).value if gate.kind == "max_drop" else self._value_of(gate)
            return judge_early(gate, self._decisions.get(gate.id), self.numbers.metrics, value)
        estimate = self._estimate_for(gate)
        if estimate is not None:
            return judge_estimate(gate, estimate, self.metrics[_number_id(gate)])
        findings = Findings(
            metrics=self.metrics,
            scores=self.scores,
            selection=self.ran,
            coverage=self.coverage,
            interval=self._interval,
            further=self._further,
            drop=self.drop,
            corrected=self._corrected,
            stopped=self.stopped,
            pending=self.pending,
        )
        return judge_gate(gate, findings, failed_before=failed_before)

    def _estimate_for(self, gate: Gate) -> Estimate | None:
        """Return what a gate judges of a part that was drawn at random; None if it judges no estimate."""
        wanted = gate.policy.on_partial == "estimate" and self.ran.partial(gate.tasks) and gate.scoring != "corrected"
        if not wanted or gate.metric_id is None or gate.metric_id not in self.metrics or self.stopped:
            return None
        if not all(is_random_part(task, self.ran, self._limit) for task in gate.tasks):
            return None
        if gate.kind == "max_drop":
            return drop_estimate(self.drop(gate))
        id_, confidence = gate.metric_id, gate.confidence or CONFIDENCE
        plain = self.numbers.interval(id_, confidence, gate.reading)
        if self.assisted is None or self._baseline_numbers is None:
            return estimate_for(gate, self.metrics[id_], None, plain, None)
        assisted = self.assisted.of(id_, confidence, gate.reading)
        earlier = self._baseline_numbers.interval(id_, confidence, gate.reading)
        return estimate_for(gate, self.metrics[id_], assisted, plain, earlier)

    def flip_rate(self, tasks: Sequence[str]) -> float | None:
        """Return the share of the samples of some tasks that flip from epoch to epoch; None without epochs."""
        if self._stability is None:
            return None
        entries = [self._stability["tasks"][task] for task in tasks if task in self._stability["tasks"]]
        samples = sum(entry["samples"] for entry in entries)
        if not samples:
            return None
        return math.fsum(entry["flip_rate"] * entry["samples"] for entry in entries) / samples

    def _value_of(self, gate: Gate) -> float | None:
        """Return the number that a gate judges, over the samples that were asked."""
        if gate.metric_id is None:
            score = self.scores.get(gate.dimension)
            return None if score is None else score.value
        metric = self.metrics.get(gate.metric_id)
        if metric is None:
            return None
        value: float | None = getattr(metric, gate.reading)
        return value

    def _corrected(self, gate: Gate) -> CorrectedRate:
        """Return the rate that a gate with ``scoring: corrected`` judges."""
        id_ = _number_id(gate)
        if self._corrections is None or not self._corrections.about(id_):
            return CorrectedRate(problem=f"no judge check corrects {id_}; see --trust-judge-check")
        entry = self._corrections.corrected(id_)
        return CorrectedRate(entry["value"], entry.get("reason"))

    def _interval(self, gate: Gate) -> Interval | None:
        assert gate.confidence is not None  # noqa: S101 - a gate without confidence needs no interval
        if gate.scoring == "corrected":
            return self._corrected_interval(_number_id(gate), gate.confidence)
        return self.numbers.interval(_number_id(gate), gate.confidence, gate.reading)

    def _corrected_interval(self, id_: str, confidence: float) -> Interval | None:
        assert self._corrections is not None  # noqa: S101 - else there is no corrected rate either
        entry = self._corrections.corrected(id_, confidence)
        if entry["ci"] is None:
            return None
        low, high = entry["ci"]
        return Interval(low, high, confidence, entry["method"])

    def interval_of(self, id_: str, confidence: float, scoring: GateScoring) -> Interval | None:
        """Return the interval of a metric or trust score in one reading; None if there is none."""
        if scoring != "corrected":
            return self.numbers.interval(id_, confidence, scoring)
        if self._corrections is None or not self._corrections.about(id_):
            return None
        return self._corrected_interval(id_, confidence)

    def _further(self, gate: Gate) -> int | None:
        """Return how many more samples would decide a gate; None if this cannot be estimated."""
        if gate.scoring == "corrected":  # more samples narrow it less than more labels do
            return None
        value: float | None = None
        metrics: list[MetricValue] = []
        if gate.metric_id is not None:
            metrics = [self.metrics[gate.metric_id]]
            value = getattr(metrics[0], gate.reading)
        elif gate.dimension in self.scores:
            score = self.scores[gate.dimension]
            metrics = [self.metrics[id_] for id_ in score.of]
            value = score.value
        interval = self._interval(gate)
        if interval is None or value is None:
            return None
        scored = sum(metric.scored for metric in metrics)
        return further_observations(value, gate.bound, (interval.low, interval.high), scored)

    def drop(self, gate: Gate) -> Drop:
        """Return how much worse a gate's number became since the baseline, or than the bare model's."""
        other = self.baseline.file if self.baseline is not None else None
        if gate.against == "base":
            other = None if self.base is None else "the base model"
        if other is None:
            return Drop(problem=_MISSING[gate.against].format(baseline_flag=self._baseline_flag))
        confidence = gate.confidence or CONFIDENCE
        comparison = self.compare(_number_id(gate), gate.bound, confidence, gate.reading, gate.against)
        # a part that this run does not have is compared, but gates judge numbers that are reported
        is_reported = gate.metric_id is None or gate.metric_id in self.metrics
        if comparison is None or comparison.worse_by is None or not is_reported:
            return Drop(problem=f"{other} and this run share no scored sample of {', '.join(gate.tasks)}")
        parts = [comparison]
        if gate.metric_id is None:
            parts = self._headline_comparisons(gate.dimension, gate.against)
        scored = sum(part.shared for part in parts)
        return Drop(
            value=comparison.worse_by,
            before=comparison.old,
            now=comparison.new,
            selected=sum(self.metrics[part.id].expected for part in parts),
            shared=scored + sum(part.unscored for part in parts),
            scored=scored,
            interval=_interval_of_drop(comparison.interval, higher_is_better=gate.higher_is_better),
            outcome=comparison.outcome,
            p_worse=comparison.p_worse,
            test=comparison.test,
            further=comparison.further,
            changes=self._changes(self.baseline, gate.tasks) if gate.against == "baseline" else "",
        )

    def _changes(self, baseline: Baseline | None, tasks: Sequence[str]) -> str:
        """Return in words what changed about some tasks since the baseline; empty if nothing did."""
        if baseline is None:
            return ""
        pairings = {task: self.pairs[task] for task in tasks if task in self.pairs}
        changes = [sample_changes(pairings), *changed_definitions(baseline.run, self._definitions_part(tasks))]
        return "; ".join(change for change in changes if change)

    def _definitions_part(self, tasks: Sequence[str]) -> dict[str, Any]:
        """Return the part of the run's results that describes the definitions of some tasks."""
        hashes: Mapping[str, Any]
        if self._definitions is None:
            hashes = definitions_of(task for task in self.tasks if task.id in tasks)
        else:
            hashes = self._definitions
        return {"task_versions": dict.fromkeys(tasks), "tasks": hashes}

    def _headline_comparisons(self, dimension: str, against: Against) -> list[Comparison]:
        """Return the comparisons that a trust score's is made of."""
        score = self.scores[dimension]
        comparisons = [self.compare(id_, against=against) for id_ in (*score.of, *score.missing)]
        return [comparison for comparison in comparisons if comparison is not None]

    # --- comparisons ----------------------------------------------------------------------------------------------

    def compared(self, run: RunEntry) -> BaselineEntry | None:
        """Return the part of the results about the baseline; None without one.

        Args:
            run: The part of the results about this run.
        """
        if self.baseline is None:
            return None
        notes = other_differences(self.baseline.run, run)
        return baseline_entry(self.baseline, self.pairs, notes, self.differences())

    def differences(self) -> dict[str, DifferenceEntry]:
        """Return how every trust score and metric differs from the baseline's, over the samples that both runs have."""
        if self._baseline_numbers is None:
            return {}
        return self._without_intervals(difference_entries(self._baseline_numbers, self.numbers, self.compare))

    def compared_metrics(self) -> list[str]:
        """Return the ids of all metrics that can be compared with the baseline's."""
        if self._baseline_numbers is None:
            return []
        return compared_metrics(self._baseline_numbers, self.numbers)

    def differences_from(self, other: MeasuredRun) -> dict[str, DifferenceEntry]:
        """Return how every trust score and metric differs from another model's, over the samples that both have."""
        earlier, later = other.numbers, self.numbers
        entries = difference_entries(earlier, later, lambda id_: compare(earlier, later, id_))
        return self._without_intervals(other._without_intervals(entries))

    def _without_intervals(self, entries: dict[str, DifferenceEntry]) -> dict[str, DifferenceEntry]:
        """Return differences without intervals and tests where they do not hold: the answers said when to stop."""
        stopped = {id_ for id_, metric in self.metrics.items() if metric.stopped is not None}
        for dimension, score in self.scores.items():
            if not stopped.isdisjoint(score.of):
                stopped.add(f"{dimension}/score")
        for id_ in entries:
            if id_ not in stopped and whole_of(id_) not in stopped:
                continue
            entries[id_] = {**entries[id_], "ci": None, "p_worse": None, "test": None}
        return entries

    def compare(
        self,
        id_: str,
        margin: float = 0.0,
        confidence: float = CONFIDENCE,
        scoring: Scoring = "value",
        against: Against = "baseline",
    ) -> Comparison | None:
        """Compare a metric, or ``dimension/score``, with the baseline's; None if one of the runs does not have it.

        Args:
            id_: Of the metric or trust score.
            margin: Loss that is accepted, at least 0.
            confidence: In (0, 1).
            scoring: Which reading.
            against: With the base model's number instead.
        """
        earlier = self._baseline_numbers
        if against == "base":
            earlier = None if self.base is None else self.base.numbers
        if earlier is None:
            return None
        key = (id_, margin, confidence, scoring, against)
        # gates, summary and results file want the same comparisons, and some of them draw thousands of numbers
        if key not in self._comparisons:
            self._comparisons[key] = compare(
                earlier, self.numbers, id_, margin=margin, confidence=confidence, scoring=scoring
            )
        return self._comparisons[key]


def _asked_again(earlier: Sequence[Record], own: Sequence[Record], part: Collection[str]) -> list[Record]:
    """Return the baseline's records without samples that this run left out: they are not removed from the data.

    Args:
        earlier: Records of the baseline.
        own: Records of this run.
        part: Tasks of which it did not ask all samples.
    """
    fingerprints = {record["fingerprint"] for record in own if record["task"] in part}
    ids = {(record["task"], record["id"]) for record in own if record["task"] in part}
    kept: list[Record] = []
    for record in earlier:
        task = record["task"]
        if task not in part or record["fingerprint"] in fingerprints or (task, record["id"]) in ids:
            kept.append(record)
    return kept


def _number_id(gate: Gate) -> str:
    """Return the id of the metric or trust score that a gate is about."""
    return gate.metric_id or f"{gate.dimension}/score"


def _interval_of_drop(interval: Interval | None, *, higher_is_better: bool) -> Interval | None:
    """Return the interval of a drop from that of a difference, new minus old."""
    if interval is None or not higher_is_better:
        return interval
    return dataclasses.replace(interval, low=-interval.high, high=-interval.low)
