"""A number against its bound to a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm.records import Interval, MetricValue, Selection, TrustScore

Kind = Literal["at_least", "at_most", "max_drop"]
KINDS: tuple[Kind, ...] = ("at_least", "at_most", "max_drop")
Outcome = Literal["passed", "failed", "inconclusive", "no_data", "skipped"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for all gates of a threshold file.

    Attributes:
        min_scored: Share of the selected samples that must have a score, in [0, 1].
        min_paired: Share of the selected samples that a baseline must have too, for ``max_drop``, in [0, 1].
        on_partial: What happens when only some samples were selected.
        on_inconclusive: Whether a gate whose interval holds the bound fails the build.
        on_no_data: Whether a gate without a number fails the build.
    """

    min_scored: float = 0.95
    min_paired: float = 0.8
    on_partial: Literal["skip", "judge"] = "skip"
    on_inconclusive: Literal["fail", "warn"] = "fail"
    on_no_data: Literal["fail", "warn"] = "fail"


@dataclass(frozen=True, slots=True)
class Gate:
    """One bound on one number.

    Attributes:
        file: The threshold file, as node ids name it.
        dimension: Such as ``safety``.
        metric: As written: ``task.metric``, ``task.metric{group=value}`` or ``score``.
        kind: ``at_least``, ``at_most`` or ``max_drop`` (getting worse since the baseline).
        bound: The threshold.
        scoring: Which reading is judged.
        higher_is_better: Direction of the metric.
        tasks: Ids of the tasks whose samples decide.
        confidence: The bound of the interval at this level must clear the threshold; None: the value alone decides.
        tags: Words by which ``--trust-gate-tags`` chooses it.
        warn: It reports, and never fails the build.
        line: Where it stands in the file; None if another file says it, which this one extends.
        policy: What the file says for all its gates.
    """

    file: str
    dimension: str
    metric: str
    kind: Kind
    bound: float
    scoring: Literal["value", "parity"]
    higher_is_better: bool
    tasks: tuple[str, ...]
    confidence: float | None = None
    tags: tuple[str, ...] = ()
    warn: bool = False
    line: int | None = None
    policy: Policy = Policy()

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
        value: Worse by so much; negative: better. None: cannot be told, and ``problem`` says why.
        before: The baseline's number over the shared samples.
        now: This run's number over the shared samples.
        selected: Samples of the metric that this run selected.
        shared: Of those, asked alike in the baseline.
        scored: Of those, with a score in both runs.
        interval: Of ``value``, two-sided; None if there is none.
        outcome: The verdict at the gate's confidence.
        p_worse: How likely a model that is no worse than before would lose as much, or more.
        test: How ``p_worse`` was found.
        further: Samples that would decide an inconclusive verdict, if that can be told.
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
    outcome: Outcome = "no_data"
    p_worse: float | None = None
    test: str | None = None
    further: int | None = None
    changes: str = ""
    problem: str | None = None

    def entry(self) -> dict[str, Any]:
        """Return what the results say about it."""
        fields = ("before", "now", "shared", "scored", "p_worse", "test")
        return {name: getattr(self, name) for name in fields}


@dataclass(frozen=True, slots=True)
class Findings:
    """What gates are judged by: one run of one model.

    Attributes:
        metrics: Metrics of the run.
        scores: Trust scores of the run.
        selection: What was planned, of how much.
        coverage: Task -> what became of its samples.
        interval: Returns the interval of a gate's number at the gate's confidence; None if there is none.
        further: Returns how many samples beside those of the run would decide a gate, if the number stays as it is;
            None if none would, or if nobody can tell.
        drop: Returns the comparison with the baseline for a ``max_drop`` gate.
        stopped: The run ended before its last sample; planned are those that it reached.
    """

    metrics: Mapping[str, MetricValue]
    scores: Mapping[str, TrustScore]
    selection: Selection
    coverage: Mapping[str, Mapping[str, int]]
    interval: Callable[[Gate], Interval | None]
    further: Callable[[Gate], int | None]
    drop: Callable[[Gate], Drop]
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict of a gate.

    Attributes:
        gate: The gate.
        outcome: Only ``passed`` passes; ``skipped`` was not judged.
        value: The number that was judged, if there was one.
        reason: One line for people.
        interval: The interval that was judged, if the gate asks for confidence.
        further: Samples that would decide an inconclusive gate, if that can be told.
        lacking: How many more of its samples need a score before its value counts; None: enough have one.
        drop: The comparison that was judged, for a ``max_drop`` gate.
        carried: It failed in the run before, and this run cannot clear it.
    """

    gate: Gate
    outcome: Outcome
    value: float | None
    reason: str
    interval: Interval | None = None
    further: int | None = None
    lacking: int | None = None
    drop: Drop | None = None
    carried: bool = False

    @property
    def warned(self) -> bool:
        """It did not pass, and the threshold file says that this only warns."""
        if self.outcome in ("passed", "skipped"):
            return False
        policy = self.gate.policy
        inconclusive = self.outcome == "inconclusive" and policy.on_inconclusive == "warn"
        return self.gate.warn or inconclusive or (self.outcome == "no_data" and policy.on_no_data == "warn")

    @property
    def failing(self) -> bool:
        """It fails the build."""
        return self.outcome not in ("passed", "skipped") and not self.warned

    def entry(self) -> dict[str, Any]:
        """Return its entry in the results."""
        gate, interval = self.gate, self.interval
        return {
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
            **({} if self.lacking is None else {"lacking": self.lacking}),
            **({} if self.drop is None else self.drop.entry()),
            **({"failed_before": True} if self.carried else {}),
        }


def judge(gate: Gate, findings: Findings, *, failed_before: bool = False) -> GateResult:
    """Return the verdict of one gate.

    Args:
        gate: The gate.
        findings: The run.
        failed_before: The gate failed in the run before. A part of the samples cannot clear it then.
    """
    selection = findings.selection
    planned = sum(selection.planned.get(t, 0) for t in gate.tasks)
    partial = selection.partial(gate.tasks)
    part = f"{planned} of {sum(selection.totals.get(t, 0) for t in gate.tasks)} samples"
    if partial and gate.policy.on_partial == "skip":
        reason = f"partial selection: {part}" + (", the run stopped early" if findings.stopped else "")
        if failed_before:
            why = f"failed in the last run and cannot be judged now: {reason}"
            return GateResult(gate, "failed", None, why, carried=True)
        return GateResult(gate, "skipped", None, reason)
    if planned == 0:
        return GateResult(gate, "no_data", None, f"no data: no sample of {', '.join(gate.tasks)} in this run")
    found = _judged(gate, findings)
    if not partial:
        return found
    return dataclasses.replace(found, reason=f"{found.reason} (partial: {part})")


def _judged(gate: Gate, findings: Findings) -> GateResult:
    metrics = findings.metrics
    if gate.metric_id is None:
        involved = [m for id_, m in metrics.items() if id_.startswith(f"{gate.dimension}/") and "{" not in id_]
        score = findings.scores.get(gate.dimension)
        return _covered(gate, findings, score.value if score is not None else None, involved)
    metric = metrics.get(gate.metric_id)
    if metric is None:
        return GateResult(gate, "no_data", None, f"no data: {gate.metric_id} has no sample in this run")
    if metric.expected == 0:
        return GateResult(gate, "skipped", None, f"does not apply: no sample of this run concerns {gate.metric_id}")
    value = metric.value if gate.scoring == "value" else metric.parity
    return _covered(gate, findings, value, [metric], _of_no_group(gate.metric_id, metrics))


def _of_no_group(metric_id: str, metrics: Mapping[str, MetricValue]) -> int:
    """Return how many samples were lost before anybody knew their group: they may be of this sub-metric's."""
    whole, brace, group = metric_id.partition("{")
    if not brace or whole not in metrics:
        return 0
    groups = f"{whole}{{{group.partition('=')[0]}="
    placed = sum(m.expected for id_, m in metrics.items() if id_.startswith(groups))
    return max(0, metrics[whole].expected - placed)


def _covered(
    gate: Gate, findings: Findings, value: float | None, involved: Sequence[MetricValue], lost: int = 0
) -> GateResult:
    """Return the verdict if enough samples have a score, else a failure: no gate passes on survivors."""
    expected, scored = sum(m.expected for m in involved) + lost, sum(m.scored for m in involved)
    if expected and scored / expected < gate.policy.min_scored:
        share = f"{scored} of {expected} samples have a score ({scored / expected:.1%})"
        asked = f"coverage.min_scored asks for {gate.policy.min_scored:.1%}"
        reason = f"{share}; {asked}{_lost(involved, findings.coverage)}"
        enough = next(n for n in range(scored + 1, expected + 1) if n / expected >= gate.policy.min_scored)
        return GateResult(gate, "failed", value, reason, lacking=enough - scored)
    if value is None:
        why = next((m.problem for m in involved if m.problem is not None), "the metric has no value")
        return GateResult(gate, "no_data", None, f"no data: {why}")
    if gate.kind == "max_drop":
        return _dropped(gate, findings.drop(gate))
    if gate.confidence is None:
        return _bounded(gate, value)
    return _confident(gate, findings, value, findings.interval(gate), f"{gate.metric} = {value:.3f}{_reading(gate)}")


def _lost(metrics: Sequence[MetricValue], coverage: Mapping[str, Mapping[str, int]]) -> str:
    """Return in words what became of the samples without a score, per task."""
    words = (("unscored", "unscored"), ("errored", "errored"), ("lost", "never ran"))
    found = []
    for task in dict.fromkeys(m.id.partition("{")[0].rpartition(".")[0] for m in metrics):
        counts = coverage.get(task, {})
        parts = [f"{counts[key]} {word}" for key, word in words if counts.get(key)]
        if parts:
            found.append(f"{task}: {', '.join(parts)}")
    return f" ({'; '.join(found)})" if found else ""


def _reading(gate: Gate) -> str:
    return " (parity)" if gate.scoring == "parity" else ""


def _bounded(gate: Gate, value: float) -> GateResult:
    met = value >= gate.bound if gate.kind == "at_least" else value <= gate.bound
    sign = {("at_least", True): "≥", ("at_least", False): "<", ("at_most", True): "≤", ("at_most", False): ">"}
    reason = f"{gate.metric} = {_digits(value, gate.bound)}{_reading(gate)} {sign[gate.kind, met]} {gate.bound:g}"
    return GateResult(gate, "passed" if met else "failed", value, reason)


def _confident(gate: Gate, findings: Findings, value: float, interval: Interval | None, what: str) -> GateResult:
    """Return the verdict on an interval: clear of the bound on the good side, on the bad side, or neither."""
    if interval is None:
        return GateResult(gate, "inconclusive", value, f"{what}: no interval can be computed from these samples")
    low, high, bound = interval.low, interval.high, gate.bound
    level = f"{100 * interval.confidence:.6g}%"
    at_least = gate.kind == "at_least"
    clear, crossed = (low >= bound, high < bound) if at_least else (high <= bound, low > bound)
    if clear or crossed:
        lower = at_least == clear
        sign = ("≥" if clear else ">") if lower else ("≤" if clear else "<")
        end = f"{'lower' if lower else 'upper'} {level} bound {_digits(low if lower else high, bound)}"
        outcome: Outcome = "passed" if clear else "failed"
        return GateResult(gate, outcome, value, f"{what}, {end} {sign} {bound:g}", interval)
    further = findings.further(gate)
    span = f"{level} interval {_digits(low, bound)} to {_digits(high, bound)} holds {bound:g}"
    more = "" if further is None else f"; about {further} more samples would decide"
    return GateResult(gate, "inconclusive", value, f"{what}, {span}{more}", interval, further)


def _dropped(gate: Gate, drop: Drop) -> GateResult:
    """Return the verdict on the comparison with the baseline."""
    if drop.problem is not None or drop.value is None:
        return GateResult(gate, "no_data", None, f"no data: {drop.problem or 'nothing can be compared'}")
    changes = f" ({drop.changes})" if drop.changes else ""
    if drop.shared < gate.policy.min_paired * drop.selected:
        share = f"{drop.shared} of {drop.selected} samples are the baseline's ({drop.shared / drop.selected:.1%})"
        asked = f"coverage.min_paired asks for {gate.policy.min_paired:.1%}{changes}; record a new baseline"
        return GateResult(gate, "no_data", None, f"no data: {share}; {asked}")
    if drop.scored < gate.policy.min_scored * drop.shared:
        share = f"{drop.scored} of {drop.shared} shared samples have a score in both runs"
        asked = f"coverage.min_scored asks for {gate.policy.min_scored:.1%}"
        return GateResult(gate, "failed", drop.value, f"{share}; {asked}")
    met = drop.value <= gate.bound
    what = (
        f"{gate.metric}: drop {_digits(drop.value, gate.bound)}{_reading(gate)} {'≤' if met else '>'} {gate.bound:g}, "
        f"{drop.before:.3f} to {drop.now:.3f} on {drop.scored} shared samples{changes}"
    )
    result = GateResult(gate, "passed" if met else "failed", drop.value, what, drop=drop)
    if gate.confidence is None:
        return result
    result = dataclasses.replace(result, interval=drop.interval)
    if met:
        return result
    chance = "no test can be made" if drop.p_worse is None else f"p = {drop.p_worse:.2g}"
    if drop.outcome == "failed":
        return dataclasses.replace(result, reason=f"{what}; chance does not explain it ({chance})")
    more = "" if drop.further is None else f"; about {drop.further} more samples would decide"
    reason = f"{what}; chance may explain it ({chance}){more}"
    return dataclasses.replace(result, outcome="inconclusive", reason=reason, further=drop.further)


def _digits(value: float, bound: float) -> str:
    """Return the value with as many digits as it takes to see on which side of the bound it lies (at least three)."""
    for digits in range(3, 17):
        shown = f"{value:.{digits}f}"
        if float(shown) == value or ((float(shown) < bound) == (value < bound) and float(shown) != bound):
            return shown
    return repr(value)
