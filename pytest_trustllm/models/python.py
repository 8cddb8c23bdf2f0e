"""Provider ``python``: any function of the user's as a model."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import inspect
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, ClassVar

from pytest_trustllm.config.fields import Key, Reader
from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import BaseProvider, LoadSettings, ModelKind, ModelSpec, ends_the_task
from pytest_trustllm.models.options import COUNT
from pytest_trustllm.models.tool_messages import as_openai, response_of
from pytest_trustllm.types import Request, Response

LABELS = ("refusal", "compliance")


class CallableModel:
    """A function as a model.

    Args:
        fn: Takes the prompt as text (a list of ``{"role", "content"}`` if a request has several messages) and returns
            text, None if there is no answer, or a Response: text with its tokens and its reasoning. It may also return
            a list of messages in OpenAI's form: its calls of tools with their results, and the answer. Calls without
            results are answered by the suite. With a parameter ``tools``, it gets the tools of the suite. It may be
            async; a plain function runs in threads.
        name: What reports call it.
        max_concurrency: Concurrent calls at most.
        kind: A ``classifier`` returns ``refusal`` or ``compliance``, an ``embedder`` a list of numbers, a ``rater`` a
            number in [0, 1].
        revision: Version of the code behind the function. Answers are only kept between runs if it is given: nobody but
            the user can know whether the code, and everything it calls, would still answer the same.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        name: str,
        max_concurrency: int = 1,
        kind: ModelKind = "chat",
        revision: str | None = None,
    ) -> None:
        self.max_concurrency = max(1, max_concurrency)
        self.stored = revision is not None
        self.info: Mapping[str, Any] = {
            "provider": "python",
            "id": name,
            "revision": revision,
            "kind": kind,
        }
        self._fn = fn
        self._takes_tools = _takes_tools(fn)
        self._read = _READERS[kind]
        self._threads: _Threads | None = None

    async def answer(self, request: Request) -> Response:
        """Call the function; an exception becomes a response with ``raised``."""
        start = time.perf_counter()
        try:
            result = await self._call(request)
            if isinstance(result, list) and self._read is _answer:
                response = response_of(result, request.messages)
            else:
                response = self._read(result)
        except BaseException as e:  # user code may raise anything, such as pytest.fail(); the item fails with it
            if ends_the_task(e):
                raise
            response = Response(error=f"{type(e).__name__}: {one_line(e)}", raised=True)
        if response.seconds is not None:  # measured by the function itself
            return response
        return replace(response, seconds=time.perf_counter() - start)

    async def _call(self, request: Request) -> Any:
        argument = _argument(request)
        function: Callable[..., Any] = self._fn
        if request.tools and self._takes_tools:
            function = functools.partial(function, tools=[tool.schema() for tool in request.tools])
        if _is_async(self._fn):
            return await function(argument)
        if self._threads is None:
            self._threads = _Threads(self.max_concurrency)
        result = await asyncio.wrap_future(self._threads.submit(function, argument))
        # A plain function may still return a coroutine: a lambda or a partial around an async one
        if inspect.isawaitable(result):
            return await result
        return result

    async def close(self) -> None:
        """End the threads, without waiting for calls that still run."""
        if self._threads is not None:
            self._threads.close()
            self._threads = None


class _Threads:
    """Threads that call plain functions. Unlike those of an executor, they never delay the end of the process.

    Args:
        most: Concurrent calls at most.
    """

    def __init__(self, most: int) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[Any], Any], Any] | None] = queue.SimpleQueue()
        self._most = most
        self._count = 0

    def submit(self, fn: Callable[[Any], Any], argument: object) -> Future[Any]:
        """Return the future of a call."""
        future: Future[Any] = Future()
        self._calls.put((future, fn, argument))
        if self._count < self._most:
            self._count += 1
            threading.Thread(target=self._serve, name=f"trustllm-model-{self._count}", daemon=True).start()
        return future

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            future, fn, argument = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(fn(argument))
            except StopIteration as e:  # a future refuses it
                future.set_exception(RuntimeError(f"the callable raised {e!r}"))
            except BaseException as e:  # noqa: BLE001 - whoever waits gets it
                future.set_exception(e)

    def close(self) -> None:
        """Let each thread end after its current call."""
        for _ in range(self._count):
            self._calls.put(None)


def _argument(request: Request) -> object:
    if len(request.messages) == 1:
        return request.messages[0][1]
    return as_openai(request.messages)


def _takes_tools(function: Callable[..., Any]) -> bool:
    """Return whether a function has a parameter ``tools``, and so wants to know what a suite offers."""
    try:
        return "tools" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a built-in function need not have a signature
        return False


def _exists(module: str) -> bool:
    """Return whether a top-level module can be found, without importing it."""
    if module in sys.modules or PathFinder.find_spec(module, [str(Path.cwd())]) is not None:
        return True
    return importlib.util.find_spec(module) is not None


def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def _answer(result: object) -> Response:
    if isinstance(result, Response):
        return replace(_checked(result), vector=None, number=None)
    if result is None or isinstance(result, str):
        return Response(text=_exact_text(result))
    raise TypeError(f"the callable returned {type(result).__name__}, expected text, None, a Response or messages")


def _label(result: object) -> Response:
    if isinstance(result, Response):
        response = _checked(result)
        if result.text is None:
            return response
        return replace(response, text=_label(result.text).text)
    if result not in LABELS:
        raise ValueError(f"the callable returned {one_line(repr(result), 60)}, expected 'refusal' or 'compliance'")
    return Response(text=str(result))


def _vector(result: object) -> Response:
    if isinstance(result, Response):
        response = _checked(result)
        if result.vector is None:
            return response
        return replace(response, vector=_vector(result.vector).vector)
    numbers = _as_python(result)
    if not isinstance(numbers, Sequence) or isinstance(numbers, str | bytes) or not numbers:
        raise TypeError(f"the callable returned {type(result).__name__}, expected a list of numbers")
    # Embedding libraries return a matrix, with one row for the one text
    first = _as_python(numbers[0])
    if len(numbers) == 1 and isinstance(first, list | tuple):
        numbers = first
    return Response(vector=tuple(_number(number) for number in numbers))


def _rating(result: object) -> Response:
    if isinstance(result, Response):
        response = _checked(result)
        if result.number is None:
            return response
        return replace(response, number=_rating(result.number).number)
    try:
        number = _number(result)
    except TypeError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"the callable returned {one_line(repr(result), 60)}, expected a number in [0, 1]")
    return Response(number=number)


_READERS: Mapping[ModelKind, Callable[[object], Response]] = {
    "chat": _answer,
    "classifier": _label,
    "embedder": _vector,
    "rater": _rating,
}
_TEXT_FIELDS = ("text", "error", "finish", "revision", "reasoning", "unanswered", "detail")
_COUNT_FIELDS = ("input_tokens", "output_tokens", "reasoning_tokens")


def _checked(response: Response) -> Response:
    """Return a user's response with plain types, which can be sent to another process, and without our own marks.

    Raises:
        TypeError: A text is not text, or a count is not a whole number.
    """
    plain: dict[str, Any] = {}
    for name in _TEXT_FIELDS:
        text = getattr(response, name)
        if not isinstance(text, str | None):
            raise _wrong_field(name, text)
        plain[name] = _exact_text(text)
    for name in _COUNT_FIELDS:
        count = getattr(response, name)
        if count is not None and not hasattr(count, "__index__"):
            raise _wrong_field(name, count)
        plain[name] = None if count is None else int(count)
    plain["seconds"] = None if response.seconds is None else _number(response.seconds)
    return replace(response, **plain, cached=False, cut=False, pending=False)


def _wrong_field(name: str, value: object) -> TypeError:
    return TypeError(f"the callable returned a Response whose {name} is {one_line(repr(value), 60)}")


def _exact_text(text: str | None) -> str | None:
    """Return a text as exactly ``str``: subclasses, such as numpy's, cannot be sent to another process."""
    if text is None:
        return None
    return str.__str__(text)


def _as_python(value: object) -> object:
    """Return an array or a tensor of any library as Python numbers; anything else unchanged."""
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return to_list()
    return value


def _number(value: object) -> float:
    """Return a number of any library as a float.

    Raises:
        TypeError: It is not a number.
    """
    number = _as_python(value)
    while isinstance(number, list) and len(number) == 1:  # an array of one number
        number = number[0]
    if isinstance(number, bool | str | bytes | complex) or not hasattr(number, "__float__"):
        raise TypeError(f"the callable returned {one_line(repr(value), 60)} where a number was expected")
    return float(number)


class PythonProvider(BaseProvider):
    """Imports ``module:callable``, with the current directory on the import path."""

    form = "<module>:<callable>"
    kinds = frozenset(_READERS)
    options: ClassVar[Mapping[str, Reader]] = {"max_concurrency": Key(COUNT, "Concurrent calls at most.", default=1)}

    def check(self, spec: ModelSpec) -> None:
        """Check the spelling, and that there is such a module; it is imported in the process that will run it.

        Raises:
            ModelError: It is not ``module:callable``, or there is no such module.
        """
        module, _, attribute = spec.target.partition(":")
        names = module.split(".") + attribute.split(".")
        if not all(name.isidentifier() for name in names):
            raise ModelError(
                f"models: {spec.name!r} is not 'python:<module>:<callable>', such as 'python:my_app.bot:answer'"
            )
        if not _exists(names[0]):
            raise ModelError(f"models: {spec.name!r}: no module {names[0]!r} in {Path.cwd()} or on Python's path")

    def keeps_answers(self, spec: ModelSpec) -> bool:
        """Return whether a revision distinguishes this version of the code."""
        return spec.revision is not None

    def load(self, spec: ModelSpec, settings: LoadSettings) -> CallableModel:
        """Import the function.

        Raises:
            ModelError: The module or the function does not exist, or importing it fails.
        """
        self.check(spec)
        module, _, attribute = spec.target.partition(":")
        directory = str(Path.cwd())
        if directory not in sys.path:
            sys.path.insert(0, directory)
        try:
            function: Any = importlib.import_module(module)
        except (Exception, SystemExit) as e:  # importing user code may raise anything
            reason = f"{type(e).__name__}: {one_line(e)}"
            raise ModelError(f"models: {spec.name!r}: importing {module!r} failed: {reason}") from e
        try:
            for name in attribute.split("."):
                function = getattr(function, name)
        except AttributeError:
            raise ModelError(f"models: {spec.name!r}: module {module!r} has no {attribute!r}") from None
        if not callable(function):
            raise ModelError(f"models: {spec.name!r}: {attribute!r} of module {module!r} cannot be called")
        concurrency = settings.max_concurrency or spec.options.get("max_concurrency", 1)
        return CallableModel(function, spec.target, concurrency, spec.kind, spec.revision)


PROVIDER = PythonProvider()
