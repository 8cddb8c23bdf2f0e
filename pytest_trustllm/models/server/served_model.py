"""A model that the run itself serves: it starts the servers, asks them, starts dead ones again, and ends them all."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.api import chat
from pytest_trustllm.models.api.connection import TIMEOUT, Server
from pytest_trustllm.models.api.fleet import Fleet
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.types import Request, Response

MOST_DEATHS = 3
"""Deaths of a server in a row, without an answer in between, after which the run ends."""
_SILENCE = 60.0
"""Seconds without an answer after which a server that has requests is asked for a sign of life."""
_LOOK_EVERY = 1.0
_GROW_EVERY = 10.0
_MOST_GROWTH = 4
"""Up to so many times as many servers as at the beginning are kept busy."""

T = TypeVar("T")


class ModelServer(Protocol):
    """One server of a model, of this machine or of a cluster's node. Its methods block.

    Attributes:
        model: The name under which it serves the model, once it is started.
    """

    model: str

    @property
    def server(self) -> Server:
        """Where requests go, once it is started."""
        ...

    def start(self) -> None:
        """Start it and wait until it answers; raises ModelError if it does not."""
        ...

    def wait(self) -> str:
        """Wait until it has ended; return how."""
        ...

    def answers(self, seconds: float) -> bool:
        """Return whether it returns a token within some time."""
        ...

    def end(self) -> None:
        """End it, so that it can be started again."""
        ...

    def request_stop(self) -> None:
        """End it for good, without waiting for that."""
        ...

    def stop(self) -> None:
        """End it for good."""
        ...


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of a model, not started yet.

    Attributes:
        described: What serves it: engine, version, command, device.
        revision: What is served: a commit, or a hash of files; None: unknown.
        replicas: At least one server.
        grow: Returns servers to add to this many, because there is room for more now; blocks.
    """

    described: Mapping[str, Any]
    revision: str | None
    replicas: Sequence[ModelServer]
    grow: Callable[[int], Sequence[ModelServer]] | None = None


class ServedModel:
    """A model behind servers that are started before its first request.

    A server that dies, or stops answering, is started again; its open requests go to the others, or wait for it.

    Args:
        spec: The model, with the defaults of a server of one's own among its options.
        settings: Those of the command line.
        servers: What starts them.
        gpus: The GPUs of this machine that they need.
        batch_effects: Answers may depend on the batch that they are computed in.
    """

    stored = True

    def __init__(
        self,
        spec: ModelSpec,
        settings: LoadSettings,
        servers: Servers,
        gpus: frozenset[str],
        batch_effects: bool,
    ) -> None:
        self._name = spec.name
        self.gpus = gpus
        self._engine = servers.described["engine"]
        self._replicas = list(servers.replicas)
        self._grow = servers.grow
        self._fleet = Fleet(spec, settings, own=len(self._replicas))
        # The only engine whose log probabilities were tried out with the suites
        self._fleet.notes_ties = batch_effects and self._engine == "vLLM"
        self._model: Any = chat.load(spec, self._fleet)
        self._starting: asyncio.Task[None] | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._closed = False
        self._silence = min(_SILENCE, float(spec.options.get("timeout", TIMEOUT)))
        self._last_sign = [0.0] * len(self._replicas)
        self._ready_count = 0
        self._restarts: list[str] = []
        # Servers that are added later need requests too; those that no server can take wait in the queue before them
        room = 1 if self._grow is None else _MOST_GROWTH
        self.max_concurrency: int = room * self._model.max_concurrency
        self.admission = self._fleet.admission
        self.reasoning = getattr(self._model, "reasoning", None)
        self._about: dict[str, Any] = {**self._model.info["about"], "replicas": len(self._replicas)}
        if batch_effects:
            self._about["batch_effects"] = "possible"
        self.info: Mapping[str, Any] = {
            **self._model.info,
            "id": Path(spec.target).name if Path(spec.target).is_absolute() else spec.target,
            "revision": servers.revision,
            "server": dict(servers.described),
            "about": self._about,
        }
        foresee = getattr(self._model, "foresee", None)
        if foresee is not None:
            self.foresee: Callable[[Request], tuple[int, int]] = foresee

    def loading(self) -> str | None:
        """Return what the model does while it starts, for the progress line; None if it is not starting."""
        if self._starting is None or self._starting.done():
            return None
        if len(self._replicas) == 1:
            return f"{self._engine} loads {self._name}"
        return f"{self._engine} loads {self._name}: {self._ready_count} of {len(self._replicas)} ready"

    async def start(self) -> None:
        """Start the servers, unless they run.

        Raises:
            ModelError: One of them does not come up.
        """
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def answer(self, request: Request) -> Response:
        """Return the answer of one of the servers."""
        response: Response = await self._model.answer(request)
        return response

    async def unload(self) -> None:
        """End the servers; ``start`` starts them again."""
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        for number in range(len(self._replicas)):
            self._fleet.suspend(number)
        await asyncio.gather(*(_in_thread(replica.end) for replica in self._replicas))
        self._starting = None
        self._ready_count = 0

    async def close(self) -> None:
        """End the servers."""
        self._closed = True
        for replica in self._replicas:
            replica.request_stop()
        for task in (*self._watchers, self._starting):
            if task is not None:
                task.cancel()
        await self._model.close()
        await asyncio.gather(*(_in_thread(replica.stop) for replica in self._replicas))

    async def _start(self) -> None:
        started = [asyncio.ensure_future(self._start_one(i)) for i in range(len(self._replicas))]
        try:
            await asyncio.gather(*started)
        except ModelError:
            # The others would hold their memory although the run ends
            for replica in self._replicas:
                replica.request_stop()
            await asyncio.gather(*(_in_thread(replica.end) for replica in self._replicas))
            await asyncio.gather(*started, return_exceptions=True)
            raise
        self._fleet.on_failure = lambda number: self._suspect(number)
        for i in range(len(self._replicas)):
            self._begin_watching(i)
        if self._grow is not None:
            self._watchers.append(asyncio.ensure_future(self._add_servers(self._grow)))

    def _begin_watching(self, number: int) -> None:
        self._watchers.append(asyncio.ensure_future(self._watch(number)))
        self._watchers.append(asyncio.ensure_future(self._listen_for_life(number)))

    async def _add_servers(self, grow: Callable[[int], Sequence[ModelServer]]) -> None:
        """Start further servers while there is room for more; one that does not come up is left out, and recorded."""
        failed = 0
        while not self._closed and failed < MOST_DEATHS:
            await asyncio.sleep(_GROW_EVERY)
            for replica in await _in_thread(functools.partial(grow, len(self._replicas) - failed)):
                # One that fails keeps its number, and stays suspended
                self._replicas.append(replica)
                self._last_sign.append(0.0)
                number = self._fleet.add()
                try:
                    await self._start_one(number)
                except ModelError as e:
                    failed += 1
                    await _in_thread(replica.stop)
                    self._note(f"a server that was added did not start: {one_line(e, 300)}")
                else:
                    self._about["replicas"] = len(self._replicas) - failed
                    self._begin_watching(number)

    async def _start_one(self, number: int) -> None:
        replica = self._replicas[number]
        await _in_thread(replica.start)
        self._ready_count += 1
        self._last_sign[number] = time.monotonic()
        self._fleet.model = replica.model
        await self._fleet.resume(number, replica.server)

    async def _watch(self, number: int) -> None:
        """Start a server again whenever it has ended, until it ends too often without an answer in between."""
        replica = self._replicas[number]
        deaths = 0
        while True:
            answers_before = self._fleet.answers[number]
            how = await _in_thread(replica.wait)
            if self._closed:
                return
            self._fleet.suspend(number)
            if self._fleet.answers[number] > answers_before:
                deaths = 0
            deaths += 1
            while deaths < MOST_DEATHS:
                self._note_restart(number, how)
                try:
                    await self._start_one(number)
                    break
                except ModelError as e:
                    how = str(e)
                    deaths += 1
            else:
                self._fleet.end(
                    f"models: {self._name!r}: {self._engine} ended {MOST_DEATHS} times in a row "
                    f"without an answer, the last time with {how}"
                )
                return

    def _note_restart(self, number: int, how: str) -> None:
        label = f"server {number + 1} of {len(self._replicas)}"
        self._note(f"{label} was started again: {one_line(how, 300)}")

    def _note(self, event: str) -> None:
        self._restarts.append(event)
        self._about["restarts"] = list(self._restarts)

    async def _listen_for_life(self, number: int) -> None:
        """End a server that has requests and returns no answer for long, so that it is started again."""
        answers = self._fleet.answers[number]
        pace = self._fleet.endpoints[number].pace
        while not self._closed:
            await asyncio.sleep(_LOOK_EVERY)
            now = time.monotonic()
            if self._fleet.answers[number] > answers or not pace.in_flight or pace.suspended:
                answers = self._fleet.answers[number]
                self._last_sign[number] = max(now, self._last_sign[number])
            elif now - self._last_sign[number] >= self._silence:
                if not await _in_thread(lambda: self._replicas[number].answers(2 * self._silence)):
                    await _in_thread(self._replicas[number].end)
                self._last_sign[number] = time.monotonic()

    def _suspect(self, number: int) -> None:
        """Ask a server soon for a sign of life: a request to it has failed."""
        self._last_sign[number] = min(self._last_sign[number], time.monotonic() - self._silence)


def _in_thread(work: Callable[[], T]) -> Awaitable[T]:
    """Run blocking work in a thread that nobody waits for when the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only if that is what the work returned

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as e:  # noqa: BLE001 - raised where the result is awaited
            error = e
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="trustllm-server", daemon=True).start()
    return future
