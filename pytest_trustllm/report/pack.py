"""Sample records to compressed text that a page can carry and its script can read back.

A page holds one index of all samples (what a list needs) and blocks of whole records, each compressed by itself, so
that the list appears at once and a record is read when somebody opens it. A block is JSON by column, gzip, base 85.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]

STATUSES = ("passed", "missed", "unscored", "error")
_BLOCK = 256
_NESTED = frozenset({"responses", "verdicts"})
_FINGERPRINT = 12  # random digits do not compress; twelve still tell any two samples apart


@dataclass(frozen=True, slots=True)
class Packed:
    """All samples of a run, as a page carries them.

    Attributes:
        index: Columns of all samples in the order of the list: task, id, status, block and place in it, and so on.
        blocks: Whole records.
        counts: Task -> status -> samples.
        reasons: (Task, why) -> samples without a score.
        total: Number of samples.
    """

    index: str
    blocks: Sequence[str]
    counts: Mapping[str, Mapping[str, int]]
    reasons: Mapping[tuple[str, str], int]
    total: int


def pack(samples: Iterable[Record], tasks: Sequence[str]) -> Packed:
    """Return the samples, compressed.

    Samples are read once and held no longer than their block takes to fill; neighbours in a block share their task, as
    similar prompts compress well.

    Args:
        samples: The records, in any order.
        tasks: Order of the tasks in the list; others follow by name.
    """
    packing = _Packing()
    for sample in samples:
        packing.add(sample)
    return packing.finish(tasks)


def encode(value: object) -> str:
    """Return a JSON value as text of printable ASCII without ``<``; equal values give equal text."""
    raw = _dump(value).encode("utf-8", "backslashreplace")  # a lone surrogate becomes its JSON escape
    return base64.b85encode(gzip.compress(raw, 9, mtime=0)).decode("ascii").replace("<", ",")


def decode(text: str) -> Any:
    """Return what :func:`encode` was given."""
    return json.loads(gzip.decompress(base64.b85decode(text.replace(",", "<"))))


@dataclass(slots=True)
class _Packing:
    blocks: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    _waiting: dict[str, list[Record]] = field(default_factory=dict)
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, sample: Record) -> None:
        """Take one sample."""
        task, status = sample["task"], sample["status"]
        by_status = self.counts.setdefault(task, {})
        by_status[status] = by_status.get(status, 0) + 1
        also = sample.get("also") or {}
        for name, score in ((task, sample), *also.items()):
            if score.get("value") is None and score.get("applies", True):
                key = name, score.get("reason") or "no reason given"
                self.reasons[key] = self.reasons.get(key, 0) + 1
        waiting = self._waiting.setdefault(task, [])
        waiting.append({**sample, "fingerprint": str(sample.get("fingerprint") or "")[:_FINGERPRINT]})
        if len(waiting) == _BLOCK:
            self._close(task)

    def finish(self, tasks: Sequence[str]) -> Packed:
        """Return everything that was added."""
        for task in list(self._waiting):
            self._close(task)
        place = {task: i for i, task in enumerate(tasks)}
        rows = sorted(self._rows, key=lambda r: (place.get(r["task"], len(place)), r["task"], r["id"]))
        return Packed(encode(_index(rows)), self.blocks, self.counts, self.reasons, len(rows))

    def _close(self, task: str) -> None:
        records = self._waiting.pop(task)
        for at, record in enumerate(records):
            row = {k: record.get(k) for k in ("task", "id", "status", "value", "answer", "reason")}
            self._rows.append({**row, "also": list(record.get("also") or ()), "block": len(self.blocks), "at": at})
        self.blocks.append(encode(_columns(records)))


def _columns(records: Sequence[Record]) -> dict[str, Any]:
    """Return the records by column; a list of mappings within each becomes columns too, with its sizes beside them."""
    keys = dict.fromkeys(key for record in records for key in record)
    columns: dict[str, Any] = {key: [record.get(key) for record in records] for key in keys}
    for key in _NESTED & columns.keys():
        lists = [values or () for values in columns[key]]
        inner = [_rounded(value) for values in lists for value in values]
        columns[key] = {"sizes": [len(values) for values in lists], "columns": _columns(inner)}
    return columns


def _rounded(reply: Record) -> Record:
    """Return a reply whose time has no digits that nobody reads and that do not compress."""
    return {**reply, "seconds": round(reply["seconds"], 3)} if reply.get("seconds") is not None else reply


def _index(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of the list; words that repeat are numbers into a table."""
    tasks: dict[str, int] = {}
    reasons: dict[str, int] = {}
    statuses: dict[str, int] = {status: i for i, status in enumerate(STATUSES)}
    columns: dict[str, list[Any]] = {
        "task": [tasks.setdefault(r["task"], len(tasks)) for r in rows],
        "status": [statuses.setdefault(r["status"], len(statuses)) for r in rows],
        "reason": [None if r["reason"] is None else reasons.setdefault(r["reason"], len(reasons)) for r in rows],
        "also": [[tasks.setdefault(name, len(tasks)) for name in r["also"]] for r in rows],
        **{name: [r[name] for r in rows] for name in ("id", "value", "answer", "block", "at")},
    }
    return {"tasks": list(tasks), "statuses": list(statuses), "reasons": list(reasons), **columns}


def _dump(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN and infinity are no JSON: one of them must not cost the page its block
        return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
