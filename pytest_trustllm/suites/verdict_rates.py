"""Which metrics are the share of one verdict among all, so that the judge's mistakes can be taken out of them."""

from __future__ import annotations

from pytest_trustllm.metrics.rates import Mean
from pytest_trustllm.scorers.verdicts import CountsVerdicts
from pytest_trustllm.suites.metric_specs import MetricSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import MEAN


def counted_label(task: Task) -> str | None:
    """Return the verdict whose share is a task's rate; None if its scores are not all verdicts."""
    if task.reducer != MEAN:  # the score of a sample is then that of one of its epochs
        return None
    return task.scorer.counted if isinstance(task.scorer, CountsVerdicts) else None


def is_verdict_rate(task: Task, spec: MetricSpec) -> bool:
    """Return whether a metric is the mean of all of a task's scores, and these are verdicts."""
    # no subclass of Mean: it may count something else, and a correction would be wrong for it
    metric = spec.value.metric
    is_plain_mean = type(metric) is Mean and metric.of == "value" and spec.value.average == "pooled"
    return is_plain_mean and counted_label(task) is not None
