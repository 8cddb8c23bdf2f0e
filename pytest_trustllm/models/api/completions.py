"""Reads the chat completions of many servers, whole or in a stream, into one form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.api.error_bodies import ErrorBody
from pytest_trustllm.types import NOTHING, ToolCall

_FINISHES: Mapping[str, tuple[str, ...]] = {
    "stop": ("stop", "end_turn", "eos", "eos_token", "stop_sequence", "stop_token", "complete", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
    "content_filter": (
        "content_filter",
        "content_filtered",
        "refusal",  # Anthropic: one of its classifiers stopped the answer
        "safety",
        "prohibited_content",
        "blocklist",
        "recitation",
        "spii",
        "image_safety",
        "sensitive",  # Zhipu
        "guardrail_intervened",  # Bedrock
    ),
    "error": ("error", "network_error", "abort", "failed", "malformed_function_call"),
}
_FINISH = {word: finish for finish, words in _FINISHES.items() for word in words}
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message in which servers send reasoning."""
_PART_FIELDS = ("text", "thinking", "reasoning", "summary", "refusal", "content")
_THOUGHT_TYPES = frozenset({"thinking", "reasoning", "reasoning_content", "reasoning.text", "reasoning.summary"})


class InvalidCompletion(Exception):
    """A body is not a completion; the text tells what it is instead."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a chat server.

    Attributes:
        content: The text; None if there is no content.
        refusal: A refusal that the server keeps apart from the content.
        reasoning: What the server keeps apart as reasoning; None if nothing.
        finish: ``stop``, ``length``, ``content_filter``, ``error``, or None for any other reason.
        finish_reason: The server's own word for it.
        calls: The functions that the model called.
        error: What went wrong although the HTTP status is 200; None if nothing.
        input_tokens: Tokens of the prompt; None if unknown.
        output_tokens: Tokens of the answer, its reasoning included; None if unknown.
        reasoning_tokens: Tokens of the reasoning; None if unknown.
        model: The model that answered, according to the server.
        smallest_gap: Least difference of the log probabilities of the two likeliest tokens at any place of the answer;
            None: the server was not asked for them, or did not send them.
    """

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    finish: str | None = None
    finish_reason: str = "None"
    calls: tuple[ToolCall, ...] = ()
    error: ErrorBody | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    model: str | None = None
    smallest_gap: float | None = None

    def changed(self, change: Callable[[str], str]) -> Completion:
        """Return it with all texts changed, however their characters were escaped and over how many parts they came."""

        def each(text: str | None) -> str | None:
            return None if text is None else change(text)

        return replace(
            self,
            content=each(self.content),
            refusal=each(self.refusal),
            reasoning=each(self.reasoning),
            finish_reason=change(self.finish_reason),
            calls=tuple(ToolCall(change(call.name), _changed(call.arguments, change)) for call in self.calls),
            model=each(self.model),
        )


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(name): _changed(inner, change) for name, inner in value.items()}
    return [_changed(inner, change) for inner in value] if isinstance(value, list) else value


def read(body: str, field: str | None = None) -> Completion:
    """Read the body of a reply with HTTP status 200.

    Args:
        body: JSON, or server-sent events.
        field: Field of the message that holds the reasoning; None: wherever servers usually put it.

    Raises:
        InvalidCompletion: It is something else, a stream that broke off, or has a call of a tool without a name.
    """
    document = _document(body)
    error = _error(document)
    if error is not None:
        return Completion(error=error)
    usage = _as_mapping(document.get("usage"))
    known = _model_and_tokens(document, usage)
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        if _is_blocked(document, usage):
            return Completion(**known, finish="content_filter")
        raise InvalidCompletion(error_bodies.from_json(document).message)
    choice = _as_mapping(choices[0])
    message = _as_mapping(choice.get("message"))
    if not message and "text" not in choice and "finish_reason" not in choice:
        raise InvalidCompletion("")
    # ``text`` is the field of the older completions API, which some servers still use
    content, thoughts = _text_and_thoughts(message.get("content", choice.get("text")))
    choice_error = choice.get("error")
    finish_reason = choice.get("finish_reason")
    return Completion(
        **known,
        content=content,
        refusal=_text(message.get("refusal")),
        reasoning=_join([thoughts, _separate_reasoning(message, field)]),
        finish=_finish(finish_reason),
        finish_reason=str(finish_reason),
        calls=tuple(_called_functions(message)),
        error=error_bodies.from_json(choice_error) if choice_error else None,
        smallest_gap=_smallest_gap(choice),
    )


def _smallest_gap(choice: Mapping[str, Any]) -> float | None:
    gaps: list[float] = []
    tokens = _as_mapping(choice.get("logprobs")).get("content")
    for token in tokens if isinstance(tokens, list) else ():
        likeliest = _as_mapping(token).get("top_logprobs")
        if not isinstance(likeliest, list):
            continue
        found = [_as_mapping(entry).get("logprob") for entry in likeliest]
        known = sorted(value for value in found if isinstance(value, int | float) and math.isfinite(value))
        if len(known) > 1:
            gaps.append(known[-1] - known[-2])
    return min(gaps, default=None)


def _error(document: Mapping[str, Any]) -> ErrorBody | None:
    """Return the error that a body reports; None if it reports none."""
    error = document.get("error")
    if isinstance(error, str) and error:
        return error_bodies.from_json(document)
    if error:
        return error_bodies.from_json(error)
    baidu_code = document.get("error_code")
    minimax_code = _as_mapping(document.get("base_resp")).get("status_code")
    if baidu_code or minimax_code:
        return error_bodies.from_json(document)
    return None


def _as_mapping(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return NOTHING


def _text(value: object) -> str | None:
    if isinstance(value, str) and value:
        return value
    return None


def token_count(value: object) -> int | None:
    """Return a number of tokens out of a reply; None if it is not one."""
    # Not isinstance: true is an int too. Larger numbers would lose digits in the results file's readers
    if type(value) is int and 0 <= value < 2**53:
        return value
    return None


def _model_and_tokens(document: Mapping[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return those fields of a completion that do not depend on its choice."""
    details = _as_mapping(usage.get("completion_tokens_details"))
    return {
        "input_tokens": token_count(usage.get("prompt_tokens")),
        "output_tokens": token_count(usage.get("completion_tokens")),
        "reasoning_tokens": token_count(details.get("reasoning_tokens", usage.get("reasoning_tokens"))),
        "model": _text(document.get("model")),
    }


def _finish(finish_reason: object) -> str | None:
    """Return the finish in our words; Google appends a reason: 'content_filter: SAFETY'."""
    return _FINISH.get(str(finish_reason).partition(":")[0].strip().lower())


def _is_blocked(document: Mapping[str, Any], usage: Mapping[str, Any]) -> bool:
    """Return whether a completion without choices means that a filter turned the prompt away.

    Google's servers send no choices then. A body that is broken in another way has none of these marks.
    """
    if document.get("promptFeedback") or document.get("prompt_feedback"):
        return True
    written = token_count(usage.get("completion_tokens", usage.get("candidatesTokenCount")))
    if written == 0:
        return True
    return "choices" in document and "usage" in document and not usage


def _text_and_thoughts(content: object) -> tuple[str | None, str | None]:
    """Return the text and the reasoning of a message's content: a string, or parts of several types."""
    if isinstance(content, str):
        return content, None
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return None, None
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        part_type, text = _part(part)
        if part_type in _THOUGHT_TYPES:
            thoughts.append(text)
        else:
            texts.append(text)
    return "".join(texts), _join(thoughts)


def _part(part: object) -> tuple[str, str]:
    """Return the type and the text of a part of a content."""
    if isinstance(part, str):
        return "text", part
    fields = _as_mapping(part)
    part_type = str(fields.get("type"))
    if fields.get("thought") is True:  # Google's mark
        part_type = "thinking"
    return part_type, _part_text(fields, part_type)


def _part_text(fields: Mapping[str, Any], part_type: str) -> str:
    """Return the text of a part; the text of a thought may consist of parts again (Mistral, Bedrock)."""
    for name in (part_type, *_PART_FIELDS):
        inner = fields.get(name)
        if not inner:
            continue
        if isinstance(inner, Mapping):
            inner = [inner]
        if isinstance(inner, list):
            return "".join(_part(entry)[1] for entry in inner)
        return inner if isinstance(inner, str) else ""
    return ""


def _separate_reasoning(message: Mapping[str, Any], field: str | None) -> str | None:
    """Return the reasoning that is sent apart from the content."""
    names = _REASONING_FIELDS if field is None else (field,)
    for name in names:
        reasoning = _join(_text_and_thoughts(message.get(name)))
        if reasoning:
            return reasoning
    # OpenRouter sends a list of parts
    return _text_and_thoughts(message.get("reasoning_details"))[1]


def _join(texts: Iterable[str | None]) -> str | None:
    return "\n".join(text for text in texts if text) or None


def _called_functions(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    """Yield the functions that the model wants to call.

    Raises:
        InvalidCompletion: The calls are no list, or one of them has no name.
    """
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidCompletion(f"'tool_calls' is {one_line(repr(calls), 60)}, expected a list")
    for call in calls:
        if not isinstance(call, Mapping):
            raise InvalidCompletion(f"a tool call is {one_line(repr(call), 60)}")
        function = call.get("function")
        if function is not None:  # some servers list what they called themselves, such as a search
            yield _call(_as_mapping(function))
    older = _as_mapping(message.get("function_call"))  # the older API's field
    if any(older.values()):
        yield _call(older)


def _call(function: Mapping[str, Any]) -> ToolCall:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidCompletion(f"a tool call has the name {one_line(repr(name), 60)}, expected a text")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return ToolCall.from_json(name, text)


def _joined_calls(pieces: Iterable[object]) -> list[Any]:
    """Return the calls that the pieces of a stream add up to: only the first piece of a call has its name."""
    calls: list[Any] = []
    functions: list[dict[str, Any]] = []
    for piece in pieces:
        function = _as_mapping(_as_mapping(piece).get("function"))
        if functions and function and not function.get("name"):
            _append_arguments(functions, _as_mapping(piece).get("index"), function.get("arguments"))
        elif function:
            functions.append(dict(function))
            calls.append({"function": functions[-1]})
        else:
            calls.append(piece)
    return calls


def _append_arguments(functions: list[dict[str, Any]], index: object, piece: object) -> None:
    """Append a piece of a stream to the arguments of the call that it belongs to."""
    number = index if type(index) is int and 0 <= index < len(functions) else -1
    if isinstance(piece, str):
        functions[number]["arguments"] = f"{functions[number].get('arguments') or ''}{piece}"


def _document(body: str) -> Mapping[str, Any]:
    """Return the JSON object of a body, or the one that a stream's events add up to."""
    text = body.lstrip("\ufeff \r\n\t")
    if text.startswith(("data:", "event:", "id:", ":")):
        return _assembled(_events(text))
    try:
        document = error_bodies.parsed(text)
    except ValueError:
        raise InvalidCompletion(error_bodies.read(body).message) from None
    if isinstance(document, list) and document:  # Google wraps errors in a list
        document = document[0]
    if not isinstance(document, Mapping):
        raise InvalidCompletion("")
    return document


def _events(body: str) -> Iterator[Mapping[str, Any] | None]:
    """Yield the objects of server-sent events; None where the server announces the end.

    Raises:
        InvalidCompletion: One of them is not JSON.
    """
    for event in body.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        data = "\n".join(lines).strip()
        if data == "[DONE]":
            yield None
        elif data:
            try:
                yield _as_mapping(error_bodies.parsed(data))
            except ValueError:
                raise InvalidCompletion("a stream that broke off") from None


def _assembled(events: Iterable[Mapping[str, Any] | None]) -> Mapping[str, Any]:
    """Return the completion that the chunks of a stream add up to.

    Raises:
        InvalidCompletion: It has no end: the connection was lost, and what arrived is not the whole answer.
    """
    document: dict[str, Any] = {}
    message: dict[str, Any] = {}
    finish_reason: object = None
    ended = False
    for event in events:
        if event is None:
            ended = True
            continue
        if event.get("error"):
            return event
        for key in ("id", "model", "usage"):
            if event.get(key):
                document[key] = event[key]
        choice = _first_choice(event)
        _append(message, _as_mapping(choice.get("delta") or choice.get("message")))
        finish_reason = choice.get("finish_reason") or finish_reason
    if finish_reason is None and not (ended and message):
        raise InvalidCompletion("a stream that broke off")
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = _joined_calls(message["tool_calls"])
    document["choices"] = [{"message": message, "finish_reason": finish_reason}]
    return document


def _first_choice(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event's piece of the first choice, the only one that is read."""
    choices = event.get("choices")
    if isinstance(choices, list):
        for choice in map(_as_mapping, choices):
            if choice.get("index", 0) in (0, None):
                return choice
    return NOTHING


def _append(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Append a chunk to a message: texts to texts, lists to lists; anything else replaces the former value."""
    for key, value in delta.items():
        former = message.get(key)
        if isinstance(value, str) and isinstance(former, str) and key != "role":
            message[key] = former + value
        elif isinstance(value, list) and isinstance(former, list):
            message[key] = [*former, *value]
        elif value is not None:
            message[key] = value
