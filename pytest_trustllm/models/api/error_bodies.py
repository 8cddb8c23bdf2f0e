"""The body of an HTTP reply that is not an answer: JSON of many shapes, a proxy's HTML page, plain text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import islice
from typing import Any

_MAX_CHARACTERS = 20_000
"""Characters of a body that are read: the reason is at its beginning."""
_MAX_DEPTH = 8
_MOST_DIGITS = 1000
_MAX_ENTRIES = 100
"""Entries of an object or a list that are read."""
_MARK_KEYS = frozenset({"code", "error_code", "type", "status", "reason", "reasons", "blockreason", "block_reason"})
_PARAMETER_KEYS = frozenset({"param", "loc"})
_MESSAGE_KEYS = (
    "message",
    "detail",
    "error_msg",
    "error_message",
    "error_description",
    "msg",
    "status_msg",
    "title",
    "error",
    "base_resp",
)
"""Keys under which servers explain an error, the most specific first."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a server reports in place of an answer.

    Attributes:
        message: The server's own words; of an HTML page, its visible text. Untrusted; empty if there is none.
        marks: Codes, types and reasons, in lower case.
        names: Request parameters that the server points at.
        data: The parsed JSON; None if the body is not JSON.
    """

    message: str = ""
    marks: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    data: Any = field(default=None, repr=False)


def parsed(body: str) -> Any:
    """Return the JSON of a body; whole numbers of thousands of digits, which Python refuses to read, are infinite.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(body, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(digits: str) -> int | float:
    # A good answer is not lost for a count beside it that nobody can use
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def read(body: str) -> ErrorBody:
    """Read the text of a body."""
    try:
        data = parsed(body)
    except ValueError:
        return ErrorBody(_visible_text(body[:_MAX_CHARACTERS]))
    return from_json(data)


def from_json(data: Any) -> ErrorBody:
    """Read parsed JSON: an object with ``error``, one without, a list of such objects (Google), or a string."""
    marks: set[str] = set()
    names: set[str] = set()
    for key, value in _leaves(data):
        if key in _MARK_KEYS and isinstance(value, str | int) and not isinstance(value, bool):
            marks.add(str(value).lower())
        if key in _PARAMETER_KEYS and isinstance(value, str):
            names.add(value)
    return ErrorBody(_message(data), frozenset(marks), frozenset(names), data)


def _join_distinct(parts: Iterable[str]) -> str:
    """Join texts, leaving out blank ones and repetitions."""
    stripped = (part.strip() for part in parts)
    return "; ".join(dict.fromkeys(part for part in stripped if part))


def _message(data: Any, depth: int = 0) -> str:
    """Return the explanation: the first key that holds one, and what a gateway passes on from the server behind it."""
    if isinstance(data, str):
        return _unpacked(data, depth)
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(data, list):
        return _join_distinct(_message(entry, depth + 1) for entry in data[:_MAX_DEPTH])
    if not isinstance(data, Mapping):
        return ""
    inner = data.get("error")
    if isinstance(inner, Mapping | list) and inner:
        return _message(inner, depth + 1)
    message = _first_message(data, depth)
    # FastAPI's validation errors: ``loc`` is the path to the part of the request that is meant
    location = data.get("loc")
    if message and isinstance(location, list):
        path = ".".join(str(step) for step in location[:_MAX_DEPTH])
        message = f"{path}: {message}"
    # OpenRouter puts the error of the server behind it under metadata.raw
    metadata = data.get("metadata")
    upstream = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return _join_distinct([message, _message(upstream, depth + 1)])


def _first_message(data: Mapping[str, Any], depth: int) -> str:
    for key in _MESSAGE_KEYS:
        message = _message(data.get(key), depth + 1)
        if message:
            return message
    return ""


def _unpacked(text: str, depth: int) -> str:
    """Return a text; one that is itself JSON or an HTML page is read in turn."""
    beginning = text[:_MAX_CHARACTERS]
    if not beginning.lstrip().startswith(("{", "[")) or depth > _MAX_DEPTH:
        return _visible_text(beginning)
    try:
        inner = parsed(text)
    except ValueError:
        return beginning
    return _message(inner, depth + 1) or beginning


def _leaves(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield the plain values of nested JSON with their keys in lower case; a list's entries have the list's key."""
    pending: list[tuple[str, Any, int]] = [("", data, 0)]
    while pending:
        key, value, depth = pending.pop()
        if not isinstance(value, Mapping | list):
            yield key, value
        elif depth < _MAX_DEPTH:
            pending += _children(key, value, depth + 1)


def _children(key: str, value: Mapping[str, Any] | list[Any], depth: int) -> list[tuple[str, Any, int]]:
    if isinstance(value, list):
        return [(key, entry, depth) for entry in value[:_MAX_ENTRIES]]
    return [(str(name).lower(), entry, depth) for name, entry in islice(value.items(), _MAX_ENTRIES)]


_HTML_TAG = re.compile(r"<(?:!doctype|html|head|body|h1|title|p|div|center|pre)\b", re.IGNORECASE)


class _PageText(HTMLParser):
    """Collects the visible text of a page, and its title."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden_elements = 0

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag in ("script", "style"):
            self._hidden_elements += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style") and self._hidden_elements > 0:
            self._hidden_elements -= 1

    def handle_data(self, data: str) -> None:
        if not self._hidden_elements:
            self.pieces.append(data)


def _visible_text(text: str) -> str:
    """Return the text of an HTML page, or any other text, on one line."""
    if _HTML_TAG.search(text) is None:
        return " ".join(text.split())
    page = _PageText()
    page.feed(text)
    return _join_distinct(" ".join(piece.split()) for piece in page.pieces)
