"""Everything done after the run: metrics, trust scores, the results file."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.metrics.reading import compute
from pytest_trustllm.models import catalogue
from pytest_trustllm.records import RAISES, MetricValue, Selection, TrustScore
from pytest_trustllm.suites import MetricSpec, Suite, Task

SCHEMA = "pytest-trustllm/results/1"
Record = Mapping[str, Any]


def metrics_of(tasks: Sequence[Task], records: Iterable[Record], selection: Selection) -> dict[str, MetricValue]:
    """Return every metric and sub-metric of the tasks that had samples in this run.

    Args:
        tasks: All tasks.
        records: One per sample that has a record, of one model; the order does not matter.
        selection: What was planned. A planned sample without a record counts as expected and unscored.
    """
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_task.setdefault(record["task"], []).append(record)
        for reader, score in record["also"].items():
            by_task.setdefault(reader, []).append({**record, **score, "task": reader})
    found: dict[str, MetricValue] = {}
    for task in tasks:
        planned = selection.planned.get(task.asked, 0)
        if planned:
            mine = sorted(by_task.get(task.id, []), key=lambda r: r["id"])
            missing = planned - len(mine)
            for spec in task.metrics:
                found.update(_values(task, spec, mine, missing))
    return found


def _values(task: Task, spec: MetricSpec, records: Sequence[Record], missing: int) -> dict[str, MetricValue]:
    chosen = [r for r in records if all(r["group"].get(k) == str(v) for k, v in spec.where.items())]
    names = [name for name in task.group if name not in spec.where]
    by = names[0] if names else None
    found = {task.metric_id(spec.name): _value(task.metric_id(spec.name), spec, chosen, missing, by)}
    for name in names:
        for group in _groups(chosen, name):
            part = [r for r in chosen if r["group"].get(name) == group]
            sub = f"{task.metric_id(spec.name)}{{{name}={group}}}"
            found[sub] = _value(sub, spec, part, 0, name)
    return found


def _groups(records: Sequence[Record], name: str) -> list[str]:
    return sorted({r["group"][name] for r in records if name in r["group"]})


def _value(id_: str, spec: MetricSpec, records: Sequence[Record], missing: int, by: str | None) -> MetricValue:
    applicable = [r for r in records if r.get("applies", True)]
    scored = [_observation(r) for r in applicable if r["value"] is not None]
    groups = _groups(records, by) if by is not None else []
    value, problem = _number(lambda: compute(spec.value, scored, groups, by))
    parity, other = _number(lambda: _parity(spec, records, groups, by))
    return MetricValue(
        id=id_,
        value=value,
        parity=parity,
        expected=len(applicable) + missing,
        scored=len(scored),
        higher_is_better=spec.higher_is_better,
        range=spec.range,
        problem=problem or other,
    )


def _number(read: Callable[[], float | None]) -> tuple[float | None, str | None]:
    """Return a metric's number, or None and what its code did instead: a metric may be the user's own."""
    try:
        found = read()
    except Exception as e:  # noqa: BLE001 - it costs its own number, with its name, and not the results of the run
        return None, f"the metric raised {type(e).__name__}: {one_line(e)}"
    if found is not None and not math.isfinite(found):
        return None, f"the metric is {found}, which is no number"
    return None if found is None else float(found), None


def _observation(record: Record) -> dict[str, Any]:
    return {**record["observed"], "value": record["value"], "group": record["group"]}


def _parity(spec: MetricSpec, records: Sequence[Record], groups: Sequence[str], by: str | None) -> float | None:
    observations: list[dict[str, Any]] = []
    for record in records:
        reading = record["parity"]
        if reading == RAISES:
            return None
        if reading == "same":
            if record["value"] is not None:
                observations.append(_observation(record))
        elif reading is not None:
            observations.append({**reading, "group": record["group"]})
    return compute(spec.parity, observations, groups, by)


def scores_of(tasks: Sequence[Task], metrics: Mapping[str, MetricValue]) -> dict[str, TrustScore]:
    """Return the trust score of every dimension that had samples."""
    headlines: dict[str, list[MetricValue]] = {}
    for task in tasks:
        metric = metrics.get(task.metric_id(task.metrics[0].name))
        if metric is not None:
            headlines.setdefault(task.dimension, []).append(metric)
    return {dimension: _score(found) for dimension, found in headlines.items()}


def _score(metrics: Sequence[MetricValue]) -> TrustScore:
    usable = [(m, m.value) for m in metrics if m.value is not None]
    turned = [min(1.0, max(0.0, value if m.higher_is_better else 1.0 - value)) for m, value in usable]
    mean = sum(turned) / len(turned) if turned else None
    return TrustScore(mean, tuple(m.id for m, _ in usable), tuple(m.id for m in metrics if m.value is None))


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
                "ci": None,
                "confidence": None,
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
            name: {"value": s.value, "ci": None, "of": list(s.of), "missing": list(s.missing)}
            for name, s in scores.items()
        },
        "gates": [dict(g) for g in gates],
        "usage": dict(usage),
        "samples": samples,
    }


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


def sample_lines(records: Mapping[str, Record], transcripts: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one line of the samples file per record, in the order of the records.

    Args:
        records: Key -> record.
        transcripts: Lines of the host's transcript, each with its ``key``; those of other keys are ignored.
    """
    texts = {t["key"]: t for t in transcripts if t["key"] in records}
    for key, record in records.items():
        transcript = {k: v for k, v in texts.get(key, {}).items() if k != "key"}
        yield {**record, **transcript}


def tasks_of(suites: Iterable[Suite]) -> list[Task]:
    """Return all tasks in suite order."""
    return [task for suite in suites for task in suite.tasks]
