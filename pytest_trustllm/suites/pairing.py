"""Which samples of two runs are the same: the one pairing that baseline, comparison and report share."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Paired = TypeVar("Paired")
SampleName = tuple[str, str]
"""Fingerprint and id of a sample; the fingerprint is empty if it could not be made."""


@dataclass(frozen=True, slots=True)
class Pairing(Generic[Paired]):
    """The samples of one task in two runs.

    Attributes:
        shared: (earlier, later) sample of every pair, in the order of the later run's ids.
        changed: Ids that both runs have and that name different samples: another prompt, row or task version.
        added: Ids that only the later run has.
        removed: Ids that only the earlier run has.
    """

    shared: tuple[tuple[Paired, Paired], ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def pair(before: Iterable[Paired], now: Iterable[Paired], name: Callable[[Paired], SampleName]) -> Pairing[Paired]:
    """Pair the samples of one task by fingerprint.

    A row that moved keeps its fingerprint, and so its partner. Equal rows of the data have the same fingerprint; they
    are paired one by one in the order of their ids. A sample without a fingerprint could not be rendered, so its prompt
    is unknown: it has no partner, not even another sample without a fingerprint.

    Args:
        before: The earlier run's samples.
        now: The later run's samples.
        name: Returns fingerprint and id of a sample.
    """
    waiting: dict[str, deque[Paired]] = defaultdict(deque)
    unpaired_before: set[str] = set()
    for sample in sorted(before, key=lambda sample: name(sample)[1]):
        fingerprint, id_ = name(sample)
        if fingerprint:
            waiting[fingerprint].append(sample)
        else:
            unpaired_before.add(id_)
    shared: list[tuple[Paired, Paired]] = []
    unpaired_now: list[str] = []
    for sample in sorted(now, key=lambda sample: name(sample)[1]):
        fingerprint, id_ = name(sample)
        partners = waiting.get(fingerprint)
        if partners:
            shared.append((partners.popleft(), sample))
        else:
            unpaired_now.append(id_)
    for partners in waiting.values():
        unpaired_before.update(name(sample)[1] for sample in partners)
    return Pairing(
        shared=tuple(shared),
        changed=tuple(id_ for id_ in unpaired_now if id_ in unpaired_before),
        added=tuple(id_ for id_ in unpaired_now if id_ not in unpaired_before),
        removed=tuple(sorted(unpaired_before.difference(unpaired_now))),
    )


Line = TypeVar("Line", bound=Mapping[str, Any])
"""A sample as the samples file or the page holds it: ``task``, ``id``, ``fingerprint`` and more."""


def pair_by_task(before: Iterable[Line], now: Iterable[Line]) -> dict[str, Pairing[Line]]:
    """Return task -> the pairing of its samples, for every task of either run."""
    old = _by_task(before)
    new = _by_task(now)
    return {task: pair(old.get(task, ()), new.get(task, ()), _name) for task in sorted({*old, *new})}


def _by_task(lines: Iterable[Line]) -> dict[str, list[Line]]:
    tasks: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        tasks[line["task"]].append(line)
    return tasks


def _name(line: Line) -> SampleName:
    return line["fingerprint"] or "", line["id"]
