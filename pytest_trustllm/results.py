"""Everything done after the run: metrics, trust scores, the results file."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.evidence import Evidence, Row, Scoring, evidence_of, interval
from pytest_trustllm.models import catalogue
from pytest_trustllm.records import Interval, MetricValue, Selection, TrustScore
from pytest_trustllm.suites import Suite, Task
from pytest_trustllm.uncertainty import CONFIDENCE, Limits, mean_of

SCHEMA = "pytest-trustllm/results/1"


class Measurement:
    """All numbers of one model's run: metrics, trust scores, and their intervals at any confidence.

    Args:
        tasks: All tasks.
        rows: Task -> its samples that have a record, of one model.
        selection: What was planned. A planned sample without a record counts as expected and unscored.
        confidence: Of the intervals in ``metrics`` and ``scores``.
        seed: Of the run; intervals that are drawn depend on it.

    Attributes:
        metrics: Id -> every metric and sub-metric of the tasks that had samples in this run.
        scores: Dimension -> trust score.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        rows: Mapping[str, Sequence[Row]],
        selection: Selection,
        *,
        confidence: float = CONFIDENCE,
        seed: int = 0,
    ) -> None:
        self.confidence = confidence
        self.metrics: dict[str, MetricValue] = {}
        self._tasks = tasks
        self._evidence: dict[str, Evidence] = {}
        for task in tasks:
            planned = selection.planned.get(task.asked, 0)
            mine = rows.get(task.id, [])
            for found in evidence_of(task, mine, seed) if planned else ():
                self._evidence[found.id] = found
                missing = 0 if "{" in found.id else planned - len(mine)
                self.metrics[found.id] = _value(found, missing, confidence)
        self.scores = scores_of(tasks, self.metrics)

    def evidence(self, id_: str) -> Evidence | None:
        """Return what a metric was computed from; None if this run does not have it."""
        return self._evidence.get(id_)

    def asked(self, id_: str) -> str | None:
        """Return the task whose answers a metric was computed from; None if this run does not have it."""
        found = self._evidence.get(id_)
        return None if found is None else found.task.asked

    def interval(self, id_: str, confidence: float, scoring: Scoring = "value") -> Interval | None:
        """Return an interval; None if there is none.

        Args:
            id_: Of a metric, or ``dimension/score``.
            confidence: In (0, 1).
            scoring: Which reading of the metric.
        """
        if id_.endswith("/score"):
            score = self.scores.get(id_.removesuffix("/score"))
            if score is None or confidence == self.confidence:
                return None if score is None else score.interval
            again = {
                m: dataclasses.replace(self.metrics[m], interval=self.interval(m, confidence))
                for m in (*score.of, *score.missing)
            }
            return scores_of(self._tasks, again)[id_.removesuffix("/score")].interval
        metric = self.metrics.get(id_)
        if metric is None:
            return None
        if scoring == "value" and confidence == self.confidence:
            return metric.interval
        return self._evidence[id_].interval(getattr(metric, scoring), confidence, scoring)


def _value(evidence: Evidence, missing: int, confidence: float) -> MetricValue:
    value, problem = evidence.number()
    parity, other = evidence.number("parity")
    spec = evidence.spec
    return MetricValue(
        id=evidence.id,
        value=value,
        parity=parity,
        expected=sum(r.applies for r in evidence.rows) + missing,
        scored=sum(r.scored for r in evidence.rows),
        higher_is_better=spec.higher_is_better,
        range=spec.range,
        problem=problem or other,
        interval=evidence.interval(value, confidence),
    )


def scores_of(tasks: Sequence[Task], metrics: Mapping[str, MetricValue]) -> dict[str, TrustScore]:
    """Return the trust score of every dimension that had samples."""
    headlines: dict[str, list[tuple[str, MetricValue]]] = {}
    for task in tasks:
        metric = metrics.get(task.metric_id(task.metrics[0].name))
        if metric is not None:
            headlines.setdefault(task.dimension, []).append((task.asked, metric))
    return {dimension: _score(found) for dimension, found in headlines.items()}


def _score(metrics: Sequence[tuple[str, MetricValue]]) -> TrustScore:
    usable = [(asked, m, m.value) for asked, m in metrics if m.value is not None]
    turned = [_turned(m, value) for _, m, value in usable]
    mean = sum(turned) / len(turned) if turned else None
    return TrustScore(
        value=mean,
        of=tuple(m.id for _, m, _ in usable),
        missing=tuple(m.id for _, m in metrics if m.value is None),
        interval=None if mean is None else _score_interval(mean, usable),
    )


def _turned(metric: MetricValue, number: float) -> float:
    return min(1.0, max(0.0, number if metric.higher_is_better else 1.0 - number))


def _score_interval(mean: float, metrics: Sequence[tuple[str, MetricValue, float]]) -> Interval | None:
    parts: list[tuple[Hashable, float, Limits]] = []
    confidence = CONFIDENCE
    for asked, metric, value in metrics:
        if metric.interval is None:
            return None
        confidence = metric.interval.confidence
        low, high = sorted(_turned(metric, limit) for limit in (metric.interval.low, metric.interval.high))
        parts.append((asked, _turned(metric, value), (low, high)))
    method = "square-and-add of the headline metrics' intervals (Zou et al. 2009)"
    return interval(mean, (mean_of(parts), method), (0.0, 1.0), confidence)


def document(
    run: Mapping[str, Any],
    metrics: Mapping[str, MetricValue],
    scores: Mapping[str, TrustScore],
    gates: Sequence[Mapping[str, Any]],
    usage: Mapping[str, Any],
    samples: str | None,
) -> dict[str, Any]:
    """Return the results document (schema ``pytest-trustllm/results/1``)."""
    return {
        "schema": SCHEMA,
        "run": dict(run),
        "metrics": {
            m.id: {
                "value": m.value,
                "parity": m.parity,
                **_interval(m.interval),
                "expected": m.expected,
                "scored": m.scored,
                "unscored": m.unscored,
                "higher_is_better": m.higher_is_better,
                "range": list(m.range),
                **_ranked(m),
            }
            for m in metrics.values()
        },
        "scores": {
            name: {"value": s.value, **_interval(s.interval), "of": list(s.of), "missing": list(s.missing)}
            for name, s in scores.items()
        },
        "gates": [dict(g) for g in gates],
        "usage": dict(usage),
        "samples": samples,
    }


def _interval(found: Interval | None) -> dict[str, Any]:
    if found is None:
        return {"ci": None, "confidence": None, "method": None}
    return {"ci": [found.low, found.high], "confidence": found.confidence, "method": found.method}


def _ranked(metric: MetricValue) -> dict[str, dict[str, int]]:
    """Return the place among the published models, by the parity reading; nothing for a metric that has none there.

    This run's model is one of those counted, so that the last place is the number of places. Equal values share the
    better one. In a partial selection the number is what it is; ``run.selection`` says that it was one.
    """
    board = catalogue.published()
    if metric.parity is None or metric.id not in board.metrics:
        return {}
    others = [s for model in board.scores.values() if (s := model.get(metric.id)) is not None]
    better = sum(s > metric.parity if metric.higher_is_better else s < metric.parity for s in others)
    return {"rank": {"position": better + 1, "of": len(others) + 1}}


def write_document(path: Path, results: Mapping[str, Any]) -> None:
    """Write a results file, whole or not at all.

    Raises:
        ResultsError: It cannot be written.
    """
    write_whole(path, [json.dumps(results, indent=1, ensure_ascii=True, allow_nan=False) + "\n"], "--trust-results")


def write_whole(path: Path, parts: Iterable[str], flag: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        ResultsError: It cannot be written.
    """
    with replacing(path, flag) as new, new.open("w", encoding="utf-8", errors="backslashreplace", newline="") as f:
        f.writelines(parts)


@contextmanager
def replacing(path: Path, flag: str) -> Iterator[Path]:
    """Give a file under another name to write to, and move it into place when it is complete.

    Raises:
        ResultsError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            yield Path(name)
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise ResultsError(f"{flag}: {path} cannot be written: {e.strerror or e}") from None


def tasks_of(suites: Iterable[Suite]) -> list[Task]:
    """Return all tasks in suite order."""
    return [task for suite in suites for task in suite.tasks]
