"""Where a task's rows come from, and which of them can only be scored together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Choice, Either, Fields, Flag, Key, ListOf, Made, Name, Shape, Table, Text
from pytest_trustllm.config.parameters import FileBeside
from pytest_trustllm.suites.audited import AUDIT_KINDS, AuditKind
from pytest_trustllm.suites.pinned import PinnedFile


@dataclass(frozen=True, slots=True)
class RowPairing:
    """Which rows can only be scored together.

    Attributes:
        by: Field whose equal values make a pair; None if ``quoted`` is used.
        first: Fields that mark the first row of a pair; every other row with the same ``by`` is a second row.
        quoted: Field in which the same two quoted texts, in either order, make a pair.
    """

    by: str | None = None
    first: Mapping[str, Any] | None = None
    quoted: str | None = None


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Where a task's rows come from.

    Attributes:
        trustllm: ``section/file.json`` of the TrustLLM data set.
        where: Field -> accepted values; rows that do not match belong to another task.
        pair: Which rows make one sample.
        samples: JSONL file of sample items.
        inline: Rows written in the suite itself.
        file: Name of a pinned file of the suite.
        pinned: That file.
        card: Every row is looked up in the model's card (``--trust-card``); without one, the task has no rows.
        audit: The rows are what is known of a saved run (``--trust-audit``); without one, the task has none.
    """

    trustllm: str | None = None
    where: Mapping[str, tuple[Any, ...]] | None = None
    pair: RowPairing | None = None
    samples: Path | None = None
    inline: tuple[Mapping[str, Any], ...] | None = None
    file: str | None = None
    pinned: PinnedFile | None = None
    card: bool = False
    audit: AuditKind | None = None


def _pairing(place: Place, values: Mapping[str, Any]) -> RowPairing:
    quoted, by, first = values["quoted"], values["by"], values["first"]
    # Two ways to tell pairs apart; mixing them would leave open which one decides.
    quotes = quoted is not None and by is None and first is None
    if quotes:
        return RowPairing(quoted=quoted)
    if quoted is not None or by is None:
        raise place.fail("expected 'quoted: field', or 'by: field' with 'first: {field: value}'")
    # taken from the place, so that a missing 'first' is reported as such
    return RowPairing(by=by, first=place["first"].value)


_PAIR = Made(
    Table(
        {
            "by": Key(Text(), "Field whose equal values make a pair."),
            "first": Key(
                Fields("expected the fields of a pair's first row, such as {type: original}"),
                "What marks the first row of a pair.",
            ),
            "quoted": Key(Text(), "Field in which the same two quoted texts make a pair."),
        },
        also={
            "oneOf": [
                {"required": ["by", "first"], "properties": {"quoted": False}},
                {"required": ["quoted"], "properties": {"by": False, "first": False}},
            ]
        },
    ),
    _pairing,
)


@dataclass(frozen=True, slots=True)
class _RowShape:
    """A row that JSON can represent: in YAML, a key may be a number."""

    def __call__(self, place: Place) -> Mapping[str, Any]:
        unchecked = [field for _, field in place.items()]
        while unchecked:
            field = unchecked.pop()
            if isinstance(field.value, dict):
                unchecked.extend(inner for _, inner in field.items())
            elif isinstance(field.value, list):
                unchecked.extend(field.list())
        row: Mapping[str, Any] = place.value
        return row

    def schema(self) -> dict[str, Any]:
        return Fields().schema()


def _data(place: Place, values: Mapping[str, Any]) -> DataSpec:
    trustllm, samples, file = values["trustllm"], values["samples"], values["file"]
    if file is not None and (trustllm is not None or samples is not None):
        raise place["file"].fail("give either 'file', or 'trustllm' and 'samples'")
    audit = values["audit"]
    if audit is not None and (trustllm, samples, file, values["pair"]) != (None, None, None, None):
        raise place["audit"].fail("its rows are about a saved run; leave out every other source of rows, and 'pair'")
    if trustllm is None and samples is None and file is None and audit is None:
        raise place.fail("expected 'trustllm: section/file.json', 'samples:', 'file:' or 'audit:'")
    where = None
    if values["where"] is not None:
        where = {field: _accepted(value) for field, value in values["where"].items()}
    spec = DataSpec(trustllm=trustllm, where=where, pair=values["pair"], file=file, card=values["card"], audit=audit)
    if isinstance(samples, Path):
        return dataclasses.replace(spec, samples=samples)
    return dataclasses.replace(spec, inline=samples)


def _accepted(value: Any) -> tuple[Any, ...]:
    """Return the values that a row may have; a single value counts as a list of one."""
    if isinstance(value, list):
        return tuple(value)
    return (value,)


def data_shape(folder: Path) -> Shape[DataSpec]:
    """Return what a task's ``data`` may contain, in a suite that is in ``folder``."""
    samples = Either(str, FileBeside(folder), ListOf(_RowShape(), "expected at least one row"))
    return Made(
        Table(
            {
                "trustllm": Key(
                    Text(), "File of the TrustLLM data set (--trust-data).", examples=("safety/jailbreak.json",)
                ),
                "where": Key(Fields(), "Field: value, or list of values, that a row must have to belong to this task."),
                "pair": Key(_PAIR, "Which rows make one sample."),
                "samples": Key(samples, "JSONL file beside the suite, or the rows themselves."),
                "file": Key(Name(), "A file that the suite pins in its 'files'."),
                "card": Key(Flag(), "Look every row up in the model's card (--trust-card).", default=False),
                "audit": Key(Choice(AUDIT_KINDS), "What is known of a saved run (--trust-audit)."),
            },
            also={"anyOf": [{"required": [name]} for name in ("trustllm", "samples", "file", "audit")]},
        ),
        _data,
    )
