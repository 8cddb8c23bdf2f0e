"""What a test gives to the model under test: each mistake is one line that names the argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_trustllm.errors import ModelError, one_line, suggest
from pytest_trustllm.types import Generation, Messages, Tool

__tracebackhide__ = True
"""pytest leaves the frames of this module out: the mistake is in the test."""
_MESSAGE_KEYS = ("role", "content")
_TOOL_KEYS = ("name", "description", "parameters")
_MOST_TEMPERATURE = 10.0


def text_of(value: object, name: str) -> str:
    """Return a text that is not blank.

    Args:
        value: What the test gave.
        name: What it is, for messages.

    Raises:
        ModelError: It is no text, or a blank one.
    """
    if not isinstance(value, str):
        raise ModelError(f"{name}: expected a text, found {_shown(value)}")
    if not value.strip():
        raise ModelError(f"{name}: the text is empty")
    return value


def messages_of(prompt: object) -> Messages:
    """Return the messages of a prompt: a text, or a list of ``{"role", "content"}``.

    Raises:
        ModelError: It is neither.
    """
    if isinstance(prompt, str):
        return (("user", prompt),)
    if not isinstance(prompt, Sequence) or not prompt:
        raise ModelError(f"prompt: expected a text, or a list of messages, found {_shown(prompt)}")
    messages = []
    for number, message in enumerate(prompt):
        if not isinstance(message, Mapping) or not all(isinstance(message.get(key), str) for key in _MESSAGE_KEYS):
            raise ModelError(f"prompt[{number}]: expected a mapping with 'role' and 'content', found {_shown(message)}")
        messages.append((message["role"], message["content"]))
    return tuple(messages)


def tools_of(tools: object) -> tuple[Tool, ...]:
    """Return what the model may call.

    Raises:
        ModelError: One is not a mapping with a name, or has another key than a tool has.
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise ModelError(f"tools: expected a list, found {_shown(tools)}")
    return tuple(_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools))


def _tool(tool: object, place: str) -> Tool:
    if not isinstance(tool, Mapping):
        raise ModelError(f"{place}: expected a mapping with 'name', found {_shown(tool)}")
    for key in tool:
        if key not in _TOOL_KEYS:
            raise ModelError(f"{place}: unknown key {_shown(key)}{suggest(str(key), _TOOL_KEYS)}")
    name = text_of(tool.get("name"), f"{place}: 'name'")
    parameters = tool.get("parameters") or {"type": "object"}
    if not isinstance(parameters, Mapping):
        raise ModelError(f"{place}: 'parameters': expected a JSON Schema as a mapping, found {_shown(parameters)}")
    return Tool(name, parameters, str(tool.get("description", "")))


def generation_of(temperature: object, max_new_tokens: object, stop: object) -> Generation:
    """Return how a response is generated.

    Raises:
        ModelError: A value is of another type, or out of its range.
    """
    if not _is_number(temperature) or not 0 <= float(temperature) <= _MOST_TEMPERATURE:  # type: ignore[arg-type]
        raise ModelError(f"temperature: expected a number from 0 to {_MOST_TEMPERATURE:g}, found {_shown(temperature)}")
    if not isinstance(max_new_tokens, int) or isinstance(max_new_tokens, bool) or max_new_tokens < 1:
        raise ModelError(f"max_new_tokens: expected a whole number from 1 on, found {_shown(max_new_tokens)}")
    stops = (stop,) if isinstance(stop, str) else stop  # a bare text is a sequence of letters
    if not isinstance(stops, Sequence) or not all(isinstance(text, str) and text for text in stops):
        raise ModelError(f"stop: expected a text or a list of texts, found {_shown(stop)}")
    return Generation(float(temperature), max_new_tokens, tuple(stops))  # type: ignore[arg-type]


def seed_of(seed: object) -> int:
    """Return a seed.

    Raises:
        ModelError: It is not a whole number.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ModelError(f"seed: expected a whole number, found {_shown(seed)}")
    return seed


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return one_line(repr(value), 60)
