from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import Kind, LoadSettings, ModelSpec
from pytest_trustllm.models.callable import PROVIDER, CallableModel
from pytest_trustllm.records import Request, Response


def ask(fn: Callable[[Any], Any], *texts: Any, concurrency: int = 1, kind: Kind = "chat") -> list[Response]:
    requests = [Request(t if isinstance(t, tuple) else (("user", t),)) for t in texts]

    async def run() -> list[Response]:
        model = CallableModel(fn, "bot", concurrency, kind)
        try:
            return list(await asyncio.gather(*map(model.answer, requests)))
        finally:
            await model.close()

    return asyncio.run(run())


def essence(response: Response) -> tuple[str | None, str | None, bool]:
    return response.text, response.error, response.raised


def test_a_function_gets_text_and_a_chat_as_messages() -> None:
    chat = (("system", "be kind"), ("user", "hi"))
    seen: list[Any] = []
    ask(seen.append, "hi", chat)
    assert seen == ["hi", [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]]


async def upper(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


class Bot:
    async def __call__(self, text: str) -> str:
        return text.upper()


@pytest.mark.parametrize("fn", [str.upper, upper, Bot(), lambda text: upper(text)])
def test_plain_and_async_callables(fn: Callable[[Any], Any]) -> None:
    (found,) = ask(fn, "hi")
    assert essence(found) == ("HI", None, False)
    assert found.seconds is not None


class Text(str):
    __slots__ = ()


def test_what_a_callable_may_return() -> None:
    assert essence(ask(lambda _: None, "hi")[0]) == (None, None, False)
    assert essence(ask(lambda _: "", "hi")[0]) == ("", None, False)
    assert type(ask(lambda _: Text("a"), "hi")[0].text) is str
    error = "TypeError: the callable returned int, expected text or None"
    assert essence(ask(lambda _: 3, "hi")[0]) == (None, error, True)


def failing(error: BaseException) -> Callable[[Any], Any]:
    def fn(text: str) -> str:
        raise error

    return fn


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no\nway"), r"ValueError: no\nway"),
        (SystemExit(2), "SystemExit: 2"),
        (KeyError("k"), "KeyError: 'k'"),
        (TimeoutError(), "TimeoutError: "),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (asyncio.CancelledError(), "CancelledError: "),
        (pytest.fail.Exception("no"), "Failed: no"),
    ],
)
def test_an_exception_is_the_items_own(error: BaseException, text: str) -> None:
    async def later(prompt: str) -> str:
        raise error

    assert essence(ask(failing(error), "hi")[0]) == (None, text, True)
    assert essence(ask(later, "hi")[0]) == (None, text, True)


def test_the_end_of_an_iterator_is_an_error_too() -> None:
    text = "RuntimeError: the callable raised StopIteration()"
    assert essence(ask(lambda _: next(iter(())), "hi")[0]) == (None, text, True)


def test_who_gives_up_ends_the_call() -> None:
    async def hangs(prompt: str) -> str:
        await asyncio.Event().wait()
        return prompt

    async def run() -> None:
        model = CallableModel(hangs, "bot")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.answer(Request((("user", "hi"),))), 0.01)

    asyncio.run(run())


@pytest.mark.parametrize("concurrency", [1, 3])
def test_calls_at_a_time(concurrency: int) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def fn(text: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return text

    assert [r.text for r in ask(fn, *"abcdef", concurrency=concurrency)] == list("abcdef")
    assert most == concurrency


@pytest.mark.parametrize(
    ("kind", "returned", "expected"),
    [
        ("classifier", "refusal", Response(text="refusal")),
        ("embedder", [1, 0.5], Response(vector=(1.0, 0.5))),
        ("rater", 1, Response(number=1.0)),
    ],
)
def test_a_callable_fills_a_role(kind: Kind, returned: Any, expected: Response) -> None:
    (found,) = ask(lambda _: returned, "hi", kind=kind)
    assert (found.text, found.vector, found.number) == (expected.text, expected.vector, expected.number)


@pytest.mark.parametrize(
    ("kind", "returned", "error"),
    [
        ("classifier", "yes", "ValueError: the callable returned 'yes', expected 'refusal' or 'compliance'"),
        ("embedder", "yes", "TypeError: the callable returned str, expected a list of numbers"),
        ("rater", 2, r"ValueError: the callable returned 2, expected a number in [0, 1]"),
        ("rater", True, r"ValueError: the callable returned True, expected a number in [0, 1]"),
    ],
)
def test_a_callable_that_fills_a_role_wrongly(kind: Kind, returned: Any, error: str) -> None:
    assert essence(ask(lambda _: returned, "hi", kind=kind)[0]) == (None, error, True)


def spec(target: str, **options: Any) -> ModelSpec:
    return ModelSpec(f"python:{target}", "python", target, options=options)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "trust_bot_under_test.py"
    file.write_text("class app:\n    answer = staticmethod(str.upper)\n    name = 'x'\ndef echo(t): return t\n")
    importlib.invalidate_caches()
    yield file
    sys.modules.pop("trust_bot_under_test", None)


def test_a_module_of_the_current_directory_is_imported(module: Path) -> None:
    model = PROVIDER.load(spec("trust_bot_under_test:app.answer", max_concurrency=4), LoadSettings())
    assert asyncio.run(model.answer(Request((("user", "hi"),)))).text == "HI"
    asyncio.run(model.close())
    assert model.max_concurrency == 4
    assert model.info["id"] == "trust_bot_under_test:app.answer"


def test_answers_are_kept_between_runs_only_with_a_revision() -> None:
    plain, versioned = CallableModel(str, "bot"), CallableModel(str, "bot", revision="3f2a")
    assert (plain.stored, versioned.stored) == (False, True)
    assert (plain.info["revision"], versioned.info["revision"]) == (None, "3f2a")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("trust_no_such_module:f", r"importing 'trust_no_such_module' failed: ModuleNotFoundError: No module named"),
        ("trust_bot_under_test:nope", r"module 'trust_bot_under_test' has no 'nope'$"),
        ("trust_bot_under_test:app.name", r"'app\.name' of module 'trust_bot_under_test' cannot be called$"),
        ("trust_bot_under_test", r"is not 'python:<module>:<callable>', such as 'python:my_app\.bot:answer'$"),
        ("a b:c", "is not 'python:<module>:<callable>'"),
    ],
)
def test_what_cannot_be_imported(module: Path, target: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PROVIDER.load(spec(target), LoadSettings())
