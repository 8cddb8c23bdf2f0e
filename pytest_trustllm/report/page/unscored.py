"""Why samples have no score: by kind, with the single replies below."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report.formatting import items_link
from pytest_trustllm.report.page.sample_data import Packed
from pytest_trustllm.results.coverage import NO_RECORD

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|“[^”]*”")
_DIGITS = re.compile(r"[-−]?\d+(?:[.,]\d+)*")
_MOST = 50
"""Single reasons of a kind that are listed."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why samples have no score.

    Attributes:
        text: The reason; of a kind, with ``…`` for what differs.
        count: Samples.
        tasks: (Task, samples, address of its items).
        single: The reasons of a kind, the most frequent first; empty if there is only one.
        further: How many more there are.
    """

    text: str
    count: int
    tasks: Sequence[tuple[str, int, str]]
    single: Sequence[Reason] = ()
    further: int = 0


def reasons_of(results: Results, packed: Packed) -> list[Reason]:
    """Return why samples have no score, and those whose test left no record; the most frequent kind first."""
    by_reason: dict[str, dict[str, int]] = defaultdict(dict)
    for (task, reason), count in packed.reasons.items():
        by_reason[reason][task] = count
    kinds: dict[str, dict[str, Mapping[str, int]]] = defaultdict(dict)
    for reason, tasks in by_reason.items():
        kinds[_kind(reason)][reason] = tasks
    reasons = [_of_kind(kind, same) for kind, same in kinds.items()]
    without_record = {task: entry["lost"] for task, entry in results["coverage"].items() if entry["lost"]}
    if without_record:
        # there is no item to search for
        reasons.append(_reason(NO_RECORD, without_record, query=""))
    return sorted(reasons, key=_order)


def _kind(reason: str) -> str:
    """Return a reason without what differs from sample to sample: quoted replies, and numbers."""
    return _DIGITS.sub("…", _QUOTED.sub("…", reason))


def _of_kind(kind: str, reasons: Mapping[str, Mapping[str, int]]) -> Reason:
    if len(reasons) == 1:
        [(text, tasks)] = reasons.items()
        return _reason(text, tasks, query=text)
    single = sorted((_reason(text, tasks, query=text) for text, tasks in reasons.items()), key=_order)
    sums: Counter[str] = Counter()
    for tasks in reasons.values():
        sums.update(tasks)
    # what all of them have in common finds their items, as the search looks for one text
    query = max(kind.split("…"), key=len).strip()
    whole = _reason(kind, sums, query=query)
    return Reason(whole.text, whole.count, whole.tasks, single[:_MOST], max(0, len(single) - _MOST))


def _reason(text: str, tasks: Mapping[str, int], query: str) -> Reason:
    lines = [(one_line(task), count, items_link(task, query=query)) for task, count in tasks.items()]
    return Reason(one_line(text, 500), sum(tasks.values()), lines)


def _order(reason: Reason) -> tuple[int, str]:
    return -reason.count, reason.text
