"""One copy of a chat model per device, each in a process of its own that nothing else can reach.

This process sends prompts over pipes, the costliest first and always to the copy with the least work left. A copy gets
only as many as keep it busy, so that none is idle while another has a backlog. It ends when its standard input closes,
so it never outlives this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

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
_AHEAD = 2
"""Batches of requests that a copy has at once: one to compute and one to choose the next prompts from."""
_TURN = 0.05
"""Seconds after which new requests are looked for although no answer has come."""
_PATIENCE = 3.0
"""Seconds that a process is given to end."""


_PooledRequest = tuple[float, int, Request]
"""Negative cost, number and request: ``heapq`` pops the smallest first."""


class Replicas:
    """A chat model with a copy on each of several devices.

    Args:
        spec: Which model.
        settings: Those of every copy, except for the device.
        devices: At least one; a device may be named twice.

    Raises:
        ModelError: A copy cannot be loaded.
    """

    stored = True

    def __init__(self, spec: ModelSpec, settings: LoadSettings, devices: Sequence[str]) -> None:
        self._name = spec.name
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._copies = [_Copy(i, device, spec, settings) for i, device in enumerate(devices)]
        try:
            infos = [copy.info() for copy in self._copies]
        except ModelError:
            self._stop()
            raise
        for copy, info in zip(self._copies, infos, strict=True):
            copy.most = _AHEAD * info["about"]["batch_size"]
            copy.listen(self._answers)
        about = {**infos[0]["about"], "devices": list(devices)}
        self.info: Mapping[str, Any] = {**infos[0], "about": about}
        configured = Reasoning.of(spec.options.get("reasoning"))
        self.reasoning = dataclasses.replace(configured, expected=about.get("reasons", False))

    def generate(self, waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) as the copies answer.

        Raises:
            ModelError: The process of a copy has ended.
            GenerationError: A copy failed.
        """
        pool: list[_PooledRequest] = []
        while True:
            is_idle = not pool and not any(copy.given for copy in self._copies)
            if len(pool) < _POOL:
                taken = waiting.take(_POOL, wait=is_idle)
                if is_idle and not taken:
                    return
                for number, request in taken:
                    # The number decides between equal costs: requests cannot be compared.
                    heapq.heappush(pool, (-_cost(request), number, request))
            self._deal(pool)
            with contextlib.suppress(queue.Empty):
                yield self._response_of(*self._answers.get(timeout=_TURN))
                while True:
                    yield self._response_of(*self._answers.get_nowait())

    def _deal(self, pool: list[_PooledRequest]) -> None:
        """Send the costliest requests of the pool to the copies with the least work left, until all have enough."""
        while pool:
            open_copies = [copy for copy in self._copies if len(copy.given) < copy.most]
            if not open_copies:
                return
            negative_cost, number, request = heapq.heappop(pool)
            least_loaded = min(open_copies, key=lambda copy: copy.load)
            least_loaded.give(number, request, -negative_cost)

    def _response_of(self, index: int, message: Any) -> tuple[int, Response]:
        """Return (number, response) of a message of a copy.

        Raises:
            ModelError: There is no message: its process has ended.
            GenerationError: It reports a failure.
        """
        copy = self._copies[index]
        if message is None:
            self._stop()
            raise ModelError(f"models: {self._name!r}: its process on {copy.device} is gone ({copy.end()})")
        if "failed" in message:
            self._stop()
            raise GenerationError(f"{self._name!r} on {copy.device} failed: {message['failed']}")
        number = message["number"]
        copy.load -= copy.given.pop(number)
        return number, Response(**message["response"])

    async def close(self) -> None:
        """End the copies."""
        self._stop()

    def _stop(self) -> None:
        for copy in self._copies:
            copy.stop()


class _Copy:
    """A process with the model.

    Args:
        index: Its place among the copies.
        device: Where it computes.
        spec: Which model.
        settings: Those of every copy, except for the device.

    Attributes:
        device: Where it computes.
        given: Number -> expected cost of what it has not answered.
        load: Sum of these costs.
        most: Requests that it may have at once.
    """

    def __init__(self, index: int, device: str, spec: ModelSpec, settings: LoadSettings) -> None:
        self.device = device
        self.given: dict[int, float] = {}
        self.load = 0.0
        self.most = 1
        self._index = index
        self._name = spec.name
        self._reader: threading.Thread | None = None
        package = str(Path(__file__).resolve().parents[3])
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-c", _START, package], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._send(
            {
                "sys_path": sys.path,
                "spec": {**dataclasses.asdict(dataclasses.replace(spec, options={})), "options": dict(spec.options)},
                "settings": {**dataclasses.asdict(settings), "device": device},
            }
        )

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - Popen was told to make a pipe
        return self._process.stdout

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None  # noqa: S101 - Popen was told to make a pipe
        with contextlib.suppress(OSError):  # the process has ended: the reading side reports it
            self._process.stdin.write(frames.encode(message))
            self._process.stdin.flush()

    def info(self) -> Mapping[str, Any]:
        """Wait until the copy is loaded and return its info.

        Raises:
            ModelError: It cannot be loaded.
        """
        message = frames.read_pipe(self._output)
        if message is None:
            raise ModelError(f"models: {self._name!r}: its process on {self.device} ended while loading ({self.end()})")
        if "failed" in message:
            raise ModelError(message["failed"])
        info: Mapping[str, Any] = message["info"]
        return info

    def listen(self, answers: queue.SimpleQueue[tuple[int, Any]]) -> None:
        """Put (index, message) into a queue for every message, and None for the end."""

        def read() -> None:
            message: Any = {}
            while message is not None:
                message = frames.read_pipe(self._output)
                answers.put((self._index, message))

        self._reader = threading.Thread(target=read, name=f"trustllm-{self.device}", daemon=True)
        self._reader.start()

    def give(self, number: int, request: Request, cost: float) -> None:
        """Send a request."""
        self.given[number] = cost
        self.load += cost
        generation = dataclasses.asdict(request.generation)
        self._send({"number": number, "messages": request.messages, "generation": generation, "seed": request.seed})

    def end(self) -> str:
        """Return how the process ended."""
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit status {code}"

    def stop(self) -> None:
        """Close the process's input, which ends it at once."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        self._output.close()


def _cost(request: Request) -> float:
    """Return what an answer is expected to cost, in tokens of prompt and answer."""
    return len(request.text) / CHARACTERS_PER_TOKEN + request.generation.most_tokens


def devices_of(name: str) -> list[str]:
    """Return the devices that ``--trust-device`` names; ``auto``: every visible GPU, else ``auto`` itself."""
    if name != "auto":
        return [part.strip() for part in name.split(",")]
    import torch  # only where a model of transformers is about to be loaded

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["auto"]
