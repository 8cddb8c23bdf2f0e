"""Provider ``python``: any function of yours is a model."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import BaseProvider, Kind, LoadSettings, ModelSpec, ends_the_task
from pytest_trustllm.models.options import COUNT
from pytest_trustllm.records import Request, Response
from pytest_trustllm.shapes import Key, Reader

LABELS = ("refusal", "compliance")


class CallableModel:
    """A function as a model.

    Args:
        fn: Gets the prompt as text (a list of ``{"role", "content"}`` where a request has several messages) and returns
            text; None: no answer. It may be async; a plain function runs in threads.
        name: What reports call it.
        max_concurrency: Calls at a time.
        kind: ``classifier``: it returns ``refusal`` or ``compliance``; ``embedder``: a list of numbers; ``rater``: a
            number in [0, 1].
        revision: Version of what is behind the function. Only with it are answers kept between runs: nobody else can
            know whether the code, and all that it calls, would still answer the same.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        name: str,
        max_concurrency: int = 1,
        kind: Kind = "chat",
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
        self._read = _READERS[kind]
        self._threads: _Threads | None = None

    async def answer(self, request: Request) -> Response:
        """Call the function; what it raises becomes a response with ``raised``."""
        start = time.perf_counter()
        try:
            response = self._read(await self._call(_argument(request)))
        except BaseException as e:  # user code may raise anything, such as pytest.fail(); the item fails with it
            if ends_the_task(e):
                raise
            response = Response(error=f"{type(e).__name__}: {one_line(e)}", raised=True)
        return replace(response, seconds=time.perf_counter() - start)

    async def _call(self, argument: object) -> Any:
        if _is_async(self._fn):
            return await self._fn(argument)
        if self._threads is None:
            self._threads = _Threads(self.max_concurrency)
        found = await asyncio.wrap_future(self._threads.submit(self._fn, argument))
        return await found if inspect.isawaitable(found) else found

    async def close(self) -> None:
        """Let the threads go; a call that still runs is not waited for."""
        if self._threads is not None:
            self._threads.close()
            self._threads = None


class _Threads:
    """Threads that call plain functions. Unlike those of an executor they never hold up the end of the process.

    Args:
        most: Calls at a time.
    """

    def __init__(self, most: int) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[Any], Any], Any] | None] = queue.SimpleQueue()
        self._most = most
        self._count = 0

    def submit(self, fn: Callable[[Any], Any], argument: object) -> Future[Any]:
        """Return the future of a call."""
        future: Future[Any] = Future()
        self._work.put((future, fn, argument))
        if self._count < self._most:
            self._count += 1
            threading.Thread(target=self._serve, name=f"trustllm-model-{self._count}", daemon=True).start()
        return future

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            future, fn, argument = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(fn(argument))
            except StopIteration as e:  # no future may hold it
                future.set_exception(RuntimeError(f"the callable raised {e!r}"))
            except BaseException as e:  # noqa: BLE001 - whoever waits gets it
                future.set_exception(e)

    def close(self) -> None:
        """Let the threads end after the calls that they are in."""
        for _ in range(self._count):
            self._work.put(None)


def _argument(request: Request) -> object:
    if len(request.messages) == 1:
        return request.messages[0][1]
    return [{"role": role, "content": content} for role, content in request.messages]


def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def _text(found: object) -> Response:
    if found is None or type(found) is str:
        return Response(text=found)
    if isinstance(found, str):  # a subclass would not survive the way to another process
        return Response(text=str.__str__(found))
    raise TypeError(f"the callable returned {type(found).__name__}, expected text or None")


def _label(found: object) -> Response:
    if found not in LABELS:
        raise ValueError(f"the callable returned {one_line(repr(found), 60)}, expected 'refusal' or 'compliance'")
    return Response(text=str(found))


def _vector(found: object) -> Response:
    if not isinstance(found, Sequence) or isinstance(found, str | bytes) or not found:
        raise TypeError(f"the callable returned {type(found).__name__}, expected a list of numbers")
    return Response(vector=tuple(float(x) for x in found))


def _rating(found: object) -> Response:
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise ValueError(f"the callable returned {one_line(repr(found), 60)}, expected a number in [0, 1]")
    return Response(number=float(found))


_READERS: Mapping[Kind, Callable[[object], Response]] = {
    "chat": _text,
    "classifier": _label,
    "embedder": _vector,
    "rater": _rating,
}


class PythonProvider(BaseProvider):
    """Imports ``module:callable``, with the current directory on the path."""

    form = "<module>:<callable>"
    kinds = frozenset(_READERS)
    options: ClassVar[Mapping[str, Reader]] = {"max_concurrency": Key(COUNT, "Calls at a time.", default=1)}

    def check(self, spec: ModelSpec) -> None:
        """Look at the spelling; the module is imported in the process that will run it.

        Raises:
            ModelError: It is not ``module:callable``.
        """
        module, _, attribute = spec.target.partition(":")
        words = [*module.split("."), *attribute.split(".")]
        if not all(word.isidentifier() for word in words):
            raise ModelError(
                f"models: {spec.name!r} is not 'python:<module>:<callable>', such as 'python:my_app.bot:answer'"
            )

    def load(self, spec: ModelSpec, settings: LoadSettings) -> CallableModel:
        """Import the function.

        Raises:
            ModelError: The module or the function is not there, or importing it fails.
        """
        self.check(spec)
        module, _, attribute = spec.target.partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            found: Any = importlib.import_module(module)
        except (Exception, SystemExit) as e:  # importing user code may raise anything
            reason = f"{type(e).__name__}: {one_line(e)}"
            raise ModelError(f"models: {spec.name!r}: importing {module!r} failed: {reason}") from e
        try:
            for part in attribute.split("."):
                found = getattr(found, part)
        except AttributeError:
            raise ModelError(f"models: {spec.name!r}: module {module!r} has no {attribute!r}") from None
        if not callable(found):
            raise ModelError(f"models: {spec.name!r}: {attribute!r} of module {module!r} cannot be called")
        concurrency = settings.max_concurrency or spec.options.get("max_concurrency", 1)
        return CallableModel(found, spec.target, concurrency, spec.kind, spec.revision)


PROVIDER = PythonProvider()
