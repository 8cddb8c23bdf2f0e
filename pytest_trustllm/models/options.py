"""The keys of a models file's entries: how they are read, and described in the JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Choice, Flag, Integer, Key, Made, Number, Table, Text, Texts
from pytest_trustllm.errors import one_line
from pytest_trustllm.models import environment
from pytest_trustllm.models.base import MODEL_KINDS

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token of RFC 9110, section 5.6.2."""

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
        """Return it; the error message does not repeat the value, which may be a secret put there by mistake."""
        name = place.text()
        if not _VARIABLE_NAME.fullmatch(name):
            raise place.fail("expected the name of an environment variable, such as OPENAI_API_KEY, not the key itself")
        return name

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "string", "pattern": f"^{_VARIABLE_NAME.pattern}$"}


@dataclass(frozen=True, slots=True)
class Address:
    """An http(s) address without a password."""

    def __call__(self, place: Place) -> str:
        """Return it."""
        address = place.text().strip()
        if not environment.is_address(address):
            raise place.fail("expected an address that begins with http:// or https://")
        parts = urlsplit(address)
        if parts.username or parts.password:
            raise place.fail("the address holds a password; put it into the variable that 'api_key_env' names")
        if environment.has_completions_path(address):
            raise place.fail("/chat/completions is appended to the address; leave it out")
        return address

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "string", "pattern": "^\\s*[Hh][Tt][Tt][Pp][Ss]?://"}


@dataclass(frozen=True, slots=True)
class Headers:
    """HTTP headers by name."""

    def __call__(self, place: Place) -> dict[str, str]:
        """Return them; no message repeats a value, which may be a secret put there by mistake."""
        headers = {}
        for name, value in place.items():
            if not HEADER_NAME.fullmatch(name):
                raise value.fail("not the name of an HTTP header; expected letters, digits and hyphens")
            headers[name] = value.text()
        return headers

    def schema(self) -> dict[str, Any]:
        """Describe them."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^{HEADER_NAME.pattern}$"},
            "additionalProperties": {"type": "string", "pattern": r"\S"},
        }


@dataclass(frozen=True, slots=True)
class Json:
    """A mapping of text to values that JSON can hold.

    Attributes:
        without: Keys that are not allowed.
    """

    without: tuple[str, ...] = ()

    def __call__(self, place: Place) -> dict[str, Any]:
        """Return it; YAML has dates and numbers that JSON has not."""
        mapping: dict[str, Any] = dict(place.mapping().value)
        for name in self.without:
            if name in mapping:
                raise place.fail(f"{name!r} is not allowed here: it would change the request's prompt or model")
        try:
            json.dumps(mapping, allow_nan=False)
        except (TypeError, ValueError) as e:
            reason = f"this cannot be sent as JSON: {one_line(e, 120)}"
            raise place.fail(f"{reason}; quote dates, and write neither .nan nor .inf") from None
        return mapping

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        if not self.without:
            return {"type": "object"}
        return {"type": "object", "properties": dict.fromkeys(self.without, False)}


@dataclass(frozen=True, slots=True)
class Plain:
    """Text, a number, true or false."""

    def __call__(self, place: Place) -> str | float | bool:
        """Return it."""
        value = place.value
        if not isinstance(value, str | int | float | bool):
            raise place.fail("expected text, a number, true or false")
        return value

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": ["string", "number", "boolean"]}


_EXPECTED_REASONING = "expected tags {start: ..., end: ...}, a field of the message {field: ...}, or none"


@dataclass(frozen=True, slots=True)
class ReasoningSetting:
    """How a model marks its reasoning: ``{start, end}``, ``{field}`` or ``none``."""

    def __call__(self, place: Place) -> str | dict[str, str]:
        """Return it as plain JSON."""
        if isinstance(place.value, str):
            return place.choice(("none",))
        if not isinstance(place.value, Mapping):
            raise place.fail(_EXPECTED_REASONING)
        place.mapping(("start", "end", "field"))
        if set(place.value) == {"field"}:
            return {"field": place["field"].text()}
        if "field" in place.value or "end" not in place.value:
            raise place.fail(_EXPECTED_REASONING)
        start = place.get("start")
        if start is None:
            raise place.fail("'start' is missing; write start: '' if the chat template opens the thought")
        # ``text`` rejects an empty value, which has a meaning here
        start_tag = "" if start.value == "" else start.text()
        return {"start": start_tag, "end": place["end"].text()}

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        text = {"type": "string", "pattern": r"\S"}
        tags = {"start": {"type": "string"}, "end": text}
        return {
            "anyOf": [
                {"const": "none"},
                {"type": "object", "additionalProperties": False, "required": ["start", "end"], "properties": tags},
                {"type": "object", "additionalProperties": False, "required": ["field"], "properties": {"field": text}},
            ]
        }


def _generation_settings(place: Place, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an entry has, as plain JSON."""
    if not place.value:
        raise place.fail("no setting is given; expected some of temperature, max_new_tokens, stop, seed")
    given = {name: value for name, value in values.items() if value is not None}
    if "stop" in given:
        given["stop"] = list(given["stop"])
    return given


_GENERATION = Table(
    {
        "temperature": Key(Number(0.0, 10.0), "0 means greedy."),
        "max_new_tokens": Key(COUNT, "Upper bound of the answer's length, in tokens."),
        "stop": Key(Texts(blank=True), "The answer ends before the first of these."),
        "seed": Key(Integer(0), "Seed of sampled answers; every epoch adds one."),
    }
)

ENTRY_KEYS: Mapping[str, Key] = {
    "provider": Key(Text(), "What runs the model: a provider, or a vendor with an OpenAI-compatible API."),
    "model": Key(Text(), "What the provider understands: repository, directory, API model, path, module:callable."),
    "revision": Key(Text(), "Commit of the hub; or a version of your own that keeps stored answers apart."),
    "kind": Key(Choice(MODEL_KINDS), "The only kind of model to use it as; absent: any that its provider supports."),
    "aliases": Key(Texts(), "Other names of the entry.", default=()),
    "licence": Key(Text(), "Of the weights, or proprietary."),
    "open": Key(Flag(), "The weights can be downloaded."),
    "in_paper": Key(Flag(), "One of the 16 models of the TrustLLM paper."),
    "notes": Key(Text(), "What a user should know."),
    "unavailable": Key(Text(), "Why the model is not available any more; naming it prints this."),
    "reasoning": Key(
        ReasoningSetting(),
        "How reasoning is told from the answer: tags, a field of the API's message, or none; absent: by the chat "
        "template or by well-known tags.",
    ),
    "thinking_tokens": Key(
        Integer(0, 1_000_000),
        "Granted for the reasoning, on top of the task's max_new_tokens; absent: 4096 for a model known to reason.",
    ),
    "generation": Key(Made(_GENERATION, _generation_settings), "Settings that override those of the suites."),
    "guard": Key(Text(), "Template of a guard model (--trust-guard); absent: by the model's name."),
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

MODEL_OPTIONS = ("price", "licence", "reasoning", "thinking_tokens", "generation", "guard")
"""The ones among them that become options of the model, whatever its provider."""


def request_keys(concurrency: int, timeout: float, deadline: float = DEADLINE) -> dict[str, Key]:
    """Return the keys of an API's entry that concern how its requests are sent, with the given defaults."""
    return {
        "max_concurrency": Key(COUNT, "Requests in flight at most, over the whole run.", default=concurrency),
        "timeout": Key(SECONDS, "Seconds for one try.", default=timeout),
        "deadline": Key(SECONDS, "Seconds for all tries of a request, from the first.", default=deadline),
        "retry_delay": Key(SECONDS, "Seconds before the second try; doubled each time.", default=DELAY),
        "requests_per_minute": Key(RATE, "Limit on requests, retries included."),
    }
