"""Sample records to compressed text that a page can carry and its script can read back.

A page holds one index of all samples (what a list needs) and blocks of whole records, each compressed by itself, so
that the list appears at once and a record is read when somebody opens it. A block is JSON by column, gzip, base 85.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from pytest_trustllm.formats import SampleLine
from pytest_trustllm.metrics.observations import task_scores
from pytest_trustllm.report import masking
from pytest_trustllm.results.coverage import why_unscored
from pytest_trustllm.types import Status

STATUSES = ("passed", "missed", "unscored", "error")
_BLOCK = 256
_NESTED = frozenset({"responses", "verdicts"})
_LABEL = 60
_FINGERPRINT = 12  # random digits do not compress; twelve still tell any two samples apart


class ReadAnswer(NamedTuple):
    """What a scorer read out of a sample, beside what is right.

    Attributes:
        gold: The right label; None if it is not known.
        answer: What was read; None if nothing was.
        status: What the test shows.
    """

    gold: str | None
    answer: str | None
    status: Status


class ListEntry(TypedDict):
    """A sample in the list of the page.

    Keys:
        also: Further tasks that read the same responses.
        group: Such as ``attack=roleplay``.
        hidden: Its responses are hidden until the reader requests them.
        block: Number of the block that has the whole record.
        at: Place of the record in its block.
    """

    task: str
    id: str
    status: Status
    value: float | None
    answer: str | None
    reason: str | None
    fingerprint: str
    also: list[str]
    group: list[str]
    hidden: bool
    block: int
    at: int


@dataclass(frozen=True, slots=True)
class Packed:
    """All samples of a run, as a page carries them.

    Attributes:
        rows: All samples in the order of the list.
        blocks: Whole records.
        counts: Task -> status -> samples.
        reasons: (Task, why) -> samples without a score.
        readings: Task -> what was read -> samples.
        hidden: Samples whose responses are hidden until the reader requests them.
    """

    rows: Sequence[ListEntry]
    blocks: Sequence[str]
    counts: Mapping[str, Mapping[str, int]]
    reasons: Mapping[tuple[str, str], int]
    readings: Mapping[str, Mapping[ReadAnswer, int]]
    hidden: int

    @property
    def total(self) -> int:
        """Number of samples."""
        return len(self.rows)

    @property
    def tasks(self) -> list[str]:
        """Tasks with a sample or a reading of one, each once."""
        tasks = dict.fromkeys(row["task"] for row in self.rows)
        for row in self.rows:
            tasks |= dict.fromkeys(row["also"])
        return list(tasks)

    @property
    def statuses(self) -> dict[tuple[str, str], Status]:
        """(Task, id) -> status, in the order of the list."""
        return {(row["task"], row["id"]): row["status"] for row in self.rows}


def pack(samples: Iterable[SampleLine], tasks: Sequence[str], hoping: frozenset[str] | None = None) -> Packed:
    """Return the samples, compressed.

    Samples are read once and held no longer than their block takes to fill; neighbours in a block share their task, as
    similar prompts compress well.

    Args:
        samples: The records, in any order.
        tasks: Order of the tasks in the list; others follow by name.
        hoping: Tasks that hope for refusals, whose other answers are hidden; None: nothing is hidden.
    """
    packing = _Packing(hoping)
    for sample in samples:
        packing.add(sample)
    return packing.finish(tasks)


def encode(value: object) -> str:
    """Return a JSON value as text of printable ASCII without ``<``; equal values give equal text."""
    raw = _dump(value).encode("utf-8", "backslashreplace")  # a lone surrogate becomes its JSON escape
    compressed = gzip.compress(raw, 9, mtime=0)  # the time of day would make equal values differ
    # '<' could end the element that holds the text; base 85 has no comma
    return base64.b85encode(compressed).decode("ascii").replace("<", ",")


def decode(text: str) -> Any:
    """Return what :func:`encode` was given."""
    return json.loads(gzip.decompress(base64.b85decode(text.replace(",", "<"))))


@dataclass(slots=True)
class _Packing:
    hoping: frozenset[str] | None
    blocks: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    readings: dict[str, Counter[ReadAnswer]] = field(default_factory=lambda: defaultdict(Counter))
    _waiting: dict[str, list[SampleLine]] = field(default_factory=lambda: defaultdict(list))
    _rows: list[ListEntry] = field(default_factory=list)

    def add(self, sample: SampleLine) -> None:
        """Take one sample."""
        task = sample["task"]
        self.counts[task][sample["status"]] += 1
        self.readings[task][_read_answer(sample)] += 1
        for scoring_task, score in task_scores(sample):
            reason = why_unscored(sample, score)
            if reason is not None:
                self.reasons[scoring_task, reason] += 1
        waiting = self._waiting[task]
        waiting.append({**sample, "fingerprint": sample["fingerprint"][:_FINGERPRINT]})
        if len(waiting) == _BLOCK:
            self._close(task)

    def finish(self, tasks: Sequence[str]) -> Packed:
        """Return everything that was added."""
        for task in list(self._waiting):
            self._close(task)
        places = {task: place for place, task in enumerate(tasks)}

        def order(task: str) -> tuple[int, str]:
            return places.get(task, len(places)), task

        return Packed(
            rows=sorted(self._rows, key=lambda row: (order(row["task"]), row["id"])),
            blocks=self.blocks,
            counts=self.counts,
            reasons=self.reasons,
            readings={task: self.readings[task] for task in sorted(self.readings, key=order)},
            hidden=sum(row["hidden"] for row in self._rows),
        )

    def _close(self, task: str) -> None:
        """Compress what waits of a task."""
        records = self._waiting.pop(task)
        for at, record in enumerate(records):
            self._rows.append(
                {
                    "task": record["task"],
                    "id": record["id"],
                    "status": record["status"],
                    "value": record["value"],
                    "answer": record["answer"],
                    "reason": record["reason"],
                    "fingerprint": record["fingerprint"],
                    "also": list(record["also"]),
                    "group": [f"{name}={value}" for name, value in record["group"].items()],
                    "hidden": self.hoping is not None and masking.unrefused(record, self.hoping),
                    "block": len(self.blocks),
                    "at": at,
                }
            )
        self.blocks.append(encode(_columns(records)))


def _read_answer(sample: SampleLine) -> ReadAnswer:
    # a scorer that knows the right label records it; else a group of that name has it
    gold = sample["observed"].get("gold", sample["group"].get("label"))
    answer = sample["answer"]
    return ReadAnswer(
        gold=gold if isinstance(gold, str) else None,
        answer=None if answer is None else answer[:_LABEL],
        status=sample["status"],
    )


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the records by column; a list of mappings within each becomes columns too, with its sizes beside them."""
    keys = dict.fromkeys(key for record in records for key in record)
    columns: dict[str, Any] = {key: [record.get(key) for record in records] for key in keys}
    for key in _NESTED & columns.keys():
        lists = [values or () for values in columns[key]]
        inner = [_rounded(value) for values in lists for value in values]
        columns[key] = {"sizes": [len(values) for values in lists], "columns": _columns(inner)}
    return columns


def _rounded(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a reply whose time has no digits that nobody reads and that do not compress."""
    seconds = reply.get("seconds")
    if seconds is None:
        return reply
    return {**reply, "seconds": round(seconds, 3)}


def _dump(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN and infinity are not JSON: one of them must not cost the page its block
        return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    """Return a JSON value with NaN and infinity as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
