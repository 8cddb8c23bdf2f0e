"""A name with parameters in a suite becomes a scorer or a metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Flag, Integer, ListOf, Number, Reader, Shape, Text, open_words, schema_of
from pytest_trustllm.errors import TrustLLMError, one_line, suggest
from pytest_trustllm.registry import Names

_MEMBERS = {"scorer": ("roles", "score"), "metric": ("higher_is_better", "range", "compute")}
"""Kind of component -> the attributes and methods that every one needs."""


@dataclass(frozen=True, slots=True)
class FileBeside:
    """A file named relative to the suite.

    Attributes:
        folder: Directory of the suite.
    """

    folder: Path

    def __call__(self, place: Place) -> Path:
        """Return its path."""
        path = self.folder / place.text()
        if not path.is_file():
            raise place.fail(f"no such file beside the suite: {place.value}")
        return path

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return Text().schema()


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters that some registered names have in common.

    Attributes:
        names: Those names.
        parameters: Parameter -> its schema.
        required: Parameters without a default.
    """

    names: tuple[str, ...]
    parameters: Mapping[str, dict[str, Any]]
    required: tuple[str, ...]

    def only(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the schema of a mapping of the parameters and of other keys, which are described elsewhere."""
        properties = {**dict.fromkeys(keys, True), **self.parameters}
        return {"properties": properties, "required": list(self.required), "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ComponentBuilder:
    """Builds the scorers or metrics that a suite names: registered dataclasses, whose fields are the parameters.

    Attributes:
        names: The registered names.
        folder: Directory of the suite; parameters that are paths are relative to it.
    """

    names: Names
    folder: Path

    def build(self, name: Place, parameters: Mapping[str, Place], place: Place) -> Any:
        """Return the object.

        Args:
            name: A registered name.
            parameters: As the suite gives them.
            place: The entry of the suite that has both.

        Raises:
            TrustLLMError: The name is not registered, or a parameter is unknown, missing or not accepted.
        """
        if name.text() not in self.names:
            raise name.fail(self.names.unknown(name.value))
        try:
            component_class = self._class(name.value)
        except TrustLLMError as e:
            raise place.fail(str(e)) from None
        values = self._values(component_class, name.value, parameters, place)
        try:
            component = component_class(**values)
        except (TrustLLMError, TypeError, ValueError) as e:  # its __post_init__ checks what a field's type cannot tell
            raise place.fail(str(e)) from None
        # A class of the project may be any dataclass: better here than in the middle of a run.
        members = _MEMBERS[self.names.kind]
        for member in members:
            if not hasattr(component, member):
                wanted = ", ".join(map(repr, members))
                raise place.fail(f"{name.value!r} has no {member!r}; a {self.names.kind} has {wanted}")
        return component

    def _values(self, component_class: Any, name: str, parameters: Mapping[str, Place], place: Place) -> dict[str, Any]:
        """Return the values of the parameters.

        Raises:
            TrustLLMError: One is unknown, missing, or of another type than its field.
        """
        fields = {field.name: field for field in dataclasses.fields(component_class)}
        values: dict[str, Any] = {}
        for key, value in parameters.items():
            if key not in fields:
                raise place.fail(f"{name!r} has no parameter {key!r}{suggest(key, fields)}")
            read = self._reader(fields[key])
            values[key] = read(value)
        for key, field in fields.items():
            if _is_required(field) and key not in values:
                raise place.fail(f"{name!r} needs the parameter {key!r}")
        return values

    def signatures(self) -> list[Signature]:
        """Return the parameters of every registered name; names with the same parameters share one signature.

        Raises:
            TrustLLMError: A registered class cannot be imported, or is not a dataclass.
        """
        signatures: list[Signature] = []
        for name in self.names:
            fields = dataclasses.fields(self._class(name))
            parameters = {field.name: schema_of(self._reader(field)) for field in fields}
            required = tuple(field.name for field in fields if _is_required(field))
            # One case of the schema for all alike keeps it short: most metrics have the same parameters.
            for number, other in enumerate(signatures):
                if (other.parameters, other.required) == (parameters, required):
                    signatures[number] = dataclasses.replace(other, names=(*other.names, name))
                    break
            else:
                signatures.append(Signature((name,), parameters, required))
        return signatures

    def plain(self, other: Shape[str]) -> dict[str, Any]:
        """Return the schema of a name without parameters; names of the other shape may be a project's own."""
        bare: list[str] = []  # a required parameter cannot be given with the name alone
        for signature in self.signatures():
            if not signature.required:
                bare.extend(signature.names)
        return {"anyOf": [{"enum": sorted(bare)}, {**other.schema(), "not": {"enum": list(self.names)}}]}

    def _class(self, name: str) -> Any:
        registered = self.names.get(name)
        if not isinstance(registered, type) or not dataclasses.is_dataclass(registered):
            shown = one_line(repr(registered), 80)
            raise TrustLLMError(
                f"{name!r} is registered as {shown}, which is not a dataclass; its fields are its parameters"
            )
        return registered

    def _reader(self, field: dataclasses.Field[Any]) -> Reader:
        # A string where the module has postponed annotations, else the type itself.
        type_name = str(getattr(field.type, "__name__", field.type))
        if type_name == "Path":
            return FileBeside(self.folder)
        return _READERS.get(type_name, _as_it_is)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _as_it_is(place: Place) -> Any:
    """Return the value that YAML gave: a parameter of another type is checked by the component itself."""
    return place.value


_READERS: Mapping[str, Reader] = {
    "str": Text(blank=True),
    "bool": Flag(),
    "float": Number(),
    "int": Integer(-(2**31)),
    "Sequence[str]": ListOf(Text(blank=True)),
}


@dataclass(frozen=True, slots=True)
class ComponentShape:
    """``name``, or ``{name: ..., parameter: ...}``, as name and object.

    Attributes:
        builder: Builds the object.
    """

    builder: ComponentBuilder

    def __call__(self, place: Place) -> tuple[str, Any]:
        """Return both."""
        if isinstance(place.value, str):
            return place.text(), self.builder.build(place, {}, place)
        name = place.mapping()["name"]
        parameters = {key: value for key, value in place.items() if key != "name"}
        return name.text(), self.builder.build(name, parameters, place)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        # Cases, not alternatives: of anyOf an editor only reports that no alternative fits.
        cases = []
        for signature in self.builder.signatures():
            condition = {"properties": {"name": {"enum": list(signature.names)}}}
            cases.append({"if": condition, "then": signature.only(["name"])})
        name = open_words(tuple(self.builder.names))
        full = {"type": "object", "properties": {"name": name}, "required": ["name"], "allOf": cases}
        return {"anyOf": [self.builder.plain(Text()), full]}
