"""Whether a task has the attacks that its metrics are about."""

from __future__ import annotations

from pytest_trustllm.config.documents import Place
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import ORIGINAL


def check_attacked(place: Place, task: Task, asking: Task) -> None:
    """Look for a metric about attacks in a task that has none.

    The second prompt of a pair is an attack on the first, and epochs of a prompt can be several tries.

    Args:
        place: The task's.
        task: It has the metrics.
        asking: The task whose answers it scores, which may be itself.

    Raises:
        SuiteError: There is one.
    """
    if _attacks(asking) or asking.data.pair is not None:
        return
    for spec, entry in zip(task.metrics, place["metrics"].list(), strict=True):
        metric = spec.value.metric
        if getattr(metric, "about_attacks", False) and (asking.transforms or not hasattr(metric, "n")):
            only = f" but {ORIGINAL!r}" if asking.transforms else ""
            raise entry.fail(f"metric {spec.name!r} is about attacks, and the task has no 'transforms'{only}")


def check_enough_attacks(task: Task, asking: Task, epochs: int) -> None:
    """Look for a metric about more attacks than an item of the task can have in this run.

    Args:
        task: It has the metrics.
        asking: The task whose answers it scores, which may be itself.
        epochs: How often the run asks each sample.

    Raises:
        SuiteError: There is one.
    """
    count = epochs * (_attacks(asking) or 1)
    for spec in task.metrics:
        metric = spec.value.metric
        if not getattr(metric, "about_attacks", False) or not hasattr(metric, "n"):
            continue
        if metric.n is not None and metric.n > count:
            few = f"an item has {count}, fewer than n = {metric.n}"
        elif not asking.transforms and epochs == 1:
            few = "an item has only one"
        else:
            continue
        raise SuiteError(f"{task.id}: metric {spec.name!r}: attacks: {few}; add transforms, or --trust-epochs")


def _attacks(task: Task) -> int:
    return sum(transform.kind != ORIGINAL for transform in task.transforms)
