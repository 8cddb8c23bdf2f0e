"""Every request of a run passes through here: first the store, then the model, in batches or many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from pytest_trustllm.engine.activity import Activity
from pytest_trustllm.engine.batches import PRICE_SHARE, BatchQueue
from pytest_trustllm.engine.budget import Ledger, cost
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.engine.turns import Turn
from pytest_trustllm.errors import GenerationError, TrustLLMError, one_line
from pytest_trustllm.formats import UsageEntry
from pytest_trustllm.models.api.admission import Halted
from pytest_trustllm.models.base import AsyncModel, BatchModel, Model, ends_the_task
from pytest_trustllm.models.generation_settings import NO_OVERRIDES, GenerationOverrides
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import BLOCKED, Request, Response

_log = logging.getLogger(__name__)
_MOST_REVISIONS = 20
"""Model versions that are counted one by one; further ones are counted together."""
_TURNED_AWAY_AT_ONCE = 1024
"""Requests that are answered together after the model failed."""
_TAKEN_WITH_BUDGET = 64
"""Requests that a batch model may hold in a run with a budget: those that it has taken, it answers."""
Accept = Callable[[Response], bool]


@dataclasses.dataclass(slots=True)
class Usage:
    """What one model was sent in this run, and what it spent.

    Attributes:
        requests: Sent to the model.
        cached: Answered from the store or by an equal request of the same run.
        failed: Sent, and not answered.
        input_tokens: Of the sent requests; None if the backend did not report them for an answer.
        output_tokens: Of the sent requests; None likewise.
        reasoning_tokens: Those of the output tokens that were reasoning, as far as is known.
        near_ties: Answers, stored ones included, that another batch may round differently (reduced precision only).
        seconds: Time during which at least one request was under way.
        cost_usd: US dollars for the sent requests; None if the price is unknown, or the tokens of an answer are.
        batched: Those of the requests that were answered in a batch, for a share of the price.
        batched_input_tokens: Of these.
        batched_output_tokens: Of these.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    reasoning_tokens: int = 0
    near_ties: int = 0
    seconds: float = 0.0
    cost_usd: float | None = None
    batched: int = 0
    batched_input_tokens: int = 0
    batched_output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the sent requests, as far as they are known."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)

    def entry(self) -> UsageEntry:
        """Return what the results file records."""
        entry: UsageEntry = {
            "requests": self.requests,
            "cached": self.cached,
            "failed": self.failed,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "near_ties": self.near_ties,
            "seconds": self.seconds,
            "cost_usd": self.cost_usd,
        }
        if self.batched:
            entry["batched"] = self.batched
        return entry


async def loaded(load: Callable[[], Model]) -> Model:
    """Return a model, loaded in a thread that ends afterwards.

    OpenMP keeps a pool of threads for every thread that has computed, and while there are more of them than CPUs none
    waits actively: answers would take half as long again.

    Args:
        load: Loads the model; what it raises is raised here.
    """
    with ThreadPoolExecutor(1, "trustllm-load") as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, load)


def _validated(response: object) -> Response:
    """Return what a model returned, or an error in its place if it cannot be scored or stored."""
    if not isinstance(response, Response):
        return Response(error=f"the model returned {type(response).__name__}, expected Response", raised=True)
    # Typed as object: a user's model fills these in, and nothing made it respect the annotations.
    texts: list[object] = [response.text, response.reasoning, response.unanswered, response.detail]
    counts: list[object] = [response.input_tokens, response.output_tokens, response.reasoning_tokens]
    numbers: list[Any] = [response.number, *(response.vector or ())]
    wrong = [text for text in texts if not isinstance(text, str | None)]
    wrong += [count for count in counts if not isinstance(count, int | None)]
    wrong += [number for number in numbers if not isinstance(number, int | float | None)]
    if wrong:
        return Response(error=f"the model's response holds {one_line(repr(wrong[0]), 60)}", raised=True)
    if not all(number is None or math.isfinite(number) for number in numbers):
        # NaN and infinity are not JSON: no store or results file could hold them.
        return Response(error="the model returned a number that is not finite", input_tokens=response.input_tokens)
    return response


def _added(total: int | None, tokens: int | None, *, answered: bool) -> int | None:
    """Return the sum of tokens; None once those of an answer are unknown.

    A request without an answer need not have any: it does not make the sum unknown.
    """
    if tokens is None:
        return None if answered else total
    if total is None:
        return None
    return total + tokens


class Engine:
    """Answers requests with one model.

    It belongs to one event loop; a batch model computes in its own thread.

    Args:
        model: The loaded model.
        shelf: Stored responses; None: nothing is stored, and equal requests are sent again.
        fresh: Do not read stored responses.
        offline: Use stored responses only; a missing one is an error.
        ledger: Counts what the run spends; once its budget is spent, nothing more is sent.
        price: US dollars per million tokens, ``input`` and ``output``; None: unknown.
        tuning: Generation settings of the model's entry in the models file.
        activity: What all models of the run do together.
        licence: Of the model, as the models file or the catalogue has it; None: it says nothing.

    Attributes:
        shelf: As given.
        batches: The model's batches; None: it has none, or nothing was ever submitted and nothing is to be.
        turn: Its turn among models that need the same GPUs.
        dead: The answer to every further request after a failure that cannot pass (a wrong key, a full disk).
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
        tuning: GenerationOverrides = NO_OVERRIDES,
        activity: Activity | None = None,
        licence: str | None = None,
    ) -> None:
        self.model = model
        self.tuning = tuning
        self.usage = Usage(cost_usd=None if price is None else 0.0)
        self._answered_by: Counter[str] = Counter()
        self.dead: Response | None = None
        self.batches: BatchQueue | None = None
        self._activity = activity or Activity()
        self.shelf = shelf
        self._repeats = getattr(model, "repeats_itself", False)
        self._reads_store = not fresh
        self._offline = offline
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[str, asyncio.Future[Response]] = {}
        self._busy = 0
        self._busy_since = 0.0
        self._ledger = ledger or Ledger(())
        taken_at_most = _TAKEN_WITH_BUDGET if self._ledger.limited else None
        self._waiting = RequestQueue(self._answer_forgotten, taken_at_most)
        self._open: dict[int, asyncio.Future[Response]] = {}
        self._last_number = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._limit = asyncio.Semaphore(getattr(model, "max_concurrency", 1))
        self._price = price
        self._licence = licence
        self._started: asyncio.Future[None] | None = None
        self.turn = Turn(self._unload)
        admission: Any = getattr(model, "admission", None)
        if admission is not None:
            admission.halt_when(self._ledger.reached)

    def described(self) -> dict[str, Any]:
        """Return what the results file records of the model, with the versions that answered in its name if known."""
        info = self.tuning.described(self.model.info)
        if self._licence is not None:  # whatever the provider records
            info["about"] = {**info.get("about", {}), "licence": self._licence}
        if self._answered_by:
            info["about"] = {**info.get("about", {}), "answered_by": dict(self._answered_by)}
        return info

    async def start(self) -> None:
        """Start the model once, if it is one that must be started.

        Raises:
            ModelError: It cannot be started.
        """
        start: Callable[[], Coroutine[Any, Any, None]] | None = getattr(self.model, "start", None)
        if start is None:
            return
        if self._started is None:
            self._started = asyncio.ensure_future(start())
        # A request that is given up must not cancel the start that the others wait for
        await asyncio.shield(self._started)

    async def _unload(self) -> None:
        unload: Callable[[], Coroutine[Any, Any, None]] | None = getattr(self.model, "unload", None)
        self._started = None
        if unload is not None:
            await unload()

    def loading(self) -> str | None:
        """Return what a model that is being started does, for the progress line; None otherwise."""
        loading: Callable[[], str | None] | None = getattr(self.model, "loading", None)
        return None if loading is None else loading()

    async def ask(self, request: Request, accept: Accept | None = None) -> Response:
        """Return the response to a request; ``error`` is set if there is none. Never raises for a backend's failure.

        Args:
            request: What to send.
            accept: A response that it refuses is returned but not stored.
        """
        return await self._ask(request, accept, in_batches=True)

    async def ask_now(self, request: Request) -> Response:
        """Return the response to a request as ``ask`` does, but never wait for a batch."""
        return await self._ask(request, None, in_batches=False)

    async def ask_again(self, request: Request) -> Response:
        """Send a request whatever is stored, under way or in a batch, and store nothing: to compare the answers."""
        response = await self._send(self.tuning.applied(request))
        self._count_answer(response)
        return response

    async def _ask(self, request: Request, accept: Accept | None, *, in_batches: bool) -> Response:
        response = await self._looked_up(self.tuning.applied(request), accept, in_batches=in_batches)
        self._count_answer(response)
        return response

    def _count_answer(self, response: Response) -> None:
        if response.revision is not None and response.error is None:
            self._count_revision(response.revision)

    def _count_revision(self, revision: str) -> None:
        """Count who answered; a server may invent a new name for every answer, so the names are limited."""
        if revision not in self._answered_by and len(self._answered_by) >= _MOST_REVISIONS:
            revision = "others"
        self._answered_by[revision] += 1

    async def _looked_up(self, request: Request, accept: Accept | None, *, in_batches: bool) -> Response:
        """Return the response of the store, of an equal request that is under way, of a batch, or of the model."""
        if self.shelf is None:
            return await self._send(request)
        request = self._once(request)
        key = self.shelf.key(request)
        if not request.fresh:
            if key in self._in_flight:
                return await self._share(self._in_flight[key])
            stored = self.shelf.get(key) if self._reads_store else None
            if stored is not None:
                self.usage.cached += 1
                self.usage.near_ties += stored.near_tie is True
                return stored
        future = self._in_flight[key] = self._loop.create_future()
        try:
            response = await self._from_batch(key, request, in_batches=in_batches)
            if response is None:
                response = await self._send(request)
            if response.error is None and (accept is None or accept(response)):
                self._keep(key, response)
            future.set_result(response)
            return response
        finally:
            if self._in_flight.get(key) is future:  # a fresh request may have taken its place
                del self._in_flight[key]
            future.cancel()

    async def _share(self, in_flight: asyncio.Future[Response]) -> Response:
        """Return the response to an equal request that is under way."""
        response = await asyncio.shield(in_flight)
        if response.cut:  # it was never sent, so nothing was saved
            return dataclasses.replace(response, cached=False)
        self.usage.cached += 1
        return dataclasses.replace(response, cached=True)

    def foresee(self, request: Request) -> tuple[int, int]:
        """Return how many tokens a request would send, and receive at most; (0, 0) if its answer is stored."""
        request = self.tuning.applied(request)
        if self.shelf is not None and self._reads_store and self.shelf.key(self._once(request)) in self.shelf:
            return 0, 0
        foresee: Callable[[Request], tuple[int, int]] | None = getattr(self.model, "foresee", None)
        if foresee is not None:
            return foresee(request)
        return request.tokens, request.generation.most_tokens

    def stored(self, request: Request) -> Response | None:
        """Return the stored response to a request; None if the request would have to be sent."""
        if self.shelf is None or not self._reads_store:
            return None
        return self.shelf.get(self.shelf.key(self._once(self.tuning.applied(request))))

    def _once(self, request: Request) -> Request:
        """Return a request without its epoch if every epoch has the same answer: one is enough."""
        if request.epoch and self._repeats and request.generation.temperature == 0:
            return dataclasses.replace(request, epoch=0)
        return request

    def _keep(self, key: str, response: Response) -> None:
        assert self.shelf is not None  # noqa: S101 - _looked_up() checked it
        try:
            self.shelf.put(key, response)
        except GenerationError as e:  # this answer is used all the same; the next one would be lost, so stop
            self.dead = Response(error=str(e), fatal=True)

    async def _from_batch(self, key: str, request: Request, *, in_batches: bool) -> Response | None:
        """Return the answer of a batch, which may have to be waited for; None: the request is to be sent directly."""
        if self.batches is None or not self._reads_store or self.dead is not None:
            return None
        response = self.batches.collected(key, request)
        if response is None:
            if self._offline or self._ledger.reached() is not None:
                return None
            if self.batches.mode is None or not in_batches:
                self.batches.note_direct(key, request)
                return None
            self._begin_timing()
            try:
                response = await self.batches.answer(key, request)
            finally:
                self._end_timing()
        response = self.tuning.read(_validated(response), request)
        if response.cached:
            self.usage.cached += 1
        elif not response.cut:
            self._count(request, response, batched=True)
        if response.fatal:
            self.dead = response
        return response

    def conclude(self) -> None:
        """Note that the run is over and leaves nothing pending."""
        if self.batches is not None and self.shelf is not None:
            self.batches.conclude(self.shelf)

    async def _send(self, request: Request) -> Response:
        if self.dead is not None:
            return self.dead
        if self._offline and self.shelf is not None:
            return Response(error="no stored response, and --trust-offline forbids requests", raised=True)
        spent = self._ledger.reached()
        if spent is not None:
            return Response(error=spent, cut=True)
        self._activity.begin()
        try:
            if hasattr(self.model, "answer"):
                response = await self._answer(cast(AsyncModel, self.model), request)
            else:
                response = await self._enqueue(request)
        finally:
            self._activity.end()
        response = self.tuning.read(_validated(response), request)
        if not response.cut:
            self._count(request, response)
        if response.fatal:
            self.dead = response
        return response

    def _count(self, request: Request, response: Response, *, batched: bool = False) -> None:
        usage = self.usage
        # A provider that blocks a prompt may report no tokens, as if nothing had been sent.
        answered = response.error is None and response.unanswered != BLOCKED
        usage.requests += 1
        usage.failed += response.error is not None
        usage.input_tokens = _added(usage.input_tokens, response.input_tokens, answered=answered)
        usage.output_tokens = _added(usage.output_tokens, response.output_tokens, answered=answered)
        usage.reasoning_tokens += response.reasoning_tokens or 0
        usage.near_ties += response.near_tie is True
        if batched:
            usage.batched += 1
            usage.batched_input_tokens += response.input_tokens or 0
            usage.batched_output_tokens += response.output_tokens or 0
        usage.cost_usd = self._cost_so_far()
        self._ledger.charge(request, response, self._price, PRICE_SHARE if batched else 1.0)

    def _cost_so_far(self) -> float | None:
        """Return US dollars for what was sent; None if the price is unknown, or the tokens are."""
        sent, received = self.usage.input_tokens, self.usage.output_tokens
        if self._price is None or sent is None or received is None:
            return None
        saved = 1 - PRICE_SHARE
        discount = cost(self._price, self.usage.batched_input_tokens, self.usage.batched_output_tokens)
        return cost(self._price, sent, received) - saved * discount

    async def _answer(self, model: AsyncModel, request: Request) -> Response:
        await self.turn.enter()
        try:
            return await self._answer_now(model, request)
        finally:
            self.turn.leave()

    async def _answer_now(self, model: AsyncModel, request: Request) -> Response:
        try:
            await self.start()
        except TrustLLMError as e:
            return Response(error=str(e), fatal=True)
        self._begin_timing()
        try:
            return await self._answer_within_limit(model, request)
        finally:
            self._end_timing()

    async def _answer_within_limit(self, model: AsyncModel, request: Request) -> Response:
        async with self._limit:
            if self.dead is not None:
                return self.dead
            spent = self._ledger.reached()  # once more: it may have waited long for its turn
            if spent is not None:
                return Response(error=spent, cut=True)
            try:
                return await model.answer(request)
            except Halted as e:
                return Response(error=str(e), cut=True)
            except TrustLLMError as e:
                return Response(error=str(e), fatal=True)
            except BaseException as e:  # a bug in a model must not hang the run; it is reported by name
                if ends_the_task(e):
                    raise
                _log.exception("model failed")
                return Response(error=f"{type(e).__name__}: {one_line(e)}", raised=True)

    async def _enqueue(self, request: Request) -> Response:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="trustllm-model", daemon=True)
            self._thread.start()
        self._last_number += 1
        future: asyncio.Future[Response] = self._loop.create_future()
        self._open[self._last_number] = future
        self._begin_timing()
        try:
            self._waiting.put(self._last_number, request)
            return await future
        finally:
            self._end_timing()

    def _serve(self) -> None:
        """Run the batch model until the engine closes; after a failure, answer every further request with it."""
        failure = Response(error="the model stopped before the run was over", fatal=True, raised=True)
        try:
            for number, response in cast(BatchModel, self.model).generate(self._waiting):
                self._settle([number], response)
                if self.dead is not None or self._closed:
                    failure = self.dead or failure
                    break
                spent = self._ledger.reached()
                if spent is not None:
                    self._turn_away(Response(error=spent, cut=True))
        except TrustLLMError as e:
            failure = Response(error=str(e), fatal=True)
        except BaseException as e:  # noqa: BLE001 - see _answer
            _log.exception("model failed")
            failure = Response(error=f"{type(e).__name__}: {one_line(e)}", fatal=True, raised=True)
        self._settle(self._waiting.taken(), failure)
        while taken := self._waiting.take(_TURNED_AWAY_AT_ONCE):
            self._settle([number for number, _ in taken], failure)

    def _turn_away(self, response: Response) -> None:
        """Answer what the model has not taken yet; called in the model's thread."""
        while taken := self._waiting.take(_TURNED_AWAY_AT_ONCE, wait=False):
            self._settle([number for number, _ in taken], response)

    def _answer_forgotten(self) -> None:
        """Answer what the model took and never answered: it waits for more, so it will not come back to these."""
        self._settle(self._waiting.taken(), Response(error="the model returned no answer", raised=True))

    def _settle(self, numbers: Sequence[int], response: Response) -> None:
        """Pass a response to the loop; called in the model's thread."""

        def settle() -> None:
            for number in numbers:
                future = self._open.pop(number, None)
                if future is not None and not future.done():
                    future.set_result(response)

        self._waiting.answered(numbers)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle)

    def _begin_timing(self) -> None:
        if self._busy == 0:
            self._busy_since = time.monotonic()
        self._busy += 1

    def _end_timing(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self.usage.seconds += time.monotonic() - self._busy_since

    async def close(self) -> None:
        """Stop the thread after its next answer, and close connections and files."""
        self._closed = True
        self._waiting.close()
        if self.batches is not None:
            await self.batches.close()
        close: Any = getattr(self.model, "close", None)
        if close is not None:
            await close()
        if self.shelf is not None:
            self.shelf.close()
