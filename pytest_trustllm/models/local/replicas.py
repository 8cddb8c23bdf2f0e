"""Several copies of a chat model, one per device, each in a process of its own that nothing else can reach.

This process sends prompts over pipes, the costliest first and always to the copy with the least work left. A copy gets
only as many as keep it busy, so that none is idle while another has a backlog. It ends when its standard input closes,
so it never outlives this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pytest_trustllm.errors import GenerationError, ModelError
from pytest_trustllm.models import frames
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.models.reasoning import Reasoning
from pytest_trustllm.types import CHARACTERS_PER_TOKEN, Request, Response

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pytest_trustllm.models.local.replica_process import main; main()"
)
_POOL = 4096
"""Requests looked at together to find the costliest."""
_BATCH_SIZE = 16
"""Of a copy that does not tell its own."""
_AHEAD = 2
"""Batches of requests that a copy has at once: one to compute and one to choose the next prompts from."""
_TURN = 0.05
"""Seconds after which new requests are looked for although no answer has come."""
_GROW_EVERY = 5.0
_THREADS = "OMP_NUM_THREADS"
"""Environment variable with the number of threads that torch computes with; the user's own value counts."""
_PATIENCE = 3.0
"""Seconds that a process is given to end."""
_SAME_IN_ALL = ("revision", "dtype", "device", "torch", "transformers")
"""Keys of a copy's information that must not differ between copies."""

MOST_DEATHS = 3
"""Deaths in a row, without an answer in between, after which a copy is not started again."""

PooledRequest = tuple[float, int, Request]
"""Negative cost, number and request: ``heapq`` pops the smallest first."""
AnswerQueue = queue.SimpleQueue[tuple["Copy", Any]]
"""Messages of the copies; None: a copy has ended."""


class Copy(Protocol):
    """A copy of a model that computes elsewhere.

    Attributes:
        place: Where it computes, for messages.
        given: Number -> what it has not answered.
        load: Sum of their expected costs.
        most: Requests that it may have at once; 0 until it is loaded.
        loads_elsewhere: It may end while it loads for reasons that are not the model's, and load on another machine.
    """

    place: str
    loads_elsewhere: bool
    given: dict[int, PooledRequest]
    load: float
    most: int

    def begin(self, answers: AnswerQueue) -> None:
        """Start to load the model. Every message goes into the queue with the copy, and at its end None.

        The first message holds ``info``, or ``failed``; each further one ``number`` and ``response``, or ``failed``.
        """
        ...

    def give(self, pooled: PooledRequest) -> None:
        """Send a request."""
        ...

    def end(self) -> str:
        """Return how a copy that has ended did so."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Replicas:
    """A chat model with several copies.

    A copy whose process ends is started again. Any of the requests that it had may have ended it (too long a prompt for
    the memory, for example), so each of them is sent once more, alone: one that ends a copy alone is an error. A copy
    that ends three times in a row without an answer ends the run.

    Args:
        spec: Which model.
        copies: At least one.
        grow: Returns copies to add to this many, because there is room for more now.

    Raises:
        ModelError: A copy cannot be loaded.
    """

    stored = True

    def __init__(
        self,
        spec: ModelSpec,
        copies: Sequence[Copy],
        grow: Callable[[int], Sequence[Copy]] = lambda count: (),
    ) -> None:
        self._name = spec.name
        self._answers: AnswerQueue = queue.SimpleQueue()
        self._copies = list(copies)
        self._deaths_in_a_row: Counter[Copy] = Counter()
        self._suspects: deque[PooledRequest] = deque()
        self._alone: set[Copy] = set()
        self._restarts: list[str] = []
        self._grow = grow
        self._grown_at = time.monotonic()
        try:
            for copy in self._copies:
                copy.begin(self._answers)
            infos = self._first_infos()
        except ModelError:
            self._stop()
            raise
        self._about: dict[str, Any] = {
            **infos[self._copies[0]]["about"],
            "devices": [copy.place for copy in self._copies],
        }
        self.info: Mapping[str, Any] = {**infos[self._copies[0]], "about": self._about}
        configured = Reasoning.of(spec.options.get("reasoning"))
        self.reasoning = dataclasses.replace(configured, expected=self._about.get("reasons", False))

    def _first_infos(self) -> dict[Copy, Mapping[str, Any]]:
        """Wait until all copies are loaded; return what each says about itself."""
        infos: dict[Copy, Mapping[str, Any]] = {}
        while len(infos) < len(self._copies):
            copy, message = self._answers.get()
            if message is None:
                self._deaths_in_a_row[copy] += 1
                if copy.loads_elsewhere and self._deaths_in_a_row[copy] < MOST_DEATHS:
                    copy.begin(self._answers)
                    continue
                raise ModelError(
                    f"models: {self._name!r}: its process on {copy.place} ended while loading ({copy.end()})"
                )
            if "failed" in message:
                raise ModelError(message["failed"])
            infos[copy] = message["info"]
            difference = _difference(infos[self._copies[0]], infos[copy]) if self._copies[0] in infos else None
            if difference is not None:
                raise ModelError(
                    f"models: {self._name!r}: the copies on {self._copies[0].place} and {copy.place} would give other "
                    f"answers ({difference}); set it in a models file, or install the same versions everywhere"
                )
            self._take_size(copy, message["info"])
        return infos

    def _take_size(self, copy: Copy, info: Mapping[str, Any]) -> None:
        copy.most = _AHEAD * info["about"].get("batch_size", _BATCH_SIZE)

    def _take_info(self, copy: Copy, info: Mapping[str, Any]) -> None:
        """Use a copy that was added or moved, unless it would give other answers than the first ones."""
        difference = _difference(self.info, info)
        if difference is None:
            self._take_size(copy, info)
            return
        copy.stop()
        self._copies.remove(copy)
        self._note(f"the copy on {copy.place} is not used, because it would give other answers ({difference})")
        if not self._copies:
            raise ModelError(f"models: {self._name!r}: no copy is left: {self._restarts[-1]}")

    def generate(self, waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) as the copies answer.

        Raises:
            ModelError: A copy ended again and again.
            GenerationError: A copy failed.
        """
        pool: list[PooledRequest] = []
        while True:
            is_idle = not pool and not self._suspects and not any(copy.given for copy in self._copies)
            if len(pool) < _POOL:
                taken = waiting.take(_POOL, wait=is_idle)
                if is_idle and not taken:
                    return
                for number, request in taken:
                    # The number decides between equal costs: requests cannot be compared.
                    heapq.heappush(pool, (-_cost(request), number, request))
            self._grow_if_due()
            self._deal(pool)
            with contextlib.suppress(queue.Empty):
                copy, message = self._answers.get(timeout=_TURN)
                while True:
                    yield from self._taken(copy, message)
                    copy, message = self._answers.get_nowait()

    def _grow_if_due(self) -> None:
        """Add copies now and then, if there is room for more."""
        now = time.monotonic()
        if now - self._grown_at < _GROW_EVERY:
            return
        self._grown_at = now
        for copy in self._grow(len(self._copies)):
            self._copies.append(copy)
            copy.begin(self._answers)

    def _deal(self, pool: list[PooledRequest]) -> None:
        """Send the costliest requests of the pool to the copies with the least work left, until all have enough."""
        for copy in self._copies:
            if self._suspects and copy.most and not copy.given:
                self._give(copy, self._suspects.popleft())
                self._alone.add(copy)
        while pool:
            open_copies = [copy for copy in self._copies if len(copy.given) < copy.most and copy not in self._alone]
            if not open_copies:
                return
            self._give(min(open_copies, key=lambda copy: copy.load), heapq.heappop(pool))

    def _give(self, copy: Copy, pooled: PooledRequest) -> None:
        negative_cost, number, _ = pooled
        copy.given[number] = pooled
        copy.load -= negative_cost
        copy.give(pooled)

    def _taken(self, copy: Copy, message: Any) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) of what a message of a copy answers.

        Raises:
            ModelError: Its process has ended too often.
            GenerationError: It reports a failure.
        """
        if copy not in self._copies:
            return  # the end of one that is not used
        if message is None:
            yield from self._restarted(copy)
        elif "failed" in message:
            self._stop()
            raise GenerationError(f"{self._name!r} on {copy.place} failed: {message['failed']}")
        elif "info" in message:
            self._take_info(copy, message["info"])
        else:
            number = message["number"]
            negative_cost, _, _ = copy.given.pop(number)
            copy.load += negative_cost
            self._deaths_in_a_row[copy] = 0
            self._alone.discard(copy)
            yield number, Response.restored(message["response"])

    def _restarted(self, copy: Copy) -> Iterator[tuple[int, Response]]:
        """Start a copy again. A request that it had alone is to blame; of several, each is sent once more, alone."""
        how = copy.end()
        self._deaths_in_a_row[copy] += 1
        if self._deaths_in_a_row[copy] >= MOST_DEATHS:
            self._stop()
            raise ModelError(
                f"models: {self._name!r}: its process on {copy.place} ended {MOST_DEATHS} times in a row without an "
                f"answer, the last time with {how}"
            )
        self._note(f"the copy on {copy.place} was started again: {how}")
        given = list(copy.given.values())
        copy.given.clear()
        copy.load = 0.0
        copy.most = 0
        copy.begin(self._answers)
        if copy in self._alone:
            self._alone.discard(copy)
            for _, number, _ in given:
                yield number, Response(error=f"the model's process ended while it answered this: {how}", raised=True)
        else:
            self._suspects.extend(given)

    def _note(self, event: str) -> None:
        self._restarts.append(event)
        self._about["restarts"] = list(self._restarts)

    async def close(self) -> None:
        """End the copies."""
        self._stop()

    def _stop(self) -> None:
        for copy in self._copies:
            copy.stop()


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return in what two copies' answers may differ; None: in nothing."""
    for name in _SAME_IN_ALL:
        if one.get(name) != other.get(name):
            return f"{name}: {one.get(name)} and {other.get(name)}"
    return None


class ProcessCopy:
    """A copy in a process of this machine.

    Args:
        device: Where it computes.
        spec: Which model.
        settings: Those of every copy, except for the device.
        threads: With how many it computes; None: as many as the libraries choose.
    """

    loads_elsewhere = False

    def __init__(self, device: str, spec: ModelSpec, settings: LoadSettings, threads: int | None = None) -> None:
        self.place = device
        self.given: dict[int, PooledRequest] = {}
        self.load = 0.0
        self.most = 0
        self._spec = spec
        self._settings = dataclasses.replace(settings, device=device)
        self._environment = dict(os.environ)
        if threads is not None:
            self._environment.setdefault(_THREADS, str(threads))
        self._reader: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, answers: AnswerQueue) -> None:
        """Start the process, and a thread that reads its messages."""
        if self._process is not None:
            self.stop()
        package = str(Path(__file__).resolve().parents[3])
        process = self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-c", _START, package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )
        self._send(
            {
                "sys_path": sys.path,
                "spec": {
                    **dataclasses.asdict(dataclasses.replace(self._spec, options={})),
                    "options": dict(self._spec.options),
                },
                "settings": dataclasses.asdict(self._settings),
            }
        )

        def read() -> None:
            assert process.stdout is not None  # noqa: S101 - Popen was told to make a pipe
            message: Any = {}
            while message is not None:
                message = frames.read_pipe(process.stdout)
                answers.put((self, message))

        self._reader = threading.Thread(target=read, name=f"trustllm-{self.place}", daemon=True)
        self._reader.start()

    def _send(self, message: Any) -> None:
        assert self._process is not None  # noqa: S101 - it was begun
        assert self._process.stdin is not None  # noqa: S101 - Popen was told to make a pipe
        with contextlib.suppress(OSError):  # the process has ended: the reading side reports it
            self._process.stdin.write(frames.encode(message))
            self._process.stdin.flush()

    def give(self, pooled: PooledRequest) -> None:
        """Send a request."""
        self._send(message_of(pooled))

    def end(self) -> str:
        """Return how the process ended."""
        assert self._process is not None  # noqa: S101 - it was begun
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit status {code}"

    def stop(self) -> None:
        """Close the process's input, which ends it at once."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        if process.stdout is not None:
            process.stdout.close()


def copies_on(devices: Sequence[str], spec: ModelSpec, settings: LoadSettings) -> list[ProcessCopy]:
    """Return a copy for each device; those on the CPU share its cores.

    With a thread per core in each of them, threads would wait for threads that are not running: three copies on two
    cores have been ten times slower than one.

    Args:
        devices: Their names.
        spec: Which model.
        settings: Those of every copy, except for the device.
    """
    on_cpu = [device for device in devices if device.partition(":")[0] == "cpu"]
    share = max(1, _cores() // max(1, len(on_cpu)))
    return [ProcessCopy(device, spec, settings, share if device in on_cpu else None) for device in devices]


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def message_of(pooled: PooledRequest) -> dict[str, Any]:
    """Return a request as plain JSON, as the process of a copy reads it."""
    _, number, request = pooled
    generation = dataclasses.asdict(request.generation)
    return {
        "number": number,
        "messages": request.messages,
        "generation": generation,
        "seed": request.seed,
        "tools": [dataclasses.asdict(tool) for tool in request.tools],
    }


def _cost(request: Request) -> float:
    """Return what an answer is expected to cost, in tokens of prompt and answer."""
    return len(request.text) / CHARACTERS_PER_TOKEN + request.generation.most_tokens


def devices_of(name: str) -> list[str]:
    """Return the devices that ``--trust-device`` names; ``auto``: every visible GPU, else ``auto`` itself."""
    if name != "auto":
        return [part.strip() for part in name.split(",")]
    import torch  # only where a model of transformers is about to be loaded

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["auto"]
