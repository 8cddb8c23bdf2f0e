"""OpenAI's batch API, which other vendors copied: files of requests that are answered within a day, at half the price.

Source:
    https://platform.openai.com/docs/guides/batch, https://docs.vllm.ai/en/latest/cli/run-batch.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.api.pacing import LONGEST
from pytest_trustllm.models.api.retrying import TRIES, RequestFailure
from pytest_trustllm.models.options import DELAY

if TYPE_CHECKING:
    from pytest_trustllm.models.api.endpoint import Endpoint

MOST_LINES = 50_000
"""Requests of one file."""
MOST_BYTES = 200_000_000
"""Size of one file."""
URL = "/v1/chat/completions"
"""What every line asks, whatever the address of the API is."""
WINDOW = "24h"
_SUBMISSION = "pytest_trustllm"
"""Key of a batch's metadata under which our own name of the batch is."""
_PAGE = 100
_MOST_PAGES = 100
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
_NO_API = frozenset({404, 501})
_ID_LENGTH = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchState:
    """What the server says about a batch.

    Attributes:
        id: The server's name of it, on one line.
        status: The server's word.
        submission: Our own name of it; None if the batch is not ours.
        total: Its requests; ``completed`` and ``failed`` of them are done.
        files: Ids of the files with answers and with errors, as far as there are any.
        problem: Why the whole batch failed; empty otherwise.
    """

    id: str
    status: str
    submission: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    files: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_over(self) -> bool:
        """No further line will be answered."""
        return self.status in _OVER

    @property
    def hit_limit(self) -> bool:
        """The server turned it away because too much is queued already, not for what is in it."""
        return self.status == "failed" and "limit" in self.problem.lower()


@dataclass(frozen=True, slots=True)
class BatchLine:
    """What became of one request of a batch.

    Attributes:
        status: HTTP status of its reply; None if there was no reply.
        body: The reply, or the error in its place, as JSON text.
        final: Sending the request again is pointless.
    """

    status: int | None
    body: str
    final: bool = False


def request_line(name: str, body: Mapping[str, Any]) -> bytes:
    """Return one line of a file of requests.

    Args:
        name: Names the request in the file of answers.
        body: Of the chat completion.
    """
    line = {"custom_id": name, "method": "POST", "url": URL, "body": body}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


class BatchApi:
    """The batches of one server.

    Args:
        endpoint: The server.
        delay: Seconds before the second try of a call; doubled each time.
    """

    def __init__(self, endpoint: Endpoint, delay: float = DELAY) -> None:
        self.host = endpoint.host
        self._endpoint = endpoint
        self._delay = delay

    async def check(self) -> None:
        """See that the server has batches.

        Raises:
            ModelError: It has none.
        """
        status = await self._status_of(self._endpoint.get("/files?limit=1"))
        if status not in _NO_API:
            return  # whatever else is wrong, the first upload reports; it may be over by then
        # Not every server lists its files. A request without a file tells whether it takes some
        status = await self._status_of(self._endpoint.post("/files", {"purpose": "batch"}))
        if status in (*_NO_API, 405):
            raise ModelError(f"{self.host} has no batch API (HTTP {status} for /files)")

    async def _status_of(self, call: Awaitable[str]) -> int | None:
        """Return the HTTP status of an error; None if there is no reply, or no error."""
        try:
            await call
        except RequestFailure as e:
            return e.status
        return None

    async def upload(self, lines: bytes) -> str:
        """Upload a file of requests and return its id.

        Raises:
            RequestFailure: The last try failed.
            ModelError: The server has no batches.
        """
        try:
            document = _object(await self._tried(lambda: self._endpoint.upload("/files", "batch.jsonl", lines)))
        except RequestFailure as e:
            if e.status in (*_NO_API, 405):
                raise ModelError(f"{self.host} has no batch API: {e.reason}") from None
            raise
        file = document.get("id")
        if not _is_id(file):
            raise RequestFailure(f"{self.host} did not send the id of an uploaded file")
        return str(file)

    async def create(self, file: str, submission: str) -> BatchState:
        """Create a batch, once: after a try that may have succeeded unseen, the server is asked what it has.

        Args:
            file: Id of the file of requests.
            submission: Our own name of the batch.

        Raises:
            RequestFailure: The last try failed.
        """
        body = {
            "input_file_id": file,
            "endpoint": URL,
            "completion_window": WINDOW,
            "metadata": {_SUBMISSION: submission},
        }

        tries = 0

        async def create_unless_there() -> BatchState:
            nonlocal tries
            tries += 1
            if tries > 1:
                existing = await self.find(submission)
                if existing is not None:
                    return existing
            return self._state(await self._endpoint.post("/batches", body))

        return await self._tried(create_unless_there)

    async def state(self, batch: str) -> BatchState:
        """Return what became of a batch so far.

        Raises:
            RequestFailure: The server did not say it.
        """
        return self._state(await self._fetched(f"/batches/{_in_path(batch)}"))

    async def find(self, submission: str) -> BatchState | None:
        """Return the batch that has our own name; None if the server has none.

        Raises:
            RequestFailure: The server did not say it.
        """
        after = ""
        for _ in range(_MOST_PAGES):
            page = _object(await self._fetched(f"/batches?limit={_PAGE}{after}"))
            entries = page.get("data")
            if not isinstance(entries, list):
                raise RequestFailure(f"{self.host} did not send a list of batches")
            states = [_state(entry) for entry in entries if isinstance(entry, Mapping)]
            for state in states:
                if state is not None and state.submission == submission:
                    return state
            last = states[-1] if states else None
            if last is None or not page.get("has_more"):
                return None
            after = f"&after={_in_path(last.id)}"
        return None

    async def lines(self, state: BatchState) -> dict[str, BatchLine]:
        """Download what a batch has: name of the request -> what became of it. A file that was deleted has nothing.

        Nobody knows which of two different lines about one request is its answer, so it has none.

        Raises:
            RequestFailure: The last try failed.
        """
        lines: dict[str, BatchLine] = {}
        contradicted: set[str] = set()
        for file in state.files:
            try:
                text = await self._downloaded(file)
            except RequestFailure as e:
                if e.status != 404:
                    raise
                continue
            for name, line in _read(text):
                if lines.setdefault(name, line) != line:
                    contradicted.add(name)
        for name in contradicted:
            del lines[name]
        return lines

    async def _fetched(self, path: str) -> str:
        return await self._tried(lambda: self._endpoint.get(path))

    async def _downloaded(self, file: str) -> str:
        return await self._tried(lambda: self._endpoint.download(f"/files/{_in_path(file)}/content"))

    def _state(self, text: str) -> BatchState:
        state = _state(_object(text))
        if state is None:
            raise RequestFailure(f"{self.host} did not send a batch", again=True)
        return state

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call, which is repeated after failures that may pass."""
        tries = 0
        while True:
            try:
                return await call()
            except RequestFailure as e:
                tries += 1
                if not e.again or tries == TRIES:
                    raise
                pause = max(e.pause or 0.0, self._delay * 2 ** (tries - 1))
            await asyncio.sleep(min(LONGEST, pause))


def unanswered(state: BatchState) -> BatchLine:
    """Return what became of a request about which a batch that is over says nothing."""
    message = f"the batch is over ({one_line(state.status, 40)}) and did not answer the request"
    if state.status == "failed":
        message = f"the batch failed: {state.problem or 'no reason given'}"
    error = json.dumps({"error": {"message": message}})
    return BatchLine(None, error, final=state.status == "failed" and not state.hit_limit)


def _in_path(name: str) -> str:
    """Return a server's id as a part of a path."""
    return quote(name, safe="")


def _is_id(value: object) -> bool:
    """Return whether a value can be an id: a text of dots would lead elsewhere in a path."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _ID_LENGTH and bool(value.strip("."))


def _object(text: str) -> Mapping[str, Any]:
    try:
        document = error_bodies.parsed(text)
    except ValueError:
        return {}
    return document if isinstance(document, Mapping) else {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0


def _state(document: Mapping[str, Any]) -> BatchState | None:
    """Return what a batch's object says; None if it is no batch."""
    batch, status = document.get("id"), document.get("status")
    if not _is_id(batch) or not isinstance(status, str):
        return None
    counts = _mapping(document.get("request_counts"))
    files: list[Any] = [document.get("output_file_id"), document.get("error_file_id")]
    submission = _mapping(document.get("metadata")).get(_SUBMISSION)
    return BatchState(
        id=str(batch),
        status=status.lower(),
        submission=submission if isinstance(submission, str) else None,
        total=_count(counts.get("total")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        files=tuple(file for file in files if _is_id(file)),
        problem=_problem(document.get("errors")),
    )


def _problem(errors: object) -> str:
    """Return the first error of a batch that failed as a whole."""
    entries = _mapping(errors).get("data")
    if not isinstance(entries, list) or not entries:
        return ""
    first = _mapping(entries[0])
    parts = [str(first[name]) for name in ("code", "message") if first.get(name)]
    return one_line(": ".join(parts), 300)


def _read(text: str) -> Iterator[tuple[str, BatchLine]]:
    """Yield name and fate of the requests in a file of answers or errors; what is no such line is left out."""
    for text_line in text.split("\n"):
        line = _object(text_line) if text_line.strip() else {}
        name = line.get("custom_id")
        if not isinstance(name, str):
            continue
        response = _mapping(line.get("response"))
        status = response.get("status_code")
        body = response.get("body")
        if body is None or (line.get("error") and status == 200):
            body = {"error": line.get("error")}
            status = status if status != 200 else None
        yield name, BatchLine(status if type(status) is int else None, json.dumps(body))
