"""The model behind an overridden ``trust_model`` fixture: the host asks, test processes answer."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_trustllm.models import frames
from pytest_trustllm.types import Request, Response


@dataclass(eq=False, slots=True)
class _Process:
    """A test process that answers with its app.

    Attributes:
        writer: Leads to it.
        places: Requests that it answers at once.
        open: Number -> who waits for the answer.
        gone: It ended.
    """

    writer: asyncio.StreamWriter
    places: int
    open: dict[int, asyncio.Future[Response | None]] = field(default_factory=dict)
    gone: bool = False

    def has_room(self, *, alone: bool) -> bool:
        """Return whether it can take a request now; one that must be answered alone needs it idle."""
        if self.gone:
            return False
        places = 1 if alone else self.places
        return len(self.open) < places


class AttachedModel:
    """Shares requests among the test processes that made the fixture.

    A prompt may kill its process (a crash in native code, ``os._exit``). Nobody can tell which of the requests under
    way did it, so each of them is sent once more, alone: one that ends a process alone is given up, the others are not.

    Args:
        name: Label of the model.
        max_concurrency: Requests in flight over all processes.
        revision: What the user says distinguishes this version of the app; without it nothing is stored.
    """

    def __init__(self, name: str, max_concurrency: int, revision: str | None) -> None:
        self.info: Mapping[str, Any] = {"provider": "fixture", "id": name, "revision": revision}
        self.stored = revision is not None
        self.max_concurrency = max_concurrency
        self._processes: list[_Process] = []
        self._change = asyncio.Condition()
        self._suspects = 0
        self._last_number = 0

    async def answer(self, request: Request) -> Response:
        """Send the request to a process that has a free place; if that process ends, to another one, alone."""
        response = await self._ask(request, alone=False)
        if response is not None:
            return response
        self._suspects += 1
        try:
            response = await self._ask(request, alone=True)
        finally:
            self._suspects -= 1
            await self._announce_change()
        if response is not None:
            return response
        return Response(error="the app's process ended while it answered this prompt alone", raised=True)

    async def _ask(self, request: Request, *, alone: bool) -> Response | None:
        """Return the answer of one process; None if the process ended first."""
        async with self._change:
            await self._change.wait_for(lambda: self._free(alone=alone) is not None)
            process = self._free(alone=alone)
            assert process is not None  # noqa: S101 - it was waited for
            self._last_number += 1
            number = self._last_number
            future: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
            process.open[number] = future
            messages = [list(message) for message in request.messages]
            tools = [dataclasses.asdict(tool) for tool in request.tools]
            process.writer.write(frames.encode({"ask": number, "messages": messages, "tools": tools}))
        return await future

    def _free(self, *, alone: bool) -> _Process | None:
        """Return a process with room."""
        if self._suspects and not alone:
            return None  # the others wait, so that a process becomes idle
        for process in self._processes:
            if process.has_room(alone=alone):
                return process
        return None

    async def _announce_change(self) -> None:
        async with self._change:
            self._change.notify_all()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, places: int) -> None:
        """Take one process's answers until it leaves."""
        process = _Process(writer, places)
        self._processes.append(process)
        await self._announce_change()
        while (message := await frames.read_frame(reader)) is not None:
            process.open.pop(message["answer"]).set_result(Response.restored(message["response"]))
            await self._announce_change()
        process.gone = True
        self._processes.remove(process)
        for future in process.open.values():
            future.set_result(None)
        await self._announce_change()

    async def close(self) -> None:
        """Do nothing: the processes own their models."""
