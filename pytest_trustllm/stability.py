"""How much answers to the same question vary: a model's over the epochs of a run, a judge's over its votes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_trustllm.evidence import Record, epochs_of

SHOWN = 10


def stability(records: Iterable[Record]) -> dict[str, Any] | None:
    """Return what the results document says under ``stability``; None if every sample was asked once.

    Args:
        records: Of one model. Samples of which an epoch has no score are left out.

    Returns:
        ``epochs``, and for every task ``samples``, ``flip_rate`` (mean over the samples), ``pass^k`` (k as text ->
        probability) and ``unstable`` (the samples that vary most, at most ten).
    """
    epochs, met = 1, dict[str, dict[str, tuple[int, int]]]()
    for record in records:
        for task, score in ((record["task"], record), *record["also"].items()):
            readings = epochs_of(score)
            epochs = max(epochs, len(readings))
            if len(readings) > 1 and all(r["value"] is not None for r in readings):
                count = sum(bool(r["met"]) for r in readings)
                met.setdefault(task, {})[record["id"]] = count, len(readings)
    if epochs == 1:
        return None
    return {"epochs": epochs, "tasks": {task: _task(met[task]) for task in sorted(met)}}


def agreements(records: Iterable[Record]) -> list[float]:
    """Return the judge's agreement with itself about every sample that was put to a vote, in (0, 1]."""
    return [r["agreement"] for r in records if "agreement" in r]


def judging(shares: Sequence[float], votes: int) -> dict[str, Any] | None:
    """Return what the results document says under ``judging``; None if every verdict was asked for once.

    Args:
        shares: Agreement per sample.
        votes: How often the judge was asked for a verdict.

    Returns:
        ``votes``; ``samples`` that were put to a vote; their mean ``agreement`` (share of the votes for the verdict
        that counts, of the least certain verdict of a sample) and the share that was ``unanimous``; None of nothing.
    """
    if votes == 1:
        return None
    count = len(shares)
    return {
        "votes": votes,
        "samples": count,
        "agreement": math.fsum(shares) / count if count else None,
        "unanimous": sum(s == 1 for s in shares) / count if count else None,
    }


def _task(met: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    rates = {id_: flip_rate(count, n) for id_, (count, n) in met.items()}
    unstable = sorted((id_ for id_ in rates if rates[id_] > 0), key=lambda id_: (-rates[id_], id_))
    least = min(n for _, n in met.values())
    return {
        "samples": len(met),
        "flip_rate": math.fsum(rates.values()) / len(rates),
        "pass^k": {str(k): pass_hat([*met.values()], k) for k in range(1, least + 1)},
        "unstable": [
            {"id": id_, "met": met[id_][0], "epochs": met[id_][1], "flip_rate": rates[id_]} for id_ in unstable[:SHOWN]
        ],
    }


def flip_rate(met: int, epochs: int) -> float:
    """Return how likely two different epochs of a sample disagree on whether the target is met.

    Args:
        met: Epochs that meet it.
        epochs: All of them, at least 2.

    Returns:
        0 if all agree; at most epochs / (2 * (epochs - 1)), for halves.
    """
    return 2 * met * (epochs - met) / (epochs * (epochs - 1))


def pass_hat(met: Sequence[tuple[int, int]], k: int) -> float:
    """Return the probability that ``k`` tries of a sample all meet the target, averaged over the samples.

    Args:
        met: (epochs that meet it, epochs) per sample, at least one.
        k: At most the number of epochs of any sample.

    Source:
        pass^k of tau-bench, arXiv:2406.12045: without bias, the mean of C(met, k) / C(epochs, k).
    """
    return math.fsum(math.comb(count, k) / math.comb(n, k) for count, n in met) / len(met)
