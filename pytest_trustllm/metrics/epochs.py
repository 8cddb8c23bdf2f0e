"""What the scores of a sample's epochs come to together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import cast

from pytest_trustllm.formats import ScoreEntry
from pytest_trustllm.types import MEAN, Reducer


def merged(epochs: Sequence[ScoreEntry], reducer: Reducer) -> ScoreEntry:
    """Return a sample's score, or what its epochs come to together.

    By default the score is the mean of the epochs', metrics take every epoch as an observation, and the target is met
    if every epoch meets it. With another reducer, the score of one epoch stands for all, and metrics take it alone.

    An epoch that the task concerns and that has no score leaves the sample without one: what the epochs that worked
    come to is another number.

    Args:
        epochs: At least one.
        reducer: Of the task.
    """
    if len(epochs) == 1:
        return epochs[0]
    concerned = [epoch for epoch in epochs if epoch.get("applies", True)]
    whole: ScoreEntry = {"value": None, "answer": None, "reason": None, "observed": {}, "parity": None, "met": False}
    whole["epochs"] = list(epochs)
    if reducer != MEAN:
        whole["reducer"] = reducer
    if not concerned:
        whole["applies"] = False
        whole["reason"] = epochs[0]["reason"]
        return whole
    for number, epoch in enumerate(epochs, 1):
        if epoch["value"] is None and epoch.get("applies", True):
            whole["reason"] = f"epoch {number} of {len(epochs)}: {epoch['reason']}"
            return whole
    met = sum(bool(epoch["met"]) for epoch in concerned)
    whole["answer"] = f"target met in {met} of {len(concerned)} epochs"
    if reducer == MEAN:
        whole["value"] = math.fsum(_value(epoch) for epoch in concerned) / len(concerned)
        whole["met"] = met == len(concerned)
        return whole
    chosen = _chosen(concerned, reducer)
    if chosen is None:
        whole["answer"] = None
        whole["reason"] = f"no majority among {len(concerned)} epochs"
        return whole
    return cast(ScoreEntry, {**chosen, "answer": whole["answer"], "epochs": whole["epochs"], "reducer": reducer})


def _chosen(epochs: Sequence[ScoreEntry], reducer: Reducer) -> ScoreEntry | None:
    """Return the epoch that stands for all; None without a majority."""
    if reducer == "any":
        return max(epochs, key=lambda epoch: bool(epoch["met"]))
    if reducer == "all":
        return min(epochs, key=lambda epoch: bool(epoch["met"]))
    if reducer == "max":
        return max(epochs, key=_value)
    [((value, met), count)] = Counter((_value(epoch), epoch["met"]) for epoch in epochs).most_common(1)
    if 2 * count <= len(epochs):
        return None
    return next(epoch for epoch in epochs if (_value(epoch), epoch["met"]) == (value, met))


def _value(epoch: ScoreEntry) -> float:
    value = epoch["value"]
    assert value is not None  # noqa: S101 - the epochs have scores
    return value
