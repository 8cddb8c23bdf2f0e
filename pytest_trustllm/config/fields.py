"""Shapes of values in YAML files: a shape reads a value, and describes it as JSON Schema.

The schema accepts more than the reader: whether a file exists or a metric is defined, only the reader can tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

from pytest_trustllm.config.documents import Place

T_co = TypeVar("T_co", covariant=True)
Reader = Callable[[Place], Any]
"""Reads a value. A shape is a reader that can also describe the value."""
_NOT_BLANK: Mapping[str, Any] = MappingProxyType({"type": "string", "pattern": r"\S"})
_NAME: Mapping[str, Any] = MappingProxyType({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})


@runtime_checkable
class Shape(Protocol[T_co]):
    """What a value may be."""

    def __call__(self, place: Place) -> T_co:
        """Read the value.

        Raises:
            TrustLLMError: It is something else; the message says where and what is accepted.
        """
        ...

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of the value."""
        ...


def schema_of(reader: Reader) -> dict[str, Any]:
    """Return the schema of a shape; for a plain function, which a project may have registered, one for anything."""
    if isinstance(reader, Shape):
        return reader.schema()
    return {}


def open_words(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a word that is one of these, which editors propose, or one that a project has added."""
    return {"anyOf": [{"enum": list(words)}, dict(_NOT_BLANK)]}


@dataclass(frozen=True, slots=True)
class Text:
    """A string.

    Attributes:
        blank: It may consist of white space.
    """

    blank: bool = False

    def __call__(self, place: Place) -> str:
        """Return it."""
        return place.text(blank=self.blank)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        if self.blank:
            return {"type": "string", "minLength": 1}
        return dict(_NOT_BLANK)


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of strings; a single string counts as a list of one.

    Attributes:
        blank: They may consist of white space.
    """

    blank: bool = False

    def __call__(self, place: Place) -> tuple[str, ...]:
        """Return them."""
        return place.texts(blank=self.blank)

    def schema(self) -> dict[str, Any]:
        """Describe them."""
        text = Text(self.blank).schema()
        return {"anyOf": [text, {"type": "array", "items": text}]}


@dataclass(frozen=True, slots=True)
class Name:
    """A string that can be part of an id."""

    def __call__(self, place: Place) -> str:
        """Return it."""
        return place.name()

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return dict(_NAME)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words.

    Attributes:
        words: Those accepted.
    """

    words: tuple[str, ...]

    def __call__(self, place: Place) -> str:
        """Return it."""
        return place.choice(self.words)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def __call__(self, place: Place) -> bool:
        """Return it."""
        return place.flag()

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number.

    Attributes:
        low: Least.
        high: Greatest.
    """

    low: int
    high: int = 2**31

    def __call__(self, place: Place) -> int:
        """Return it."""
        return place.integer(self.low, self.high)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Number:
    """A number.

    Attributes:
        low: Least; None: any.
        high: Greatest; None: any.
    """

    low: float | None = None
    high: float | None = None

    def __call__(self, place: Place) -> float:
        """Return it."""
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        return place.number(low, high)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        schema: dict[str, Any] = {"type": "number"}
        if self.low is not None:
            schema["minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high
        return schema


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping of text to anything.

    Attributes:
        if_empty: Message about an empty one; without a message it may be empty.
    """

    if_empty: str = ""

    def __call__(self, place: Place) -> Mapping[str, Any]:
        """Return it."""
        fields: Mapping[str, Any] = place.mapping().value
        if self.if_empty and not fields:
            raise place.fail(self.if_empty)
        return fields

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        schema: dict[str, Any] = {"type": "object"}
        if self.if_empty:
            schema["minProperties"] = 1
        return schema


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values of one shape.

    Attributes:
        each: Their shape.
        if_empty: Message about an empty one; without a message it may be empty.
    """

    each: Reader
    if_empty: str = ""

    def __call__(self, place: Place) -> tuple[Any, ...]:
        """Return them."""
        values = tuple(self.each(entry) for entry in place.list())
        if self.if_empty and not values:
            raise place.fail(self.if_empty)
        return values

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        schema: dict[str, Any] = {"type": "array", "items": schema_of(self.each)}
        if self.if_empty:
            schema["minItems"] = 1
        return schema


@dataclass(frozen=True, slots=True)
class MappingOf:
    """A mapping of text to values of one shape.

    Attributes:
        each: Shape of the values.
        names: The keys can be parts of ids.
    """

    each: Reader
    names: bool = False

    def __call__(self, place: Place) -> dict[str, Any]:
        """Return it."""
        values: dict[str, Any] = {}
        for key, value in place.items():
            if self.names:
                dataclasses.replace(value, value=key).name()  # a mistake in the key, reported at its value's path
            values[key] = self.each(value)
        return values

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        schema: dict[str, Any] = {"type": "object"}
        if self.names:
            schema["propertyNames"] = dict(_NAME)
        schema["additionalProperties"] = schema_of(self.each)
        return schema


@dataclass(frozen=True, slots=True)
class Either:
    """A value of one type, or something else.

    Attributes:
        expected: The type.
        matching: Reads a value of that type.
        other: Reads any other value.
    """

    expected: type
    matching: Reader
    other: Reader

    def __call__(self, place: Place) -> Any:
        """Return it."""
        if isinstance(place.value, self.expected):
            return self.matching(place)
        return self.other(place)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"anyOf": [schema_of(self.matching), schema_of(self.other)]}


@dataclass(frozen=True, slots=True)
class Made:
    """A value that is converted after it was read.

    Attributes:
        reader: Reads the value.
        make: Place and value -> what the value means; may reject the value.
    """

    reader: Reader
    make: Callable[[Place, Any], Any]

    def __call__(self, place: Place) -> Any:
        """Return it."""
        return self.make(place, self.reader(place))

    def schema(self) -> dict[str, Any]:
        """Describe the value."""
        return schema_of(self.reader)


@dataclass(frozen=True, slots=True)
class Key:
    """A value with its meaning, as one key of a table.

    Attributes:
        reader: Shape of the value.
        text: What it means, for people.
        required: It may not be absent.
        default: The value of an absent one.
        examples: Values that editors propose.
    """

    reader: Reader
    text: str
    required: bool = False
    default: Any = None
    examples: tuple[Any, ...] = ()

    def __call__(self, place: Place) -> Any:
        """Read the value."""
        return self.reader(place)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        schema = {**schema_of(self.reader), "description": self.text}
        if self.default is not None:
            schema["default"] = self.default
        if self.examples:
            schema["examples"] = list(self.examples)
        return schema


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with these keys and no others.

    Attributes:
        keys: Name -> key.
        also: Further conditions in the schema, which code that uses the table checks by itself.
    """

    keys: Mapping[str, Key]
    also: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __call__(self, place: Place) -> dict[str, Any]:
        """Return the value of every key; the default of an absent one."""
        place.mapping(self.keys)
        values: dict[str, Any] = {}
        for name, key in self.keys.items():
            value = place[name] if key.required else place.get(name)
            values[name] = key.default if value is None else key(value)
        return values

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: key.schema() for name, key in self.keys.items()},
        }
        required = [name for name, key in self.keys.items() if key.required]
        if required:
            schema["required"] = required
        schema["additionalProperties"] = False
        return {**schema, **self.also}
