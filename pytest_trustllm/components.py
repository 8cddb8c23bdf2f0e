"""A name with parameters in a suite becomes a scorer or a metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.documents import Place
from pytest_trustllm.errors import TrustLLMError, one_line, suggest
from pytest_trustllm.registry import Names
from pytest_trustllm.shapes import Flag, Integer, ListOf, Number, Reader, Shape, Text, described, open_words

_PARTS = {"scorer": ("roles", "score"), "metric": ("higher_is_better", "range", "compute")}


@dataclass(frozen=True, slots=True)
class FileBeside:
    """A file named relative to the suite.

    Attributes:
        folder: Where the suite lies.
    """

    folder: Path

    def __call__(self, place: Place) -> Path:
        """Return its path."""
        found = self.folder / place.text()
        if not found.is_file():
            raise place.fail(f"no such file beside the suite: {place.value}")
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return Text().schema()


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters that some registered names have in common.

    Attributes:
        names: Those names.
        parameters: Parameter -> its schema.
        required: Parameters that have no default.
    """

    names: tuple[str, ...]
    parameters: Mapping[str, dict[str, Any]]
    required: tuple[str, ...]

    def only(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the schema of a mapping that holds the parameters and other keys, which are described elsewhere."""
        properties = {**dict.fromkeys(keys, True), **self.parameters}
        return {"properties": properties, "required": list(self.required), "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Components:
    """Makes what a suite names: registered dataclasses, whose fields are the parameters.

    Attributes:
        names: The registered ones.
        folder: Where the suite lies; parameters that are paths are meant from there.
    """

    names: Names
    folder: Path

    def build(self, name: Place, parameters: Mapping[str, Place], place: Place) -> Any:
        """Return the object.

        Args:
            name: A registered name.
            parameters: As the suite gives them.
            place: Where both stand.

        Raises:
            TrustLLMError: Nobody registered the name, or a parameter is unknown, missing or not accepted.
        """
        if name.text() not in self.names:
            raise name.fail(self.names.unknown(name.value))
        try:
            kind = self._class(name.value)
        except TrustLLMError as e:
            raise place.fail(str(e)) from None
        fields = {f.name: f for f in dataclasses.fields(kind)}
        values: dict[str, Any] = {}
        for key, value in parameters.items():
            if key not in fields:
                raise place.fail(f"{name.value!r} has no parameter {key!r}{suggest(key, fields)}")
            values[key] = self._reader(fields[key])(value)
        for key, field in fields.items():
            if _required(field) and key not in values:
                raise place.fail(f"{name.value!r} needs the parameter {key!r}")
        try:
            built = kind(**values)
        except (TrustLLMError, TypeError, ValueError) as e:
            raise place.fail(str(e)) from None
        parts = _PARTS[self.names.kind]
        for part in parts:
            if not hasattr(built, part):
                wanted = ", ".join(map(repr, parts))
                raise place.fail(f"{name.value!r} has no {part!r}; a {self.names.kind} has {wanted}")
        return built

    def signatures(self) -> list[Signature]:
        """Return the parameters of every registered name, each set of parameters once.

        Raises:
            TrustLLMError: A registered class cannot be imported, or is no dataclass.
        """
        found: list[Signature] = []
        for name in self.names:
            fields = dataclasses.fields(self._class(name))
            parameters = {f.name: described(self._reader(f)) for f in fields}
            required = tuple(f.name for f in fields if _required(f))
            same = next((s for s in found if (s.parameters, s.required) == (parameters, required)), None)
            if same is None:
                found.append(Signature((name,), parameters, required))
            else:
                found[found.index(same)] = dataclasses.replace(same, names=(*same.names, name))
        return found

    def plain(self, other: Shape[str]) -> dict[str, Any]:
        """Return the schema of a name that stands alone; names of the other shape may be a project's own."""
        bare = sorted(name for s in self.signatures() if not s.required for name in s.names)
        return {"anyOf": [{"enum": bare}, {**other.schema(), "not": {"enum": list(self.names)}}]}

    def _class(self, name: str) -> Any:
        kind = self.names.get(name)
        if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
            shown = one_line(repr(kind), 80)
            raise TrustLLMError(
                f"{name!r} is registered as {shown}, which is no dataclass; its fields are its parameters"
            )
        return kind

    def _reader(self, field: dataclasses.Field[Any]) -> Reader:
        kind = str(getattr(field.type, "__name__", field.type))
        return FileBeside(self.folder) if kind == "Path" else _READERS.get(kind, _as_it_is)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _as_it_is(place: Place) -> Any:
    """Return what YAML gave: a parameter of another type is the component's own affair."""
    return place.value


_READERS: Mapping[str, Reader] = {
    "str": Text(blank=True),
    "bool": Flag(),
    "float": Number(),
    "int": Integer(-(2**31)),
    "Sequence[str]": ListOf(Text(blank=True)),
}


@dataclass(frozen=True, slots=True)
class Component:
    """``name``, or ``{name: ..., parameter: ...}``, as name and object.

    Attributes:
        components: What there is.
    """

    components: Components

    def __call__(self, place: Place) -> tuple[str, Any]:
        """Return both."""
        named = isinstance(place.value, str)
        name = place if named else place.mapping()["name"]
        parameters = {} if named else {k: v for k, v in place.items() if k != "name"}
        return name.text(), self.components.build(name, parameters, place)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        cases = [
            {"if": {"properties": {"name": {"enum": list(s.names)}}}, "then": s.only(["name"])}
            for s in self.components.signatures()
        ]
        name = open_words(tuple(self.components.names))
        full = {"type": "object", "properties": {"name": name}, "required": ["name"], "allOf": cases}
        return {"anyOf": [self.components.plain(Text()), full]}
