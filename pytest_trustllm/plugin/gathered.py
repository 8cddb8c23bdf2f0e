"""What arrives from the tests, in the process where every report arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pytest_trustllm.engine.keys import split_key
from pytest_trustllm.engine.messages import Plan
from pytest_trustllm.formats import Record
from pytest_trustllm.gates.verdict import GateResult
from pytest_trustllm.types import Selection

_PARSED_AT_ONCE = 500
_MOSTLY_EQUAL = ("task", "group", "status", "observed", "also")
"""Keys of a record whose values many records share."""


@dataclass
class Gathered:
    """Records and verdicts.

    Attributes:
        records: Model -> key -> record as JSON text.
        gates: Model -> key of the gate -> verdict, in the order in which they were judged; a rerun replaces it.
    """

    records: dict[str, dict[str, str]] = field(default_factory=dict)
    gates: dict[str, dict[str, GateResult]] = field(default_factory=dict)

    def take(self, key: str, record: str) -> None:
        """Keep one record; a rerun replaces it."""
        self.records.setdefault(split_key(key).model, {})[key] = record

    def parsed(self, model: str) -> Iterator[Record]:
        """Yield the records of one model.

        Thousands of parsed records are kept: keys and values that are equal become one object, to save memory.
        """
        texts = list(self.records.get(model, {}).values())
        shared: dict[object, Any] = {}
        for begin in range(0, len(texts), _PARSED_AT_ONCE):
            # The parser shares equal keys within one document only.
            document = ",".join(texts[begin : begin + _PARSED_AT_ONCE])
            for record in json.loads(f"[{document}]"):
                for name in _MOSTLY_EQUAL:
                    value = record[name]
                    record[name] = shared.setdefault(str(value), value)
                yield record


def selection_of(plan: Plan, model: str, *, extra: bool = False) -> Selection:
    """Return what a plan selected for one model.

    Args:
        plan: Of the run.
        model: Its label.
        extra: Its samples have no items of their own.
    """
    planned: dict[str, int] = {}
    for key in plan["keys"] if extra else plan["keys"][: plan["items"]]:
        parts = split_key(key)
        if parts.model == model:
            planned[parts.task] = planned.get(parts.task, 0) + 1
    return Selection(plan["totals"], planned)
