from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_trustllm.models.api.completions import Completion, InvalidCompletion, read
from pytest_trustllm.types import ToolCall


def body(message: Any, finish: Any = "stop", **more: Any) -> str:
    return json.dumps({"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more})


TEXT = {"type": "text", "text": "hi"}


def parts(*found: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(found)}


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        ({"content": "hi"}, "hi", None),
        ({"content": "hi", "reasoning_content": "hm"}, "hi", "hm"),  # DeepSeek, vLLM
        ({"content": "hi", "reasoning": "hm"}, "hi", "hm"),  # OpenRouter, vLLM
        ({"content": "hi", "thinking": "hm"}, "hi", "hm"),  # Ollama
        ({"content": "hi", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, "hi", "hm"),
        ({"content": "hi", "reasoning": {"type": "reasoning", "summary": "hm"}}, "hi", "hm"),
        ({"content": "", "reasoning_content": "hm"}, "", "hm"),
        ({"content": None}, None, None),
        ({}, None, None),
        (parts({"type": "text", "text": "h"}, {"type": "text", "text": "i"}), "hi", None),
        (parts("h", {"type": "output_text", "text": "i"}), "hi", None),
        (parts({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, TEXT), "hi", "hm"),  # Magistral
        (parts({"type": "thinking", "thinking": "hm", "signature": "s"}, TEXT), "hi", "hm"),  # Anthropic
        (parts({"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "hi"}), "hi", None),
        (parts({"type": "refusal", "refusal": "no"}), "no", None),
        (parts({"type": "text", "text": "hm", "thought": True}, TEXT), "hi", "hm"),  # Google
        (parts({"type": "reasoning_content", "reasoning_content": {"text": "hm"}}, TEXT), "hi", "hm"),  # Bedrock
        ({"content": "hi", "reasoning": {"content": "hm"}}, "hi", "hm"),
        ({"content": TEXT}, "hi", None),
        (parts(), "", None),
        (parts(None, 5, {"type": "text"}), "", None),
    ],
)
def test_answer_and_reasoning_come_in_many_forms(message: Any, content: str | None, reasoning: str | None) -> None:
    found = read(body(message))
    assert (found.content, found.reasoning) == (content, reasoning)


def test_the_entry_may_say_where_the_reasoning_is() -> None:
    message = {"content": "hi", "reasoning": "not this", "thoughts": "hm"}
    assert read(body(message), "thoughts").reasoning == "hm"


@pytest.mark.parametrize(
    ("why", "finish"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("eos_token", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("content_filter: SAFETY", "content_filter"),
        ("SAFETY", "content_filter"),
        ("refusal", "content_filter"),
        ("sensitive", "content_filter"),
        ("error", "error"),
        ("odd", None),
        (None, None),
        ({"a": 1}, None),
    ],
)
def test_every_servers_word_for_the_end(why: Any, finish: str | None) -> None:
    assert read(body({"content": "x"}, why)).finish == finish


def test_tokens_of_the_reasoning_are_counted_apart() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 700, "completion_tokens_details": {"reasoning_tokens": 690}}
    found = read(body({"content": "x"}, usage=usage))
    assert (found.input_tokens, found.output_tokens, found.reasoning_tokens) == (7, 700, 690)
    odd = {"prompt_tokens": -1, "completion_tokens": 10**400, "completion_tokens_details": None}
    found = read(body({"content": "x"}, usage=odd))
    assert (found.input_tokens, found.output_tokens, found.reasoning_tokens) == (None, None, None)


NOTHING_WRITTEN = {"prompt_tokens": 9, "completion_tokens": 0}


@pytest.mark.parametrize(
    "whole",
    [
        {"choices": [], "usage": NOTHING_WRITTEN},
        {"choices": None, "usage": None},
        {"model": "g", "usage": NOTHING_WRITTEN},
        {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}},
    ],
)
def test_nothing_written_is_a_prompt_that_was_blocked(whole: Any) -> None:
    assert read(json.dumps(whole)).finish == "content_filter"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ""),
        ("null", ""),
        ("[1, 2]", ""),
        ("{}", ""),
        ('{"object": "chat.completion"}', ""),
        ('{"choices": [], "usage": {"completion_tokens": 3}}', ""),
        ('{"choices": [5]}', ""),
        ('{"message": "no route"}', "no route"),
        ("<html><h1>Sign in</h1></html>", "Sign in"),
        ("[" * 100_000, None),
    ],
)
def test_what_is_no_completion_says_what_it_is(text: str, reason: str | None) -> None:
    with pytest.raises(InvalidCompletion) as caught:
        read(text)
    assert reason is None or str(caught.value) == reason


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ({"error": {"message": "model is loading"}}, "model is loading"),
        ({"error": "model is loading"}, "model is loading"),
        ([{"error": {"code": 400, "message": "no"}}], "no"),
        (
            {"error_code": 336104, "error_msg": "the content of user is illegal"},
            "the content of user is illegal",
        ),  # Baidu
        ({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "login fail"),  # MiniMax
        (
            {
                "choices": [
                    {"message": {"content": "Sure, fir"}, "finish_reason": "error", "error": {"message": "lost"}}
                ]
            },
            "lost",
        ),
    ],
)
def test_an_error_within_a_good_status_is_found(whole: Any, message: str) -> None:
    found = read(json.dumps(whole))
    assert found.error is not None
    assert found.error.message == message


def test_calls_of_functions_are_named() -> None:
    calls = [{"id": "t", "type": "function", "function": {"name": "search", "arguments": "{}"}}]
    assert read(body({"content": None, "tool_calls": calls}, "tool_calls")).calls == (ToolCall("search", {}),)
    assert read(body({"content": None, "function_call": {"name": "f"}}, "function_call")).calls == (ToolCall("f", {}),)


def events(*chunks: Any, done: bool = True) -> str:
    sent = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return sent + ("data: [DONE]\n\n" if done else "")


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_a_stream_is_put_together() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 2}}
    other = {"choices": [{"index": 1, "delta": {"content": "not this"}, "finish_reason": "length"}]}
    whole = events(
        chunk(role="assistant", content=""),
        chunk(reasoning_content="h"),
        chunk(reasoning_content="m", content=None),
        chunk(content="I am "),
        other,
        chunk(content="here."),
        chunk("stop"),
        {"choices": [], "usage": usage},
    )
    found = read(": keep-alive\n\n" + whole.replace("\n\n", "\r\n\r\n"))
    expected = Completion("I am here.", None, "hm", "stop", "stop", (), None, 7, 5, 2, "m")
    assert found == expected


def test_parts_in_a_stream_are_put_together() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    found = read(events(chunk(content=thinking), chunk(content=[{"type": "text", "text": "hi"}]), chunk("stop")))
    assert (found.content, found.reasoning) == ("hi", "hm")


@pytest.mark.parametrize(
    "text",
    [
        events(chunk(content="Sure, fir"), done=False),
        events(chunk(content="Sure"), done=False) + 'data: {"choices": [{"del',
        events(done=True),
        "data: {}\n\n" * 5,
    ],
)
def test_a_stream_that_broke_off_is_no_answer(text: str) -> None:
    with pytest.raises(InvalidCompletion, match="a stream that broke off"):
        read(text)


def test_an_error_in_a_stream_is_an_error() -> None:
    found = read(events(chunk(content="Sure"), {"error": {"message": "overloaded", "code": 529}}))
    assert found.error is not None
    assert found.error.message == "overloaded"


def likeliest(*values: Any) -> dict[str, Any]:
    return {"token": "x", "top_logprobs": [{"logprob": value} for value in values]}


@pytest.mark.parametrize(
    ("logprobs", "gap"),
    [
        ({"content": [likeliest(-0.1, -2.5), likeliest(-1.0, -0.75), likeliest(-0.1, -9999.0)]}, 0.25),
        ({"content": [likeliest(-0.5)]}, None),
        ({"content": [likeliest(float("nan"), -1.0), likeliest("<b>", None), {"top_logprobs": 7}, None]}, None),
        ({"content": "none"}, None),
        ([1], None),
        (None, None),
    ],
)
def test_the_closest_choice_is_found_in_log_probabilities(logprobs: Any, gap: float | None) -> None:
    choice = {"message": {"content": "hi"}, "finish_reason": "stop", "logprobs": logprobs}
    assert read(json.dumps({"choices": [choice]})).smallest_gap == gap


def test_a_call_that_comes_in_pieces_is_put_together() -> None:
    pieces = [
        [{"index": 0, "id": "a", "function": {"name": "find", "arguments": ""}}],
        [{"index": 1, "id": "b", "function": {"name": "pay", "arguments": '{"sum"'}}],
        [{"index": 0, "function": {"arguments": '{"q": "x"}'}}],
        [{"index": 1, "function": {"arguments": ": 3}"}}],
    ]
    events = [{"choices": [{"delta": {"tool_calls": piece}}]} for piece in pieces]
    events.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    assert read(stream).calls == (ToolCall("find", {"q": "x"}), ToolCall("pay", {"sum": 3}))


@pytest.mark.parametrize("arguments", ["{broken", "[1]", '{"a": NaN}', '{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}'])
def test_arguments_that_are_no_json_object_are_kept_as_they_are(arguments: str) -> None:
    calls = [{"id": "t", "type": "function", "function": {"name": "search", "arguments": arguments}}]
    [call] = read(body({"content": None, "tool_calls": calls}, "tool_calls")).calls
    assert call == ToolCall("search", arguments)
    assert ToolCall.from_text(call.text()) == call


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"tool_calls": [{"function": {"name": None, "arguments": "{}"}}]}, "the name None, expected a text"),
        ({"tool_calls": [{"function": {"name": 5}}]}, "the name 5, expected a text"),
        ({"tool_calls": [{"function": {"name": "f"}}, {"function": {"arguments": "{}"}}]}, "the name None"),
        ({"tool_calls": [{"function": "f"}]}, "the name None"),
        ({"tool_calls": ["f"]}, "a tool call is 'f'"),
        ({"tool_calls": {"function": {"name": "f"}}}, "'tool_calls' is {'function': .*}, expected a list"),
        ({"function_call": {"name": None, "arguments": '{"a": 1}'}}, "the name None"),
    ],
)
def test_calls_without_a_name_are_no_completion(message: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidCompletion, match=what):
        read(body({"content": None, **message}, "tool_calls"))


def test_a_call_without_a_name_in_a_stream_is_no_completion() -> None:
    piece = {"index": 0, "function": {"name": None, "arguments": "{}"}}
    with pytest.raises(InvalidCompletion, match="the name None"):
        read(events(chunk(tool_calls=[piece]), chunk("tool_calls")))


@pytest.mark.parametrize(
    "nothing",
    [
        {"tool_calls": None},
        {"tool_calls": []},
        {"tool_calls": [{"type": "web_search", "web_search": {}}]},
        {"function_call": {"name": "", "arguments": ""}},
    ],
)
def test_what_servers_send_in_place_of_calls_is_no_call(nothing: dict[str, Any]) -> None:
    assert read(body({"content": "hi", **nothing})).calls == ()
