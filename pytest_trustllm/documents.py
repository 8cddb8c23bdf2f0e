"""Read a YAML mapping, or JSON, and say where a mistake sits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pytest_trustllm.errors import TrustLLMError, one_line, suggest

_MISSING = object()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which a key given twice is an error, not a silent replacement."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True, slots=True)
class Place:
    """A value inside a document, and the words to say where it stands.

    Attributes:
        value: What YAML gave.
        file: The file, as the user would write it.
        path: Such as ``tasks[2].scorer``; empty for the whole document.
        error: The exception class of this kind of document.
    """

    value: Any
    file: str
    path: str
    error: type[TrustLLMError]

    def fail(self, message: str) -> TrustLLMError:
        """Return (not raise) an error that begins with the file and the path."""
        return self.error(f"{self.file}: {self.path + ': ' if self.path else ''}{message}")

    def _is(self, kind: type | tuple[type, ...], words: str) -> Any:
        if not isinstance(self.value, kind) or (isinstance(self.value, bool) and kind is not bool):
            raise self.fail(f"expected {words}, found {one_line(repr(self.value), 80)}")
        return self.value

    def __getitem__(self, key: str) -> Place:
        """Return the value of a key that must be there."""
        place = self.get(key)
        if place is None:
            raise self.fail(f"key {key!r} is missing")
        return place

    def get(self, key: str) -> Place | None:
        """Return the value of a key, or None if it is absent."""
        value = self.value.get(key, _MISSING)
        return None if value is _MISSING else Place(value, self.file, f"{self.path}.{key}".lstrip("."), self.error)

    def mapping(self, known: Iterable[str] | None = None) -> Place:
        """Return self after checking that it is a mapping, with none but the known keys."""
        self._is(dict, "a mapping")
        for key in self.value:
            if not isinstance(key, str):
                raise self.fail(f"key {key!r} is not text; put it in quotes")
            if known is not None and key not in known:
                raise self.fail(f"unknown key {key!r}{suggest(key, known)}")
        return self

    def items(self) -> Iterator[tuple[str, Place]]:
        """Yield key and value of a mapping."""
        for key in self.mapping().value:
            yield key, self[key]

    def list(self) -> list[Place]:
        """Return the entries of a list."""
        self._is(list, "a list")
        return [Place(v, self.file, f"{self.path}[{i}]", self.error) for i, v in enumerate(self.value)]

    def text(self, *, blank: bool = False) -> str:
        """Return a string that is not empty, and not blank unless ``blank`` says so."""
        found: str = self._is(str, "text")
        if not (found if blank else found.strip()):
            raise self.fail("expected text, found nothing")
        return found

    def name(self) -> str:
        """Return a string that can stand in an id: letters, digits, ``_`` and ``-``."""
        found = self.text()
        if not found.replace("_", "a").replace("-", "a").isalnum() or not found.isascii():
            raise self.fail(f"{found!r} is not a name; use letters, digits, '_' and '-'")
        return found

    def texts(self, *, blank: bool = False) -> tuple[str, ...]:
        """Return a list of such strings; a single string counts as a list of one."""
        if isinstance(self.value, str):
            return (self.text(blank=blank),)
        return tuple(place.text(blank=blank) for place in self.list())

    def integer(self, low: int, high: int = 2**31) -> int:
        """Return a whole number in [low, high]."""
        found: int = self._is(int, "a whole number")
        if not low <= found <= high:
            raise self.fail(f"{found} is outside [{low}, {high}]")
        return found

    def number(self, low: float = float("-inf"), high: float = float("inf")) -> float:
        """Return a number in [low, high]."""
        try:
            found = float(self._is((int, float), "a number"))
        except OverflowError:
            raise self.fail("a whole number of more than 300 digits is not accepted") from None
        if not low <= found <= high:
            percent = low >= 0 and high <= 1 and 1 < found <= 100
            hint = f"; write {found / 100:g}" if percent else ""
            raise self.fail(f"{self.value:g} is outside [{low:g}, {high:g}]{hint}")
        return found

    def flag(self) -> bool:
        """Return true or false."""
        found: bool = self._is(bool, "true or false")
        return found

    def choice(self, accepted: Iterable[str]) -> str:
        """Return one of the accepted words."""
        found = self.text()
        if found not in accepted:
            raise self.fail(f"{found!r} is not accepted{suggest(found, accepted)}")
        return found


def read_json(path: Path, shown: object, error: type[TrustLLMError]) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        shown: How messages name it.
        error: What to raise.

    Raises:
        TrustLLMError: Of class ``error``: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise error(f"{shown}: cannot be read: {e.strerror or e}") from None
    except (ValueError, RecursionError) as e:  # not UTF-8, not JSON, a nest of brackets
        raise error(f"{shown}: not JSON: {one_line(e)}") from None


def lines_of(path: Path) -> dict[str, int]:
    """Return where the values of a document begin that :func:`read_document` has read: path to line, the first being 1.

    A value with an anchor has the line where it is written, under the first path that leads to it.
    """
    seen: set[int] = set()

    def walk(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
        if id(node) in seen:
            return
        seen.add(id(node))
        yield path, node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from walk(value, f"{path}.{key.value}".lstrip("."))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                yield from walk(value, f"{path}[{number}]")

    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    return {} if root is None else dict(walk(root, ""))


def read_document(path: Path, shown: str, error: type[TrustLLMError]) -> Place:
    """Read a YAML file whose top is a mapping.

    Args:
        path: The file.
        shown: How messages name it.
        error: What to raise.

    Raises:
        TrustLLMError: Of class ``error``: the file cannot be read, is not UTF-8, is not YAML, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise error(f"{shown}: cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        raise error(f"{shown}: is not UTF-8 text (byte {e.start})") from None
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None) or getattr(e, "context_mark", None)
        where = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
        problem = getattr(e, "problem", None) or getattr(e, "reason", None) or e
        raise error(f"{where}: broken YAML: {one_line(problem)}") from None
    except (ValueError, RecursionError) as e:  # an impossible date, a nest of brackets
        raise error(f"{shown}: broken YAML: {one_line(e)}") from None
    return Place(value, shown, "", error).mapping()
