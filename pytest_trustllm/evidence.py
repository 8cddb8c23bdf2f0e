"""What a metric of a run is computed from: its records as observations, in both readings, epoch by epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm import uncertainty
from pytest_trustllm.errors import one_line
from pytest_trustllm.metrics.base import Averaged, Observation, SelfBounded, Tabled
from pytest_trustllm.metrics.reading import compute
from pytest_trustllm.metricspec import MetricSpec, Reading
from pytest_trustllm.records import RAISES, Interval
from pytest_trustllm.suites import Task
from pytest_trustllm.uncertainty import Estimated, Limits

Record = Mapping[str, Any]
Scoring = Literal["value", "parity"]


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of one task after the run.

    Attributes:
        id: Of the sample.
        fingerprint: Of the sample; empty if it could not be made.
        cluster: Samples of the same one depend on each other.
        group: Group name -> value.
        applies: The task concerns the sample, in one epoch at least.
        scored: Every epoch that the task concerns has a score.
        found: One observation per epoch that the task concerns; empty unless ``scored``.
        parity: Observations in the authors' toolkit's reading; None if that raises.
    """

    id: str
    fingerprint: str
    cluster: str
    group: Mapping[str, str]
    applies: bool
    scored: bool
    found: tuple[Observation, ...]
    parity: tuple[Observation, ...] | None

    def observations(self, scoring: Scoring) -> tuple[Observation, ...]:
        """Return the observations of a reading."""
        return self.found if scoring == "value" else self.parity or ()


def epochs_of(record: Record) -> Sequence[Record]:
    """Return the readings of a sample, one per epoch: the record itself if it was asked once."""
    found: Sequence[Record] = record.get("epochs") or (record,)
    return found


def rows_by_task(records: Iterable[Record]) -> dict[str, list[Row]]:
    """Return the rows of every task, those that read another task's answers too, in the order of the sample ids."""
    by_task: dict[str, list[Row]] = {}
    for record in records:
        by_task.setdefault(record["task"], []).append(_row(record, record))
        for reader, score in record["also"].items():
            by_task.setdefault(reader, []).append(_row(record, score))
    return {task: sorted(rows, key=lambda r: r.id) for task, rows in by_task.items()}


def _row(record: Record, score: Record) -> Row:
    readings, group = epochs_of(score), record["group"]
    own = [None if r["value"] is None else {**r["observed"], "value": r["value"], "group": group} for r in readings]
    concerned = [o for o, r in zip(own, readings, strict=True) if r.get("applies", True)]
    scored = bool(concerned) and None not in concerned
    return Row(
        id=record["id"],
        fingerprint=record.get("fingerprint", ""),
        cluster=record.get("cluster", record["id"]),
        group=group,
        applies=bool(concerned),
        scored=scored,
        found=tuple(o for o in concerned if o is not None) if scored else (),
        parity=_parity(readings, own, group),
    )


def _parity(
    readings: Sequence[Record], own: Sequence[Observation | None], group: Mapping[str, str]
) -> tuple[Observation, ...] | None:
    found: list[Observation] = []
    for reading, same in zip(readings, own, strict=True):
        parity = reading["parity"]
        if parity == RAISES:
            return None
        if parity == "same":
            found += () if same is None else (same,)
        elif parity is not None:
            found.append({**parity, "group": group})
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one metric or sub-metric is computed from.

    Attributes:
        id: Of the metric.
        task: Whose metric it is.
        spec: How to compute it.
        by: Name of the group that a macro average goes over.
        rows: Samples, those without a score too.
        seed: Random numbers depend on it and the metric's id alone.
    """

    id: str
    task: Task
    spec: MetricSpec
    by: str | None
    rows: Sequence[Row]
    seed: int

    @property
    def groups(self) -> list[str]:
        """All values of the group."""
        return values_of(self.rows, self.by) if self.by is not None else []

    def number(self, scoring: Scoring = "value") -> tuple[float | None, str | None]:
        """Return a reading, or None and what the metric's code did instead: it may be the user's own."""
        if scoring == "parity" and any(r.parity is None for r in self.rows):
            return None, None
        try:
            found = compute(self._reading(scoring), self._observations(scoring)[0], self.groups, self.by)
        except Exception as e:  # noqa: BLE001 - it costs its own number, with its name, and not the results of the run
            return None, f"the metric raised {type(e).__name__}: {one_line(e)}"
        if found is not None and not math.isfinite(found):
            return None, f"the metric is {found}, which is no number"
        return None if found is None else float(found), None

    def interval(self, value: float | None, confidence: float, scoring: Scoring = "value") -> Interval | None:
        """Return the interval of a reading.

        Args:
            value: The reading itself.
            confidence: In (0, 1).
            scoring: Which reading.
        """
        if value is None:
            return None
        try:
            found = self._estimate(value, confidence, scoring)
        except Exception:  # noqa: BLE001 - a user's metric that breaks on fewer samples has no interval
            return None
        low, high = self._reading(scoring).metric.range
        return None if found is None else interval(value, found, (float(low), float(high)), confidence)

    def _reading(self, scoring: Scoring) -> Reading:
        return self.spec.value if scoring == "value" else self.spec.parity

    def _observations(self, scoring: Scoring) -> tuple[list[Observation], list[str]]:
        pairs = [(o, row.cluster) for row in self.rows for o in row.observations(scoring)]
        return [o for o, _ in pairs], [c for _, c in pairs]

    def _estimate(self, value: float, confidence: float, scoring: Scoring) -> Estimated | None:
        reading = self._reading(scoring)
        observations, clusters = self._observations(scoring)
        if not observations:
            return None
        parts = _parts(reading, observations, clusters, self.groups, self.by)
        metric = reading.metric
        if isinstance(metric, Averaged):
            found = _averaged(reading, metric, parts, value, confidence)
            if found is not None:
                return found
        elif isinstance(metric, SelfBounded) and len(parts) == 1:
            return metric.limits(*parts[0], confidence)
        elif isinstance(metric, Tabled):
            return self._tabled(metric, parts, confidence, scoring)

        def without(left_out: frozenset[Hashable]) -> float | None:
            rest = [o for o, c in zip(observations, clusters, strict=True) if c not in left_out]
            return compute(reading, rest, self.groups, self.by)

        return uncertainty.jackknife(clusters, without, value, metric.range, confidence)

    def _tabled(self, metric: Tabled, parts: Sequence[Part], confidence: float, scoring: Scoring) -> Estimated | None:
        random = uncertainty.generator(self.seed, f"{self.id}/{scoring}")
        every = [c for _, clusters in parts for c in clusters]
        lone = len({*every}) == len(every)
        weights = None if lone else uncertainty.weights_of(every, random)
        total: Any = 0.0
        for observations, clusters in parts:
            if observations:
                outcomes = metric.outcomes(observations)
                total = total + uncertainty.draws_of(
                    outcomes, clusters, metric.prior, metric.of_shares, weights, random
                )
        limits = uncertainty.percentiles(total / len(parts), len({*every}) - len(parts) + 1, confidence)
        method = f"Bayesian bootstrap, {uncertainty.DRAWS} draws" + ("" if lone else ", clustered")
        return None if limits is None else (limits, method)


Part = tuple[list[Observation], list[str]]


def _parts(
    reading: Reading, observations: list[Observation], clusters: list[str], groups: Sequence[str], by: str | None
) -> list[Part]:
    """Return observations and clusters of every group of a macro average, or of all samples together."""
    if reading.average == "pooled" or by is None:
        return [(observations, clusters)]
    parts: dict[str, Part] = {group: ([], []) for group in groups}
    for observation, cluster in zip(observations, clusters, strict=True):
        part = parts.get(observation["group"].get(by))
        if part is not None:
            part[0].append(observation)
            part[1].append(cluster)
    return list(parts.values())


def _averaged(
    reading: Reading, metric: Averaged, parts: Sequence[Part], value: float, confidence: float
) -> Estimated | None:
    """Return limits of a mean; None if the metric is not the mean that it says it is."""
    low, high = reading.metric.range
    tallies = []
    for observations, clusters in parts:
        tally = uncertainty.Tally()
        for cluster, (number, weight) in zip(clusters, metric.terms(observations), strict=True):
            tally.add(cluster, (number - low * weight) / (high - low), weight)
        tallies.append(tally)
    fixed = sum(not t.seen for t in tallies)
    found = uncertainty.mean_limits(tallies, confidence, fixed)
    if found is None:
        return None
    counted = [t.mean if t.count else 0.0 for t in tallies]
    mean = low + (high - low) * math.fsum(counted) / len(counted)
    if not reading.digits and not math.isclose(mean, value, rel_tol=0, abs_tol=1e-9 * (high - low)):
        return None
    (below, above), method = found
    return (low + (high - low) * below, low + (high - low) * above), method


def interval(value: float, found: Estimated, span: Limits, confidence: float) -> Interval:
    """Return an interval that holds its value and keeps within the metric's range."""
    (low, high), method = found
    least, most = span
    return Interval(min(value, max(low, least)), max(value, min(high, most)), confidence, method)


def values_of(rows: Iterable[Row], name: str) -> list[str]:
    """Return all values of a group among the rows."""
    return sorted({r.group[name] for r in rows if name in r.group})


def evidence_of(task: Task, rows: Sequence[Row], seed: int) -> Iterable[Evidence]:
    """Yield what every metric and sub-metric of a task is computed from; a metric comes before its sub-metrics."""
    for spec in task.metrics:
        chosen = [r for r in rows if all(r.group.get(k) == str(v) for k, v in spec.where.items())]
        names = [name for name in task.group if name not in spec.where]
        whole = Evidence(task.metric_id(spec.name), task, spec, names[0] if names else None, chosen, seed)
        yield whole
        for name in names:
            for group in values_of(chosen, name):
                part = [r for r in chosen if r.group.get(name) == group]
                yield dataclasses.replace(whole, id=f"{whole.id}{{{name}={group}}}", by=name, rows=part)
