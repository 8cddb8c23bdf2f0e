"""How much answers to the same question vary: a model's over the epochs of a run, a judge's over its votes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pytest_trustllm.formats import JudgingEntry, Record, StabilityEntry, StabilityTask, UnstableEntry
from pytest_trustllm.metrics.observations import epochs_of, task_scores

SHOWN = 10
"""How many of the samples that vary most the results list."""


class Tries(NamedTuple):
    """How a sample did over its epochs.

    Attributes:
        met: Epochs that meet the target.
        epochs: All of them.
    """

    met: int
    epochs: int


def stability(records: Iterable[Record]) -> StabilityEntry | None:
    """Return the part ``stability`` of the results document; None if no sample was asked more than once.

    Args:
        records: Of one model. Samples with an unscored epoch are left out.

    Returns:
        ``epochs``, and for every task ``samples``, ``flip_rate`` (mean over the samples), ``pass^k`` (k as text ->
        probability) and ``unstable`` (the samples that vary most, at most ten).
    """
    most_epochs = 1
    tasks: dict[str, dict[str, Tries]] = {}
    for record in records:
        for task, score in task_scores(record):
            epochs = epochs_of(score)
            most_epochs = max(most_epochs, len(epochs))
            if len(epochs) > 1 and all(epoch["value"] is not None and "met" in epoch for epoch in epochs):
                met = sum(epoch["met"] for epoch in epochs)
                tasks.setdefault(task, {})[record["id"]] = Tries(met, len(epochs))
    if most_epochs == 1:
        return None
    return {"epochs": most_epochs, "tasks": {task: _task_entry(tasks[task]) for task in sorted(tasks)}}


def _task_entry(samples: Mapping[str, Tries]) -> StabilityTask:
    rates = {id_: flip_rate(tries.met, tries.epochs) for id_, tries in samples.items()}
    unstable = sorted((id_ for id_ in rates if rates[id_] > 0), key=lambda id_: (-rates[id_], id_))
    # pass^k is defined up to the number of tries that every sample has
    most_tries = min(tries.epochs for tries in samples.values())
    all_tries = list(samples.values())
    return {
        "samples": len(samples),
        "flip_rate": math.fsum(rates.values()) / len(rates),
        "pass^k": {str(k): pass_hat(all_tries, k) for k in range(1, most_tries + 1)},
        "unstable": [_unstable_entry(id_, samples[id_], rates[id_]) for id_ in unstable[:SHOWN]],
    }


def _unstable_entry(id_: str, tries: Tries, rate: float) -> UnstableEntry:
    return {"id": id_, "met": tries.met, "epochs": tries.epochs, "flip_rate": rate}


def flip_rate(met: int, epochs: int) -> float:
    """Return how likely two different epochs of a sample disagree on whether the target is met.

    Args:
        met: Epochs that meet it.
        epochs: All of them, at least 2.

    Returns:
        0 if all agree; at most epochs / (2 * (epochs - 1)), if half of them meet it.
    """
    return 2 * met * (epochs - met) / (epochs * (epochs - 1))


def pass_hat(samples: Sequence[tuple[int, int]], k: int) -> float:
    """Return the probability that ``k`` tries of a sample all meet the target, averaged over the samples.

    Args:
        samples: (epochs that meet it, epochs) per sample, at least one sample.
        k: At most the number of epochs of any sample.

    Source:
        pass^k of tau-bench, arXiv:2406.12045: its unbiased estimate is the mean of C(met, k) / C(epochs, k).
    """
    return math.fsum(math.comb(met, k) / math.comb(epochs, k) for met, epochs in samples) / len(samples)


def agreements(records: Iterable[Record]) -> list[float]:
    """Return the judge's agreement with itself about every sample that was put to a vote, in (0, 1]."""
    return [record["agreement"] for record in records if "agreement" in record]


def judging(shares: Sequence[float], votes: int) -> JudgingEntry | None:
    """Return the part ``judging`` of the results document; None if the judge had one vote per verdict.

    Args:
        shares: Agreement per sample.
        votes: How often the judge was prompted for each verdict.

    Returns:
        ``votes``; ``samples`` that were put to a vote; their mean ``agreement`` (share of the votes for the verdict
        that counts; of a sample with several verdicts, the least certain one) and the share that was ``unanimous``.
        Without a sample, the last two are None.
    """
    if votes == 1:
        return None
    count = len(shares)
    agreement = None
    unanimous = None
    if count:
        agreement = math.fsum(shares) / count
        unanimous = sum(share == 1 for share in shares) / count
    return {"votes": votes, "samples": count, "agreement": agreement, "unanimous": unanimous}
