"""What a value of a YAML file may be, said once: a shape reads a value, and describes it as JSON Schema.

The schema knows less than the reader: that a file exists or a metric is defined, only the reader can tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

from pytest_trustllm.documents import Place

T_co = TypeVar("T_co", covariant=True)
Reader = Callable[[Place], Any]
"""What reads a value; a shape is one that can describe the value too."""
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


def described(reader: Reader) -> dict[str, Any]:
    """Return the schema of a shape; that of a plain function, which a project may have registered, takes anything."""
    return reader.schema() if isinstance(reader, Shape) else {}


def open_words(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a word for which editors propose these, and to which a project can add its own."""
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
        return {"type": "string", "minLength": 1} if self.blank else dict(_NOT_BLANK)


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
    """A string that can stand in an id."""

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
        return place.number(
            float("-inf") if self.low is None else self.low, float("inf") if self.high is None else self.high
        )

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        bounds = {"minimum": self.low, "maximum": self.high}
        return {"type": "number", **{key: bound for key, bound in bounds.items() if bound is not None}}


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping of text to anything.

    Attributes:
        wanted: What is said of an empty one; empty: it may be empty.
    """

    wanted: str = ""

    def __call__(self, place: Place) -> Mapping[str, Any]:
        """Return it."""
        found: Mapping[str, Any] = place.mapping().value
        if self.wanted and not found:
            raise place.fail(self.wanted)
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "object", **({"minProperties": 1} if self.wanted else {})}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values of one shape.

    Attributes:
        each: Their shape.
        wanted: What is said of an empty one; empty: it may be empty.
    """

    each: Reader
    wanted: str = ""

    def __call__(self, place: Place) -> tuple[Any, ...]:
        """Return them."""
        found = tuple(self.each(entry) for entry in place.list())
        if self.wanted and not found:
            raise place.fail(self.wanted)
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "array", "items": described(self.each), **({"minItems": 1} if self.wanted else {})}


@dataclass(frozen=True, slots=True)
class MappingOf:
    """A mapping of text to values of one shape.

    Attributes:
        each: Shape of the values.
        names: The keys can stand in ids.
    """

    each: Reader
    names: bool = False

    def __call__(self, place: Place) -> dict[str, Any]:
        """Return it."""
        found: dict[str, Any] = {}
        for key, value in place.items():
            if self.names:
                dataclasses.replace(value, value=key).name()
            found[key] = self.each(value)
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        names = {"propertyNames": dict(_NAME)} if self.names else {}
        return {"type": "object", **names, "additionalProperties": described(self.each)}


@dataclass(frozen=True, slots=True)
class Either:
    """A value of one type, or something else.

    Attributes:
        kind: The type.
        one: How a value of it is read.
        other: How any other value is read.
    """

    kind: type
    one: Reader
    other: Reader

    def __call__(self, place: Place) -> Any:
        """Return it."""
        return (self.one if isinstance(place.value, self.kind) else self.other)(place)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"anyOf": [described(self.one), described(self.other)]}


@dataclass(frozen=True, slots=True)
class Made:
    """What is made of a value.

    Attributes:
        reader: How the value is read.
        make: Place and value -> what it stands for; it may refuse the value too.
    """

    reader: Reader
    make: Callable[[Place, Any], Any]

    def __call__(self, place: Place) -> Any:
        """Return it."""
        return self.make(place, self.reader(place))

    def schema(self) -> dict[str, Any]:
        """Describe the value."""
        return described(self.reader)


@dataclass(frozen=True, slots=True)
class Key:
    """A value with its meaning, as one key of a table.

    Attributes:
        reader: Shape of the value.
        text: What it means, for people.
        required: It must be there.
        default: What an absent one means.
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
        found = {**described(self.reader), "description": self.text}
        if self.default is not None:
            found["default"] = self.default
        return {**found, "examples": list(self.examples)} if self.examples else found


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with these keys and no others.

    Attributes:
        keys: Name -> key.
        also: What else the schema says about them; the reader's own checks say the same.
    """

    keys: Mapping[str, Key]
    also: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __call__(self, place: Place) -> dict[str, Any]:
        """Return the value of every key, of an absent one its default."""
        place.mapping(self.keys)
        found: dict[str, Any] = {}
        for name, key in self.keys.items():
            value = place[name] if key.required else place.get(name)
            found[name] = key.default if value is None else key(value)
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        required = [name for name, key in self.keys.items() if key.required]
        return {
            "type": "object",
            "properties": {name: key.schema() for name, key in self.keys.items()},
            **({"required": required} if required else {}),
            "additionalProperties": False,
            **self.also,
        }
