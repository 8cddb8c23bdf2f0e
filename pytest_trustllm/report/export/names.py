"""The parts of a metric's id, for formats that have a field for each."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_trustllm.formats import Results


@dataclass(frozen=True, slots=True)
class MetricName:
    """A metric's id in its parts.

    Attributes:
        task: ``dimension/task``.
        metric: Name of the metric.
        group: Which samples a sub-metric is about, such as ``group=leetspeak``; empty for a metric of all samples.
    """

    task: str
    metric: str
    group: str

    @property
    def dimension(self) -> str:
        """Such as ``safety``."""
        return self.task.partition("/")[0]


def name_of(id_: str) -> MetricName:
    """Return the parts of ``dimension/task.metric{group=value}``."""
    whole, _, group = id_.partition("{")
    task, _, metric = whole.rpartition(".")
    return MetricName(task, metric, group.removesuffix("}"))


def comes_with_package(results: Results, task: str) -> bool:
    """Return whether a task is one of TrustLLM's as the package defines it, not one of the project's own.

    Node ids of suites in the package begin with ``trustllm/suites/``. Older results do not have them.
    """
    return results["run"].get("nodes", {}).get(task, "").startswith("trustllm/suites/")
