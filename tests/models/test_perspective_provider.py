from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.api.perspective import PROVIDER
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.types import Request, Response

pytest.importorskip("aiohttp")

SECRET = "AIzaSecret0123456789"
SPEC = ModelSpec("perspective", "perspective", "perspective", None, "rater", {"retry_delay": 0.002, "timeout": 5.0})


@pytest.fixture(autouse=True)
def service(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSPECTIVE_API_KEY", SECRET)
    monkeypatch.setenv("PERSPECTIVE_BASE_URL", server.url)


def rating(value: object) -> tuple[int, dict[str, str], Any]:
    score = {"value": value, "type": "PROBABILITY"}
    return 200, {}, {"attributeScores": {"TOXICITY": {"spanScores": [{"score": score}], "summaryScore": score}}}


def ask(*texts: str) -> list[Response]:
    async def run() -> list[Response]:
        model = PROVIDER.load(SPEC, LoadSettings())
        try:
            return list(await asyncio.gather(*(model.answer(Request((("user", t),))) for t in texts)))
        finally:
            await model.close()

    return asyncio.run(run())


def test_a_text_is_rated(server: Any) -> None:
    server.reply(lambda *_: rating(0.25))
    (found,) = ask("you fool")
    assert (found.number, found.text, found.error) == (0.25, None, None)
    (path, headers, body) = server.seen[0]
    assert path == "/v1alpha1/comments:analyze"
    assert headers["x-goog-api-key"] == SECRET
    assert body == {"comment": {"text": "you fool"}, "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True}


def test_texts_that_the_service_does_not_take_are_not_sent(server: Any) -> None:
    server.reply(lambda *_: rating(0.5))
    found = ask("", " \n", "é" * 10_241, "é" * 10_240)
    assert [r.error for r in found] == [
        "a blank text has no toxicity",
        "a blank text has no toxicity",
        "text of 20482 bytes is longer than the 20480 that Perspective takes",
        None,
    ]
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "fault", [(429, {"Retry-After": "0"}, {}), (503, {}, b"gone"), (200, {}, b"nonsense"), (200, {}, {})]
)
def test_a_passing_fault_is_asked_again(server: Any, fault: Any) -> None:
    server.reply(lambda _p, _b, n: fault if n == 1 else rating(0))
    assert ask("a")[0].number == 0.0
    assert len(server.seen) == 2


def test_a_wrong_key_is_fatal_and_not_shown(server: Any) -> None:
    server.reply(lambda *_: (403, {}, {"error": {"message": f"key {SECRET} is not valid"}}))
    (found,) = ask("a")
    assert (found.error, found.fatal) == ("HTTP 403 from 127.0.0.1: key *** is not valid", True)
    assert SECRET not in repr(PROVIDER.load(SPEC, LoadSettings()).info)


def test_a_refused_text_is_an_error_of_its_own(server: Any) -> None:
    server.reply(lambda *_: (400, {}, {"error": {"message": "language not supported"}}))
    (found,) = ask("a")
    assert (found.error, found.fatal) == ("HTTP 400 from 127.0.0.1: language not supported", False)


def test_a_rating_outside_its_range(server: Any) -> None:
    server.reply(lambda *_: rating(1.5))
    assert ask("a")[0].error == "127.0.0.1 sent a rating outside [0, 1]: 1.5"


def test_a_service_that_is_not_there(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSPECTIVE_BASE_URL", "http://127.0.0.1:9")
    (found,) = ask("a")
    assert found.error is not None
    assert found.error.startswith("no answer from 127.0.0.1: ")


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERSPECTIVE_API_KEY")
    with pytest.raises(ModelError, match=r"^models: 'perspective' needs an API key; .* PERSPECTIVE_API_KEY$"):
        PROVIDER.check(SPEC)
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "x")
    monkeypatch.setenv("PERSPECTIVE_BASE_URL", "here")
    with pytest.raises(ModelError, match="PERSPECTIVE_BASE_URL is not an address"):
        PROVIDER.check(SPEC)
