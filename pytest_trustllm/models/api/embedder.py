"""Embeddings of an OpenAI-compatible API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pytest_trustllm.models.api import embeddings, http_errors
from pytest_trustllm.models.api.embeddings import Embeddings, InvalidEmbeddings
from pytest_trustllm.models.api.endpoint import Endpoint
from pytest_trustllm.models.api.fleet import Fleet
from pytest_trustllm.models.api.retrying import RequestFailure
from pytest_trustllm.models.api.transport import BYTES_PER_VECTOR, MOST_BYTES
from pytest_trustllm.models.base import ModelSpec, encodable
from pytest_trustllm.types import NOTHING, Request, Response, tokens_of

_BATCH_SIZE = 64
"""Texts per request at most, until the server accepts fewer only."""
_BATCH_REFUSED = frozenset({400, 413, 422})
"""Statuses with which servers refuse a batch that is too large, or one of its texts."""

WaitingText = tuple[str, "asyncio.Future[Response]"]


class Embedder:
    """An embedding model; texts that wait at the same time are sent in one request."""

    stored = True

    def __init__(self, spec: ModelSpec, fleet: Fleet) -> None:
        self._fleet = fleet
        self.info = self._fleet.info
        self.start = fleet.start
        self.max_concurrency = self._fleet.concurrency * _BATCH_SIZE
        self.admission = self._fleet.admission
        self._extra = dict(spec.options.get("extra_body") or {})
        # base64 carries float32 exactly as the server computed it, in fewer bytes
        self._encoding = "base64"
        self._batch_size = _BATCH_SIZE
        self._waiting: list[WaitingText] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request) -> Response:
        """Return the vector of a text; a blank text has none."""
        if not request.text.strip():
            return Response(error="a blank text has no embedding")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Response] = loop.create_future()
        if not self._waiting:
            # Not at once: every other coroutine that is ready in this round of the loop adds its text first
            loop.call_soon(self._send_waiting)
        self._waiting.append((encodable(request.text), future))
        return await future

    async def close(self) -> None:
        """Close the connections."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._fleet.close()

    def _send_waiting(self) -> None:
        waiting = self._waiting
        self._waiting = []
        for start in range(0, len(waiting), self._batch_size):
            batch = waiting[start : start + self._batch_size]
            task = asyncio.create_task(self._serve(batch))
            # The loop itself only keeps a weak reference to a task
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _serve(self, batch: Sequence[WaitingText]) -> None:
        """Answer every request that waits for a vector of the batch."""
        try:
            responses = await self._embed([text for text, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as e:  # noqa: BLE001 - whoever waits for the text gets it
            for _, future in batch:
                future.set_exception(e)
            return
        for response, (_, future) in zip(responses, batch, strict=True):
            if not future.done():
                future.set_result(response)

    async def _embed(self, texts: list[str]) -> list[Response]:
        """Return a response per text; a batch that the server refuses is sent again in halves.

        One text that it refuses must not cost the others their vectors. If both halves are answered, the batch was too
        large, and later batches are no larger than the halves.
        """
        vectors: list[Response] = []
        is_refused = False

        async def send(endpoint: Endpoint) -> Response:
            nonlocal is_refused
            try:
                return await self._send(endpoint, texts, vectors)
            except RequestFailure as e:
                is_refused = e.status in _BATCH_REFUSED or e.blocked
                raise

        response = await self._fleet(send, sum(map(tokens_of, texts)))
        if vectors:
            return vectors
        if not is_refused or response.fatal or len(texts) == 1:
            return [response] * len(texts)
        half = -(-len(texts) // 2)  # rounded up
        responses = await self._embed(texts[:half])
        responses += await self._embed(texts[half:])
        if all(response.error is None for response in responses):
            self._batch_size = min(self._batch_size, half)
        return responses

    async def _send(self, endpoint: Endpoint, texts: list[str], vectors: list[Response]) -> Response:
        """Send one request, and put a response per text into ``vectors``.

        Returns:
            The response whose tokens the pace of the model counts.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        body = {"model": self._fleet.model, "input": texts, "encoding_format": self._encoding, **self._extra}
        try:
            reply = await endpoint.post("/embeddings", body, MOST_BYTES + BYTES_PER_VECTOR * len(texts))
        except RequestFailure as e:
            if self._is_about_encoding(e):
                # A request that was in flight when another one learned it is sent again as well
                again = body["encoding_format"] == "base64"
                self._encoding = "float"
                raise RequestFailure(e.reason, again=again, adapted=again, status=e.status) from None
            raise
        result = self._read(reply, len(texts), endpoint)
        seconds_per_text = (loop.time() - start) / len(texts)
        revision = None if result.model is None else encodable(result.model)
        tokens_per_text = _shared_tokens(result.tokens, texts)
        vectors[:] = [
            Response(vector=vector, input_tokens=tokens, seconds=seconds_per_text, revision=revision)
            for vector, tokens in zip(result.vectors, tokens_per_text, strict=True)
        ]
        return Response(input_tokens=result.tokens)

    def _is_about_encoding(self, failure: RequestFailure) -> bool:
        """Return whether a server rejects base64: some only send lists of numbers."""
        if "encoding_format" in self._extra:
            return False
        return failure.status in _BATCH_REFUSED and "encoding_format" in failure.reason

    def _read(self, reply: str, count: int, endpoint: Endpoint) -> Embeddings:
        """Return the vectors of a reply.

        Raises:
            RequestFailure: It holds something else. A wrong number of vectors counts as a refusal of so large a batch.
        """
        try:
            return embeddings.read(reply, count)
        except InvalidEmbeddings as e:
            if e.error is not None:
                raise http_errors.body_failure(endpoint.host, e.error, NOTHING, endpoint.scrub) from None
            reason = endpoint.did_not_send("embeddings", e)
            if e.miscounted and count > 1:
                raise RequestFailure(reason, status=413) from None
            raise RequestFailure(reason, again=True) from None


def _shared_tokens(tokens: int | None, texts: Sequence[str]) -> list[int | None]:
    """Divide the tokens of a request among its texts by their length; the shares add up to the server's number."""
    if tokens is None:
        return [None] * len(texts)
    total_length = sum(map(len, texts))
    shares: list[int | None] = []
    length_so_far = 0
    tokens_so_far = 0
    for text in texts:
        length_so_far += len(text)
        # Differences of rounded sums, not rounded shares, which need not add up
        end = tokens * length_so_far // total_length
        shares.append(end - tokens_so_far)
        tokens_so_far = end
    return shares
