"""What an app changes about the bare model behind it, which was asked the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report import formatting


@dataclass(frozen=True, slots=True)
class DeltaLine:
    """One number of both.

    Attributes:
        label: Metric id, or ``dimension/score``.
        change: From the bare model to the app, over the samples that both have with a score.
        range: Least and greatest possible value.
    """

    label: str
    change: formatting.Change
    range: tuple[float, float]


@dataclass(frozen=True, slots=True)
class BaseComparison:
    """An app beside its bare model.

    Attributes:
        name: The bare model's.
        lines: Trust scores and metrics.
        groups: Metrics of groups.
    """

    name: str
    lines: Sequence[DeltaLine]
    groups: Sequence[DeltaLine]


def base_of(results: Results) -> BaseComparison | None:
    """Return the comparison with the bare model; None if there was none."""
    base = results.get("base")
    if base is None:
        return None
    lines: list[DeltaLine] = []
    groups: list[DeltaLine] = []
    for id_, entry in base["differences"].items():
        change = formatting.change_of(entry)
        if change is None:
            continue
        metric = results["metrics"].get(id_.partition("{")[0])  # a trust score is not among them
        limits = (0.0, 1.0) if metric is None else formatting.range_of(metric)
        line = DeltaLine(one_line(id_, 120), change, limits)
        (groups if "{" in id_ else lines).append(line)
    return BaseComparison(one_line(base["model"]["name"], 60), lines, groups)
