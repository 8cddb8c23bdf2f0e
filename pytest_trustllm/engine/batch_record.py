"""What was submitted in batches, and what came back: one append-only file beside the shelf of a model.

It is written before a batch is created and again when the batch has its id, so that no prompt is paid for twice:
whoever finds the first line without the second asks the server whether the batch exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.engine.appended_lines import KeyedLines
from pytest_trustllm.formats import BatchAnswer, BatchStep
from pytest_trustllm.models.api.batches import BatchLine

try:
    import fcntl
except ImportError:  # Windows: two runs that share a store may submit the same requests
    fcntl = None  # type: ignore[assignment]


@dataclass(slots=True)
class Submission:
    """One batch, as we know it.

    Attributes:
        name: Our own, also in the batch's metadata.
        requests: Name of each request -> place of its parameters in ``parameters``.
        parameters: Lists of the names of parameters that requests had.
        batch: The server's id of it; None: it may have been created, but nobody lived to write that down.
    """

    name: str
    requests: Mapping[str, int]
    parameters: Sequence[Sequence[str]]
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class CollectedLine:
    """What became of a request.

    Attributes:
        line: From the server.
        sent: Names of the parameters that the request had.
    """

    line: BatchLine
    sent: Sequence[str]


class BatchRecord:
    """Batches of one model.

    Args:
        path: The file; see :meth:`beside`.
        info: What the model says about itself; the file's first line tells people which model it is.
        read_only: Nothing will be written.

    Attributes:
        open: Our own name -> batches whose answers were not collected.
        tries: Name of a request -> in how many batches it came to an end.

    Raises:
        GenerationError: The file cannot be used.
    """

    def __init__(self, path: Path, info: Mapping[str, Any], *, read_only: bool = False) -> None:
        self.path = path
        self.open: dict[str, Submission] = {}
        self.tries: Counter[str] = Counter()
        self._forgotten: set[str] = set()
        self._open_requests: dict[str, str] = {}
        """Name of a request -> name of the open batch that it is in."""
        self._lines = KeyedLines(path, {"model": dict(info)}, read_only=read_only)
        self.refresh()

    @staticmethod
    def beside(shelf: Path) -> Path:
        """Return the path of the file that belongs to a shelf."""
        return shelf.with_name(f"{shelf.stem}.batches.jsonl")

    def refresh(self) -> None:
        """Take in what this and other processes have appended."""
        for line in self._lines.news():
            try:
                entry = checked(line, BatchStep)
            except Mismatch:  # not what this package writes
                continue
            if "submitted" in entry and _is_submission(entry):
                self._opened(Submission(entry["submitted"], entry["requests"], entry["parameters"]))
            elif "created" in entry and "batch" in entry and entry["created"] in self.open:
                self.open[entry["created"]].batch = entry["batch"]
            elif "collected" in entry:
                self.tries.update(self._closed(entry["collected"]))
            elif "dropped" in entry:
                self._closed(entry["dropped"])
            elif "forgotten" in entry:
                self._forgotten.update(entry["forgotten"])
                for name in entry["forgotten"]:
                    del self.tries[name]

    def _opened(self, submission: Submission) -> None:
        self.open[submission.name] = submission
        for name in submission.requests:
            self._open_requests[name] = submission.name
        self._forgotten.difference_update(submission.requests)

    def _closed(self, submission: str) -> list[str]:
        """Take a batch off the list of open ones and return the requests that were in it."""
        closed = self.open.pop(submission, None)
        if closed is None:
            return []
        for name in closed.requests:
            self._open_requests.pop(name, None)
        return list(closed.requests)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep other processes, and other models of this one that share the file, from submitting or collecting."""
        # The lock ends with the process, whatever ends that. A thread waits for it: the holder may be this event loop.
        await asyncio.get_running_loop().run_in_executor(None, _lock, self._lines.descriptor)
        try:
            self.refresh()
            yield
        finally:
            _unlock(self._lines.descriptor)

    def batch_of(self, request: str) -> Submission | None:
        """Return the open batch that a request is in."""
        name = self._open_requests.get(request)
        return None if name is None else self.open[name]

    def collected(self, request: str) -> CollectedLine | None:
        """Return what became of a request the last time; None if it never was in a batch, or is in one again."""
        if request in self._open_requests or request in self._forgotten:
            return None
        line = self._lines.get(request)
        if line is None:
            return None
        try:
            entry = checked(line, BatchAnswer)
        except Mismatch:  # not what this package writes: the request is sent again
            return None
        return CollectedLine(BatchLine(entry["status"], entry["body"], entry["final"]), entry["sent"])

    def submitted(self, bodies: Mapping[str, Iterable[str]]) -> Submission:
        """Write down that a batch is about to be created.

        Args:
            bodies: Name of each request -> names of its parameters.
        """
        parameters: list[list[str]] = []
        requests: dict[str, int] = {}
        for name, sent in bodies.items():
            names = list(sent)
            if names not in parameters:
                parameters.append(names)
            requests[name] = parameters.index(names)
        submission = Submission(uuid.uuid4().hex, requests, parameters)
        self._lines.append({"submitted": submission.name, "requests": requests, "parameters": parameters})
        self.refresh()
        return self.open[submission.name]

    def created(self, submission: Submission, batch: str) -> None:
        """Write down the server's id of a batch."""
        self._lines.append({"created": submission.name, "batch": batch})
        self.refresh()

    def collect(self, submission: Submission, lines: Mapping[str, BatchLine], missing: BatchLine) -> None:
        """Keep what became of the requests of a batch.

        Args:
            submission: The batch.
            lines: Name of a request -> its fate. Other names are ignored.
            missing: The fate of the requests that ``lines`` lacks.
        """
        for name, place in submission.requests.items():
            line = lines.get(name, missing)
            sent = submission.parameters[place]
            self._lines.put(name, {"status": line.status, "body": line.body, "final": line.final, "sent": list(sent)})
        self._lines.append({"collected": submission.name})
        self.refresh()

    def drop(self, submission: Submission) -> None:
        """Write down that a batch does not exist, or did nothing: its requests are as if never submitted."""
        self._lines.append({"dropped": submission.name})
        self.refresh()

    def forget(self, requests: Sequence[str]) -> None:
        """Let requests be sent again whose last answers nobody could use."""
        self._lines.append({"forgotten": list(requests)})
        self.refresh()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _is_submission(entry: BatchStep) -> bool:
    """Return whether a line about a submitted batch is complete."""
    if "requests" not in entry or "parameters" not in entry:
        return False
    return all(place < len(entry["parameters"]) for place in entry["requests"].values())


def _lock(file: int) -> None:
    """Wait until nobody else has locked a file, and lock it."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)


def _unlock(file: int) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_UN)
