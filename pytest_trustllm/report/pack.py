"""Sample records to compressed text that a page can carry and its script can read back.

A page holds one index of all samples (what a list needs) and blocks of whole records, each compressed by itself, so
that the list appears at once and a record is read when somebody opens it. A block is JSON by column, gzip, base 85.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_trustllm import masking

if TYPE_CHECKING:
    from pytest_trustllm.report.before import Before

Record = Mapping[str, Any]
Reading = tuple[str | None, str | None, str]

STATUSES = ("passed", "missed", "unscored", "error")
_BLOCK = 256
_NESTED = frozenset({"responses", "verdicts"})
_LABEL = 60
_FINGERPRINT = 12  # random digits do not compress; twelve still tell any two samples apart


@dataclass(frozen=True, slots=True)
class Packed:
    """All samples of a run, as a page carries them.

    Attributes:
        rows: Of all samples in the order of the list: task, id, status, block and place in it, and so on.
        blocks: Whole records.
        counts: Task -> status -> samples.
        reasons: (Task, why) -> samples without a score.
        readings: Task -> (right label, what was read, status) -> samples.
        statuses: (Task, id) -> status, in the order of the list.
        hidden: Samples whose responses are hidden until asked for.
    """

    rows: Sequence[Mapping[str, Any]]
    blocks: Sequence[str]
    counts: Mapping[str, Mapping[str, int]]
    reasons: Mapping[tuple[str, str], int]
    readings: Mapping[str, Mapping[Reading, int]]
    statuses: Mapping[tuple[str, str], str]
    hidden: int

    @property
    def total(self) -> int:
        """Number of samples."""
        return len(self.rows)


def pack(samples: Iterable[Record], tasks: Sequence[str], hoping: frozenset[str] | None = None) -> Packed:
    """Return the samples, compressed.

    Samples are read once and held no longer than their block takes to fill; neighbours in a block share their task, as
    similar prompts compress well.

    Args:
        samples: The records, in any order.
        tasks: Order of the tasks in the list; others follow by name.
        hoping: Tasks that hope for refusals, whose other answers are hidden; None: nothing is.
    """
    packing = _Packing(hoping)
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
    hoping: frozenset[str] | None
    blocks: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    readings: dict[str, dict[Reading, int]] = field(default_factory=dict)
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
        reading = _reading(sample)
        readings = self.readings.setdefault(task, {})
        readings[reading] = readings.get(reading, 0) + 1
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
        return Packed(
            rows=rows,
            blocks=self.blocks,
            counts=self.counts,
            reasons=self.reasons,
            readings={t: self.readings[t] for t in sorted(self.readings, key=lambda t: (place.get(t, len(place)), t))},
            statuses={(r["task"], r["id"]): r["status"] for r in rows},
            hidden=sum(r["hidden"] for r in rows),
        )

    def _close(self, task: str) -> None:
        records = self._waiting.pop(task)
        for at, record in enumerate(records):
            row = {k: record.get(k) for k in ("task", "id", "status", "value", "answer", "reason", "fingerprint")}
            hidden = self.hoping is not None and masking.unrefused(record, self.hoping)
            group = [f"{name}={value}" for name, value in (record.get("group") or {}).items()]
            also = list(record.get("also") or ())
            self._rows.append(
                {**row, "also": also, "group": group, "hidden": hidden, "block": len(self.blocks), "at": at}
            )
        self.blocks.append(encode(_columns(records)))


def index(packed: Packed, befores: Sequence[Before], nodes: Mapping[str, str]) -> str:
    """Return the columns of the list, compressed; words that repeat are numbers into a table.

    Args:
        packed: The samples.
        befores: The runs that they are compared with, the most important one first. The blocks of those whose samples
            are at hand stand on the page behind ours, in this order.
        nodes: Task -> node id of its samples, with ``{}`` for the sample's id.
    """
    rows = packed.rows
    tasks: dict[str, int] = {}
    reasons: dict[str, int] = {}
    groups: dict[str, int] = {}
    statuses: dict[str, int] = {status: i for i, status in enumerate(STATUSES)}
    old = befores[0].statuses if befores else {}
    columns: dict[str, list[Any]] = {
        "task": [tasks.setdefault(r["task"], len(tasks)) for r in rows],
        "status": [statuses.setdefault(r["status"], len(statuses)) for r in rows],
        "reason": [None if r["reason"] is None else reasons.setdefault(r["reason"], len(reasons)) for r in rows],
        "also": [[tasks.setdefault(name, len(tasks)) for name in r["also"]] for r in rows],
        "group": [[groups.setdefault(name, len(groups)) for name in r["group"]] for r in rows],
        "hidden": [int(r["hidden"]) for r in rows],
        "before": [
            None if (s := old.get((r["task"], r["id"]))) is None else statuses.setdefault(s, len(statuses))
            for r in rows
        ],
        **{name: [r[name] for r in rows] for name in ("id", "value", "answer", "block", "at")},
    }
    others = list(_others(packed, befores, statuses))
    return encode(
        {
            "tasks": list(tasks),
            "statuses": list(statuses),
            "reasons": list(reasons),
            "groups": list(groups),
            "nodes": [nodes.get(task) for task in tasks],
            "others": others,
            "blocks": len(packed.blocks),
            **columns,
        }
    )


def _others(packed: Packed, befores: Sequence[Before], statuses: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield where each sample's record of another run lies: block, place and status; -1 where it has none."""
    offset = len(packed.blocks)
    for before in befores:
        if before.packed is not None:
            mine = [before.rows.get((r["task"], r["id"])) for r in packed.rows]
            yield {
                "name": before.name,
                "block": [-1 if r is None else r["block"] + offset for r in mine],
                "at": [-1 if r is None else r["at"] for r in mine],
                "status": [-1 if r is None else statuses.setdefault(r["status"], len(statuses)) for r in mine],
                "hidden": [0 if r is None else int(r["hidden"]) for r in mine],
            }
            offset += len(before.packed.blocks)


def _reading(sample: Record) -> Reading:
    """Return the right label (the scorer's, or the group of that name), what was read, and the status."""
    gold = (sample.get("observed") or {}).get("gold", (sample.get("group") or {}).get("label"))
    answer = sample.get("answer")
    return (
        gold if isinstance(gold, str) else None,
        None if answer is None else str(answer)[:_LABEL],
        sample["status"],
    )


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
