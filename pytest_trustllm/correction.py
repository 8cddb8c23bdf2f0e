"""Rates of a run, corrected for the mistakes of the judge or classifier that counted them.

What ``pytest-trustllm judge-check`` found out about a model of a role travels with the results: which labels, how many,
sensitivity and specificity. A rate that is a plain share of that model's verdicts gets a corrected one beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_trustllm.agreement import Estimate, corrected_rate
from pytest_trustllm.documents import read_json
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.metrics.rates import Mean
from pytest_trustllm.records import MetricValue
from pytest_trustllm.suites import Task

SCHEMA = "pytest-trustllm/judge-check/1"
COUNTED: Mapping[str, str] = MappingProxyType({"refusal": "refusal", "premise_correction": "[CORRECTED]"})
"""Scorer -> the verdict whose share its rate is. Other scorers decide a part of their samples by rules."""
_KEPT = (
    *("role", "model", "task", "labels", "rows", "compared", "positive", "confidence"),
    *("sensitivity", "specificity", "kappa"),
)


def read_check(path: Path, roles: Mapping[str, str], tasks: Sequence[Task], flag: str) -> dict[str, Any]:
    """Read what ``judge-check`` wrote and see whether it is about this run.

    Args:
        path: The file.
        roles: Role -> name of its model in this run.
        tasks: All tasks.
        flag: How messages name the option.

    Returns:
        What the results keep of it.

    Raises:
        ResultsError: It cannot be read, is no check, or is about another model, task version or label.
    """
    found = read_json(path, f"{flag}: {path}", ResultsError)
    try:
        if found["schema"] != SCHEMA:
            raise KeyError("schema")
        kept = {key: found[key] for key in _KEPT}
        role, model, _ = found["role"], found["model"]["name"], float(found["confidence"])
        corrections([kept], tasks, {})
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ResultsError(f"{flag}: {path}: is not what 'pytest-trustllm judge-check --json' writes") from None
    if roles.get(role) != model:
        now, checked = one_line(roles.get(role) or "no model", 60), one_line(model, 60)
        raise ResultsError(f"{flag}: {path}: checks {checked} as {one_line(role, 20)}, and this run has {now}")
    concerned = _concerned(found, tasks)
    if not concerned:
        about = found["task"]["id"] if found["task"] else "refusals"
        raise ResultsError(
            f"{flag}: {path}: no rate of this run is a plain share of verdicts about {one_line(about, 60)}"
        )
    for task in concerned:
        if found["task"] and found["task"]["version"] != task.version:
            raise ResultsError(
                f"{flag}: {path}: checks version {found['task']['version']} of {task.id}, "
                f"and the suite has version {task.version}; check again"
            )
        if found["positive"] != COUNTED[task.scorer_name]:
            raise ResultsError(
                f"{flag}: {path}: is about {one_line(found['positive'], 40)}, and {task.id} counts "
                f"{COUNTED[task.scorer_name]}; check again with --positive {COUNTED[task.scorer_name]!r}"
            )
    return kept


def _concerned(check: Mapping[str, Any], tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks with a rate that the check can correct."""
    found = [t for t in tasks if t.scorer_name in COUNTED and check["role"] in t.scorer.roles]
    return [t for t in found if check["task"] is None or t.id == check["task"]["id"]]


def corrections(
    checks: Iterable[Mapping[str, Any]], tasks: Sequence[Task], metrics: Mapping[str, MetricValue]
) -> dict[str, dict[str, Any]]:
    """Return metric id -> the corrected rate with its interval, for every rate that a check is about.

    Args:
        checks: What :func:`read_check` returned.
        tasks: All tasks.
        metrics: Of the run.
    """
    found: dict[str, dict[str, Any]] = {}
    for check in checks:
        sensitivity, specificity = _estimate(check["sensitivity"]), _estimate(check["specificity"])
        for task in _concerned(check, tasks):
            plain = [m for m in task.metrics if m.value.average == "pooled" and type(m.value.metric) is Mean]
            names = {task.metric_id(m.name) for m in plain}
            for id_, metric in metrics.items():
                if id_.partition("{")[0] in names and metric.value is not None:
                    rate = corrected_rate(
                        metric.value, metric.scored, sensitivity, specificity, float(check["confidence"])
                    )
                    found[id_] = {
                        "value": rate.value,
                        "ci": None if rate.ci is None else list(rate.ci),
                        "confidence": check["confidence"],
                        "method": "Rogan and Gladen (1978), Lang and Reiczigel (2014)",
                        **({} if rate.reason is None else {"reason": rate.reason}),
                    }
    return found


def _estimate(found: Mapping[str, Any]) -> Estimate:
    return Estimate(
        found["value"], None if found["ci"] is None else tuple(found["ci"]), found["n"], found.get("reason")
    )
