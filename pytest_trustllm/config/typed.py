"""Check JSON against the types of :mod:`pytest_trustllm.formats`, and describe those types as JSON Schema.

Supported are the types that those are built from: ``TypedDict``, ``list``, ``dict`` with text as keys, ``Literal``,
unions with ``None``, ``Annotated`` with a least value, and plain values.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pytest_trustllm import formats
from pytest_trustllm.errors import one_line

Checker = Callable[[Any], None]
"""Raises :class:`Mismatch` if a value does not have the type."""
_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    NoneType: "null",
}
_MOST = 2**63
"""Greatest number: whole ones up to it can be held by most other programs, and no number of a run is larger."""
_JSON_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Mismatch(Exception):
    """A value does not have the type that its place in a document requires.

    Attributes:
        path: The place, such as ``run.model.name``; empty for the whole document.
        problem: What is wrong there, for people.
    """

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem

    def below(self, step: str) -> Mismatch:
        """Return the same mismatch as seen from one level further up."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        return Mismatch(self.problem, f"{step}{joint}{self.path}")


Document = TypeVar("Document")


def checked(value: Any, kind: type[Document]) -> Document:
    """Return decoded JSON as a document of a type.

    Args:
        value: What the JSON reader returned.
        kind: A ``TypedDict``.

    Raises:
        Mismatch: The value does not have the type.
    """
    check: Checker = checker(kind)  # type: ignore[arg-type]  # classes are hashable
    try:
        check(value)
    except RecursionError:
        raise Mismatch("nested too deeply") from None
    document: Document = value
    return document


@cache
def checker(kind: Any) -> Checker:
    """Return the checker of a type. It is built once per type, since a samples file has thousands of lines."""
    origin = get_origin(kind)
    if kind is Any:
        return _anything
    if origin is Annotated:
        return _annotated(kind)
    if is_typeddict(kind):
        return _typed_dict(kind)
    if origin in (Union, UnionType):
        return _union(get_args(kind))
    if origin is Literal:
        return _literal(get_args(kind))
    if origin is list:
        return _list(checker(*get_args(kind)))
    if origin is dict:
        return _dict(checker(get_args(kind)[1]))
    return _plain(kind)


def _anything(value: Any) -> None:
    """Check what has no type of its own: JSON with numbers of a size that other programs can hold."""
    if isinstance(value, dict):
        for key, entry in value.items():
            try:
                _anything(entry)
            except Mismatch as e:
                raise e.below(_step(key)) from None
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            try:
                _anything(entry)
            except Mismatch as e:
                raise e.below(f"[{number}]") from None
    elif type(value) in (int, float) and not _is(value, float):
        raise _wrong(_WORDS[float], value)


def _wrong(expected: str, value: Any) -> Mismatch:
    return Mismatch(f"expected {expected}, found {one_line(repr(value), 60)}")


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        # Python's reader accepts NaN and Infinity, which are not JSON, and numbers of any size
        return type(value) in (int, float) and abs(value) <= _MOST  # false for NaN as well
    if kind is int:
        return type(value) is int and abs(value) <= _MOST  # Python counts True as an int; here it is not a whole number
    return type(value) is kind


def _plain(kind: type) -> Checker:
    def check(value: Any) -> None:
        if not _is(value, kind):
            raise _wrong(_WORDS[kind], value)

    return check


def _annotated(kind: Any) -> Checker:
    inner, limit = get_args(kind)
    check_inner = checker(inner)
    if isinstance(limit, formats.Length):
        return _of_length(check_inner, limit.length)

    def check(value: Any) -> None:
        check_inner(value)
        if value < limit.least:
            raise _wrong(f"a number of at least {limit.least}", value)

    return check


def _of_length(check_inner: Checker, length: int) -> Checker:
    def check(value: Any) -> None:
        check_inner(value)
        if len(value) != length:
            raise _wrong(f"a list of {length}", value)

    return check


def _literal(words: tuple[str, ...]) -> Checker:
    accepted = " or ".join(repr(word) for word in words)

    def check(value: Any) -> None:
        if value not in words:
            raise _wrong(accepted, value)

    return check


def _union(kinds: tuple[Any, ...]) -> Checker:
    """Return a checker for a union of which at most one member is more than a plain value."""
    plain = [kind for kind in kinds if kind in _WORDS]
    others = [checker(kind) for kind in kinds if kind not in _WORDS]
    expected = " or ".join(_WORDS[kind] for kind in plain)

    def check(value: Any) -> None:
        if any(_is(value, kind) for kind in plain):
            return
        if not others:
            raise _wrong(expected, value)
        others[0](value)

    return check


def _list(check_entry: Checker) -> Checker:
    def check(value: Any) -> None:
        if type(value) is not list:
            raise _wrong("a list", value)
        for number, entry in enumerate(value):
            try:
                check_entry(entry)
            except Mismatch as e:
                raise e.below(f"[{number}]") from None

    return check


def _dict(check_entry: Checker) -> Checker:
    def check(value: Any) -> None:
        if type(value) is not dict:
            raise _wrong("a mapping", value)
        for key, entry in value.items():
            try:
                check_entry(entry)
            except Mismatch as e:
                raise e.below(_step(key)) from None

    return check


def _typed_dict(kind: Any) -> Checker:
    required = kind.__required_keys__
    checkers: dict[str, Checker] = {}

    def check(value: Any) -> None:
        if not checkers:  # not before the first value: a type may contain itself
            checkers.update({key: checker(hint) for key, hint in _hints(kind).items()})
        if type(value) is not dict:
            raise _wrong("a mapping", value)
        if not required <= value.keys():
            missing = next(key for key in checkers if key in required and key not in value)
            raise Mismatch(f"key {missing!r} is missing")
        for key, entry in value.items():
            check_entry = checkers.get(key)
            if check_entry is not None:
                try:
                    check_entry(entry)
                except Mismatch as e:
                    raise e.below(_step(key)) from None

    return check


def _step(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else f"[{one_line(key, 100)!r}]"


def _hints(kind: Any) -> dict[str, Any]:
    """Return key -> type of a TypedDict."""
    hints = get_type_hints(kind, globalns=vars(formats), include_extras=True)
    return {key: _unwrapped(hint) for key, hint in hints.items()}


def _unwrapped(hint: Any) -> Any:
    if get_origin(hint) in (NotRequired, Required):
        (inner,) = get_args(hint)
        return inner
    return hint


# --- JSON Schema ------------------------------------------------------------------------------------------------------


def document_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a TypedDict; the types inside it are under ``$defs``."""
    definitions: dict[str, Any] = {}
    top = _described(kind, definitions)
    top_name = kind.__name__
    whole: dict[str, Any] = definitions.pop(top_name) if not _refers(definitions, top["$ref"]) else top
    return {**whole, "$defs": dict(sorted(definitions.items()))}


def _refers(value: Any, reference: str) -> bool:
    if isinstance(value, dict):
        return value.get("$ref") == reference or any(_refers(entry, reference) for entry in value.values())
    return isinstance(value, list) and any(_refers(entry, reference) for entry in value)


def _described(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if origin is Annotated:
        return {**_described(arguments[0], definitions), **_limits(arguments[1])}
    if is_typeddict(kind):
        _define(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin in (Union, UnionType):
        return _described_union(arguments, definitions)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _described(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _described(arguments[1], definitions)}
    return {"type": _JSON_TYPES[kind]}


def _limits(limit: formats.Least | formats.Length) -> dict[str, int]:
    if isinstance(limit, formats.Length):
        return {"minItems": limit.length, "maxItems": limit.length}
    return {"minimum": limit.least}


def _described_union(kinds: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    if all(kind in _JSON_TYPES for kind in kinds):
        return {"type": [_JSON_TYPES[kind] for kind in kinds]}
    return {"anyOf": [_described(kind, definitions) for kind in kinds]}


def _define(kind: Any, definitions: dict[str, Any]) -> None:
    if kind.__name__ in definitions:
        return
    definition: dict[str, Any] = {"type": "object"}
    definitions[kind.__name__] = definition  # before its keys: a type may contain itself
    words = _words_of(kind)
    hints = _hints(kind)
    properties = {}
    for key, hint in hints.items():
        properties[key] = _described(hint, definitions)
        if key in words:
            properties[key] = {**properties[key], "description": words[key]}
    definition["description"] = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    definition["properties"] = properties
    definition["required"] = [key for key in hints if key in kind.__required_keys__]


def _words_of(kind: Any) -> dict[str, str]:
    """Return key -> its description in the docstrings of a TypedDict and of those that it extends."""
    words: dict[str, str] = {}
    for other in vars(formats).values():
        # Python 3.11 does not record which types a TypedDict extends, but it has all of their keys
        if is_typeddict(other) and other.__annotations__.items() <= kind.__annotations__.items():
            words.update(_own_words_of(other))
    return words


def _own_words_of(kind: Any) -> dict[str, str]:
    section = inspect.cleandoc(kind.__doc__ or "").partition("\nKeys:\n")[2].partition("\n\n")[0]
    words = {}
    for entry in re.split(r"\n {4}(?! )", f"\n{section}")[1:]:
        key, _, text = entry.partition(": ")
        words[key] = " ".join(text.replace("``", "`").split())
    return words
