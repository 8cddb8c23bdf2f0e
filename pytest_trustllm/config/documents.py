"""Read a YAML mapping, or JSON, and report mistakes with file and place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pytest_trustllm.config.reading import read_text
from pytest_trustllm.errors import TrustLLMError, one_line, suggest

MOST_BYTES = 8 * 2**20
"""Longest YAML document that is read: rows by the thousand belong into a JSONL file beside it."""
_MOST_NODES = 1_000_000
"""Values in a document, with each alias counted as what it stands for."""
_MOST_LEVELS = 64
"""Lists and mappings inside each other."""
_MOST_DIGITS = 19
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge"))

_MISSING = object()  # a key can have the value None
_NAME = re.compile("[A-Za-z0-9_-]+")


_RESOLVER = yaml.resolver.Resolver()
_WRITTEN_AS = {
    f"{_TAG}int": (f"{_TAG}int",),
    f"{_TAG}float": (f"{_TAG}float", f"{_TAG}int"),
    f"{_TAG}bool": (f"{_TAG}bool",),
}
"""Tags that a file may give a value itself -> what the value must look like; PyYAML believes the tag."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which a key given twice is an error: PyYAML keeps the last one silently."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        # a list as a key is valid YAML, but cannot be a key of a dict
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
        if key in keys:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        keys.add(key)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _composed(text: str) -> tuple[_Loader, yaml.Node | None]:
    """Return the nodes of a document that are safe to construct, and the loader that constructs them.

    Raises:
        yaml.YAMLError: It is not YAML, or holds what has no place in a configuration.
    """
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is not None and _size(node, {}, 0) > _MOST_NODES:
        raise _mistake(node, f"more than {_MOST_NODES:,} values, with aliases written out")
    return loader, node


def _mistake(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _size(node: yaml.Node, sizes: dict[int, int | None], depth: int) -> int:
    """Return how many values a node stands for, its aliases written out.

    Args:
        node: The node.
        sizes: Of nodes that were visited; None: a parent of this one.
        depth: How many nodes it is inside of.

    Raises:
        yaml.YAMLError: It is inside itself, nested too deeply, or not plain data.
    """
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise _mistake(node, "a value that contains itself")
        return size
    if depth > _MOST_LEVELS:
        raise _mistake(node, f"nested more than {_MOST_LEVELS} levels deep")
    sizes[id(node)] = None
    if isinstance(node, yaml.MappingNode):
        size = 1 + sum(_size(part, sizes, depth + 1) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        size = 1 + sum(_size(part, sizes, depth + 1) for part in node.value)
    else:
        size = 1
        _make_plain(node)
    if node.tag not in _PLAIN_TAGS:
        raise _mistake(node, f"{one_line(node.tag.replace(_TAG, '!!'), 60)} is not accepted; write plain data")
    sizes[id(node)] = size
    return size


def _make_plain(node: yaml.Node) -> None:
    """Let a date be text, as written, and refuse numbers that are none to other programs."""
    plain: str = _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
    if plain not in _WRITTEN_AS.get(node.tag, (plain,)):
        raise _mistake(node, f"{one_line(node.value, 30)!r} is no {node.tag.removeprefix(_TAG)}")
    if node.tag == f"{_TAG}timestamp":
        node.tag = f"{_TAG}str"
    elif node.tag == f"{_TAG}int":
        digits = node.value.lstrip("+-")
        if ":" in digits or digits[:2].lower() == "0b" or len(digits) > _MOST_DIGITS:
            raise _mistake(node, f"a whole number that is not written in at most {_MOST_DIGITS} decimal digits")
    elif node.tag == f"{_TAG}float" and (":" in node.value or node.value.lstrip("+-").lower() in (".inf", ".nan")):
        raise _mistake(node, f"{one_line(node.value, 30)} is not a number that is accepted")


@dataclass(frozen=True, slots=True)
class Place:
    """A value inside a document, and where it is.

    Attributes:
        value: As YAML has it.
        file: The file, as the user would write it.
        path: Such as ``tasks[2].scorer``; empty for the whole document.
        error: The exception class for this kind of document.
    """

    value: Any
    file: str
    path: str
    error: type[TrustLLMError]

    def fail(self, message: str) -> TrustLLMError:
        """Return (not raise) an error that begins with the file and the path."""
        where = f"{self.file}: {self.path}" if self.path else self.file
        return self.error(f"{where}: {message}")

    def _of_type(self, expected: type | tuple[type, ...], words: str) -> Any:
        is_expected = isinstance(self.value, expected)
        if isinstance(self.value, bool) and expected is not bool:  # to Python, true is a number
            is_expected = False
        if not is_expected:
            raise self.fail(f"expected {words}, found {one_line(repr(self.value), 80)}")
        return self.value

    def __getitem__(self, key: str) -> Place:
        """Return the value of a required key."""
        place = self.get(key)
        if place is None:
            raise self.fail(f"key {key!r} is missing")
        return place

    def get(self, key: str) -> Place | None:
        """Return the value of a key, or None if it is absent."""
        value = self.value.get(key, _MISSING)
        if value is _MISSING:
            return None
        return Place(value, self.file, f"{self.path}.{key}".lstrip("."), self.error)

    def mapping(self, known: Iterable[str] | None = None) -> Place:
        """Return self after checking that it is a mapping, with known keys alone unless they are None."""
        self._of_type(dict, "a mapping")
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
        values = self._of_type(list, "a list")
        return [Place(value, self.file, f"{self.path}[{i}]", self.error) for i, value in enumerate(values)]

    def text(self, *, blank: bool = False) -> str:
        """Return a string that is not empty, and not white space alone unless ``blank`` is true."""
        text: str = self._of_type(str, "text")
        content = text if blank else text.strip()
        if not content:
            raise self.fail("expected text, found nothing")
        return text

    def name(self) -> str:
        """Return a string that can be part of an id: letters, digits, ``_`` and ``-``."""
        text = self.text()
        if not _NAME.fullmatch(text):
            raise self.fail(f"{text!r} is not a name; use letters, digits, '_' and '-'")
        return text

    def texts(self, *, blank: bool = False) -> tuple[str, ...]:
        """Return a list of such strings; a single string counts as a list of one."""
        if isinstance(self.value, str):
            return (self.text(blank=blank),)
        return tuple(place.text(blank=blank) for place in self.list())

    def integer(self, low: int, high: int = 2**31) -> int:
        """Return a whole number in [low, high]."""
        number: int = self._of_type(int, "a whole number")
        if not low <= number <= high:
            raise self.fail(f"{number} is outside [{low}, {high}]")
        return number

    def number(self, low: float = float("-inf"), high: float = float("inf")) -> float:
        """Return a number in [low, high]."""
        try:
            number = float(self._of_type((int, float), "a number"))
        except OverflowError:
            raise self.fail("a whole number of more than 300 digits is not accepted") from None
        if not low <= number <= high:
            is_percentage = low >= 0 and high <= 1 and 1 < number <= 100
            hint = f"; write {number / 100:g}" if is_percentage else ""
            raise self.fail(f"{self.value:g} is outside [{low:g}, {high:g}]{hint}")
        return number

    def flag(self) -> bool:
        """Return true or false."""
        flag: bool = self._of_type(bool, "true or false")
        return flag

    def choice(self, accepted: Iterable[str]) -> str:
        """Return one of the accepted words."""
        word = self.text()
        if word not in accepted:
            raise self.fail(f"{word!r} is not accepted{suggest(word, accepted)}")
        return word


def lines_of(path: Path) -> dict[str, int]:
    """Return where the values of a document begin: path -> line, counted from 1.

    A value with an anchor has the line where it is written, under the first path that leads to it.

    Args:
        path: A file that :func:`read_document` has read.
    """
    visited: set[int] = set()

    def walk(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
        if id(node) in visited:  # an alias; one of its own parents would be walked for ever
            return
        visited.add(id(node))
        yield path, node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from walk(value, f"{path}.{key.value}".lstrip("."))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                yield from walk(value, f"{path}[{number}]")

    _, root = _composed(path.read_text(encoding="utf-8"))
    if root is None:
        return {}
    return dict(walk(root, ""))


def misnamed(path: Path) -> bool:
    """Return whether a file is meant as YAML, but is not read because its name does not end in ``.yaml``."""
    return path.suffix.lower() in (".yml", ".yaml") and path.suffix != ".yaml"


def read_document(path: Path, shown: str, error: type[TrustLLMError]) -> Place:
    """Read a YAML file whose top is a mapping.

    Args:
        path: The file.
        shown: Its name in messages.
        error: What to raise.

    Raises:
        TrustLLMError: Of class ``error``: the file cannot be read, is not UTF-8, is not YAML, or is not a mapping; or
            a terminal would obey its name.
    """
    if not shown.isprintable():  # pytest prints it as it is, as part of the names of tests
        raise error(f"{one_line(shown)}: the name of the file has characters that cannot be printed; rename it")
    return mapping_in(read_text(path, shown, error, MOST_BYTES), shown, error)


def mapping_in(text: str, shown: str, error: type[TrustLLMError], *, aliases: bool = True) -> Place:
    """Read a YAML text whose top is a mapping.

    Args:
        text: The text.
        shown: Name of its file in messages.
        error: What to raise.
        aliases: It may have aliases (``*name``), which can stand for much more text than there is.

    Raises:
        TrustLLMError: Of class ``error``: it is not YAML, or not a mapping.
    """
    try:
        if not aliases and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise error(f"{shown}: its YAML has aliases (*name), which are not read; write the value out")
        loader, node = _composed(text)
        value = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as e:
        raise error(f"{shown}{_position(e)}: broken YAML: {one_line(_problem(e))}") from None
    except (ValueError, RecursionError) as e:  # an impossible date, a nest of brackets
        raise error(f"{shown}: broken YAML: {one_line(e)}") from None
    return Place(value, shown, "", error).mapping()


def _position(error: yaml.YAMLError) -> str:
    """Return ``:line:column`` of a mistake, counted from 1; empty if PyYAML does not tell."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return ""
    return f":{mark.line + 1}:{mark.column + 1}"


def _problem(error: yaml.YAMLError) -> object:
    """Return what is wrong: errors of a reader and of a parser keep it under different names."""
    return getattr(error, "problem", None) or getattr(error, "reason", None) or error
