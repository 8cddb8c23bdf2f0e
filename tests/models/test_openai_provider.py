from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.api.openai import PROVIDER
from pytest_trustllm.models.base import AsyncModel, LoadSettings, ModelSpec
from pytest_trustllm.types import BLOCKED, REASONING_CUT, Generation, Request, Response, Tool, ToolCall

pytest.importorskip("openai")

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for name in ("OPENAI_BASE_URL", *ACCOUNT):
        monkeypatch.delenv(name, raising=False)


def spec(url: str, kind: Any = "chat", **options: Any) -> ModelSpec:
    return ModelSpec(
        "openai:some-model",
        "openai",
        "some-model",
        None,
        kind,
        {"base_url": f"{url}/v1", "retry_delay": 0.002, **options},
    )


def completion(text: str | None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text} | more
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "some-model-0613",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def refusing(status: int, message: str = "nothing doing", code: str | None = None) -> tuple[int, dict[str, str], Any]:
    return status, {}, {"error": {"message": message, "type": "x", "param": None, "code": code}}


def user(text: str, **generation: Any) -> Request:
    return Request((("user", text),), Generation(**generation))


def ask(model_spec: ModelSpec, *requests: Request, settings: LoadSettings | None = None) -> list[Response]:
    async def run() -> list[Response]:
        model: AsyncModel = PROVIDER.load(model_spec, settings or LoadSettings())
        try:
            return list(await asyncio.gather(*map(model.answer, requests)))
        finally:
            await model.close()

    return asyncio.run(run())


def test_a_request_carries_messages_limits_and_seed(server: Any) -> None:
    server.reply(lambda *_: (200, {}, completion("hello")))
    request = Request((("system", "be kind"), ("user", "hi")), Generation(0.7, 33, ("\n\n",)), seed=2**40 + 5)
    (found,) = ask(spec(server.url), request)
    assert (found.text, found.input_tokens, found.output_tokens, found.finish) == ("hello", 7, 3, "stop")
    assert found.revision == "some-model-0613"
    assert found.error is None
    assert found.seconds is not None
    (_, headers, body) = server.seen[0]
    assert body == {
        "model": "some-model",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "max_tokens": 33,
        "temperature": 0.7,
        "seed": 5,
        "stop": ["\n\n"],
    }
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["user-agent"] == "pytest-trustllm"
    # Nothing else: no server needs to know the machine
    assert headers.keys() - {"authorization", "user-agent"} == {
        "host",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
    }


def test_a_host_that_cannot_exist_ends_the_run_at_once() -> None:
    first, second = ask(spec("http://" + "ä" * 80 + ".de"), user("hi"), user("ho"))
    assert first.error is not None
    assert first.error.startswith("the server's address cannot be used: Invalid IDNA")
    assert "tries" not in first.error
    assert [first.fatal, second.fatal] == [True, True]


def test_the_users_headers_replace_ours_however_they_are_spelled(server: Any) -> None:
    server.reply(lambda *_: (200, {}, completion("hello")))
    headers = {"user-agent": "mine", "AUTHORIZATION": "Basic abc"}
    ask(spec(server.url, headers=headers), user("hi"))
    (_, seen, _) = server.seen[0]
    assert (seen["user-agent"], seen["authorization"]) == ("mine", "Basic abc")


def test_a_header_in_two_spellings_is_sent_once(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "openai-organization: org-2\nX-A: 0")
    server.reply(lambda *_: (200, {}, completion("hello")))
    ask(spec(server.url, headers={"X-A": "1"}, extra_headers={"x-a": "2"}), user("hi"))
    (_, seen, _) = server.seen[0]
    assert (seen["openai-organization"], seen["x-a"]) == ("org-2", "2")


def test_a_server_s_cookies_come_back_to_it(server: Any) -> None:
    server.reply(lambda *_: (200, {"Set-Cookie": "node=7"}, completion("hello")))
    ask(spec(server.url, max_concurrency=1), user("hi"), user("ho"))
    assert [headers.get("cookie") for _, headers, _ in server.seen] == [None, "node=7"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ALL_PROXY", "socks4://127.0.0.1:1", "the HTTP client cannot use ALL_PROXY: Unknown scheme for proxy URL"),
        ("SSL_CERT_FILE", "/nowhere.pem", "the HTTP client cannot use SSL_CERT_FILE: [Errno 2] No such file"),
    ],
)
def test_an_environment_that_no_client_can_use_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    for name in ("ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, value)
    (found,) = ask(spec("http://127.0.0.1:9"), user("hi"))
    assert found.fatal
    assert found.error is not None
    assert found.error.startswith(message)


def test_what_json_cannot_hold_is_not_sent(server: Any) -> None:
    (found,) = ask(spec(server.url, extra_body={"note": "\ud83d"}), user("hi"))
    assert found.error is not None
    assert found.error.startswith("the request cannot be written as JSON: ")
    assert "tries" not in found.error
    assert server.seen == []


ACCOUNT = {
    "OPENAI_ORG_ID": "org-1",
    "OPENAI_PROJECT_ID": "proj-2\n",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: gate:0123456789abcdef\r\n\nX-Team: red",
}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of OpenAI's client that name an account."""
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("account")
def test_the_account_of_the_environment_is_charged(server: Any) -> None:
    server.reply(lambda *_: (200, {}, completion("org-1 has gate:0123456789abcdef")))
    of_file = spec(server.url, headers={"x-team": "blue"})
    (found,) = ask(of_file, user("hi"))
    (_, headers, _) = server.seen[0]
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-2")
    assert (headers["x-gateway"], headers["x-team"]) == ("gate:0123456789abcdef", "blue")
    # Who pays changes no answer: the names are recorded, and the stored answers stay valid
    info = PROVIDER.load(of_file, LoadSettings()).info
    assert info["headers"] == ["x-team"]
    assert info["about"]["environment_headers"] == ["OpenAI-Organization", "OpenAI-Project", "X-Gateway"]
    assert "gate:0123456789abcdef" not in str(info)
    assert found.text is not None
    assert "gate:0123456789abcdef" not in found.text


@pytest.mark.usefixtures("account")
def test_another_account_s_key_is_sent_without_the_account_of_the_environment(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "other")
    server.reply(lambda *_: (200, {}, completion("hello")))
    ask(spec(server.url, api_key_env="OTHER_KEY"), user("hi"))
    (_, headers, _) = server.seen[0]
    assert headers.keys().isdisjoint({"openai-organization", "openai-project", "x-gateway", "x-team"})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OPENAI_ORG_ID", "org\n1", "OPENAI_ORG_ID holds a line end; correct it"),
        ("OPENAI_CUSTOM_HEADERS", "X: secret\nsecret", "line 2 of OPENAI_CUSTOM_HEADERS is not a header; write "),
        ("OPENAI_CUSTOM_HEADERS", "a b: secret", "line 1 of OPENAI_CUSTOM_HEADERS is not a header; write "),
        ("OPENAI_CUSTOM_HEADERS", "X: sécret", "line 1 of OPENAI_CUSTOM_HEADERS holds a character that is not"),
    ],
)
def test_a_header_of_the_environment_that_cannot_be_sent_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ModelError, match=re.escape(f"models: 'openai:some-model': {message}")) as caught:
        PROVIDER.check(spec("http://gpu-box"))
    assert "cret" not in str(caught.value)


def test_half_an_emoji_travels_both_ways(server: Any) -> None:
    server.reply(lambda *_: (200, {}, completion("ok \ud83d")))
    (found,) = ask(spec(server.url), user("hi \ud83d"))
    assert found.text == "ok ?" or found.error is not None
    assert server.seen[0][2]["messages"][0]["content"] == "hi ?"


def test_options_change_what_is_sent(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "other")
    server.reply(lambda *_: (200, {}, completion("hello")))
    options = {"api_key_env": "OTHER_KEY", "headers": {"X-Team": "red"}, "system_prompt": "short", "omit": ("seed",)}
    ask(spec(server.url, **options), user("hi", temperature=1.0))
    (_, headers, body) = server.seen[0]
    assert "seed" not in body
    assert body["messages"][0] == {"role": "system", "content": "short"}
    assert (headers["authorization"], headers["x-team"]) == ("Bearer other", "red")


def test_the_environment_names_the_server(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reply(lambda *_: (200, {}, completion("hello")))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1/")
    (found,) = ask(ModelSpec("openai:m", "openai", "m"), user("hi"))
    assert found.text == "hello"
    assert server.seen[0][0] == "/v1/chat/completions"


@pytest.mark.parametrize(
    "fault",
    [
        refusing(429),
        refusing(500),
        refusing(503),
        (200, {}, b"this is not JSON"),
        (200, {"Content-Type": "text/html"}, b"<html>gateway</html>"),
        (200, {}, {"object": "chat.completion"}),
        (200, {}, b"null"),
    ],
)
def test_a_passing_fault_is_asked_again(server: Any, fault: Any) -> None:
    server.reply(lambda _p, _b, n: fault if n <= 2 else (200, {}, completion("at last")))
    (found,) = ask(spec(server.url), user("hi"))
    assert found.text == "at last"
    assert len(server.seen) == 3


def test_a_lasting_fault_is_reported_after_five_tries(server: Any) -> None:
    server.reply(lambda *_: refusing(500, "broken"))
    (found,) = ask(spec(server.url), user("hi"))
    assert found.error == "HTTP 500 from 127.0.0.1: broken (after 5 tries)"
    assert not found.fatal
    assert len(server.seen) == 5


def test_retry_after_is_waited_for_by_all(server: Any) -> None:
    def reply(_p: str, _b: Any, number: int) -> Any:
        return (429, {"Retry-After": "0.3"}, {}) if number == 1 else (200, {}, completion("ok"))

    server.reply(reply)

    async def run() -> list[float]:
        model = PROVIDER.load(spec(server.url), LoadSettings())
        start = time.monotonic()
        times = []

        async def ask_after(requests: int) -> None:
            while len(server.seen) < requests:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1 * requests)  # the refusal is on its way
            assert (await model.answer(user("hi"))).text == "ok"
            times.append(time.monotonic() - start)

        await asyncio.gather(ask_after(0), ask_after(1))
        await model.close()
        return times

    assert min(asyncio.run(run())) >= 0.3


@pytest.mark.parametrize(
    ("status", "code"), [(401, "invalid_api_key"), (403, None), (404, "model_not_found"), (429, "insufficient_quota")]
)
def test_a_final_refusal_is_fatal_and_asked_once(server: Any, status: int, code: str | None) -> None:
    server.reply(lambda *_: refusing(status, f"Incorrect API key provided: {SECRET} or sk-very***6789.", code))
    (found,) = ask(spec(server.url), user("hi"))
    assert found.fatal
    assert found.error is not None
    assert found.error.startswith(f"HTTP {status} from 127.0.0.1: Incorrect API key provided: *** or ***")
    assert len(server.seen) == 1


def test_a_bad_request_is_an_error_of_its_own(server: Any) -> None:
    server.reply(lambda *_: refusing(400, "context_length_exceeded"))
    (found,) = ask(spec(server.url), user("hi"))
    assert (found.error, found.fatal) == ("HTTP 400 from 127.0.0.1: context_length_exceeded", False)
    assert len(server.seen) == 1


def test_a_model_that_wants_max_completion_tokens_gets_it(server: Any) -> None:
    def reply(_p: str, body: Any, _n: int) -> Any:
        if "max_tokens" in body:
            return refusing(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return 200, {}, completion(str(body["max_completion_tokens"]))

    server.reply(reply)
    found = ask(spec(server.url), user("hi", max_new_tokens=9), user("ho", max_new_tokens=8))
    assert [r.text for r in found] == ["9", "8"]


def test_an_empty_answer_is_an_error(server: Any) -> None:
    calls = [{"id": "t", "type": "function", "function": {"name": "search", "arguments": "{}"}}]
    bodies = [completion(""), completion(None, "tool_calls", tool_calls=calls), completion("", reasoning="hm")]
    bodies.append(completion("<think>hm</think>"))
    server.reply(lambda _p, _b, n: (200, {}, bodies[n - 1]))
    found = [ask(spec(server.url), user("hi"))[0] for _ in bodies]
    assert [r.error for r in found] == [
        "127.0.0.1 returned an empty answer (finish_reason stop)",
        "127.0.0.1 returned an empty answer (finish_reason tool_calls, a call of search)",
        "127.0.0.1 returned reasoning and no answer (finish_reason stop)",
        "127.0.0.1 returned reasoning and no answer (finish_reason stop)",
    ]
    assert [r.text for r in found] == [None] * 4


def test_a_call_without_a_name_is_asked_again_and_then_an_error(server: Any) -> None:
    nameless = completion(None, "tool_calls", tool_calls=[{"function": {"name": None, "arguments": "{}"}}])
    server.reply(lambda _p, _b, n: (200, {}, nameless if n < 3 else completion("hi")))
    assert ask(spec(server.url), user("hi"))[0].text == "hi"
    server.reply(lambda *_: (200, {}, nameless))
    (found,) = ask(spec(server.url), user("ho"))
    assert found.error is not None
    assert "did not send a chat completion: a tool call has the name None, expected a text" in found.error


def test_a_refused_answer_is_text(server: Any) -> None:
    bodies = [completion(None, refusal="I will not"), completion("x", "odd")]
    server.reply(lambda _p, _b, n: (200, {}, bodies[n - 1]))
    found = [ask(spec(server.url), user("hi"))[0] for _ in bodies]
    assert [(r.text, r.finish) for r in found] == [("I will not", "stop"), ("x", None)]


FLAGGED = "your input was flagged for 'violence'"


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        ((200, {}, completion(None, "content_filter")), None),
        ((200, {}, completion("Sure, first", "content_filter")), "Sure, first"),
        ((200, {}, completion("", "refusal")), None),
        ((200, {}, {**completion(""), "choices": [], "usage": {"completion_tokens": 0}}), None),
        (refusing(403, FLAGGED), f"HTTP 403 from 127.0.0.1: {FLAGGED}"),
        (refusing(400, "no", "content_filter"), "HTTP 400 from 127.0.0.1: no"),
        ((200, {}, {"error": {"message": "no", "code": "content_filter"}}), "error from 127.0.0.1: no"),
    ],
)
def test_what_a_filter_turns_away_is_no_error_and_asked_once(server: Any, reply: Any, detail: str | None) -> None:
    server.reply(lambda *_: reply)
    (found,) = ask(spec(server.url), user("hi"))
    assert (found.text, found.error, found.unanswered, found.finish) == (None, None, BLOCKED, "content_filter")
    assert found.detail == detail
    assert len(server.seen) == 1


def test_one_prompt_that_a_firewall_turns_away_is_an_error_of_its_own(server: Any) -> None:
    def reply(_p: str, body: Any, _n: int) -> Any:
        if body["messages"][0]["content"] == "bad":
            return 403, {"Content-Type": "text/html"}, b"<html><title>Attention required</title></html>"
        time.sleep(0.05)
        return 200, {}, completion("ok")

    server.reply(reply)
    found = ask(spec(server.url), user("bad"), user("good"))
    assert [r.text for r in found] == [None, "ok"]
    assert (found[0].error, found[0].fatal) == ("HTTP 403 from 127.0.0.1: Attention required", False)


def test_a_wrong_key_is_told_once_to_all(server: Any) -> None:
    server.reply(lambda *_: refusing(403, "no access"))
    found = ask(spec(server.url), *[user(str(i)) for i in range(40)])
    assert {(r.error, r.fatal) for r in found} == {("HTTP 403 from 127.0.0.1: no access", True)}
    assert len(server.seen) == 8


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"reasoning_content": "hm"}, "hi", "hm"),
        ({"content": "<think>hm</think>\n\nhi"}, "hi", "hm"),
        ({"content": "analysisHm.assistantfinalhi"}, "hi", "Hm."),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]}, "hi", "hm"),
    ],
)
def test_reasoning_is_no_part_of_the_answer(server: Any, message: Any, text: str, reasoning: str) -> None:
    server.reply(lambda *_: (200, {}, completion("hi", **message)))
    (found,) = ask(spec(server.url), user("hi"))
    assert (found.text, found.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    "body",
    [
        completion(None, "length", reasoning_content="hm"),
        completion("\n", "length", reasoning_content="hm"),
        completion("", "length"),
        completion("<think>hm", "length"),
    ],
)
def test_reasoning_that_was_cut_is_no_error(server: Any, body: Any) -> None:
    server.reply(lambda *_: (200, {}, body))
    (found,) = ask(spec(server.url), user("hi"))
    assert (found.text, found.error, found.unanswered) == (None, None, REASONING_CUT)


def test_the_field_of_the_reasoning_is_the_entrys(server: Any) -> None:
    server.reply(lambda *_: (200, {}, completion("hi", thoughts="hm", reasoning="not this")))
    (found,) = ask(spec(server.url, reasoning={"field": "thoughts"}), user("hi"))
    assert found.reasoning == "hm"


def test_tokens_for_thinking_enlarge_the_limit(server: Any) -> None:
    server.reply(lambda *_: (200, {}, completion("hi")))
    ask(spec(server.url), user("hi", max_new_tokens=32, thinking_tokens=1000))
    assert server.seen[0][2]["max_tokens"] == 1032


def test_stop_texts_hold_after_the_thought(server: Any) -> None:
    def reply(_p: str, body: Any, _n: int) -> Any:
        thought, answer = "first\nthen", "yes\nno"
        if "stop" in body:  # as vLLM does: of all that the model writes
            return 200, {}, completion(None, reasoning_content="first")
        return 200, {}, completion(answer, reasoning_content=thought)

    server.reply(reply)
    found = ask(spec(server.url, max_concurrency=1), user("a", stop=("\n",)), user("b", stop=("\n",)))
    assert [(r.text, r.reasoning) for r in found] == [("yes", "first\nthen")] * 2
    assert ["stop" in body for _, _, body in server.seen] == [True, False, False]


def test_what_an_entry_adds_is_sent_and_recorded(server: Any) -> None:
    server.reply(lambda *_: (200, {}, completion("hi")))
    options = {
        "extra_body": {"top_p": 0.5, "metadata": {"api_key": SECRET}},
        "reasoning_effort": "low",
        "thinking_budget": 100,
        "max_completion_tokens": 5000,
        "template_options": {"enable_thinking": False},
        "extra_headers": {"X-Team": "red"},
    }
    model_spec = spec(server.url, **options)
    ask(model_spec, user("hi"))
    (_, headers, body) = server.seen[0]
    assert body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "reasoning_effort": "low",
        "max_completion_tokens": 5000,
        "thinking_budget": 100,
        "chat_template_kwargs": {"enable_thinking": False},
        **options["extra_body"],
    }
    assert headers["x-team"] == "red"
    model = PROVIDER.load(model_spec, LoadSettings())
    plain = PROVIDER.load(spec(server.url), LoadSettings())
    recorded = {**options, "extra_body": {"top_p": 0.5, "metadata": {"api_key": "***"}}}
    del recorded["extra_headers"]
    assert {name: model.info[name] for name in recorded} == recorded
    assert SECRET not in repr(model.info)
    assert not set(recorded) & set(plain.info)  # stored answers of other entries stay valid
    assert model.foresee(user("hi")) == (1, 5000)  # type: ignore[union-attr]
    other = PROVIDER.load(spec(server.url, extra_headers={"X-Team": "blue"}), LoadSettings())
    assert other.info["header_values"] != model.info["header_values"]


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("api.anthropic.com", {"thinking": {"type": "enabled", "budget_tokens": 9}}),
        (
            "generativelanguage.googleapis.com",
            {"extra_body": {"google": {"thinking_config": {"thinking_budget": 9}}}},
        ),
        ("dashscope.aliyuncs.com", {"thinking_budget": 9}),
    ],
)
def test_a_thinking_budget_is_spelt_as_the_vendor_does(host: str, sent: Any) -> None:
    from pytest_trustllm.models.api.chat import extra_parameters

    assert extra_parameters({"thinking_budget": 9}, host) == sent


def o_series(_p: str, body: Any, _n: int) -> Any:
    """Refuse as OpenAI's reasoning models do, one parameter at a time."""
    for name in ("max_tokens", "temperature", "seed", "stop"):
        if name in body:
            return 400, {}, {"error": {"message": f"Unsupported parameter: '{name}'.", "param": name}}
    return 200, {}, completion("one\ntwo")


def test_rejected_parameters_are_adapted_once(server: Any) -> None:
    server.reply(o_series)

    async def run() -> tuple[list[Response], Any]:
        model = PROVIDER.load(spec(server.url, max_concurrency=1), LoadSettings())
        requests = [user(text, temperature=0.7, stop=("\n",)) for text in "abc"]
        found = [await model.answer(request) for request in requests]
        await model.close()
        return found, model.info["about"]["adapted"]

    found, lines = asyncio.run(run())
    assert [r.text for r in found] == ["one"] * 3  # the stop text is applied here
    assert len(server.seen) == 4 + 3
    assert [line.partition(":")[0] for line in lines] == [
        "temperature is not sent, so that answers may vary from run to run",
        "seed is not sent",
        "stop is not sent, so that answers are cut after they arrive",
    ]


def test_a_server_that_only_streams_gets_a_stream(server: Any) -> None:
    def reply(_p: str, body: Any, n: int) -> Any:
        if not body.get("stream"):
            return refusing(400, "This model only support stream mode, please enable the stream parameter.")
        delta = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
        whole = f"data: {json.dumps(delta)}\n\n"
        if n != 2:  # the connection is lost once
            whole += f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n"
        return 200, {"Content-Type": "text/event-stream"}, whole.encode()

    server.reply(reply)
    (found,) = ask(spec(server.url), user("hi"))
    assert (found.text, found.finish, found.output_tokens) == ("hi", "stop", 1)
    assert len(server.seen) == 3
    assert server.seen[2][2]["stream_options"] == {"include_usage": True}


def test_an_answer_that_ends_in_an_error_is_none(server: Any) -> None:
    body = completion("Sure, fir", "error")
    body["choices"][0]["error"] = {"code": 502, "message": "Upstream idle timeout"}
    server.reply(lambda *_: (200, {}, body))
    (found,) = ask(spec(server.url), user("hi"))
    assert (found.text, found.error) == (None, "error 502 from 127.0.0.1: Upstream idle timeout (after 5 tries)")


def test_a_query_of_the_address_goes_with_every_request(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reply(lambda *_: (200, {}, completion("hi")))
    query = "api-version=2024-10-21&sig=a%2Bb%26c-0123456789&flag="
    monkeypatch.setenv("OPENAI_BASE_URL", f" {server.url}/v1/?{query}\n")
    model_spec = ModelSpec("openai:m", "openai", "m")
    ask(model_spec, user("hi"))
    path, _, sent = server.seen[0][0].partition("?")
    assert (path, parse_qsl(sent, True)) == ("/v1/chat/completions", parse_qsl(query, True))
    info = PROVIDER.load(model_spec, LoadSettings()).info
    assert info["base_url"] == f"{server.url}/v1/"
    assert "c-0123456789" not in repr(info)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1?api-version=2025-01-01&sig=another-0123456789")
    other = PROVIDER.load(model_spec, LoadSettings()).info
    assert other["query"] != info["query"]


def test_secrets_of_address_and_headers_are_in_no_message(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "plain-token-1234")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1?sig=plain-signature-5678")
    server.reply(lambda *_: refusing(400, f"bad: {SECRET} plain-token-1234 plain-signature-5678"))
    options = {"headers": {"X-Token": "$A_TOKEN"}}
    (found,) = ask(ModelSpec("openai:m", "openai", "m", options=options), user("hi"))
    assert found.error == "HTTP 400 from 127.0.0.1: bad: *** *** ***"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OPENAI_API_KEY": " \n"}, r"^models: 'm' needs an API key; set the environment variable OPENAI_API_KEY"),
        (
            {"OPENAI_API_KEY": "sk-1\nX-Evil: 1"},
            r"^models: 'm': the API key in OPENAI_API_KEY holds a line end; set it again$",
        ),
        (
            {"OPENAI_API_KEY": "Bearer sk-1"},
            r"the API key in OPENAI_API_KEY holds the word 'Bearer', which is added to it; set it again$",
        ),
        (
            {"OPENAI_BASE_URL": "http://x/v1/chat/completions"},
            r"/chat/completions is appended to OPENAI_BASE_URL; leave it out",
        ),
        ({"OPENAI_API_KEY": "ключ"}, "holds a character that is not ASCII"),
        ({"TEAM": ""}, r"^models: 'm': header 'X-Team' needs the environment variable TEAM, which is not set$"),
        ({"TEAM": "a\x01b"}, r"^models: 'm': the value of header 'X-Team' holds a control character; correct it$"),
        (
            {"OPENAI_BASE_URL": "http://u:p@x/v1"},
            "OPENAI_BASE_URL holds a user or a password, which cannot be sent together with a key; put the key into",
        ),
        ({"OPENAI_BASE_URL": "http://x y/v1"}, "OPENAI_BASE_URL is not an address that begins with http"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    monkeypatch.setenv("TEAM", "red")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=message) as caught:
        PROVIDER.check(ModelSpec("m", "openai", "m", options={"headers": {"X-Team": "$TEAM"}}))
    assert "Evil" not in str(caught.value)


def test_a_key_with_a_line_end_around_it_is_sent_without(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    server.reply(lambda *_: (200, {}, completion("hi")))
    ask(spec(server.url), user("hi"))
    assert server.seen[0][1]["authorization"] == f"Bearer {SECRET}"


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (found,) = ask(spec(f"http://127.0.0.1:{port}"), user("hi"))
    assert found.error is not None
    assert found.error.startswith("no connection to 127.0.0.1: ")
    assert found.error.endswith("(after 5 tries)")


def test_a_slow_answer_runs_out_of_time(server: Any) -> None:
    def reply(*_: Any) -> Any:
        time.sleep(0.5)
        return 200, {}, completion("late")

    server.reply(reply)
    (found,) = ask(spec(server.url, timeout=0.05), user("hi"))
    assert found.error == "no answer from 127.0.0.1 within 0.05 s (after 5 tries)"


def test_concurrency_comes_from_the_command_line_then_the_entry() -> None:
    def limit(settings: LoadSettings, **options: Any) -> int:
        return PROVIDER.load(spec("http://127.0.0.1:9", **options), settings).max_concurrency

    assert limit(LoadSettings()) == 32
    assert limit(LoadSettings(), max_concurrency=256) == 256
    assert limit(LoadSettings(max_concurrency=4), max_concurrency=256) == 4


def test_no_secret_gets_out(server: Any) -> None:
    model_spec = spec(server.url, headers={"X-Token": "$OPENAI_API_KEY"})
    model = PROVIDER.load(model_spec, LoadSettings())
    assert SECRET not in repr(model_spec) + repr(model.info) + repr(vars(model))
    assert model.info["base_url"] == f"{server.url}/v1"


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


def _with_key(body: Any) -> bytes:
    return json.dumps(body).replace("KEY", _escaped(SECRET)).encode()


def _in_pieces(_p: str, _b: Any, _n: int) -> Any:
    pieces = [f"the key is {SECRET[:9]}", f"{SECRET[9:]} indeed"]
    deltas = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = "".join(f"data: {json.dumps(event)}\n\n" for event in [*deltas, end])
    return 200, {"Content-Type": "text/event-stream"}, events.encode()


def _parts() -> Any:
    parts = [{"type": "text", "text": f"the key is {SECRET[:9]}"}, {"type": "text", "text": f"{SECRET[9:]} indeed"}]
    return {**completion("x"), "choices": [{"index": 0, "message": {"content": parts}, "finish_reason": "stop"}]}


REPEATING = {
    "plain": lambda *_: (200, {}, completion(f"the key is {SECRET} indeed")),
    "escaped": lambda *_: (200, {}, _with_key(completion("the key is KEY indeed"))),
    "streamed in two": _in_pieces,
    "in two parts": lambda *_: (200, {}, _parts()),
}


@pytest.mark.parametrize("name", REPEATING)
def test_a_server_that_repeats_the_key_has_it_in_no_answer(server: Any, name: str) -> None:
    server.reply(REPEATING[name])
    (found,) = ask(spec(server.url), user("hi"))
    assert found.text == "the key is *** indeed"


def test_a_key_in_other_fields_is_masked_too(server: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"KEY": ["KEY", 1]})}}
    body = {**completion("x", reasoning_content="it is KEY", tool_calls=[call]), "model": "KEY"}
    server.reply(lambda *_: (200, {}, _with_key(body)))
    tool = Tool("f", {})
    (found,) = ask(spec(server.url), Request((("user", "hi"),), tools=(tool,)))
    assert (found.reasoning, found.calls) == ("it is ***", (ToolCall("f", {"***": ["***", 1]}),))
    assert SECRET not in repr(found)


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(
        ModelError, match=r"^models: 'm' needs an API key; set the environment variable OPENAI_API_KEY$"
    ):
        PROVIDER.check(ModelSpec("m", "openai", "m"))
    with pytest.raises(
        ModelError, match=r"variable VLLM_KEY \(if the server at gpu-box requires no key, any text will do\)$"
    ):
        PROVIDER.check(
            ModelSpec("m", "openai", "m", options={"base_url": "http://gpu-box/v1", "api_key_env": "VLLM_KEY"})
        )


def test_a_missing_or_odd_address_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = ModelSpec("azure:x", "openai", "x", options={"base_url_env": "AZURE_OPENAI_BASE_URL"})
    monkeypatch.delenv("AZURE_OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelError, match=r"'azure:x' needs its server's address; .* AZURE_OPENAI_BASE_URL$"):
        PROVIDER.check(azure)
    monkeypatch.setenv("AZURE_OPENAI_BASE_URL", "my-resource.openai.azure.com")
    with pytest.raises(ModelError, match="AZURE_OPENAI_BASE_URL is not an address that begins with http"):
        PROVIDER.check(azure)


def floats(text: str) -> list[float]:
    return [len(text) / 10, 0.1]


def vectors(texts: Sequence[str], encoded: bool) -> dict[str, Any]:
    def entry(text: str) -> Any:
        packed = struct.pack("<2f", *floats(text))
        return base64.b64encode(packed).decode() if encoded else list(struct.unpack("<2f", packed))

    data = [{"object": "embedding", "index": i, "embedding": entry(t)} for i, t in enumerate(texts)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return {"object": "list", "data": data[::-1], "model": "embed-1", "usage": usage}


@pytest.mark.parametrize("encoded", [True, False])
def test_texts_that_wait_together_are_embedded_together(server: Any, encoded: bool) -> None:
    server.reply(lambda _p, body, _n: (200, {}, vectors(body["input"], encoded)))
    texts = ["x" * n for n in range(1, 151)]
    found = ask(spec(server.url, "embedder"), *map(user, texts), user(" "))
    expected = [struct.unpack("<2f", struct.pack("<2f", *floats(t))) for t in texts]
    assert [r.vector for r in found[:-1]] == expected
    assert found[-1].error == "a blank text has no embedding"
    assert {r.revision for r in found[:-1]} == {"embed-1"}
    assert sorted(len(body["input"]) for _, _, body in server.seen) == [22, 64, 64]
    assert {path for path, _, _ in server.seen} == {"/v1/embeddings"}


def test_a_refused_text_does_not_take_its_neighbours_along(server: Any) -> None:
    def reply(_p: str, body: Any, _n: int) -> Any:
        return refusing(400, "too long") if "bad" in body["input"] else (200, {}, vectors(body["input"], True))

    server.reply(reply)
    found = ask(spec(server.url, "embedder"), user("good"), user("bad"), user("fine"))
    assert [r.vector is not None for r in found] == [True, False, True]
    assert found[1].error == "HTTP 400 from 127.0.0.1: too long"


def test_a_fault_of_the_embedder_is_asked_again(server: Any) -> None:
    server.reply(lambda _p, body, n: refusing(503) if n == 1 else (200, {}, vectors(body["input"], True)))
    (found,) = ask(spec(server.url, "embedder"), user("good"))
    assert found.vector is not None
    assert found.input_tokens == 5


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_that_is_too_large_is_split(server: Any, status: int) -> None:
    def reply(_p: str, body: Any, _n: int) -> Any:
        texts = body["input"]
        return refusing(status, "batch too large") if len(texts) > 16 else (200, {}, vectors(texts, True))

    server.reply(reply)

    async def run() -> list[Response]:
        model = PROVIDER.load(spec(server.url, "embedder"), LoadSettings())
        found: list[Response] = []
        for start in (0, 64):  # what was learned from the first texts holds for the next
            found += await asyncio.gather(*(model.answer(user("x" * n)) for n in range(start + 1, start + 65)))
        await model.close()
        return found

    found = asyncio.run(run())
    expected = [struct.unpack("<2f", struct.pack("<2f", n / 10, 0.1)) for n in range(1, 129)]
    assert [r.vector for r in found] == expected
    assert [len(body["input"]) for _, _, body in server.seen] == [64, 32, 16, 16, 32, 16, 16, 16, 16, 16, 16]


def test_an_embedder_that_knows_lists_alone_is_asked_for_them(server: Any) -> None:
    def reply(_p: str, body: Any, _n: int) -> Any:
        if body["encoding_format"] == "base64":
            return refusing(400, "'encoding_format' must be 'float'")
        return 200, {}, vectors(body["input"], False)

    server.reply(reply)
    found = ask(spec(server.url, "embedder"), user("a"), user("b"))
    assert all(r.vector is not None for r in found)
    assert len(server.seen) == 2


def test_too_few_vectors_belong_to_nobody(server: Any) -> None:
    def reply(_p: str, body: Any, _n: int) -> Any:
        whole = vectors(body["input"], False)
        return 200, {}, {**whole, "data": whole["data"][-1:]}

    server.reply(reply)
    found = ask(spec(server.url, "embedder"), user("a"), user("bb"))
    assert [r.vector is not None for r in found] == [True, True]  # one by one it is clear whose they are
    assert found[0].vector != found[1].vector


def test_a_text_that_no_split_helps_is_an_error_of_its_own(server: Any) -> None:
    server.reply(lambda *_: (200, {}, {"data": [{"index": 0, "embedding": [None]}]}))
    (found,) = ask(spec(server.url, "embedder"), user("a"))
    reason = "127.0.0.1 did not send embeddings: a vector with entries that are not numbers (after 5 tries)"
    assert found.error == reason


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"\x00\x01\x02SSH-2.0-OpenSSH\r\n" * 10,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    ],
)
def test_a_reply_that_is_no_http_is_a_failure_of_the_server(raw: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    async def run() -> Response:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        model = PROVIDER.load(spec(f"http://127.0.0.1:{port}"), LoadSettings())
        found = await model.answer(user("hi"))
        await model.close()
        server.close()
        return found

    found = asyncio.run(run())
    assert (found.text, found.raised) == (None, False)
    assert found.error is not None
    assert "127.0.0.1" in found.error
    assert found.error.endswith("(after 5 tries)")
