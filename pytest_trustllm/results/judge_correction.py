"""Rates of a run, corrected for the mistakes of the judge or classifier that counted them.

What ``pytest-trustllm judge-check`` measured about a model of a role travels with the results: the labels, how many
there were, sensitivity and specificity. A rate that is a plain share of that model's verdicts is reported with a
corrected one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pytest_trustllm.config.reading import read_json
from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import CorrectedEntry, EstimateEntry, JudgeCheckEntry
from pytest_trustllm.metrics.rates import Mean
from pytest_trustllm.stats.agreement import Estimate, corrected_rate
from pytest_trustllm.suites.metric_specs import MetricSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import JUDGE_CHECK_SCHEMA, MetricValue

COUNTED: Mapping[str, str] = MappingProxyType({"refusal": "refusal", "premise_correction": "[CORRECTED]"})
"""Scorer -> the verdict whose share its rate is. Other scorers decide some of their samples by rules."""


def read_judge_check(path: Path, roles: Mapping[str, str], tasks: Sequence[Task], flag: str) -> JudgeCheckEntry:
    """Read a file of ``judge-check`` and check that it is about this run.

    Args:
        path: The file.
        roles: Role -> name of its model in this run.
        tasks: All tasks.
        flag: How messages name the option.

    Returns:
        What the results keep of it.

    Raises:
        ResultsError: It cannot be read, is not such a file, or is about another model, task version or label.
    """
    where = f"{flag}: {path}"
    judge_check = _read(path, where)
    _check_model(judge_check, roles, where)
    concerned = _concerned(judge_check, tasks)
    if not concerned:
        about = judge_check["task"]
        subject = "refusals" if about is None else one_line(about["id"], 60)
        raise ResultsError(f"{where}: no rate of this run is a plain share of verdicts about {subject}")
    for task in concerned:
        _check_task(judge_check, task, where)
    return judge_check


def _read(path: Path, where: str) -> JudgeCheckEntry:
    document = read_json(path, where, ResultsError)
    wrong_file = f"{where}: is not what 'pytest-trustllm judge-check --json' writes"
    if not isinstance(document, dict) or document.get("schema") != JUDGE_CHECK_SCHEMA:
        raise ResultsError(wrong_file)
    try:
        judge_check = _kept(checked(document, JudgeCheckEntry))
    except Mismatch as e:
        raise ResultsError(f"{wrong_file}: {e}") from None
    confidence = judge_check["confidence"]
    if not 0 < confidence < 1:
        raise ResultsError(f"{wrong_file}: confidence: expected a number between 0 and 1, found {confidence}")
    return judge_check


def _check_model(judge_check: JudgeCheckEntry, roles: Mapping[str, str], where: str) -> None:
    role = judge_check["role"]
    checked_model = judge_check["model"]["name"]
    model = roles.get(role)
    if model != checked_model:
        now = one_line(model or "no model", 60)
        raise ResultsError(
            f"{where}: checks {one_line(checked_model, 60)} as {one_line(role, 20)}, and this run has {now}"
        )


def _check_task(judge_check: JudgeCheckEntry, task: Task, where: str) -> None:
    about = judge_check["task"]
    if about is not None and about["version"] != task.version:
        raise ResultsError(
            f"{where}: checks version {about['version']} of {task.id}, "
            f"and the suite has version {task.version}; check again"
        )
    counted = COUNTED[task.scorer_name]
    if judge_check["positive"] != counted:
        positive = one_line(judge_check["positive"], 40)
        raise ResultsError(
            f"{where}: is about {positive}, and {task.id} counts {counted}; check again with --positive {counted!r}"
        )


def _kept(judge_check: JudgeCheckEntry) -> JudgeCheckEntry:
    """Return what the results keep of a check: not the table of labels, nor the lines that differ."""
    return {
        "role": judge_check["role"],
        "model": judge_check["model"],
        "task": judge_check["task"],
        "labels": judge_check["labels"],
        "rows": judge_check["rows"],
        "compared": judge_check["compared"],
        "positive": judge_check["positive"],
        "confidence": judge_check["confidence"],
        "sensitivity": judge_check["sensitivity"],
        "specificity": judge_check["specificity"],
        "kappa": judge_check["kappa"],
    }


def _concerned(judge_check: JudgeCheckEntry, tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks with a rate that the check can correct."""
    about = judge_check["task"]
    concerned: list[Task] = []
    for task in tasks:
        if task.scorer_name not in COUNTED or judge_check["role"] not in task.scorer.roles:
            continue
        if about is None or task.id == about["id"]:
            concerned.append(task)
    return concerned


def corrections(
    judge_checks: Iterable[JudgeCheckEntry],
    tasks: Sequence[Task],
    metrics: Mapping[str, MetricValue],
    effective_trials: Callable[[str, float], float],
) -> dict[str, CorrectedEntry]:
    """Return metric id -> the corrected rate with its interval, for every rate that a check is about.

    Args:
        judge_checks: What :func:`read_judge_check` returned.
        tasks: All tasks.
        metrics: Of the run.
        effective_trials: Takes a metric's id and a confidence; returns how many independent samples would determine
            its rate as well as the run's samples, which may share source items or be epochs of one sample.
    """
    corrected: dict[str, CorrectedEntry] = {}
    for judge_check in judge_checks:
        confidence = judge_check["confidence"]
        sensitivity = _estimate(judge_check["sensitivity"])
        specificity = _estimate(judge_check["specificity"])
        for task in _concerned(judge_check, tasks):
            for id_, rate in _plain_rates(task, metrics):
                trials = effective_trials(id_, confidence)
                estimate = corrected_rate(rate, trials, sensitivity, specificity, confidence)
                corrected[id_] = _entry(estimate, confidence)
    return corrected


def _plain_rates(task: Task, metrics: Mapping[str, MetricValue]) -> Iterator[tuple[str, float]]:
    """Yield id and value of every metric and sub-metric of a task that is a plain share of verdicts."""
    names = {task.metric_id(spec.name) for spec in task.metrics if _is_plain_rate(spec)}
    for id_, metric in metrics.items():
        name = id_.partition("{")[0]
        if name in names and metric.value is not None:
            yield id_, metric.value


def _is_plain_rate(spec: MetricSpec) -> bool:
    # no subclass of Mean: it may count something else, and the correction would be wrong for it
    return spec.value.average == "pooled" and type(spec.value.metric) is Mean


def _entry(estimate: Estimate, confidence: float) -> CorrectedEntry:
    entry: CorrectedEntry = {
        "value": estimate.value,
        "ci": None if estimate.ci is None else list(estimate.ci),
        "confidence": confidence,
        "method": "Rogan and Gladen (1978), Lang and Reiczigel (2014)",
    }
    if estimate.reason is not None:
        entry["reason"] = estimate.reason
    return entry


def _estimate(entry: EstimateEntry) -> Estimate:
    ci = entry["ci"]
    limits = None if ci is None else (ci[0], ci[1])
    return Estimate(entry["value"], limits, entry["n"], entry.get("reason"))
