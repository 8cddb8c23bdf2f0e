"""Threshold YAML to bounds; a number against its bound to a verdict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_trustllm import paths
from pytest_trustllm.documents import Place, read_document
from pytest_trustllm.errors import GateError, suggest
from pytest_trustllm.records import MetricValue, Selection, TrustScore
from pytest_trustllm.suites import Suite, Task

KINDS = ("at_least", "at_most")
Outcome = Literal["passed", "failed", "no_data", "skipped"]
_METRIC = re.compile(r"(?P<task>[A-Za-z0-9_-]+)\.(?P<name>[A-Za-z0-9_-]+)(\{(?P<group>[^=}]+)=(?P<value>[^}]*)\})?")
_FILE_KEYS = ("dimension", "gates", "coverage", "on_partial")
_GATE_KEYS = ("metric", *KINDS, "scoring", "force")


@dataclass(frozen=True, slots=True)
class Gate:
    """One bound on one number.

    Attributes:
        file: The threshold file, as node ids name it.
        dimension: Such as ``safety``.
        metric: As written: ``task.metric``, ``task.metric{group=value}`` or ``score``.
        kind: ``at_least`` or ``at_most``.
        bound: The threshold.
        scoring: Which reading is judged.
        tasks: Ids of the tasks whose samples decide.
        min_scored: Share of the selected samples that must have a score.
        on_partial: What happens when only some samples were selected.
    """

    file: str
    dimension: str
    metric: str
    kind: str
    bound: float
    scoring: Literal["value", "parity"]
    tasks: tuple[str, ...]
    min_scored: float
    on_partial: Literal["skip", "judge"]

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
class GateResult:
    """The verdict of a gate.

    Attributes:
        gate: The gate.
        outcome: Only ``passed`` passes; ``skipped`` was not judged.
        value: The number that was judged, if there was one.
        reason: One line for people.
    """

    gate: Gate
    outcome: Outcome
    value: float | None
    reason: str


def threshold_files(where: Path, *, sample: bool) -> list[Path]:
    """Return the threshold files of a file or directory; sample data has its own set in ``sample/`` where that exists.

    Raises:
        GateError: There is no such file or directory, or it holds no YAML file.
    """
    if where.is_file():
        return [where]
    if not where.is_dir():
        raise GateError(f"--trust-thresholds: {where} does not exist")
    directory = where / "sample" if sample and (where / "sample").is_dir() else where
    found = sorted(directory.glob("*.yaml"))
    if not found:
        raise GateError(f"--trust-thresholds: {directory} holds no .yaml file")
    return found


def read_gates(path: Path, suites: Iterable[Suite], *, root: Path | None = None, builtin: bool = False) -> list[Gate]:
    """Read one threshold file and check it against the suites.

    Raises:
        GateError: Any mistake in it, with file and field.
    """
    file = f"trustllm/{paths.shown(path)}" if builtin else paths.shown(path, root)
    if Path(file).is_absolute():  # outside the project: a node id must not be an absolute path
        file = f"{path.parent.name}/{path.name}"
    top = read_document(path, file, GateError).mapping(_FILE_KEYS)
    tasks = {t.id: t for suite in suites for t in suite.tasks}
    dimensions = {t.dimension for t in tasks.values()}
    dimension = top["dimension"].choice(dimensions)
    coverage, partial = top.get("coverage"), top.get("on_partial")
    share = coverage.mapping(("min_scored",)).get("min_scored") if coverage is not None else None
    min_scored = share.number(0, 1) if share is not None else 0.95
    on_partial: Literal["skip", "judge"] = (
        "judge" if partial is not None and partial.choice(("skip", "judge")) == "judge" else "skip"
    )
    gates: list[Gate] = []
    for place in top["gates"].list():
        gate = _gate(place, file, dimension, tasks, min_scored, on_partial)
        if any(g.name == gate.name for g in gates):
            raise place.fail(f"a second {gate.kind!r} gate on {gate.metric!r}; remove one")
        gates.append(gate)
    return gates


def _gate(
    place: Place,
    file: str,
    dimension: str,
    tasks: Mapping[str, Task],
    min_scored: float,
    on_partial: Literal["skip", "judge"],
) -> Gate:
    place.mapping(_GATE_KEYS)
    kinds = [k for k in KINDS if place.get(k) is not None]
    if len(kinds) != 1:
        raise place.fail(f"expected exactly one of {', '.join(KINDS)}")
    kind = kinds[0]
    metric = place["metric"].text()
    if metric == "score":
        higher, (low, high) = True, (0.0, 1.0)
        involved = tuple(sorted({t.asked for t in tasks.values() if t.dimension == dimension}))
    else:
        task, higher, (low, high) = _find(place["metric"], metric, dimension, tasks)
        involved = (task.asked,)
    force = place.get("force")
    if (kind == "at_least") != higher and not (force is not None and force.flag()):
        better = "higher" if higher else "lower"
        right = "at_least" if higher else "at_most"
        raise place[kind].fail(f"{better} is better for {metric!r}; write {right!r}, or add 'force: true'")
    scoring = place.get("scoring")
    parity = scoring is not None and scoring.choice(("value", "parity")) == "parity"
    if parity and metric == "score":
        raise place.fail("the trust score has no parity reading; remove 'scoring'")
    return Gate(
        file=file,
        dimension=dimension,
        metric=metric,
        kind=kind,
        bound=place[kind].number(low, high),
        scoring="parity" if parity else "value",
        tasks=involved,
        min_scored=min_scored,
        on_partial=on_partial,
    )


def _find(
    place: Place, metric: str, dimension: str, tasks: Mapping[str, Task]
) -> tuple[Task, bool, tuple[float, float]]:
    match = _METRIC.fullmatch(metric)
    if match is None:
        raise place.fail(f"{metric!r} is no metric; write 'task.metric', 'task.metric{{group=value}}' or 'score'")
    known = {f"{t.name}.{m.name}": (t, m) for t in tasks.values() if t.dimension == dimension for m in t.metrics}
    name = f"{match['task']}.{match['name']}"
    if name not in known:
        raise place.fail(f"no suite of {dimension!r} defines the metric {name!r}{suggest(name, known)}")
    task, spec = known[name]
    if match["group"] is not None and match["group"] not in task.group:
        raise place.fail(f"{task.id} has no group {match['group']!r}{suggest(match['group'], task.group)}")
    return task, spec.higher_is_better, spec.range


def judge(
    gate: Gate,
    metrics: Mapping[str, MetricValue],
    scores: Mapping[str, TrustScore],
    selection: Selection,
    *,
    failed_before: bool = False,
) -> GateResult:
    """Return the verdict of one gate.

    Args:
        gate: The gate.
        metrics: Metrics of the run.
        scores: Trust scores of the run.
        selection: What was planned, of how much.
        failed_before: The gate failed in the run before. A part of the samples cannot clear it then.
    """
    planned = sum(selection.planned.get(t, 0) for t in gate.tasks)
    total = sum(selection.totals.get(t, 0) for t in gate.tasks)
    if selection.partial(gate.tasks) and gate.on_partial == "skip":
        reason = f"partial selection: {planned} of {total} samples"
        if failed_before:
            return GateResult(gate, "failed", None, f"failed in the last run and cannot be judged now: {reason}")
        return GateResult(gate, "skipped", None, reason)
    if planned == 0:
        return GateResult(gate, "no_data", None, f"no data: no sample of {', '.join(gate.tasks)} in this run")
    if gate.metric_id is None:
        involved = [m for id_, m in metrics.items() if id_.startswith(f"{gate.dimension}/") and "{" not in id_]
        return _judge(gate, scores[gate.dimension].value if gate.dimension in scores else None, involved)
    metric = metrics.get(gate.metric_id)
    if metric is None:
        return GateResult(gate, "no_data", None, f"no data: {gate.metric_id} has no sample in this run")
    if metric.expected == 0:
        return GateResult(gate, "skipped", None, f"does not apply: no sample of this run concerns {gate.metric_id}")
    value = metric.value if gate.scoring == "value" else metric.parity
    return _judge(gate, value, [metric], _of_no_group(gate.metric_id, metrics))


def _of_no_group(metric_id: str, metrics: Mapping[str, MetricValue]) -> int:
    """Return how many samples were lost before anybody knew their group: they may be of this sub-metric's."""
    whole, brace, group = metric_id.partition("{")
    if not brace or whole not in metrics:
        return 0
    groups = f"{whole}{{{group.partition('=')[0]}="
    placed = sum(m.expected for id_, m in metrics.items() if id_.startswith(groups))
    return max(0, metrics[whole].expected - placed)


def _judge(gate: Gate, value: float | None, involved: Sequence[MetricValue], lost: int = 0) -> GateResult:
    expected, scored = sum(m.expected for m in involved) + lost, sum(m.scored for m in involved)
    if expected and scored / expected < gate.min_scored:
        share = f"{scored} of {expected} samples have a score ({scored / expected:.1%})"
        return GateResult(gate, "failed", value, f"{share}; coverage.min_scored asks for {gate.min_scored:.1%}")
    if value is None:
        why = next((m.problem for m in involved if m.problem is not None), "the metric has no value")
        return GateResult(gate, "no_data", None, f"no data: {why}")
    met = value >= gate.bound if gate.kind == "at_least" else value <= gate.bound
    sign = {("at_least", True): "≥", ("at_least", False): "<", ("at_most", True): "≤", ("at_most", False): ">"}
    reading = " (parity)" if gate.scoring == "parity" else ""
    reason = f"{gate.metric} = {_digits(value, gate.bound)}{reading} {sign[gate.kind, met]} {gate.bound:g}"
    return GateResult(gate, "passed" if met else "failed", value, reason)


def _digits(value: float, bound: float) -> str:
    """Return the value with as many digits as it takes to see on which side of the bound it lies (at least three)."""
    for digits in range(3, 17):
        shown = f"{value:.{digits}f}"
        if float(shown) == value or ((float(shown) < bound) == (value < bound) and float(shown) != bound):
            return shown
    return repr(value)
