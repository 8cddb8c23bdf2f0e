"""How the keys of a models file's entry are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pytest_trustllm.documents import Place

Reader = Callable[[Place], Any]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def text(place: Place) -> str:
    """Read a non-empty string."""
    return place.text()


def flag(place: Place) -> bool:
    """Read true or false."""
    return place.flag()


def texts(place: Place) -> Sequence[str]:
    """Read a list of strings."""
    return place.texts()


def count(place: Place) -> int:
    """Read a whole number of at least 1."""
    return place.integer(1, 100_000)


def seconds(place: Place) -> float:
    """Read a time in seconds, up to a day."""
    return place.number(0.001, 86_400.0)


def rate(place: Place) -> float:
    """Read an amount per minute, more than nothing."""
    return place.number(0.001, 1e12)


def one_of(*accepted: str) -> Reader:
    """Return the reader of one of a few words."""
    return lambda place: place.choice(accepted)


def several_of(*accepted: str) -> Reader:
    """Return the reader of a list of a few words."""
    return lambda place: tuple(entry.choice(accepted) for entry in place.list())


def variable(place: Place) -> str:
    """Read the name of an environment variable; a secret put there by mistake is not repeated in the message."""
    found = place.text()
    if not _VARIABLE.fullmatch(found):
        raise place.fail("expected the name of an environment variable, such as OPENAI_API_KEY, not the key itself")
    return found


def url(place: Place) -> str:
    """Read an http(s) address."""
    found = place.text()
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise place.fail("expected an address that begins with http:// or https://")
    if parts.username or parts.password:
        raise place.fail("the address holds a password; put it into the variable that 'api_key_env' names")
    return found


def names_to_text(place: Place) -> Mapping[str, str]:
    """Read a mapping of strings to strings."""
    return {name: value.text() for name, value in place.items()}


def names_to_plain(place: Place) -> Mapping[str, Any]:
    """Read a mapping of strings to text, numbers or flags."""
    for _, value in place.items():
        if not isinstance(value.value, str | int | float | bool):
            raise value.fail("expected text, a number, true or false")
    return dict(place.value)


def price(place: Place) -> Mapping[str, float]:
    """Read USD per million tokens: ``{input: 0.1, output: 0.2}``."""
    place.mapping(("input", "output"))
    return {name: place[name].number(0.0) for name in ("input", "output")}
