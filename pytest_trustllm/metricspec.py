"""Which metrics a task reports, and how their two readings are computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm.components import Components
from pytest_trustllm.documents import Place
from pytest_trustllm.shapes import (
    Choice,
    Either,
    Fields,
    Flag,
    Integer,
    Key,
    MappingOf,
    Name,
    Number,
    Table,
    Text,
    open_words,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How one reading of a metric is computed.

    Attributes:
        metric: The metric object.
        average: ``pooled``: over all samples; ``macro``: mean over the groups of the task.
        digits: Decimal digits that the value is rounded to (pooled) or that a group's value is rounded to before
            averaging (group value -> digits; ``*`` for any).
        empty: What a group without a usable sample counts as in a macro average; None: there is no value then.
        raises_if_empty: Without any usable sample in a group there is no value at all.
    """

    metric: Any
    average: Literal["pooled", "macro"]
    digits: Mapping[str, int]
    empty: float | None = None
    raises_if_empty: bool = False


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric of a task, in both readings.

    Attributes:
        name: Last part of its id.
        value: The corrected reading.
        parity: The authors' toolkit's reading.
        where: Group -> value that a sample must have to count.
    """

    name: str
    value: Reading
    parity: Reading
    where: Mapping[str, Any]

    @property
    def higher_is_better(self) -> bool:
        """Direction of the corrected reading."""
        return bool(self.value.metric.higher_is_better)

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest possible value of the corrected reading."""
        low, high = self.value.metric.range
        return float(low), float(high)


_PARITY = Table(
    {
        "kind": Key(Text(), "Registered metric that reads as the authors' toolkit does; absent: the same one."),
        "round": Key(
            Either(int, Integer(0, 15), MappingOf(Integer(0, 15))), "Decimal digits; or group value: decimal digits."
        ),
        "empty": Key(Number(), "What a group without a usable sample counts as; absent: there is no value then."),
        "raises_if_empty": Key(Flag(), "Without a usable sample in a group there is no value at all.", default=False),
    }
)
_METRIC = Table(
    {
        "name": Key(Name(), "Last part of the metric's id.", required=True),
        "kind": Key(Text(), "Registered metric that computes it; absent: the one called like the name."),
        "average": Key(
            Choice(("pooled", "macro")), "Over all samples, or the mean over the task's groups.", default="pooled"
        ),
        "where": Key(Fields(), "Group: value that a sample must have to count."),
        "parity": Key(_PARITY, "What the reading of the authors' toolkit does differently."),
    }
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """A list of metrics: names, or tables with the parameters of the registered class.

    Attributes:
        components: The registered metrics.
    """

    components: Components

    def __call__(self, place: Place) -> tuple[MetricSpec, ...]:
        """Return them."""
        found: list[MetricSpec] = []
        for entry in place.list():
            spec = self._metric(entry)
            if any(m.name == spec.name for m in found):
                raise entry.fail(f"metric {spec.name!r} is given twice")
            found.append(spec)
        if not found:
            raise place.fail("a task needs at least one metric; the first is its headline")
        return tuple(found)

    def _metric(self, place: Place) -> MetricSpec:
        if isinstance(place.value, str):
            place = dataclasses.replace(place, value={"name": place.value})
        given = place.mapping().value
        values = _METRIC(dataclasses.replace(place, value={k: v for k, v in given.items() if k in _METRIC.keys}))
        parameters = {k: v for k, v in place.items() if k not in _METRIC.keys}
        metric = self.components.build(place.get("kind") or place["name"], parameters, place)
        value = Reading(metric, values["average"], {})
        return MetricSpec(
            name=values["name"],
            value=value,
            parity=value if values["parity"] is None else self._parity(place["parity"], values, value, parameters),
            where=values["where"] or {},
        )

    def _parity(
        self, place: Place, values: Mapping[str, Any], value: Reading, parameters: Mapping[str, Place]
    ) -> Reading:
        kind, digits = place.get("kind"), values["parity"]["round"]
        return Reading(
            metric=value.metric if kind is None else self.components.build(kind, parameters, place),
            average=value.average,
            digits={"*": digits} if isinstance(digits, int) else digits or {},
            empty=values["parity"]["empty"],
            raises_if_empty=values["parity"]["raises_if_empty"],
        )

    def schema(self) -> dict[str, Any]:
        """Describe them."""
        kinds = open_words(tuple(self.components.names))
        keys = _METRIC.schema()["properties"]
        keys["kind"] = {**keys["kind"], **kinds}
        keys["parity"]["properties"]["kind"] |= kinds
        cases = [
            {
                "if": {
                    "anyOf": [
                        {"properties": {"kind": {"enum": list(s.names)}}, "required": ["kind"]},
                        {"properties": {"name": {"enum": list(s.names)}, "kind": False}},
                    ]
                },
                "then": s.only(keys),
            }
            for s in self.components.signatures()
        ]
        full = {"type": "object", "properties": keys, "required": ["name"], "allOf": cases}
        return {"type": "array", "minItems": 1, "items": {"anyOf": [self.components.plain(Name()), full]}}
