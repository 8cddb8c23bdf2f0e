"""Every request of a run passes here: store first, duplicates once, then the model, in batches or many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from pytest_trustllm.budget import Ledger, cost
from pytest_trustllm.errors import GenerationError, TrustLLMError, one_line
from pytest_trustllm.models.base import AsyncModel, BatchModel, Model, ends_the_task
from pytest_trustllm.models.pacing import Halted
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Request, Response
from pytest_trustllm.store import Shelf

_log = logging.getLogger(__name__)
_CROWD = 1024
"""Requests that are told at once that the model failed."""
_CAREFUL = 64
"""Requests that a batch model gets at once where a budget may end the run: those it has, it answers."""
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
        cost_usd: US dollars for the sent requests; None if the price is unknown, or the tokens of an answer are.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    near_ties: int = 0
    seconds: float = 0.0
    cost_usd: float | None = None


async def loaded(load: Callable[[], Model]) -> Model:
    """Return a model that is loaded in a thread, which ends then.

    OpenMP keeps a pool of threads for every thread that has computed, and while there are more of them than CPUs none
    waits actively: answers would take half as long again.

    Args:
        load: Loads the model; what it raises is raised here.
    """
    with ThreadPoolExecutor(1, "trustllm-load") as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, load)


def _sound(response: object) -> Response:
    """Return what a model returned, or an error in its place where it is nothing that could be scored or stored."""
    if not isinstance(response, Response):
        return Response(error=f"the model returned {type(response).__name__}, expected Response", raised=True)
    counts, numbers = (response.input_tokens, response.output_tokens), (response.number, *(response.vector or ()))
    wrong: list[object] = [response.text] if not isinstance(response.text, str | None) else []
    wrong += [n for n in counts if not isinstance(n, int | None)]
    wrong += [n for n in numbers if not isinstance(n, int | float | None)]
    if wrong:
        return Response(error=f"the model's response holds {one_line(repr(wrong[0]), 60)}", raised=True)
    if not all(map(math.isfinite, filter(None, numbers))):
        return Response(error="the model returned what is no number", input_tokens=response.input_tokens)
    return response


class Engine:
    """Answers requests with one model. Lives in one event loop; a batch model computes in a thread of its own.

    Args:
        model: The loaded model.
        shelf: Stored responses; None: nothing is stored and equal requests are asked again.
        fresh: Do not read stored responses.
        offline: Read only stored responses; a missing one is an error.
        ledger: Counts what the run spends, and says when its budget is spent: nothing is sent from then on.
        price: US dollars per million tokens, ``input`` and ``output``; None: unknown.
    """

    def __init__(
        self,
        model: Model,
        shelf: Shelf | None,
        *,
        fresh: bool = False,
        offline: bool = False,
        ledger: Ledger | None = None,
        price: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self.usage = Usage(cost_usd=None if price is None else 0.0)
        self.dead: Response | None = None
        self._shelf = shelf
        self._repeats = getattr(model, "repeats_itself", False)
        self._read = not fresh
        self._offline = offline
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[str, asyncio.Future[Response]] = {}
        self._busy = 0
        self._busy_since = 0.0
        self._ledger = ledger or Ledger(())
        self._waiting = Waiting(self._lost, _CAREFUL if self._ledger.limited else None)
        self._open: dict[int, asyncio.Future[Response]] = {}
        self._number = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._limit = asyncio.Semaphore(getattr(model, "max_concurrency", 1))
        self._price = price
        pace: Any = getattr(model, "pace", None)
        if pace is not None:
            pace.halt_when(self._ledger.reached)

    async def ask(self, request: Request, accept: Accept | None = None) -> Response:
        """Return the response to a request; ``error`` is set if there is none. Never raises for a backend's failure.

        Args:
            request: What to ask.
            accept: A response that it refuses is returned but not stored.
        """
        if self._shelf is None:
            return await self._send(request)
        if request.epoch and self._repeats and request.generation.temperature == 0:
            request = dataclasses.replace(request, epoch=0)
        key = self._shelf.key(request)
        if key in self._in_flight and not request.fresh:
            response = await asyncio.shield(self._in_flight[key])
            self.usage.cached += not response.cut
            return dataclasses.replace(response, cached=not response.cut)
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

    def foresee(self, request: Request) -> tuple[int, int]:
        """Return how many tokens a request would send, and receive at most; nothing if its answer is stored."""
        if self._shelf is not None and self._read and self._shelf.get(self._shelf.key(request)) is not None:
            return 0, 0
        foresee: Callable[[Request], tuple[int, int]] | None = getattr(self.model, "foresee", None)
        return foresee(request) if foresee is not None else (request.tokens, request.generation.max_new_tokens)

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
        if (spent := self._ledger.reached()) is not None:
            return Response(error=spent, cut=True)
        self._start()
        try:
            if hasattr(self.model, "answer"):
                response = _sound(await self._answer(cast(AsyncModel, self.model), request))
            else:
                response = _sound(await self._enqueue(request))
        finally:
            self._stop()
        if not response.cut:
            self._count(request, response)
        if response.fatal:
            self.dead = response
        return response

    def _count(self, request: Request, response: Response) -> None:
        usage, told = self.usage, response.input_tokens is not None
        usage.requests += 1
        usage.failed += response.error is not None
        usage.input_tokens += response.input_tokens or 0
        usage.output_tokens += response.output_tokens or 0
        usage.near_ties += response.near_tie is True
        if self._price is not None:
            known = usage.cost_usd is not None and (told or response.error is not None)
            usage.cost_usd = cost(self._price, usage.input_tokens, usage.output_tokens) if known else None
        self._ledger.charge(request, response, self._price)

    async def _answer(self, model: AsyncModel, request: Request) -> Response:
        async with self._limit:
            if self.dead is not None:
                return self.dead
            if (spent := self._ledger.reached()) is not None:
                return Response(error=spent, cut=True)
            try:
                return await model.answer(request)
            except Halted as e:
                return Response(error=str(e), cut=True)
            except TrustLLMError as e:
                return Response(error=str(e), fatal=True)
            except BaseException as e:  # a model's own bug must not hang the run; it is reported by name
                if ends_the_task(e):
                    raise
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
                if (spent := self._ledger.reached()) is not None:
                    self._turn_away(Response(error=spent, cut=True))
        except TrustLLMError as e:
            failure = Response(error=str(e), fatal=True)
        except BaseException as e:  # noqa: BLE001 - see _answer
            _log.exception("model failed")
            failure = Response(error=f"{type(e).__name__}: {one_line(e)}", fatal=True, raised=True)
        self._settle(self._waiting.taken(), failure)
        while taken := self._waiting.take(_CROWD):
            self._settle([number for number, _ in taken], failure)

    def _turn_away(self, response: Response) -> None:
        """Answer what the model has not taken yet; called in the model's thread."""
        while taken := self._waiting.take(_CROWD, wait=False):
            self._settle([number for number, _ in taken], response)

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
