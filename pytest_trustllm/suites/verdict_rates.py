"""Which metrics are the share of one verdict among all, so that the judge's mistakes can be taken out of them."""

from __future__ import annotations

from pytest_trustllm.metrics.rates import Mean
from pytest_trustllm.scorers.verdicts import CountsVerdicts
from pytest_trustllm.suites.metric_specs import MetricSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import MEAN


def counted_label(task: Task) -> str | None:
    """Return the verdict whose share is a task's rate; None if its scores are not all verdicts."""
    if why_combined(task) is not None:
        return None
    return task.scorer.counted if isinstance(task.scorer, CountsVerdicts) else None


def why_combined(task: Task) -> str | None:
    """Return why the score of a sample comes of several verdicts; None if every score is one verdict.

    Such a score errs at other rates than a verdict on a response: of three turns with a false alarm each now and then,
    one is wrong about three times as often.
    """
    if task.reducer != MEAN:
        return f"{task.id} makes one score of the verdicts on several epochs (epochs: {task.reducer})"
    if task.talk is not None and task.talk.score != "last":
        return f"{task.id} makes one score of the verdicts on several turns (score: {task.talk.score})"
    return None


def is_verdict_rate(task: Task, spec: MetricSpec) -> bool:
    """Return whether a metric is the mean of all of a task's scores, and these are verdicts."""
    # no subclass of Mean: it may count something else, and a correction would be wrong for it
    metric = spec.value.metric
    is_plain_mean = type(metric) is Mean and metric.of == "value" and spec.value.average == "pooled"
    return is_plain_mean and counted_label(task) is not None
