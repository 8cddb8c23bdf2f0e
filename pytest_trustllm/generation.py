"""Every request of a run passes here: store first, duplicates once, then the model, in batches or many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from pytest_trustllm.errors import GenerationError, TrustLLMError, one_line
from pytest_trustllm.models.base import AsyncModel, BatchModel, Model
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Request, Response
from pytest_trustllm.store import Shelf

_log = logging.getLogger(__name__)
_CROWD = 1024
"""Requests that are told at once that the model failed."""
Accept = Callable[[Response], bool]


@dataclasses.dataclass(slots=True)
class Usage:
    """What was asked of one model in this run.

    Attributes:
        requests: Sent to the model.
        cached: Answered from the store or by an equal request of the same run.
        failed: Sent, and not answered.
        input_tokens: Of the sent requests, as far as the backend tells.
        output_tokens: Of the sent requests, as far as the backend tells.
        near_ties: Answers, stored ones included, that another batch may round differently (reduced precision only).
        seconds: Time during which at least one request was under way.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    near_ties: int = 0
    seconds: float = 0.0


class Engine:
    """Answers requests with one model. Lives in one event loop; a batch model computes in a thread of its own.

    Args:
        model: The loaded model.
        shelf: Stored responses; None: nothing is stored and equal requests are asked again.
        fresh: Do not read stored responses.
        offline: Read only stored responses; a missing one is an error.
    """

    def __init__(self, model: Model, shelf: Shelf | None, *, fresh: bool = False, offline: bool = False) -> None:
        self.model = model
        self.usage = Usage()
        self.dead: Response | None = None
        self._shelf = shelf
        self._read = not fresh
        self._offline = offline
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[str, asyncio.Future[Response]] = {}
        self._busy = 0
        self._busy_since = 0.0
        self._waiting = Waiting(self._lost)
        self._open: dict[int, asyncio.Future[Response]] = {}
        self._number = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._limit = asyncio.Semaphore(getattr(model, "max_concurrency", 1))

    async def ask(self, request: Request, accept: Accept | None = None) -> Response:
        """Return the response to a request; ``error`` is set if there is none. Never raises for a backend's failure.

        Args:
            request: What to ask.
            accept: A response that it refuses is returned but not stored.
        """
        if self._shelf is None:
            return await self._send(request)
        key = self._shelf.key(request)
        if key in self._in_flight and not request.fresh:
            self.usage.cached += 1
            return dataclasses.replace(await asyncio.shield(self._in_flight[key]), cached=True)
        stored = self._shelf.get(key) if self._read and not request.fresh else None
        if stored is not None:
            self.usage.cached += 1
            self.usage.near_ties += stored.near_tie is True
            return stored
        future = self._in_flight[key] = self._loop.create_future()
        try:
            response = await self._send(request)
            if response.error is None and (accept is None or accept(response)):
                self._keep(key, response)
            future.set_result(response)
            return response
        finally:
            if self._in_flight.get(key) is future:  # a fresh request may have taken the place
                del self._in_flight[key]
            future.cancel()

    def _keep(self, key: str, response: Response) -> None:
        assert self._shelf is not None  # noqa: S101 - ask() looked
        try:
            self._shelf.put(key, response)
        except GenerationError as e:  # the answer is good and is used; the next one would be lost, so stop
            self.dead = Response(error=str(e), fatal=True)

    async def _send(self, request: Request) -> Response:
        if self.dead is not None:
            return self.dead
        if self._offline and self._shelf is not None:
            return Response(error="no stored response, and --trust-offline forbids to ask", raised=True)
        self._start()
        response: Any  # of a provider that may be the user's own
        try:
            if hasattr(self.model, "answer"):
                response = await self._answer(cast(AsyncModel, self.model), request)
            else:
                response = await self._enqueue(request)
        finally:
            self._stop()
        if not isinstance(response, Response):
            response = Response(error=f"the model returned {type(response).__name__}, expected Response", raised=True)
        self.usage.requests += 1
        self.usage.failed += response.error is not None
        self.usage.input_tokens += response.input_tokens or 0
        self.usage.output_tokens += response.output_tokens or 0
        self.usage.near_ties += response.near_tie is True
        if response.fatal:
            self.dead = response
        return cast(Response, response)

    async def _answer(self, model: AsyncModel, request: Request) -> Response:
        async with self._limit:
            if self.dead is not None:
                return self.dead
            try:
                return await model.answer(request)
            except TrustLLMError as e:
                return Response(error=str(e), fatal=True)
            except Exception as e:  # noqa: BLE001 - a model's own bug must not hang the run; it is reported by name
                _log.exception("model failed")
                return Response(error=f"{type(e).__name__}: {one_line(e)}", raised=True)

    async def _enqueue(self, request: Request) -> Response:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="trustllm-model", daemon=True)
            self._thread.start()
        self._number += 1
        future: asyncio.Future[Response] = self._loop.create_future()
        self._open[self._number] = future
        self._waiting.put(self._number, request)
        return await future

    def _serve(self) -> None:
        """Run the batch model until the engine closes, and after it failed say so to every further request."""
        failure = Response(error="the model stopped before the run was over", fatal=True, raised=True)
        try:
            for number, response in cast(BatchModel, self.model).generate(self._waiting):
                self._settle([number], response)
                if self.dead is not None or self._closed:
                    failure = self.dead or failure
                    break
        except TrustLLMError as e:
            failure = Response(error=str(e), fatal=True)
        except Exception as e:  # noqa: BLE001 - see _answer
            _log.exception("model failed")
            failure = Response(error=f"{type(e).__name__}: {one_line(e)}", fatal=True, raised=True)
        self._settle(self._waiting.taken(), failure)
        while taken := self._waiting.take(_CROWD):
            self._settle([number for number, _ in taken], failure)

    def _lost(self) -> None:
        """Answer what the model took and forgot: it waits for more, so it will not come back to it."""
        self._settle(self._waiting.taken(), Response(error="the model gave no answer", raised=True))

    def _settle(self, numbers: Sequence[int], response: Response) -> None:
        """Hand a response over to the loop; called in the model's thread."""

        def settle() -> None:
            for number in numbers:
                future = self._open.pop(number, None)
                if future is not None and not future.done():
                    future.set_result(response)

        self._waiting.answered(numbers)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle)

    def _start(self) -> None:
        if self._busy == 0:
            self._busy_since = time.monotonic()
        self._busy += 1

    def _stop(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self.usage.seconds += time.monotonic() - self._busy_since

    async def close(self) -> None:
        """Stop the thread after its next answer, and let go of connections and files."""
        self._closed = True
        self._waiting.close()
        close: Any = getattr(self.model, "close", None)
        if close is not None:
            await close()
        if self._shelf is not None:
            self._shelf.close()
