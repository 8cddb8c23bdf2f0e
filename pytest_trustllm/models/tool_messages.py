"""Chats with calls of tools, in the form of OpenAI's API, which chat templates and agents use too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.types import Messages, Response, ToolCall


def as_openai(messages: Messages, *, parsed: bool = False) -> list[dict[str, Any]]:
    """Return a chat as messages with ``tool_calls`` and ``tool_call_id``.

    Ids are made of the place in the chat: an id of nine characters is what every server accepts.

    Args:
        messages: (role, content) pairs.
        parsed: For chat templates: arguments as mappings instead of JSON text, and no content that is null.
    """
    chat: list[dict[str, Any]] = []
    waiting: list[str] = []
    for number, (role, content) in enumerate(messages):
        if role == "tool_call":
            if not chat or chat[-1]["role"] != "assistant":
                chat.append({"role": "assistant", "content": "" if parsed else None})
            identity = f"call{number:05d}"
            waiting.append(identity)
            call = _call(ToolCall.from_text(content), identity, parsed=parsed)
            chat[-1].setdefault("tool_calls", []).append(call)
        elif role == "tool":
            identity = waiting.pop(0) if waiting else f"call{number:05d}"
            chat.append({"role": "tool", "tool_call_id": identity, "content": content})
        else:
            waiting.clear()
            chat.append({"role": role, "content": content})
    return chat


def _call(call: ToolCall, identity: str, *, parsed: bool) -> dict[str, Any]:
    arguments: Any = call.arguments
    if parsed and isinstance(arguments, str):
        arguments = {"arguments": arguments}
    if not parsed and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"id": identity, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def read_calls(calls: Iterable[object]) -> tuple[ToolCall, ...]:
    """Return the calls of a message's ``tool_calls``, or of a list of ``name`` and ``arguments``.

    Raises:
        TypeError: An entry is something else.
    """
    read: list[ToolCall] = []
    for entry in calls:
        call = entry.get("function", entry) if isinstance(entry, Mapping) else None
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise TypeError(f"a tool call is {one_line(repr(entry), 80)}, expected name and arguments")
        arguments = call.get("arguments")
        if isinstance(arguments, Mapping):
            read.append(ToolCall(call["name"], json.loads(json.dumps(dict(arguments), default=str))))
        else:
            read.append(ToolCall.from_json(call["name"], "" if arguments is None else str(arguments)))
    return tuple(read)


def response_of(messages: Sequence[object], given: Messages) -> Response:
    """Return the response that an app's messages amount to: what it did, and its answer or its open calls.

    Args:
        messages: Of the assistant and of tools, as OpenAI's API has them. They may begin with those that the app got.
        given: What the app got.

    Raises:
        TypeError: They are something else, or end without an answer or a call.
    """
    entries = [_mapping(message) for message in messages]
    if entries[: len(given)] and _begins_with(entries, given):
        entries = entries[len(given) :]
    trace: list[tuple[str, str]] = []
    for entry in entries:
        trace += _pairs(entry)
    calls: list[ToolCall] = []
    while trace and trace[-1][0] == "tool_call":
        calls.insert(0, ToolCall.from_text(trace.pop()[1]))
    text = None
    if trace and trace[-1][0] == "assistant":
        text = trace.pop()[1]
    if text is None and not calls:
        raise TypeError("the callable returned messages that do not end with one of the assistant's")
    return Response(text=text or None, calls=tuple(calls), trace=tuple(trace))


def _mapping(message: object) -> Mapping[str, Any]:
    if not isinstance(message, Mapping):
        raise TypeError(f"the callable returned a list with {type(message).__name__}, expected messages")
    return message


def _begins_with(entries: Sequence[Mapping[str, Any]], given: Messages) -> bool:
    """Return whether messages repeat those that were given."""
    expected = as_openai(given)
    if len(entries) <= len(expected):
        return False
    return all(
        (entry.get("role"), entry.get("content") or None) == (message["role"], message["content"] or None)
        for entry, message in zip(entries, expected, strict=False)
    )


def _pairs(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a message of an assistant or a tool as (role, content) pairs."""
    role, content = entry.get("role"), entry.get("content")
    if role not in ("assistant", "tool"):
        shown = one_line(repr(role), 40)
        raise TypeError(f"the callable returned a message of {shown}, expected the assistant's and those of tools")
    if not isinstance(content, str | None):
        content = json.dumps(content, ensure_ascii=False, default=str)
    if role == "tool":
        return [("tool", content or "")]
    calls = read_calls(entry.get("tool_calls") or ())
    pairs = [("tool_call", call.text()) for call in calls]
    if content or not calls:
        pairs.insert(0, ("assistant", content or ""))
    return pairs
