"""Which metrics a task reports, and how the two readings of each are computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import (
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
from pytest_trustllm.suites.construction import ComponentBuilder


@dataclass(frozen=True, slots=True)
class Reading:
    """How one reading of a metric is computed.

    Attributes:
        metric: The metric object.
        average: ``pooled``: over all samples; ``macro``: mean over the groups of the task.
        digits: Decimal digits that the value is rounded to (pooled) or that a group's value is rounded to before
            averaging (group value -> digits; ``*`` for any).
        empty: What a group without a usable sample counts as (pooled: the value without any usable sample); None: the
            whole has no value then.
        raises_if_empty: Where the metric is undefined for a group, the authors' toolkit raises: the whole has no value.
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


# The toolkit rounds some rates before averaging them, counts an empty group as 0, or raises on one. A parity value
# repeats that; docs/metrics.md lists the differences.
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
class MetricsShape:
    """A list of metrics: names, or tables with the parameters of the registered class.

    Attributes:
        builder: Builds the metric objects.
    """

    builder: ComponentBuilder

    def __call__(self, place: Place) -> tuple[MetricSpec, ...]:
        """Return them."""
        specs: dict[str, MetricSpec] = {}
        for entry in place.list():
            spec = self._metric(entry)
            if spec.name in specs:
                raise entry.fail(f"metric {spec.name!r} is given twice")
            specs[spec.name] = spec
        if not specs:
            raise place.fail("a task needs at least one metric; the first is its headline")
        return tuple(specs.values())

    def _metric(self, place: Place) -> MetricSpec:
        if isinstance(place.value, str):
            place = dataclasses.replace(place, value={"name": place.value})
        # Keys of every metric and parameters of its class share one mapping.
        common: dict[str, Any] = {}
        parameters: dict[str, Place] = {}
        for key, entry in place.items():
            if key in _METRIC.keys:
                common[key] = entry.value
            else:
                parameters[key] = entry
        values = _METRIC(dataclasses.replace(place, value=common))
        kind = place.get("kind") or place["name"]
        metric = self.builder.build(kind, parameters, place)
        value = Reading(metric, values["average"], {})  # no digits: rounding is the toolkit's habit alone
        parity = value
        if values["parity"] is not None:
            parity = self._parity(place["parity"], values["parity"], value, parameters)
        return MetricSpec(name=values["name"], value=value, parity=parity, where=values["where"] or {})

    def _parity(
        self, place: Place, values: Mapping[str, Any], value: Reading, parameters: Mapping[str, Place]
    ) -> Reading:
        """Return the authors' reading: as the corrected one, but for what the suite says.

        Args:
            place: The table ``parity``.
            values: What was read from it.
            value: The corrected reading.
            parameters: Of the metric; both readings have the same.
        """
        metric = value.metric
        kind = place.get("kind")
        if kind is not None:
            metric = self.builder.build(kind, parameters, place)
        digits = values["round"]
        if isinstance(digits, int):  # the same for all groups
            digits = {"*": digits}
        return Reading(
            metric=metric,
            average=value.average,
            digits=digits or {},
            empty=values["empty"],
            raises_if_empty=values["raises_if_empty"],
        )

    def schema(self) -> dict[str, Any]:
        """Describe them."""
        kinds = open_words(tuple(self.builder.names))
        keys = _METRIC.schema()["properties"]
        keys["kind"] = {**keys["kind"], **kinds}
        keys["parity"]["properties"]["kind"] |= kinds
        cases = []
        for signature in self.builder.signatures():
            names = list(signature.names)
            by_kind = {"properties": {"kind": {"enum": names}}, "required": ["kind"]}
            by_name = {"properties": {"name": {"enum": names}, "kind": False}}
            cases.append({"if": {"anyOf": [by_kind, by_name]}, "then": signature.only(keys)})
        full = {"type": "object", "properties": keys, "required": ["name"], "allOf": cases}
        return {"type": "array", "minItems": 1, "items": {"anyOf": [self.builder.plain(Name()), full]}}
