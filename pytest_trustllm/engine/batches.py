"""Requests of one model that wait to be submitted in batches, and the batches that are open.

When nothing else of the run is under way, the waiting requests are submitted. Then the run either ends as pending
(``submit``), or asks the server again and again until a batch is done, which may lead to further requests (``wait``).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pytest_trustllm.engine.activity import Activity
from pytest_trustllm.engine.batch_record import BatchRecord, CollectedLine, Submission
from pytest_trustllm.engine.budget import Ledger, Reservation
from pytest_trustllm.engine.messages import BatchReport, UnansweredReport
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.models.api import batches as api
from pytest_trustllm.models.api.batches import BatchApi, BatchLine, BatchState
from pytest_trustllm.models.api.retrying import TRIES, RequestFailure
from pytest_trustllm.models.base import ends_the_task
from pytest_trustllm.types import Request, Response, digest

_log = logging.getLogger(__name__)

BatchMode = Literal["submit", "wait"]
PRICE_SHARE = 0.5
"""What a token of a batch costs, as a share of the price of a direct request."""
FIRST_PAUSE = 5.0
"""Seconds before the server is asked for the first time how far a batch is."""
LONGEST_PAUSE = 60.0
_GROWTH = 1.5
_FAILED_POLLS = 30
"""Polls in a row that may fail before the run gives up; the batches stay recorded."""
_UNKNOWN = "unknown"
_LATER = "pending: the server's queue is full; a later run submits it"


class BatchableModel(Protocol):
    """A model whose requests can also be submitted in files; :class:`~pytest_trustllm.models.api.chat.Chat` is one."""

    def batch_api(self) -> BatchApi | None:
        """Return the API of its server; None if requests of this model cannot be submitted."""
        ...

    def batch_body(self, request: Request) -> Mapping[str, Any]:
        """Return the body of a request."""
        ...

    def batch_response(self, request: Request, line: BatchLine, sent: Collection[str]) -> Response:
        """Return the response that a line of answers amounts to.

        Args:
            request: What was sent.
            line: What became of it.
            sent: Names of the parameters that the request had.

        Raises:
            RequestFailure: There is no response.
        """
        ...

    def foresee(self, request: Request) -> tuple[int, int]:
        """Return how many tokens a request will send, and how many it can receive."""
        ...


def request_name(key: str, request: Request) -> str:
    """Return what a request is called in a batch: its key in the store, or another name for a second try."""
    return digest([key, "second try"]) if request.fresh else key


@dataclass(slots=True)
class _Waiting:
    """A request without an answer.

    Attributes:
        reserved: What of the budget was set aside for it.
        adapted: Tries that count for none: the next one was another request.
    """

    request: Request
    answer: asyncio.Future[Response]
    reserved: Reservation | None = None
    adapted: int = 0


class BatchQueue:
    """The batches of one model in one run.

    Args:
        model: The model.
        server: Its server's API.
        record: What was submitted earlier.
        mode: What becomes of requests; None: they are sent directly, only what earlier runs submitted is collected.
        ledger: The run's budget.
        price: US dollars per million tokens, for a direct request.
        activity: Of the whole run.
        read_only: Nothing is sent to the server, not even a question.
    """

    def __init__(
        self,
        model: BatchableModel,
        server: BatchApi,
        record: BatchRecord,
        *,
        mode: BatchMode | None,
        ledger: Ledger,
        price: Mapping[str, float] | None,
        activity: Activity,
        read_only: bool = False,
    ) -> None:
        self.mode = mode
        self._model = model
        self._server = server
        self._record = record
        self._ledger = ledger
        self._price = price
        self._activity = activity
        self._read_only = read_only
        self._waiting: dict[str, _Waiting] = {}
        self._delivered: dict[str, str] = {}
        """Name of a request -> key of its answer in the store, of those that were answered from a batch."""
        self._left: Counter[str] = Counter()
        """Id of an open batch -> requests of this run that it did not answer in time."""
        self._asked_directly: Counter[str] = Counter()
        """Id of an open batch -> requests of this run in it that were sent directly."""
        self._unanswered: list[UnansweredReport] = []
        self._lost: dict[str, UnansweredReport] = {}
        """Name of a request -> the batch that said nothing about it, until it is submitted again."""
        self._of_earlier_runs = {name for name in record.tries if record.batch_of(name) is None}
        """Requests whose last answer an earlier run collected: if they failed, a run that can wait tries again."""
        self._states: dict[str, BatchState] = {}
        self._full = False
        self._news = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self._failed_polls = 0

    @property
    def has_pending(self) -> bool:
        """A request of this run was left for a later one, or the run ended before its answer came."""
        return bool(self._left or self._waiting)

    # --- what the engine asks -------------------------------------------------------------------------------------

    def collected(self, key: str, request: Request) -> Response | None:
        """Return the answer to a request out of a batch that is done; None if it has to be sent, again or at all.

        It is marked as cached if an earlier run collected it: that run has counted its cost.
        """
        name = request_name(key, request)
        line = self._record.collected(name)
        if line is None:
            return None
        response = self._read(name, request, line)
        if response is None:
            return None
        self._delivered[name] = key
        return dataclasses.replace(response, cached=name in self._of_earlier_runs)

    async def answer(self, key: str, request: Request) -> Response:
        """Return the answer to a request, which waits for its batch; or one that says that it is pending."""
        name = request_name(key, request)
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = _Waiting(request, asyncio.get_running_loop().create_future())
            self._activity.note()
            self._news.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        response = await asyncio.shield(waiting.answer)
        if not response.cut:
            self._delivered[name] = key
        return response

    def note_direct(self, key: str, request: Request) -> None:
        """Note that a request is sent directly; one that is in an open batch is paid for twice."""
        batch = self._batch_id(request_name(key, request))
        if batch:
            self._asked_directly[batch] += 1

    async def collect(self) -> None:
        """Fetch the answers of all batches that are done.

        Raises:
            RequestFailure: The server did not answer.
        """
        if self._read_only or not self._record.open:
            return
        async with self._record.locked():
            await self._find_unrecorded()
            for submission in list(self._record.open.values()):
                await self._collect_one(submission)

    def conclude(self, shelf: Shelf) -> None:
        """Forget answers that nobody could use, at the end of a run that leaves nothing pending.

        With ``submit`` they stay: a run that is complete would otherwise be pending again the next time.

        Args:
            shelf: The model's stored answers.
        """
        if self._read_only or self.mode == "submit":
            return
        useless = [name for name, key in self._delivered.items() if key not in shelf]
        if useless:
            self._record.forget(useless)

    def report(self) -> BatchReport:
        """Return what the results file records."""
        pending = Counter(self._left)
        pending.update(self._batch_id(name) for name in self._waiting)  # the run was cut short
        return {
            "pending": dict(pending),
            "asked_directly": dict(self._asked_directly),
            "unanswered": self._unanswered,
        }

    def _batch_id(self, name: str) -> str:
        """Return the server's id of the open batch that a request is in; empty if it is in none."""
        submission = self._record.batch_of(name)
        if submission is None:
            return ""
        return submission.batch or _UNKNOWN

    def progress(self) -> tuple[int, int, int]:
        """Return how many batches are waited for, how many of their requests are done, and how many there are."""
        if self.mode != "wait":
            return 0, 0, 0
        done = total = 0
        for submission in self._record.open.values():
            state = self._states.get(submission.name)
            total += len(submission.requests)
            if state is not None:
                done += min(state.completed + state.failed, len(submission.requests))
        return len(self._record.open), done, total

    async def close(self) -> None:
        """Stop waiting. Batches stay where they are."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._record.close()

    # --- the worker -----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Submit what waits and fetch the answers until nothing waits any more."""
        try:
            while self._waiting:
                if any(self._record.batch_of(name) is None for name in self._waiting):
                    await self._activity.calm()
                self._news.clear()
                async with self._record.locked():
                    self._deliver()  # another process may have collected meanwhile
                    await self._submit_waiting()
                if self.mode == "submit":
                    self._leave_waiting()
                elif self._waiting:
                    await self._wait_for_batch()
        except (RequestFailure, TrustLLMError) as e:
            self._give_up(Response(error=f"{one_line(e, 400)}{self._what_stays()}", fatal=True))
        except BaseException as e:  # a bug here must not leave the run waiting
            if ends_the_task(e):
                raise
            _log.exception("batches failed")
            self._give_up(Response(error=f"{type(e).__name__}: {one_line(e)}", fatal=True, raised=True))

    def _what_stays(self) -> str:
        if not self._record.open:
            return ""
        return " (the batches that were submitted stay recorded; the next run collects them)"

    def _settle(self, name: str, response: Response) -> None:
        waiting = self._waiting.pop(name)
        if waiting.reserved is not None and not response.pending:
            self._ledger.release(waiting.reserved)
        if not waiting.answer.done():
            waiting.answer.set_result(response)

    def _give_up(self, response: Response) -> None:
        for name in list(self._waiting):
            self._settle(name, response)

    def _deliver(self) -> None:
        """Answer the waiting requests whose batch was collected."""
        for name, waiting in list(self._waiting.items()):
            line = self._record.collected(name)
            response = None if line is None else self._read(name, waiting.request, line)
            if response is not None:
                self._settle(name, response)

    def _read(self, name: str, request: Request, line: CollectedLine) -> Response | None:
        """Return the response that a line of answers amounts to; None: the request is to be sent again."""
        try:
            response = self._model.batch_response(request, line.line, line.sent)
        except RequestFailure as e:
            if self.mode is None or (self.mode == "wait" and name in self._of_earlier_runs):
                return None
            waiting = self._waiting.get(name)
            if e.adapted and waiting is not None:
                waiting.adapted += 1
            tries = self._record.tries[name] - (0 if waiting is None else waiting.adapted)
            if e.adapted or (e.again and tries < TRIES):
                return None
            after = f" (after {tries} batches)" if tries > 1 else ""
            return Response(error=f"{e.reason}{after}", fatal=e.fatal)
        if self.mode is None and response.error is not None:
            return None
        return response

    def _leave_waiting(self) -> None:
        """Answer all waiting requests: they are in a batch, and this run does not wait for it."""
        for name in list(self._waiting):
            batch = self._batch_id(name)
            self._left[batch] += 1
            reason = f"pending: in batch {batch}" if batch else _LATER
            self._settle(name, Response(error=reason, cut=True, pending=True))

    # --- submitting -----------------------------------------------------------------------------------------------

    async def _submit_waiting(self) -> None:
        """Submit the waiting requests that are in no open batch; called with the record locked."""
        await self._find_unrecorded()
        if self._full and self._record.open:
            return  # until a batch is done, the server would turn away another one
        self._full = False
        for part in self._parts(self._affordable()):
            await self._submit(part)

    def _affordable(self) -> Iterator[str]:
        """Yield the requests to submit; those that the budget does not allow are answered with the reason."""
        for name, waiting in list(self._waiting.items()):
            if self._record.batch_of(name) is not None:
                continue
            if waiting.reserved is None:
                sent, received = self._model.foresee(waiting.request)
                waiting.reserved = self._ledger.reserve(sent, received, self._price, PRICE_SHARE)
            if waiting.reserved.refused is None:
                yield name
            else:
                self._settle(name, Response(error=waiting.reserved.refused, cut=True))

    def _parts(self, names: Iterable[str]) -> Iterator[dict[str, tuple[bytes, list[str]]]]:
        """Yield files that the API accepts: name of each request -> its line, and the names of its parameters."""
        part: dict[str, tuple[bytes, list[str]]] = {}
        size = 0
        for name in names:
            body = self._model.batch_body(self._waiting[name].request)
            line = api.request_line(name, body)
            if part and (len(part) >= api.MOST_LINES or size + len(line) > api.MOST_BYTES):
                yield part
                part, size = {}, 0
            part[name] = (line, sorted(body))
            size += len(line)
        if part:
            yield part

    async def _submit(self, part: Mapping[str, tuple[bytes, list[str]]]) -> None:
        file = await self._server.upload(b"".join(line for line, _ in part.values()))
        self._of_earlier_runs.difference_update(part)
        submission = self._record.submitted({name: sent for name, (_, sent) in part.items()})
        try:
            state = await self._server.create(file, submission.name)
        except RequestFailure as e:
            if e.status is not None and not e.again:  # the server refused it, so it does not exist
                self._record.drop(submission)
            raise
        self._record.created(submission, state.id)
        self._note_again(part)
        self._pause = FIRST_PAUSE

    def _note_again(self, names: Iterable[str]) -> None:
        for name in names:
            lost = self._lost.pop(name, None)
            if lost is not None:
                lost["again"] += 1
                lost["attempt"] = max(lost["attempt"], self._record.tries[name] + 1)

    async def _find_unrecorded(self) -> None:
        """Find out whether the batches exist whose creation nobody lived to write down.

        Raises:
            RequestFailure: The server did not tell.
        """
        for submission in list(self._record.open.values()):
            if submission.batch is not None:
                continue
            state = await self._server.find(submission.name)
            if state is None:
                self._record.drop(submission)
            else:
                self._record.created(submission, state.id)

    # --- waiting --------------------------------------------------------------------------------------------------

    async def _wait_for_batch(self) -> None:
        """Wait for a while, or until further requests come, and collect what is done then."""
        try:
            await asyncio.wait_for(self._news.wait(), self._pause)
        except TimeoutError:
            self._pause = min(LONGEST_PAUSE, self._pause * _GROWTH)
            await self._poll()
        if self._ledger.reached() is not None:
            self._leave_waiting()

    async def _poll(self) -> None:
        """Collect what is done; a server that does not answer for a while is asked again later.

        Raises:
            RequestFailure: It does not answer at all, or denies us.
        """
        try:
            await self.collect()
        except RequestFailure as e:
            self._failed_polls += 1
            if not e.again or self._failed_polls >= _FAILED_POLLS:
                raise
        else:
            self._failed_polls = 0

    async def _collect_one(self, submission: Submission) -> None:
        """Keep the answers of a batch if it is done; called with the record locked."""
        assert submission.batch is not None  # noqa: S101 - the caller found it out
        try:
            state = await self._server.state(submission.batch)
        except RequestFailure as e:
            if e.status != 404:
                raise
            self._keep(submission, BatchState(submission.batch, "no longer there"), {})
            return
        self._states[submission.name] = state
        if not state.is_over:
            return
        if state.hit_limit and len(self._record.open) > 1:
            self._record.drop(submission)
            self._full = True
            return
        lines = await self._server.lines(state)
        self._keep(submission, state, lines)
        self._full = False
        if lines:
            self._pause = FIRST_PAUSE

    def _keep(self, submission: Submission, state: BatchState, lines: Mapping[str, BatchLine]) -> None:
        """Keep the answers of a batch that is over, and note if it lacks some: they are paid for again."""
        missing = api.unanswered(state)
        self._record.collect(submission, lines, missing)
        lost = [name for name in submission.requests if name not in lines]
        if not lost or missing.final:  # a batch that failed for good is the error of its samples
            return
        reason = one_line(state.problem or state.status, 100)
        foreign = len(lines.keys() - submission.requests.keys())
        if foreign:
            reason += f", {foreign:,} of its lines are about other requests"
        total = len(submission.requests)
        report: UnansweredReport = {
            "batch": state.id, "requests": total, "answered": total - len(lost), "reason": reason,
            "again": 0, "attempt": 0,
        }  # fmt: skip
        self._unanswered.append(report)
        self._lost.update(dict.fromkeys(lost, report))
