"""Where a task's rows come from, and which of them only score together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.components import FileBeside
from pytest_trustllm.documents import Place
from pytest_trustllm.shapes import Either, Fields, Key, ListOf, Made, Shape, Table, Text


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which rows only score together.

    Attributes:
        by: Field whose equal values make a pair; None if ``quoted`` is used.
        first: Fields that mark the first row of a pair; every other row of the same ``by`` is a second.
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
    """

    trustllm: str | None = None
    where: Mapping[str, tuple[Any, ...]] | None = None
    pair: Pairing | None = None
    samples: Path | None = None
    inline: tuple[Mapping[str, Any], ...] | None = None


def _pairing(place: Place, values: Mapping[str, Any]) -> Pairing:
    quoted, by, first = values["quoted"], values["by"], values["first"]
    if (quoted is None) == (by is None) or (quoted is not None and first is not None):
        raise place.fail("expected 'quoted: field', or 'by: field' with 'first: {field: value}'")
    return Pairing(by, first if quoted is not None else place["first"].value, quoted)


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
class _Row:
    """A row that JSON could hold: YAML also makes dates and bytes."""

    def __call__(self, place: Place) -> Mapping[str, Any]:
        places = [field for _, field in place.items()]
        while places:
            field = places.pop()
            if isinstance(field.value, dict):
                places.extend(inner for _, inner in field.items())
            elif isinstance(field.value, list):
                places.extend(field.list())
            elif not isinstance(field.value, str | int | float | None):
                kind = type(field.value).__name__
                raise field.fail(f"YAML reads this as {kind}; put it in quotes")
        row: Mapping[str, Any] = place.value
        return row

    def schema(self) -> dict[str, Any]:
        return Fields().schema()


def _data(place: Place, values: Mapping[str, Any]) -> DataSpec:
    samples, where = values["samples"], values["where"]
    if values["trustllm"] is None and samples is None:
        raise place.fail("expected 'trustllm: section/file.json' or 'samples:'")
    return DataSpec(
        trustllm=values["trustllm"],
        where=None if where is None else {k: tuple(v) if isinstance(v, list) else (v,) for k, v in where.items()},
        pair=values["pair"],
        samples=samples if isinstance(samples, Path) else None,
        inline=samples if isinstance(samples, tuple) else None,
    )


def data_shape(folder: Path) -> Shape[DataSpec]:
    """Return what a task's ``data`` may hold, in a suite that lies in ``folder``."""
    rows = ListOf(_Row(), "expected at least one row")
    return Made(
        Table(
            {
                "trustllm": Key(
                    Text(), "File of the TrustLLM data set (--trust-data).", examples=("safety/jailbreak.json",)
                ),
                "where": Key(Fields(), "Field: value, or list of values, that a row must have to belong to this task."),
                "pair": Key(_PAIR, "Which rows make one sample."),
                "samples": Key(
                    Either(str, FileBeside(folder), rows), "JSONL file beside the suite, or the rows themselves."
                ),
            },
            also={"anyOf": [{"required": ["trustllm"]}, {"required": ["samples"]}]},
        ),
        _data,
    )
