"""Gates, and what becomes of them: a number is compared with its bound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_trustllm.formats import CoverageEntry, DecisionEntry, GateEntry, GateOutcome
from pytest_trustllm.gates.stopping import Stop
from pytest_trustllm.metrics.observations import Scoring
from pytest_trustllm.types import NOTHING, GateScoring, Interval, MetricValue, Selection, TrustScore

BoundKind = Literal["at_least", "at_most", "max_drop"]
BOUND_KINDS: tuple[BoundKind, ...] = ("at_least", "at_most", "max_drop")
_GAPS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """What applies to all gates of a threshold file.

    Attributes:
        min_scored: Share of the selected samples that must have a score, in [0, 1].
        min_paired: Share of the selected samples that a baseline must have too, for ``max_drop``, in [0, 1].
        on_partial: What happens when only some samples were selected: nothing is judged, they are judged as if they
            were all, or what all samples would give is estimated from them.
        on_inconclusive: Whether a gate whose interval contains the bound fails the build.
        on_no_data: Whether a gate without a number fails the build.
        headlines: Which headline metrics a gate on the trust score needs: all of the dimension, or those that were
            measured.
        stop: When the file's gates may be decided before all samples are asked; None: the option says.
    """

    min_scored: float = 0.95
    min_paired: float = 0.8
    on_partial: Literal["skip", "judge", "estimate"] = "skip"
    on_inconclusive: Literal["fail", "warn"] = "fail"
    on_no_data: Literal["fail", "warn"] = "fail"
    headlines: Literal["all", "measured"] = "all"
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """One bound on one number.

    Attributes:
        file: Name of the threshold file in node ids.
        dimension: Such as ``safety``.
        metric: As written: ``task.metric``, ``task.metric{group=value}`` or ``score``.
        kind: ``at_least``, ``at_most`` or ``max_drop`` (getting worse since the baseline).
        bound: The threshold.
        scoring: Which reading of the metric is judged, or ``corrected``: the value without its judge's mistakes.
        higher_is_better: Direction of the metric.
        tasks: Ids of the tasks whose samples decide.
        confidence: The bound of the interval at this level must clear the threshold; None: the value alone decides.
        tags: Words by which ``--trust-gate-tags`` chooses it.
        warn: It reports, but never fails the build.
        line: Of the file; None if it is inherited from another file.
        policy: What the file sets for all its gates.
        stop: When it may be decided before all of its samples are asked; None: the file or the option says.
    """

    file: str
    dimension: str
    metric: str
    kind: BoundKind
    bound: float
    scoring: GateScoring
    higher_is_better: bool
    tasks: tuple[str, ...]
    confidence: float | None = None
    tags: tuple[str, ...] = ()
    warn: bool = False
    line: int | None = None
    policy: Policy = Policy()
    stop: Stop | None = None

    @property
    def reading(self) -> Scoring:
        """The reading of the metric that the judged number is made from."""
        return "parity" if self.scoring == "parity" else "value"

    @property
    def name(self) -> str:
        """Last part of its node id."""
        return f"{self.metric}[{self.kind}]"

    @property
    def id(self) -> str:
        """Node id of a run of one model."""
        return f"{self.file}::{self.name}"

    @property
    def metric_id(self) -> str | None:
        """``dimension/task.metric``; None for the trust score."""
        return None if self.metric == "score" else f"{self.dimension}/{self.metric}"


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse a number became since the baseline, over the samples that both runs have.

    Attributes:
        value: By how much it is worse, negative if it is better; None: unknown, for the reason in ``problem``.
        before: The baseline's number over the shared samples.
        now: This run's number over the shared samples.
        selected: Samples of the metric that this run selected.
        shared: Of those, prompted alike in the baseline.
        scored: Of those, with a score in both runs.
        interval: Of ``value``, two-sided; None if there is none.
        outcome: The verdict at the gate's confidence.
        p_worse: Probability that a model that is no worse than before loses as much, or more.
        test: How ``p_worse`` was found.
        further: Further samples that would decide an inconclusive verdict; None if unknown.
        changes: Which samples are not shared, in words; empty if all are.
        problem: Why there is no value.
    """

    value: float | None = None
    before: float | None = None
    now: float | None = None
    selected: int = 0
    shared: int = 0
    scored: int = 0
    interval: Interval | None = None
    outcome: GateOutcome = "no_data"
    p_worse: float | None = None
    test: str | None = None
    further: int | None = None
    changes: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """A rate without the mistakes of the judge that counted it.

    Attributes:
        value: None: unknown, for the reason in ``problem``.
        problem: Why there is no value.
    """

    value: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What gates are judged by: one run of one model.

    Attributes:
        metrics: Metrics of the run.
        scores: Trust scores of the run.
        selection: How many samples were planned, of how many.
        coverage: Task -> what became of its samples.
        interval: Returns the interval of a gate's number at the gate's confidence; None if there is none.
        further: Returns how many further samples would decide a gate if the number did not change; None if no number of
            samples would, or if it is unknown.
        drop: Returns the comparison with the baseline for a ``max_drop`` gate.
        corrected: Returns the corrected rate of a gate with ``scoring: corrected``.
        stopped: The run ended before its last sample; planned samples are those that it reached.
        pending: Task -> samples that wait for a batch; they are not among the planned ones.
    """

    metrics: Mapping[str, MetricValue]
    scores: Mapping[str, TrustScore]
    selection: Selection
    coverage: Mapping[str, CoverageEntry]
    interval: Callable[[Gate], Interval | None]
    further: Callable[[Gate], int | None]
    drop: Callable[[Gate], Drop]
    corrected: Callable[[Gate], CorrectedRate] = lambda _: CorrectedRate(problem="no judge check is about it")
    stopped: bool = False
    pending: Mapping[str, int] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict of a gate.

    Attributes:
        gate: The gate.
        outcome: Only ``passed`` passes; ``skipped`` was not judged.
        value: The number that was judged, if there was one.
        reason: One line for people.
        interval: The interval that was judged, if the gate has a confidence.
        further: Further samples that would decide an inconclusive gate; None if unknown.
        lacking: How many more of its samples need a score before its value counts; None if enough have one.
        drop: The comparison that was judged, for a ``max_drop`` gate.
        carried: It failed in the run before, and this run cannot clear it.
        early: How it was decided before all of its samples were asked.
    """

    gate: Gate
    outcome: GateOutcome
    value: float | None
    reason: str
    interval: Interval | None = None
    further: int | None = None
    lacking: int | None = None
    drop: Drop | None = None
    carried: bool = False
    early: DecisionEntry | None = None

    @property
    def warned(self) -> bool:
        """It did not pass, and by the threshold file that is only a warning."""
        if self.outcome in ("passed", "skipped"):
            return False
        policy = self.gate.policy
        if self.outcome == "inconclusive" and policy.on_inconclusive == "warn":
            return True
        if self.outcome == "no_data" and policy.on_no_data == "warn":
            return True
        return self.gate.warn

    @property
    def failing(self) -> bool:
        """It fails the build."""
        return self.outcome not in ("passed", "skipped") and not self.warned

    def entry(self) -> GateEntry:
        """Return its entry in the results."""
        gate, interval, drop = self.gate, self.interval, self.drop
        entry: GateEntry = {
            "id": gate.id,
            "line": gate.line,
            "outcome": self.outcome,
            "value": self.value,
            "bound": gate.bound,
            "kind": gate.kind,
            "metric": gate.metric_id or f"{gate.dimension}/score",
            "scoring": gate.scoring,
            "confidence": gate.confidence,
            "ci": None if interval is None else [interval.low, interval.high],
            "method": None if interval is None else interval.method,
            "further": self.further,
            "warn": self.warned,
            "reason": self.reason,
        }
        if gate.warn:
            entry["only_warns"] = True
        if self.lacking is not None:
            entry["lacking"] = self.lacking
        if drop is not None:
            entry["before"] = drop.before
            entry["now"] = drop.now
            entry["shared"] = drop.shared
            entry["scored"] = drop.scored
            entry["p_worse"] = drop.p_worse
            entry["test"] = drop.test
        if self.carried:
            entry["failed_before"] = True
        if self.early is not None:
            entry["early"] = self.early
        return entry


def judge_gate(gate: Gate, findings: Findings, *, failed_before: bool = False) -> GateResult:
    """Return the verdict on one gate.

    Args:
        gate: The gate.
        findings: The run.
        failed_before: The gate failed in the run before. Then a part of the samples cannot clear it.
    """
    selection = findings.selection
    planned = sum(selection.planned.get(task, 0) for task in gate.tasks)
    total = sum(selection.totals.get(task, 0) for task in gate.tasks)
    pending = sum(findings.pending.get(task, 0) for task in gate.tasks)
    if pending:  # whatever the file says about partial selections: the answers are on their way
        reason = f"pending: {pending} of {planned + pending} samples wait for a batch"
        return _unjudged(gate, reason, failed_before=failed_before)
    partial = selection.partial(gate.tasks)
    if partial and gate.policy.on_partial != "judge":  # what can be estimated of a part has been, elsewhere
        return _unjudged_part(gate, f"{planned} of {total} samples", findings.stopped, failed_before=failed_before)
    if planned == 0:  # such as a task without rows: it has no total either, so the selection is not partial
        return _no_data(gate, f"no sample of {', '.join(gate.tasks)} in this run")
    if gate.metric_id is None:
        result = _judge_trust_score(gate, findings)
    else:
        result = _judge_metric(gate, gate.metric_id, findings)
    if partial:
        result = dataclasses.replace(result, reason=f"{result.reason} (partial: {planned} of {total} samples)")
    return result


def _unjudged_part(gate: Gate, part: str, stopped: bool, *, failed_before: bool) -> GateResult:
    reason = f"partial selection: {part}"
    if stopped:
        reason += ", the run stopped early"
    return _unjudged(gate, reason, failed_before=failed_before)


def _unjudged(gate: Gate, reason: str, *, failed_before: bool) -> GateResult:
    if not failed_before:
        return GateResult(gate, "skipped", None, reason)
    # a run that could not judge the gate must not turn a red build green
    reason = f"failed in the last run and cannot be judged now: {reason}"
    return GateResult(gate, "failed", None, reason, carried=True)


def _no_data(gate: Gate, problem: str, value: float | None = None) -> GateResult:
    return GateResult(gate, "no_data", value, f"no data: {problem}")


def _judge_metric(gate: Gate, metric_id: str, findings: Findings) -> GateResult:
    metric = findings.metrics.get(metric_id)
    if metric is None:
        return _no_data(gate, f"{metric_id} has no sample in this run")
    if metric.unmatched:
        return _no_data(gate, _counts_none(metric_id))
    if metric.expected == 0:
        return GateResult(gate, "skipped", None, f"does not apply: no sample of this run concerns {metric_id}")
    lost = _lost_without_group(metric_id, findings.metrics)
    if gate.scoring != "corrected":
        value = metric.value if gate.scoring == "value" else metric.parity
        return _judge_value(gate, findings, value, [metric], lost=lost)
    corrected = findings.corrected(gate)
    if corrected.value is None and metric.value is not None:
        metric = dataclasses.replace(metric, problem=corrected.problem)
    return _judge_value(gate, findings, corrected.value, [metric], lost=lost)


def _judge_trust_score(gate: Gate, findings: Findings) -> GateResult:
    """Return the verdict on a trust score, unless a headline metric is missing: the mean of the rest is not the score.

    ``coverage.headlines`` can settle for those that were measured.
    """
    score = findings.scores.get(gate.dimension)
    value = None
    headlines: list[MetricValue] = []
    if score is not None:
        value = score.value
        headlines = [findings.metrics[metric_id] for metric_id in (*score.of, *score.missing)]
    gaps = _gaps(gate, findings.selection, headlines)
    if not gaps or gate.policy.headlines == "measured":
        return _judge_value(gate, findings, value, headlines)
    shown = "; ".join(gaps[:_GAPS_SHOWN])
    if len(gaps) > _GAPS_SHOWN:
        shown += f"; +{len(gaps) - _GAPS_SHOWN}"
    return _no_data(gate, f"{shown} (coverage.headlines requires all)", value)


def _gaps(gate: Gate, selection: Selection, headlines: Sequence[MetricValue]) -> list[str]:
    """Return in words what a trust score lacks."""
    # a task without rows, or with all samples deselected, has no metric that could have a gap
    gaps = [f"{task} has no sample in this run" for task in gate.tasks if not selection.planned.get(task)]
    for metric in headlines:
        gap = _gap(metric, gate.policy.min_scored)
        if gap is not None:
            gaps.append(gap)
    return gaps


def _gap(metric: MetricValue, min_scored: float) -> str | None:
    """Return in words what a headline metric lacks; None if nothing, or if it concerns none of its samples."""
    if metric.unmatched:
        return _counts_none(metric.id)
    if metric.expected == 0:
        return None
    scored = f"{metric.scored} of {metric.expected} samples have a score"
    if metric.scored / metric.expected < min_scored:
        return f"{metric.id}: {scored}, coverage.min_scored requires {min_scored:.1%}"
    if metric.value is None:
        return f"{metric.id} has no value: {metric.problem or scored}"
    return None


def _counts_none(metric_id: str) -> str:
    return f"{metric_id} counts none of the samples in this run"


def _lost_without_group(metric_id: str, metrics: Mapping[str, MetricValue]) -> int:
    """Return how many samples were lost before their group was known: they may belong to this sub-metric.

    Args:
        metric_id: Of a metric, or of its part for one group: ``dimension/task.metric{group=value}``.
        metrics: Of the run.
    """
    whole, brace, group = metric_id.partition("{")
    if not brace or whole not in metrics:
        return 0
    group_name = group.partition("=")[0]
    prefix = f"{whole}{{{group_name}="
    in_a_group = sum(metric.expected for id_, metric in metrics.items() if id_.startswith(prefix))
    return max(0, metrics[whole].expected - in_a_group)


def _judge_value(
    gate: Gate, findings: Findings, value: float | None, metrics: Sequence[MetricValue], *, lost: int = 0
) -> GateResult:
    """Return the verdict on a number if enough of its samples have a score, else a failure.

    Samples without a score are seldom a random part. A model that crashes on hard prompts must not pass on easy ones.

    Args:
        gate: The gate.
        findings: The run.
        value: The number; None if there is none.
        metrics: That the number comes from.
        lost: Further samples that may belong to it, and have no score.
    """
    min_scored = gate.policy.min_scored
    expected = sum(metric.expected for metric in metrics) + lost
    scored = sum(metric.scored for metric in metrics)
    if expected and scored / expected < min_scored:
        reason = (
            f"{scored} of {expected} samples have a score ({scored / expected:.1%}); "
            f"coverage.min_scored requires {min_scored:.1%}{_unscored_by_task(metrics, findings.coverage)}"
        )
        enough = _enough(expected, min_scored)
        return GateResult(gate, "failed", value, reason, lacking=enough - scored)
    if value is None or (expected and not scored):  # some metrics are 0 without a score; min_scored can be 0
        problems = [metric.problem for metric in metrics if metric.problem is not None]
        return _no_data(gate, problems[0] if problems else "the metric has no value")
    if gate.kind == "max_drop":
        return _judge_drop(gate, findings.drop(gate))
    if gate.confidence is None:
        return _judge_point(gate, value)
    return _judge_interval(gate, findings, value)


def _enough(expected: int, min_scored: float) -> int:
    """Return the least number of scored samples that is at least the share ``min_scored`` of those expected.

    The product, rounded up, can be off by one: 0.95 is not exactly 95 / 100.
    """
    enough = math.floor(expected * min_scored)
    while enough / expected < min_scored:
        enough += 1
    return enough


def _unscored_by_task(metrics: Sequence[MetricValue], coverage: Mapping[str, CoverageEntry]) -> str:
    """Return in words what became of the samples without a score, per task."""
    tasks = dict.fromkeys(_task_of(metric.id) for metric in metrics)
    described: list[str] = []
    for task in tasks:
        counts = coverage.get(task)
        if counts is None:
            continue
        fates = ((counts["unscored"], "unscored"), (counts["errored"], "errored"), (counts["lost"], "never ran"))
        parts = [f"{count} {fate}" for count, fate in fates if count]
        if parts:
            described.append(f"{task}: {', '.join(parts)}")
    if not described:
        return ""
    return f" ({'; '.join(described)})"


def _task_of(metric_id: str) -> str:
    """Return the task of ``dimension/task.metric{group=value}``; a value may have dots of its own."""
    return metric_id.partition("{")[0].rpartition(".")[0]


def reading_of(gate: Gate) -> str:
    """Return which reading a gate judges, to be put behind its number; empty for the documented one."""
    return "" if gate.scoring == "value" else f" ({gate.scoring})"


def _judge_point(gate: Gate, value: float) -> GateResult:
    """Return the verdict on a number alone."""
    if gate.kind == "at_least":
        met = value >= gate.bound
        sign = "≥" if met else "<"
    else:
        met = value <= gate.bound
        sign = "≤" if met else ">"
    reason = f"{gate.metric} = {digits_of(value, gate.bound)}{reading_of(gate)} {sign} {gate.bound:g}"
    return GateResult(gate, "passed" if met else "failed", value, reason)


def _judge_interval(gate: Gate, findings: Findings, value: float) -> GateResult:
    """Return the verdict on an interval: clear of the bound on the good side, on the bad side, or neither."""
    interval = findings.interval(gate)
    measured = f"{gate.metric} = {value:.3f}{reading_of(gate)}"
    if interval is None:
        reason = f"{measured}: no interval can be computed from these samples"
        return GateResult(gate, "inconclusive", value, reason)
    low, high, bound = interval.low, interval.high, gate.bound
    level = f"{100 * interval.confidence:.6g}%"
    lower_end = f"lower {level} bound {digits_of(low, bound)}"
    upper_end = f"upper {level} bound {digits_of(high, bound)}"
    if gate.kind == "at_least":
        passed, passing_end = low >= bound, f"{lower_end} ≥ {bound:g}"
        failed, failing_end = high < bound, f"{upper_end} < {bound:g}"
    else:
        passed, passing_end = high <= bound, f"{upper_end} ≤ {bound:g}"
        failed, failing_end = low > bound, f"{lower_end} > {bound:g}"
    if passed:
        return GateResult(gate, "passed", value, f"{measured}, {passing_end}", interval)
    if failed:
        return GateResult(gate, "failed", value, f"{measured}, {failing_end}", interval)
    further = findings.further(gate)
    span = f"{level} interval {digits_of(low, bound)} to {digits_of(high, bound)} contains {bound:g}"
    reason = f"{measured}, {span}{_would_decide(further)}"
    return GateResult(gate, "inconclusive", value, reason, interval, further)


def _would_decide(further: int | None) -> str:
    return "" if further is None else f"; about {further} more samples would decide"


def _judge_drop(gate: Gate, drop: Drop) -> GateResult:
    """Return the verdict on the comparison with the baseline."""
    policy = gate.policy
    if drop.problem is not None or drop.value is None:
        return _no_data(gate, drop.problem or "nothing can be compared")
    changes = f" ({drop.changes})" if drop.changes else ""
    # a drop over the few samples that did not change would judge another data set than the gate names
    if drop.shared < policy.min_paired * drop.selected:
        share = f"{drop.shared} of {drop.selected} samples are the baseline's ({drop.shared / drop.selected:.1%})"
        required = f"coverage.min_paired requires {policy.min_paired:.1%}"
        return _no_data(gate, f"{share}; {required}{changes}; record a new baseline")
    if drop.scored < policy.min_scored * drop.shared:
        share = f"{drop.scored} of {drop.shared} shared samples have a score in both runs"
        return GateResult(gate, "failed", drop.value, f"{share}; coverage.min_scored requires {policy.min_scored:.1%}")
    met = drop.value <= gate.bound
    sign = "≤" if met else ">"
    reason = (
        f"{gate.metric}: drop {digits_of(drop.value, gate.bound)}{reading_of(gate)} {sign} {gate.bound:g}, "
        f"{drop.before:.3f} to {drop.now:.3f} on {drop.scored} shared samples{changes}"
    )
    if gate.confidence is None:
        return GateResult(gate, "passed" if met else "failed", drop.value, reason, drop=drop)
    # a drop within the bound passes however uncertain it is; a greater one fails only if chance does not explain it
    if met:
        return GateResult(gate, "passed", drop.value, reason, drop.interval, drop=drop)
    chance = "no test can be made" if drop.p_worse is None else f"p = {drop.p_worse:.2g}"
    if drop.outcome == "failed":
        reason += f"; chance does not explain it ({chance})"
        return GateResult(gate, "failed", drop.value, reason, drop.interval, drop=drop)
    reason += f"; chance may explain it ({chance}){_would_decide(drop.further)}"
    return GateResult(gate, "inconclusive", drop.value, reason, drop.interval, drop.further, drop=drop)


def digits_of(value: float, bound: float) -> str:
    """Return the value with enough digits, at least three, to see on which side of the bound it is."""
    # 0.7996 < 0.8 must not read '0.800 < 0.8'; a float has at most 17 significant digits
    for digits in range(3, 17):
        shown = f"{value:.{digits}f}"
        if float(shown) == value:
            return shown
        same_side = (float(shown) < bound) == (value < bound)
        if same_side and float(shown) != bound:
            return shown
    return repr(value)
