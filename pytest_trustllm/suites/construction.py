"""A name with parameters in a suite becomes a scorer or a metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Flag, Integer, ListOf, Number, Reader, Shape, Text, open_words, schema_of
from pytest_trustllm.config.parameters import FileBeside, shape_in
from pytest_trustllm.errors import TrustLLMError, one_line, suggest
from pytest_trustllm.registry import Names

_MEMBERS = {"scorer": ("roles", "score"), "metric": ("higher_is_better", "range", "compute")}
"""Kind of component -> the attributes and methods that every one needs."""


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

    def shortened(self, name: str, main: str) -> dict[str, Any]:
        """Return the schema of a mapping in which the key ``name`` has the value of the parameter ``main``."""
        parameters = {name if key == main else key: schema for key, schema in self.parameters.items()}
        required = [name, *(key for key in self.required if key != main)]
        return {"properties": parameters, "required": required, "additionalProperties": False}


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
        exclusive: tuple[tuple[str, str], ...] = getattr(component_class, "exclusive", ())
        for one, other in exclusive:
            if values.get(one) is not None and values.get(other) is not None:
                raise place.fail(f"{name!r} has both {one!r} and {other!r}, and one would be ignored; remove it")
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

    @property
    def component(self) -> Shape[tuple[str, Any]]:
        """Reads a component inside another one."""
        return _Nested(self)

    def shorthands(self) -> dict[str, str]:
        """Return the names that a suite may write as ``{name: value}`` -> the parameter that the value is for."""
        shorthands: dict[str, str] = {}
        for name in self.names:
            main: str | None = getattr(self._class(name), "main", None)
            if main is not None:
                shorthands[name] = main
        return shorthands

    def _reader(self, field: dataclasses.Field[Any]) -> Reader:
        shape = shape_in(field.metadata, self)
        if shape is not None:
            return shape
        # A string where the module has postponed annotations, else the type itself.
        type_name = str(getattr(field.type, "__name__", field.type))
        if type_name in ("Path", "Path | None"):
            return FileBeside(self.folder)
        return _READERS.get(type_name, _as_it_is)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _as_it_is(place: Place) -> Any:
    """Return the value that YAML gave: a parameter of another type is checked by the component itself."""
    return place.value


_READERS: Mapping[str, Reader] = {
    "str": Text(blank=True),
    "str | None": Text(blank=True),
    "bool": Flag(),
    "float": Number(),
    "float | None": Number(),
    "int": Integer(-(2**31)),
    "int | None": Integer(-(2**31)),
    "Sequence[str]": ListOf(Text(blank=True)),
}


@dataclass(frozen=True, slots=True)
class ComponentShape:
    """A component as name and object.

    It is written ``name``, ``{name: ..., parameter: ...}``, or ``{NAME: value, parameter: ...}`` if its class has
    ``main``, the parameter that the value is for.

    Attributes:
        builder: Builds the object.
    """

    builder: ComponentBuilder

    def __call__(self, place: Place) -> tuple[str, Any]:
        """Return both."""
        if isinstance(place.value, str):
            return place.text(), self.builder.build(place, {}, place)
        if place.mapping().get("name") is None:
            place = self._in_full(place)
        name = place["name"]
        parameters = {key: value for key, value in place.items() if key != "name"}
        return name.text(), self.builder.build(name, parameters, place)

    def _in_full(self, place: Place) -> Place:
        """Return ``{NAME: value, ...}`` as ``{name: NAME, main: value, ...}``; anything else as it is."""
        names = [key for key in place.value if key in self.builder.names]
        if not names:
            return place
        shorthands = self.builder.shorthands()
        short_names = [name for name in names if name in shorthands]
        if len(short_names) != 1:
            hint = f"'name: {names[0]}'" if not short_names else f"one of {' and '.join(map(repr, short_names))}"
            raise place.fail(f"key 'name' is missing; write {hint}")
        name = short_names[0]
        main = shorthands[name]
        if main != name and main in place.value:
            raise place.fail(f"{name!r} already gives the parameter {main!r}; remove one")
        value = place[name]
        if value.value is None:
            raise value.fail(f"expected the parameter {main!r}, found nothing")
        parameters = {main if key == name else key: entry for key, entry in place.value.items()}
        return dataclasses.replace(place, value={"name": name, **parameters})

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        # Cases, not alternatives: of anyOf an editor only reports that no alternative fits.
        cases: list[dict[str, Any]] = []
        signatures = self.builder.signatures()
        for signature in signatures:
            condition = {"properties": {"name": {"enum": list(signature.names)}}, "required": ["name"]}
            cases.append({"if": condition, "then": signature.only(["name"])})
        shorthands = self.builder.shorthands()
        for signature in signatures:
            for name in signature.names:
                if name in shorthands:
                    condition = {"properties": {"name": False}, "required": [name]}
                    cases.append({"if": condition, "then": signature.shortened(name, shorthands[name])})
        any_name = open_words(tuple(self.builder.names))
        full = {
            "type": "object",
            "properties": {"name": any_name},
            "anyOf": [{"required": [name]} for name in ("name", *shorthands)],
            "allOf": cases,
        }
        return {"anyOf": [self.builder.plain(Text()), full]}


@dataclass(frozen=True, slots=True)
class _Nested:
    """A component inside another one: the same shape, described once in the schema of the document.

    Attributes:
        builder: Builds the object.
    """

    builder: ComponentBuilder

    def __call__(self, place: Place) -> tuple[str, Any]:
        return ComponentShape(self.builder)(place)

    def schema(self) -> dict[str, Any]:
        return {"$ref": f"#/$defs/{self.builder.names.kind}"}
