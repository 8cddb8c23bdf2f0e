"""The samples of a run as they are scored: each runs once, its record stays in memory, its texts go to disk."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.engine.keys import split_key
from pytest_trustllm.engine.runner import Runner
from pytest_trustllm.engine.sample_outcome import SampleOutcome, dump
from pytest_trustllm.engine.sample_source import SampleSource
from pytest_trustllm.engine.transcript import EMPTY, TranscriptFile
from pytest_trustllm.errors import GenerationError, ModelError, TrustLLMError, one_line
from pytest_trustllm.formats import Record, Transcript
from pytest_trustllm.models.base import ends_the_task
from pytest_trustllm.types import Status

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredSample:
    """What stays in memory of a sample; its texts are in the transcript file.

    Attributes:
        status: What the test shows.
        record: As JSON text.
        fatal: No further sample of this model can succeed.
        place: Where its texts begin in the transcript file, and their length.
    """

    status: Status
    record: str
    fatal: bool
    place: tuple[int, int]


class ScoredSamples:
    """Runs samples, each when it is first wanted.

    Args:
        source: Finds tasks and samples.
        runner_of: Returns the runner of a model under test.
        transcript: File for the texts.

    Attributes:
        done: Samples that have a record.
    """

    def __init__(
        self, source: SampleSource, runner_of: Callable[[str], Coroutine[Any, Any, Runner]], transcript: Path
    ) -> None:
        self.done = 0
        self._source = source
        self._runner_of = runner_of
        self._path = transcript
        self._transcript = TranscriptFile(transcript)
        self._tasks: dict[str, asyncio.Task[ScoredSample]] = {}

    def start(self, key: str) -> asyncio.Task[ScoredSample]:
        """Return the task that runs a sample; the first call starts it."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.ensure_future(self._run(key))
        return self._tasks[key]

    def finished(self, keys: Sequence[str]) -> list[ScoredSample] | None:
        """Return the samples once all of them have run; None as long as one has not."""
        tasks = [self._tasks.get(key) for key in keys]
        finished: list[ScoredSample] = []
        for task in tasks:
            if task is None or not task.done() or task.cancelled():
                return None
            finished.append(task.result())
        return finished

    def ready(self, keys: Sequence[str]) -> dict[str, ScoredSample]:
        """Return those of the samples that have run, once their texts are on disk."""
        self.flush()
        scored: dict[str, ScoredSample] = {}
        for key in keys:
            task = self._tasks.get(key)
            if task is not None and task.done():
                scored[key] = task.result()
        if self._transcript.lost is not None:
            return {key: self._without_texts(sample) for key, sample in scored.items()}
        return scored

    def forget_error(self, key: str) -> None:
        """Forget a sample that ended in an error, so that it runs again when it is next wanted."""
        task = self._tasks.get(key)
        if task is not None and task.done() and task.result().status == "error":
            del self._tasks[key]
            self.done -= 1

    async def transcript(self, key: str) -> Transcript:
        """Return the texts of a sample; waits for it.

        Raises:
            GenerationError: They could not be written.
        """
        sample = await self.start(key)
        transcript = self._transcript.read(*sample.place)
        if transcript is None:
            raise GenerationError(self._no_room())
        return transcript

    def flush(self) -> None:
        """Write to disk the texts that wait for it."""
        self._transcript.flush()

    async def _run(self, key: str) -> ScoredSample:
        model, task_id, sample_id = split_key(key)
        try:
            task = self._source.task(task_id)
            sample = self._source.sample(task_id, sample_id)
            runner = await self._runner_of(model)
            outcome = await runner.run(task, sample, self._source.readers(task_id))
            texts = dump(outcome.transcript)
        except BaseException as e:  # one sample must not spoil those that are fetched together with it
            if ends_the_task(e):
                raise
            outcome, texts = _failed(task_id, sample_id, e), EMPTY
        self.done += 1
        place = self._transcript.add(key, texts)
        return ScoredSample(outcome.status, dump(outcome.record), outcome.fatal, place)

    def _without_texts(self, sample: ScoredSample) -> ScoredSample:
        """Return what becomes of a sample whose texts cannot be written: the run cannot continue."""
        record = {**json.loads(sample.record), "status": "error", "value": None, "reason": self._no_room()}
        return dataclasses.replace(sample, status="error", record=dump(record), fatal=True)

    def _no_room(self) -> str:
        reason = self._transcript.lost
        message = f"the run's texts cannot be written to {self._path.parent}: {reason}; make room, or set TMPDIR"
        return one_line(message)


def _failed(task_id: str, sample_id: str, error: BaseException) -> SampleOutcome:
    """Return the outcome of a sample that could not be asked or scored."""
    if isinstance(error, TrustLLMError):
        reason = one_line(error)
    else:
        _log.error("a sample failed", exc_info=error)
        reason = one_line(f"{type(error).__name__}: {error}")
    record: Record = {
        "task": task_id,
        "id": sample_id,
        "fingerprint": "",
        "status": "error",
        "value": None,
        "answer": None,
        "reason": reason,
        "observed": {},
        "group": {},
        "parity": None,
        "also": {},
    }
    fatal = isinstance(error, ModelError | GenerationError)
    return SampleOutcome("error", record, {}, fatal)
