from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.api.parameter_support import ParameterSupport

BODY = {"model": "m", "messages": [], "max_tokens": 9, "temperature": 0.0, "seed": 1, "stop": ["x"]}


def learn(support: ParameterSupport, body: Any, status: int = 400, sent: Any = None) -> bool:
    error = error_bodies.read(body if isinstance(body, str) else json.dumps(body))
    return support.learn(status, error, support.applied(BODY) if sent is None else sent, "why")


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


EXTRA = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("temperature", 400, error("'temperature' does not support 0.0 with this model.", param="temperature")),
        ("temperature", 400, error("`temperature` is deprecated for this model.")),  # Anthropic
        ("temperature", 400, error("x", param="temperature", code="unsupported_value")),
        ("temperature", 400, error("`temperature` may only be set to 1 when thinking is enabled")),
        ("stop", 400, error("Unsupported parameter: 'stop' is not supported with this model.", param="stop")),
        ("stop", 400, error("Invalid 'stop': array too long. Expected an array with maximum length 4.", param="stop")),
        ("stop", 400, {"code": "invalid", "error": "Argument not supported on this model: stop"}),  # xAI
        ("seed", 400, error("Unrecognized request argument supplied: seed")),
        ("seed", 422, {"detail": [EXTRA]}),
        ("seed", 422, {"message": {"detail": [EXTRA]}}),  # Mistral
        ("seed", 400, error("property 'seed' is unsupported")),  # Groq
        ("seed", 400, [error('Invalid JSON payload received. Unknown name "seed": Cannot find field.')]),
        ("seed", 400, error('json: unknown field "seed"')),
        ("seed", 422, error("extra fields not permitted: seed")),
        ("seed", 400, error("seed is not supported by this model")),
        ("seed", 400, error("Additional properties are not allowed ('seed' was unexpected)")),
    ],
)  # fmt: skip
def test_a_parameter_that_a_rejection_names_is_not_sent_again(name: str, status: int, body: Any) -> None:
    support = ParameterSupport()
    sent = support.applied(BODY)
    assert learn(support, body, status)
    assert set(sent) - set(support.applied(BODY)) == {name}
    assert len(support.lines) == 1
    assert support.lines[0].startswith(f"{name} is not sent")
    assert support.lines[0].endswith(": why")
    assert learn(support, body, status, sent)  # of a request that was under way; nothing new
    assert len(support.lines) == 1
    assert not learn(support, body, status)  # what is not sent any more cannot be the reason


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("This model's maximum context length is 128 tokens; 'max_tokens' is too large: 512.")),
        (400, error("temperature must be between 0 and 1")),
        (400, error("Please do not stop here, your seed is great; the model is not available")),
        (400, error("unsupported language")),
        (400, error("messages: unknown role")),
        (429, error("Unsupported parameter: 'seed'")),
        (500, error("Unsupported parameter: 'seed'")),
        (400, ""),
    ],
)
def test_any_other_refusal_changes_nothing(status: int, body: Any) -> None:
    support = ParameterSupport()
    assert not learn(support, body, status)
    assert support.applied(BODY) == BODY
    assert support.lines == []


def test_the_limit_has_a_newer_name() -> None:
    support = ParameterSupport()
    assert learn(support, error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."))
    assert support.applied(BODY)["max_completion_tokens"] == 9
    assert "max_tokens" not in support.applied(BODY)
    assert support.lines == []  # the same limit under another name
    assert learn(support, error("Unsupported parameter: 'max_completion_tokens'"))
    assert not {"max_tokens", "max_completion_tokens"} & set(support.applied(BODY))
    assert support.lines == ["max_completion_tokens is not sent, so that answers can be of any length: why"]


@pytest.mark.parametrize(
    "message",
    [
        "This model only support stream mode, please enable the stream parameter to access the model.",  # Alibaba
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "stream must be true",
        "Only streaming requests are accepted",
    ],
)
def test_a_server_that_wants_a_stream_gets_one_once(message: str) -> None:
    support = ParameterSupport()
    assert learn(support, error(message))
    assert support.applied(BODY) == {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    assert support.lines == ["answers come as a stream: why"]
    assert not learn(support, error(message))
    assert learn(support, error("Unknown field: 'stream_options'"))
    assert support.applied(BODY) == {**BODY, "stream": True}


def test_what_the_user_asked_for_is_never_dropped() -> None:
    support = ParameterSupport(omit=["seed"], given=["temperature", "max_tokens"])
    assert support.applied(BODY) == {k: v for k, v in BODY.items() if k != "seed"}
    assert not learn(support, error("Unsupported parameter: 'temperature'"))
    assert not learn(support, error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."))


def test_adapting_comes_to_an_end() -> None:
    support = ParameterSupport()
    rejections = [error(f"Unsupported parameter: '{name}'") for name in (*BODY, "max_completion_tokens", "stream")]
    rejections.append(error("only streams"))
    learned = sum(learn(support, body) for _ in range(10) for body in rejections)
    assert learned == 6
