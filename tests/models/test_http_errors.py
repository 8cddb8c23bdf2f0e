from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_trustllm.config.secrets import Scrubber
from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.api.http_errors import body_failure, clean, requested_pause, status_failure
from pytest_trustllm.models.api.retrying import RequestFailure


def failure(status: int, body: Any, headers: Mapping[str, str] | None = None) -> RequestFailure:
    text = body if isinstance(body, str) else json.dumps(body)
    return status_failure("host", status, error_bodies.read(text), headers or {})


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def test_a_reason_says_status_host_and_message() -> None:
    assert failure(400, error("too long")).reason == "HTTP 400 from host: too long"
    assert failure(500, "").reason == "HTTP 500 from host: no reason given"


FLAGGED = "Your chosen model requires moderation and your input was flagged for 'violence'"
AZURE = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, error(FLAGGED, code=403, metadata={"reasons": ["violence"], "flagged_input": "..."})),  # OpenRouter
        (403, error("no", code=403, metadata={"flagged_input": "..."})),
        (400, error(AZURE, code="content_filter", param="prompt")),
        (400, error(AZURE)),
        (400, error("x", innererror={"code": "ResponsibleAIPolicyViolation"})),
        (400, error("no", code="content_policy_violation")),
        (400, error("Invalid prompt: your prompt was flagged as potentially violating our usage policy.")),
        (400, error("x", code="invalid_prompt", type="invalid_request_error")),
        (400, error("Input data may contain inappropriate content.", code="data_inspection_failed")),  # Alibaba
        (400, error("系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301")),  # Zhipu
        (400, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),  # Google
        (422, {"detail": "The content was blocked by our safety filter"}),
        (451, error("Your request was rejected by our safety system.")),
        (403, [{"error": {"code": 403, "message": "The prompt was blocked due to prohibited content"}}]),
        (403, "Request blocked due to unsafe text"),
        (400, error("Content Exists Risk", code="invalid_request_error")),  # DeepSeek
        (
            403,
            {"error": "Content violates usage guidelines. API key ID: 7, Failed check: SAFETY_CHECK_TYPE_BIO"},
        ),  # xAI
        (400, error("litellm.ContentPolicyViolationError: blocked", code="400")),
        (403, error("input content is blocked", code="user_content_security_blocked")),  # Baidu
    ],
)
def test_a_prompt_that_a_filter_turns_away_is_blocked(status: int, body: Any) -> None:
    found = failure(status, body)
    assert (found.blocked, found.denied, found.fatal, found.again) == (True, False, False, False)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, error("You do not have access to this model", code="permission_denied")),
        (403, error("Your account was flagged for violating our usage policies")),
        (403, error("Country, region, or territory not supported", code="unsupported_country_region_territory")),
        (403, error("Project 'x' has no permission: content filter settings forbid it")),
        (403, "<html><title>403 Forbidden</title></html>"),
        (403, ""),
        (404, error("The model `m` does not exist", code="model_not_found")),
        (400, [error("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT")]),
        (400, error("x", details=[{"reason": "API_KEY_INVALID"}])),
    ],
)
def test_who_has_no_permission_is_turned_away(status: int, body: Any) -> None:
    found = failure(status, body)
    assert (found.blocked, found.denied, found.fatal) == (False, True, False)
    assert found.again == (status == 404)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, error("x")),
        (402, error("Insufficient credits. Add more")),
        (429, error("You exceeded your current quota", code="insufficient_quota")),
        (429, error("x", type="insufficient_quota")),
        (429, error("x", code="billing_hard_limit_reached")),
        (400, error("Your credit balance is too low to access the API")),  # Anthropic
        (402, error("Insufficient Balance")),  # DeepSeek
        (429, error("余额不足", code="1113")),  # Zhipu
    ],
)
def test_no_key_and_no_credit_end_the_run(status: int, body: Any) -> None:
    found = failure(status, body)
    assert (found.fatal, found.again, found.denied) == (True, False, False)


@pytest.mark.parametrize(
    "message",
    [
        "Rate limit reached for requests per day (RPD): Limit 200, Used 200. Please try again in 7m12s.",
        "Rate limit exceeded: free-models-per-day.",
        "Quota exceeded for metric generate_requests, limit: 50, GenerateRequestsPerDayPerProjectPerModel",
        "Your daily limit is reached",
        "tokens per day (TPD)",
    ],
)
def test_what_is_used_up_for_today_is_not_tried_again(message: str) -> None:
    found = failure(429, error(message))
    assert (found.denied, found.again) == (True, False)


def test_other_refusals_and_troubles_may_pass() -> None:
    found = failure(429, error("slow down, requests per minute"), {"retry-after": "2"})
    assert (found.again, found.denied, found.pause, found.strain) == (True, False, 2.0, "refused")
    found = failure(503, "<html>busy</html>", {"retry-after": "2"})
    assert (found.again, found.pause, found.strain) == (True, 2.0, "troubled")
    found = failure(400, error("context_length_exceeded"))
    assert (found.again, found.denied, found.fatal, found.blocked) == (False, False, False, False)
    assert not failure(400, error("The request contains unknown names, which are case-sensitive")).blocked


def test_an_error_within_a_good_status_means_what_its_code_says() -> None:
    def inner(**fields: Any) -> RequestFailure:
        return body_failure("host", error_bodies.from_json(fields), {})

    upstream = inner(message="Provider returned error", code=429, metadata={"raw": "rate-limited upstream"})
    assert upstream.reason == "error 429 from host: Provider returned error; rate-limited upstream"
    assert (upstream.again, upstream.strain) == (True, "refused")
    assert inner(message="timeout", code=502).strain == "troubled"
    assert inner(message="no credits", code=402).fatal
    assert inner(message="model is loading", type="server_error").again
    assert inner(message="blocked", code="content_filter").blocked
    assert inner(message="busy", code="0429" + "1" * 5000).again  # a number that int() refuses is not a status
    assert inner(error_code=336104, error_msg="the content of user is illegal").blocked
    assert inner(base_resp={"status_code": 1026, "status_msg": "input new_sensitive"}).blocked
    assert inner(input_sensitive=True, base_resp={"status_code": 1026}).blocked


def test_a_pause_is_told_in_many_ways() -> None:
    def pause(body: Any = None, **headers: str) -> float | None:
        return requested_pause({k.replace("_", "-"): v for k, v in headers.items()}, error_bodies.from_json(body))

    def soon(found: float | None) -> bool:
        return found is not None and 25 < found <= 30

    assert pause() is None
    assert pause(retry_after="1.5") == 1.5
    assert pause(retry_after="-3") == 0.0
    assert pause(retry_after="soon") is None
    assert pause(retry_after="nan") is None
    assert pause(retry_after="inf") == float("inf")
    assert pause(retry_after="Fri, 31 Dec 99999 23:59:59 GMT") is None
    assert soon(pause(retry_after=email.utils.formatdate(time.time() + 30, usegmt=True)))
    assert pause(retry_after_ms="1500") == 1.5
    assert soon(pause(x_ratelimit_reset=str(time.time() + 30)))
    assert soon(
        pause({"error": {"metadata": {"headers": {"X-RateLimit-Reset": str(int(time.time() * 1000 + 30_000))}}}})
    )
    used_up = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "2h6m30.5s"}
    assert pause(**used_up) == 7590.5
    assert pause(x_ratelimit_remaining_requests="5", x_ratelimit_reset_requests="17ms") is None
    assert pause({"error": {"details": [{"retryDelay": "37s"}]}}) == 37.0
    assert pause({"error": {"message": "Please try again in 7m12s."}}) == 432.0
    assert pause({"error": {"message": "Please retry in 37.2s"}}) == 37.2
    assert pause({"error": {"message": "try again in 20 minutes or so"}}) is None


def test_messages_lose_what_looks_like_a_key() -> None:
    assert clean("bad key sk-proj-abcDEF123456\nx", Scrubber(["hunter22"])) == r"bad key ***\nx"
    assert clean("hunter22 is wrong", Scrubber(["hunter22", ""])) == "*** is wrong"


def test_a_long_message_keeps_its_point() -> None:
    long = "We are sorry. " * 100 + "The reason is: no such deployment."
    assert clean(long).endswith("The reason is: no such deployment.")
    assert clean(long).startswith("We are sorry.")
    assert len(clean(long)) == 300
    assert clean("x" * 100_000 + "end").endswith("end")
