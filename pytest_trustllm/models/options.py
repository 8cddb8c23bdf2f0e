"""How the keys of a models file's entry are read, and described."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pytest_trustllm.documents import Place
from pytest_trustllm.models.base import KINDS
from pytest_trustllm.shapes import Choice, Flag, Integer, Key, Number, Table, Text, Texts

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

COUNT = Integer(1, 100_000)
SECONDS = Number(0.001, 86_400.0)
RATE = Number(0.001, 1e12)
"""An amount per minute."""
DELAY = 0.5
"""Seconds before the second try, unless the entry says otherwise."""
DEADLINE = 600.0
"""Seconds for all tries of a request, unless the entry says otherwise."""


@dataclass(frozen=True, slots=True)
class Variable:
    """The name of an environment variable."""

    def __call__(self, place: Place) -> str:
        """Return it; a secret put there by mistake is not repeated in the message."""
        found = place.text()
        if not _VARIABLE.fullmatch(found):
            raise place.fail("expected the name of an environment variable, such as OPENAI_API_KEY, not the key itself")
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "string", "pattern": f"^{_VARIABLE.pattern}$"}


@dataclass(frozen=True, slots=True)
class Address:
    """An http(s) address without a password."""

    def __call__(self, place: Place) -> str:
        """Return it."""
        found = place.text()
        parts = urlsplit(found)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise place.fail("expected an address that begins with http:// or https://")
        if parts.username or parts.password:
            raise place.fail("the address holds a password; put it into the variable that 'api_key_env' names")
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}


@dataclass(frozen=True, slots=True)
class Plain:
    """Text, a number, true or false."""

    def __call__(self, place: Place) -> str | float | bool:
        """Return it."""
        found = place.value
        if not isinstance(found, str | int | float | bool):
            raise place.fail("expected text, a number, true or false")
        return found

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": ["string", "number", "boolean"]}


COMMON: Mapping[str, Key] = {
    "provider": Key(Text(), "Who makes the model answer: a provider, or a vendor with an API like OpenAI's."),
    "model": Key(Text(), "What the provider understands: repository, directory, API model, path, module:callable."),
    "revision": Key(Text(), "Commit of the hub; or a version of your own that keeps stored answers apart."),
    "kind": Key(Choice(KINDS), "What alone it can be asked for; absent: whatever the provider makes of it."),
    "aliases": Key(Texts(), "Other names of the entry.", default=()),
    "licence": Key(Text(), "Of the weights, or proprietary."),
    "open": Key(Flag(), "The weights can be downloaded."),
    "in_paper": Key(Flag(), "One of the 16 models of the TrustLLM paper."),
    "notes": Key(Text(), "What a user should know."),
    "unavailable": Key(Text(), "Why it cannot be asked; naming the model prints it."),
    "price": Key(
        Table(
            {
                "input": Key(Number(0.0), "USD per million tokens of prompts.", required=True),
                "output": Key(Number(0.0), "USD per million tokens of answers.", required=True),
            }
        ),
        "Without it the cost of a run is unknown.",
    ),
}
"""Keys of every entry."""
