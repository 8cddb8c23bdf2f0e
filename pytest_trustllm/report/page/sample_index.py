"""The list of samples on the page: what is searched, sorted and shown of each before its block is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_trustllm.report.page.other_runs import OtherRun
from pytest_trustllm.report.page.sample_data import STATUSES, ListEntry, Packed, encode
from pytest_trustllm.types import NOTHING

_ABSENT = -1
"""Block, place and status of a sample that another run does not have."""
_STATUS_NUMBERS = {status: number for number, status in enumerate(STATUSES)}


class _Words:
    """A table of words that repeat, each with a number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        """Return the number of a word, a new one if it is not in the table."""
        return self._numbers.setdefault(word, len(self._numbers))

    def all(self) -> list[str]:
        """Return the words by number."""
        return list(self._numbers)


def index(
    packed: Packed,
    others: Sequence[OtherRun],
    nodes: Mapping[str, str],
    tags: Mapping[str, Sequence[str]] = NOTHING,
    rubrics: Mapping[str, str] = NOTHING,
) -> str:
    """Return the columns of the list, compressed; words that repeat are numbers into a table.

    Args:
        packed: The samples.
        others: The runs that they are compared with, the most important one first. The blocks of those whose samples
            are at hand follow ours on the page, in this order.
        nodes: Task -> node id of its samples, with ``{}`` for the sample's id.
        tags: Tag -> tasks.
        rubrics: Task -> what its judge was told.
    """
    rows = packed.rows
    tasks, reasons, groups = _Words(), _Words(), _Words()
    columns: dict[str, list[Any]] = {
        "task": [tasks.number(row["task"]) for row in rows],
        "status": [_STATUS_NUMBERS[row["status"]] for row in rows],
        "reason": [None if row["reason"] is None else reasons.number(row["reason"]) for row in rows],
        "also": [list(map(tasks.number, row["also"])) for row in rows],
        "group": [list(map(groups.number, row["group"])) for row in rows],
        "hidden": [int(row["hidden"]) for row in rows],
        "before": _statuses_before(rows, others),
        "id": [row["id"] for row in rows],
        "value": [row["value"] for row in rows],
        "answer": [row["answer"] for row in rows],
        "block": [row["block"] for row in rows],
        "at": [row["at"] for row in rows],
    }
    tagged = [[tag, [*map(tasks.number, named)]] for tag, named in tags.items()]
    tables = {
        "tags": tagged,
        "tasks": tasks.all(),
        "statuses": STATUSES,
        "reasons": reasons.all(),
        "groups": groups.all(),
        "rubrics": [rubrics.get(task) for task in tasks.all()],
        "nodes": [nodes.get(task) for task in tasks.all()],
        "others": list(_columns_of_others(packed, others)),
        "blocks": len(packed.blocks),
    }
    return encode({**tables, **columns})


def _statuses_before(rows: Sequence[ListEntry], others: Sequence[OtherRun]) -> list[int | None]:
    """Return each sample's status in the first other run; None where that is not known."""
    statuses = others[0].statuses if others else {}
    numbers: list[int | None] = []
    for row in rows:
        status = statuses.get((row["task"], row["id"]))
        numbers.append(None if status is None else _STATUS_NUMBERS[status])
    return numbers


def _columns_of_others(packed: Packed, others: Sequence[OtherRun]) -> Iterator[dict[str, Any]]:
    """Yield, per other run whose samples are at hand, where each sample's record of that run is."""
    first_block = len(packed.blocks)
    for other in others:
        if other.packed is None:
            continue
        columns: dict[str, list[int]] = {"block": [], "at": [], "status": [], "hidden": []}
        for row in packed.rows:
            partner = other.rows.get((row["task"], row["id"]))
            if partner is None:
                values = (_ABSENT, _ABSENT, _ABSENT, 0)
            else:
                block = first_block + partner["block"]
                values = (block, partner["at"], _STATUS_NUMBERS[partner["status"]], int(partner["hidden"]))
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        yield {"name": other.name, **columns}
        first_block += len(other.packed.blocks)
