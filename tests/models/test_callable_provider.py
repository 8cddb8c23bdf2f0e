from __future__ import annotations

import array
import asyncio
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.models.python import PROVIDER, CallableModel
from pytest_trustllm.types import Request, Response


def ask(fn: Callable[[Any], Any], *texts: Any, concurrency: int = 1, kind: ModelKind = "chat") -> list[Response]:
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
    error = "TypeError: the callable returned int, expected text, None, a Response or messages"
    assert essence(ask(lambda _: 3, "hi")[0]) == (None, error, True)


def test_a_callable_may_return_a_response() -> None:
    own = Response(text=Text("done"), input_tokens=12, output_tokens=np.int64(3), reasoning="hm", cached=True)  # type: ignore[arg-type]
    (found,) = ask(lambda _: own, "hi")
    assert (found.text, found.input_tokens, found.output_tokens, found.reasoning) == ("done", 12, 3, "hm")
    assert (type(found.text), type(found.output_tokens), found.cached) == (str, int, False)
    assert found.seconds is not None
    assert ask(lambda _: Response(text="x", seconds=2.0), "hi")[0].seconds == 2.0
    assert ask(lambda _: Response(error="busy"), "hi")[0].error == "busy"
    error = "TypeError: the callable returned a Response whose input_tokens is 1.5"
    assert essence(ask(lambda _: Response(text="x", input_tokens=1.5), "hi")[0]) == (None, error, True)  # type: ignore[arg-type]
    error = "TypeError: the callable returned a Response whose text is 5"
    assert essence(ask(lambda _: Response(text=5), "hi")[0]) == (None, error, True)  # type: ignore[arg-type]


class Tensor:
    """What torch's tensors have: ``tolist`` and ``item``, and no more of a list."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def tolist(self) -> Any:
        return self._values


VECTOR = (1.0, 0.5)


@pytest.mark.parametrize(
    "returned",
    [
        np.array([1, 0.5]),
        np.array([1, 0.5], np.float32),
        np.array([[1, 0.5]], np.float16),
        [np.float32(1), np.float64(0.5)],
        [np.array([1, 0.5])],
        (np.int64(1), Decimal("0.5")),
        array.array("f", [1, 0.5]),
        Tensor([1.0, 0.5]),
        Tensor([[1.0, 0.5]]),
        [Tensor(1.0), Tensor([0.5])],
        Response(vector=np.array([1, 0.5])),  # type: ignore[arg-type]
    ],
)
def test_vectors_of_any_library(returned: Any) -> None:
    (found,) = ask(lambda _: returned, "hi", kind="embedder")
    assert (found.vector, found.error) == (VECTOR, None)
    assert {type(x) for x in found.vector or ()} == {float}


@pytest.mark.parametrize(
    "returned",
    [
        np.float32(0.25),
        np.float16(0.25),
        np.array(0.25),
        np.array([0.25]),
        Tensor(0.25),
        Tensor([[0.25]]),
        Decimal("0.25"),
        Response(number=np.float32(0.25)),  # type: ignore[arg-type]
    ],
)
def test_ratings_of_any_library(returned: Any) -> None:
    (found,) = ask(lambda _: returned, "hi", kind="rater")
    assert (found.number, found.error, type(found.number)) == (0.25, None, float)


def test_numbers_of_torch_need_no_numpy() -> None:
    torch = pytest.importorskip("torch")
    for vector in (torch.tensor([1.0, 0.5], dtype=torch.bfloat16), torch.tensor([[1.0, 0.5]], requires_grad=True)):
        assert ask(lambda _, v=vector: v, "hi", kind="embedder")[0].vector == VECTOR  # type: ignore[misc]
    assert ask(lambda _: torch.tensor([0.25]), "hi", kind="rater")[0].number == 0.25


@pytest.mark.parametrize("returned", [np.str_("refusal"), Text("refusal"), Response(text="refusal")])
def test_labels_of_any_library(returned: Any) -> None:
    (found,) = ask(lambda _: returned, "hi", kind="classifier")
    assert (found.text, type(found.text)) == ("refusal", str)


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
def test_a_callable_fills_a_role(kind: ModelKind, returned: Any, expected: Response) -> None:
    (found,) = ask(lambda _: returned, "hi", kind=kind)
    assert (found.text, found.vector, found.number) == (expected.text, expected.vector, expected.number)


@pytest.mark.parametrize(
    ("kind", "returned", "error"),
    [
        ("classifier", "yes", "ValueError: the callable returned 'yes', expected 'refusal' or 'compliance'"),
        ("embedder", "yes", "TypeError: the callable returned str, expected a list of numbers"),
        ("rater", 2, r"ValueError: the callable returned 2, expected a number in [0, 1]"),
        ("rater", True, r"ValueError: the callable returned True, expected a number in [0, 1]"),
        ("rater", np.bool_(True), r"ValueError: the callable returned np.True_, expected a number in [0, 1]"),
        ("rater", np.float32("nan"), r"ValueError: the callable returned np.float32(nan), expected a number in [0, 1]"),
        ("rater", "0.5", r"ValueError: the callable returned '0.5', expected a number in [0, 1]"),
        (
            "rater",
            np.array([0.1, 0.2]),
            "ValueError: the callable returned array([0.1, 0.2]), expected a number in [0, 1]",
        ),
        ("embedder", np.array([]), "TypeError: the callable returned ndarray, expected a list of numbers"),
        ("embedder", ["a"], "TypeError: the callable returned 'a' where a number was expected"),
    ],
)
def test_a_callable_that_fills_a_role_wrongly(kind: ModelKind, returned: Any, error: str) -> None:
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
        ("trust_no_such_module:f", "no module 'trust_no_such_module' in .* or on Python's path$"),
        ("trust_bot_under_test:nope", r"module 'trust_bot_under_test' has no 'nope'$"),
        ("trust_bot_under_test:app.name", r"'app\.name' of module 'trust_bot_under_test' cannot be called$"),
        ("trust_bot_under_test", r"is not 'python:<module>:<callable>', such as 'python:my_app\.bot:answer'$"),
        ("a b:c", "is not 'python:<module>:<callable>'"),
    ],
)
def test_what_cannot_be_imported(module: Path, target: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PROVIDER.load(spec(target), LoadSettings())
