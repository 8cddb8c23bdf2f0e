from __future__ import annotations

import asyncio
import base64
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import AsyncModel, LoadSettings, ModelSpec
from pytest_trustllm.models.openai import PROVIDER
from pytest_trustllm.records import Generation, Request, Response

pytest.importorskip("openai")

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


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
    message = {"role": "assistant", "content": text, **more}
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

        async def one(delay: float) -> None:
            await asyncio.sleep(delay)
            assert (await model.answer(user("hi"))).text == "ok"
            times.append(time.monotonic() - start)

        await asyncio.gather(one(0.0), one(0.15))
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


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (completion(""), "127.0.0.1 returned an empty answer (finish_reason stop)"),
        (completion(None, "content_filter"), "127.0.0.1 returned an empty answer (finish_reason content_filter)"),
        (completion("", "length"), "127.0.0.1 returned an empty answer (finish_reason length)"),
    ],
)
def test_an_empty_answer_is_an_error(server: Any, body: Any, error: str) -> None:
    server.reply(lambda *_: (200, {}, body))
    (found,) = ask(spec(server.url), user("hi"))
    assert found.error == error
    assert found.text is None
    assert len(server.seen) == 1


def test_a_cut_or_refused_answer_is_text(server: Any) -> None:
    bodies = [completion("cut of", "content_filter"), completion(None, refusal="I will not"), completion("x", "odd")]
    server.reply(lambda _p, _b, n: (200, {}, bodies[n - 1]))
    found = [ask(spec(server.url), user("hi"))[0] for _ in bodies]
    assert [(r.text, r.finish) for r in found] == [("cut of", "content_filter"), ("I will not", "stop"), ("x", None)]


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


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(
        ModelError, match=r"^models: 'm' needs an API key; set the environment variable OPENAI_API_KEY$"
    ):
        PROVIDER.check(ModelSpec("m", "openai", "m"))
    with pytest.raises(
        ModelError, match=r"variable VLLM_KEY \(if the server at gpu-box asks for none, any text will do\)$"
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
    with pytest.raises(ModelError, match="AZURE_OPENAI_BASE_URL is no address that begins with http"):
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
