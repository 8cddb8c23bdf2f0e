"""One copy of a chat model per device, each in a process of its own that nobody else can reach.

This process hands prompts out over pipes, the costliest first and always to the copy with the least work left, and only
as many as keep a copy busy, so that none is idle while another has a backlog. A copy ends when its standard input
closes, so it never outlives this process.
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

from pytest_trustllm import wire
from pytest_trustllm.errors import GenerationError, ModelError
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Request, Response

_START = "import sys; sys.path.insert(0, sys.argv[1]); from pytest_trustllm.models._replica import main; main()"
_POOL = 4096
"""Requests looked at together to find the costliest."""
_AHEAD = 2
"""Times its batch that a copy is given at once: a batch to compute and one to choose the next prompts from."""
_TURN = 0.05
"""Seconds after which new requests are looked for although no answer has come."""
_CHARACTERS_PER_TOKEN = 4
_PATIENCE = 3.0


class Replicas:
    """A chat model with a copy on each of several devices.

    Args:
        spec: Which model.
        settings: Of every copy, but for the device.
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
        for copy in self._copies:
            copy.listen(self._answers)
        about = {**infos[0]["about"], "devices": list(devices)}
        self.info: Mapping[str, Any] = {**infos[0], "about": about}
        self._most = [_AHEAD * info["about"]["batch_size"] for info in infos]

    def generate(self, waiting: Waiting) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) as the copies answer.

        Raises:
            ModelError: A copy is gone.
            GenerationError: A copy failed.
        """
        pool: list[tuple[float, int, Request]] = []
        while True:
            idle = not pool and not any(copy.given for copy in self._copies)
            taken = waiting.take(_POOL, wait=idle) if len(pool) < _POOL else []
            if idle and not taken:
                return
            for number, request in taken:
                heapq.heappush(pool, (-_cost(request), number, request))
            self._deal(pool)
            with contextlib.suppress(queue.Empty):
                yield self._received(*self._answers.get(timeout=_TURN))
                while True:
                    yield self._received(*self._answers.get_nowait())

    def _deal(self, pool: list[tuple[float, int, Request]]) -> None:
        while pool:
            open_ = [c for c, most in zip(self._copies, self._most, strict=True) if len(c.given) < most]
            if not open_:
                return
            cost, number, request = heapq.heappop(pool)
            min(open_, key=lambda copy: copy.load).give(number, request, -cost)

    def _received(self, index: int, message: Any) -> tuple[int, Response]:
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

    Attributes:
        device: Where it computes.
        given: Number -> expected cost of what it has not answered.
        load: Sum of these costs.
    """

    def __init__(self, index: int, device: str, spec: ModelSpec, settings: LoadSettings) -> None:
        self.device = device
        self.given: dict[int, float] = {}
        self.load = 0.0
        self._index = index
        self._name = spec.name
        self._reader: threading.Thread | None = None
        package = str(Path(__file__).resolve().parents[2])
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
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        return self._process.stdout

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(OSError):  # it is gone: the reading side says so
            self._process.stdin.write(wire.encode(message))
            self._process.stdin.flush()

    def info(self) -> Mapping[str, Any]:
        """Return what the loaded copy says about itself; waits for it.

        Raises:
            ModelError: It cannot be loaded.
        """
        message = wire.read_pipe(self._output)
        if message is None:
            raise ModelError(f"models: {self._name!r}: its process on {self.device} ended while loading ({self.end()})")
        if "failed" in message:
            raise ModelError(message["failed"])
        found: Mapping[str, Any] = message["info"]
        return found

    def listen(self, answers: queue.SimpleQueue[tuple[int, Any]]) -> None:
        """Put (index, message) into a queue for every message, and None for the end."""

        def read() -> None:
            message: Any = {}
            while message is not None:
                message = wire.read_pipe(self._output)
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
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def stop(self) -> None:
        """Close its input, which ends it at once."""
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
    return len(request.text) / _CHARACTERS_PER_TOKEN + request.generation.max_new_tokens


def devices_of(name: str) -> list[str]:
    """Return the devices that ``--trust-device`` names; ``auto``: every visible GPU, else ``auto`` itself."""
    if name != "auto":
        return [part.strip() for part in name.split(",")]
    import torch  # only where a model of transformers is about to be loaded

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["auto"]
