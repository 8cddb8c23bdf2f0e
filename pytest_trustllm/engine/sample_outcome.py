"""What became of a sample: its attempts, and what is kept of them for metrics and for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pytest_trustllm.engine.conversation import Conversation
from pytest_trustllm.errors import describe_exception, one_line, shortened
from pytest_trustllm.formats import ChatEntry, Record, ResponseEntry, ScoreEntry, Transcript
from pytest_trustllm.metrics.epochs import merged
from pytest_trustllm.scorers.base import expected_of
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Response, Sample, Score, Status

_PRINTED_LIMIT = 10_000
"""Characters of what scorers print that are kept of one sample."""
_NOT_PLAIN = ("text", "vector", "calls", "trace")
_OPTIONAL_FIELDS = tuple(f.name for f in dataclasses.fields(Response) if f.name not in _NOT_PLAIN)


@dataclass(frozen=True, slots=True)
class SampleOutcome:
    """One sample after its run.

    Attributes:
        status: What the test shows.
        record: What metrics need: plain JSON, small.
        transcript: What people want to read: prompts, responses, verdicts. Plain JSON.
        fatal: No further sample of this model can succeed.
    """

    status: Status
    record: Record
    transcript: Transcript
    fatal: bool = False


@dataclass(slots=True)
class Attempt:
    """One epoch of a sample, while it is under way.

    Attributes:
        epoch: Marks its texts, from 0; None in a run of one epoch.
        replies: Of the model under test: one per prompt, or all those of a conversation.
        talk: The conversation; None: every prompt has one answer, whose prompt nobody need tell.
        reworded: What the simulator replied when it was to say the prompt in other words.
        scores: Of the task, then of those that read its responses.
        verdicts: What the roles replied, as people will read it.
        agreement: Share of the judge's votes that agree, per question that was put to a vote.
        silent: A scorer was given a reply that is missing or blank, whatever it made of that.
        broken: Task -> what its scorer raised, and where; or what it returned instead of a score.
        printed: What scorers printed.
    """

    epoch: int | None
    replies: Sequence[Response]
    talk: Conversation | None = None
    scores: list[Score] = field(default_factory=list)
    verdicts: list[ResponseEntry] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    silent: bool = False
    broken: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    reworded: Sequence[Response] = ()

    @property
    def failed(self) -> Response | None:
        """The first reply that is an error."""
        return next((reply for reply in self.replies if reply.error is not None), None)

    @property
    def unanswered(self) -> str | None:
        """Why a reply holds no answer; None: all hold one."""
        return next((reply.unanswered for reply in self.replies if reply.unanswered is not None), None)

    @property
    def cut(self) -> str | None:
        """Why a request was left for another run; None: none was."""
        for reply in self._all_replies:
            if reply.cut:
                return reply.error
        for verdict in self.verdicts:
            if verdict.get("cut"):
                return verdict["error"]
        return None

    @property
    def pending(self) -> bool:
        """A request is in a batch that is not done."""
        replies = any(reply.pending for reply in self._all_replies)
        return replies or any(verdict.get("pending") for verdict in self.verdicts)

    @property
    def _all_replies(self) -> Sequence[Response]:
        """The replies of the model under test and of the simulator."""
        simulated = self.reworded if self.talk is None else self.talk.simulated
        return [*self.replies, *simulated]


def outcome_of(task: Task, sample: Sample, readers: Sequence[Task], attempts: Sequence[Attempt]) -> SampleOutcome:
    """Return what became of a sample.

    Args:
        task: The task that the sample belongs to.
        sample: What was sent.
        readers: Further tasks that scored the same responses.
        attempts: At least one; each has a score of every task.
    """
    scores = []
    for position, scoring_task in enumerate((task, *readers)):
        epochs = [_score_entry(attempt.scores[position]) for attempt in attempts]
        if len(attempts) > 1:  # the record itself says it of a single one
            _mark_unanswered(epochs, attempts)
        scores.append(merged(epochs, scoring_task.reducer))
    silent = any(attempt.silent for attempt in attempts)
    if silent:
        for score in scores:
            score["reason"] = score["reason"] or "no response"
    failed = next((attempt.failed for attempt in attempts if attempt.failed is not None), None)
    broken = any(task.id in attempt.broken for attempt in attempts)
    status: Status = "error" if broken else _status(scores[0], failed, silent=silent)
    return SampleOutcome(
        status,
        _record(task, sample, status, scores, readers, attempts),
        _transcript(task, sample, attempts),
        fatal=failed is not None and failed.fatal,
    )


def _status(score: ScoreEntry, failed: Response | None, *, silent: bool) -> Status:
    if failed is not None and (failed.raised or failed.fatal):
        return "error"
    if score["value"] is None or silent:
        return "unscored"
    return "passed" if score["met"] else "missed"


def _score_entry(score: Score) -> ScoreEntry:
    entry: ScoreEntry = {
        "value": None if score.value is None else float(score.value),
        "answer": None if score.answer is None else one_line(score.answer, 200),
        "reason": None if score.reason is None else shortened(score.reason),
        "observed": dict(score.observed),
        "parity": plain_parity(score),
        "met": score.met,
    }
    if not score.applies:
        entry["applies"] = False
    return entry


def _mark_unanswered(epochs: Sequence[ScoreEntry], attempts: Sequence[Attempt]) -> None:
    for epoch, attempt in zip(epochs, attempts, strict=True):
        if attempt.unanswered is not None:
            epoch["unanswered"] = attempt.unanswered


def plain_parity(score: Score) -> dict[str, Any] | str | None:
    """Return what a score compares between groups, as JSON can hold it."""
    if isinstance(score.parity, Mapping):
        return dict(score.parity)
    return score.parity


def _record(
    task: Task,
    sample: Sample,
    status: Status,
    scores: Sequence[ScoreEntry],
    readers: Sequence[Task],
    attempts: Sequence[Attempt],
) -> Record:
    own, *also = scores
    record: Record = {
        "task": task.id,
        "id": sample.id,
        "fingerprint": sample.fingerprint,
        "group": dict(sample.group),
        "status": status,
        "value": own["value"],
        "answer": own["answer"],
        "reason": own["reason"],
        "observed": own["observed"],
        "parity": own["parity"],
        "also": {reader.id: score for reader, score in zip(readers, also, strict=True)},
    }
    # "met" is left out: the status tells it.
    if "applies" in own:
        record["applies"] = own["applies"]
    if "epochs" in own:
        record["epochs"] = own["epochs"]
    if "reducer" in own:
        record["reducer"] = own["reducer"]
    if sample.cluster is not None:
        record["cluster"] = sample.cluster
    if any(attempt.cut is not None for attempt in attempts):
        record["cut"] = True
    if any(attempt.pending for attempt in attempts):
        record["pending"] = True
    unanswered = next((attempt.unanswered for attempt in attempts if attempt.unanswered is not None), None)
    if unanswered is not None:
        record["unanswered"] = unanswered
    if any(attempt.silent for attempt in attempts):
        record["silent"] = True
    agreement = [share for attempt in attempts for share in attempt.agreement]
    if agreement:
        record["agreement"] = min(agreement)
    return record


def _transcript(task: Task, sample: Sample, attempts: Sequence[Attempt]) -> Transcript:
    transcript: Transcript = {
        "prompts": [[list(message) for message in prompt] for prompt in sample.prompts],
        "responses": [],
        "verdicts": [],
    }
    printed = ""
    for attempt in attempts:
        transcript["responses"] += _response_entries(attempt)
        talk = _talk_entry(sample, attempt)
        if talk is not None:
            transcript.setdefault("talks", []).append(talk)
        transcript["verdicts"] += attempt.verdicts
        printed += attempt.printed
    expected = _expected(task, sample)
    if expected is not None:
        transcript["expected"] = expected
    if printed:
        transcript["printed"] = printed[:_PRINTED_LIMIT]
    return transcript


def _response_entries(attempt: Attempt) -> list[ResponseEntry]:
    if attempt.talk is None:
        return [response_entry(reply, epoch=attempt.epoch) for reply in attempt.replies]
    entries = []
    for reply in attempt.talk.replies:
        entry = response_entry(reply.response, epoch=attempt.epoch)
        entry["at"] = reply.at
        entries.append(entry)
    return entries


def _talk_entry(sample: Sample, attempt: Attempt) -> ChatEntry | None:
    """Return all that was said; None if that is the sample's prompt and the reply, which the transcript has."""
    if attempt.talk is not None:
        return [list(message) for message in attempt.talk.messages]
    if not attempt.replies:  # nothing was asked: the sample is about a document
        return None
    reply = attempt.replies[-1]
    if not reply.trace and not reply.calls:
        return None
    return [list(message) for message in (*sample.prompts[-1], *reply.said)]


def _expected(task: Task, sample: Sample) -> str | None:
    """Return what a right answer looks like; None if the scorer does not know."""
    try:
        return expected_of(task.scorer, sample)
    except Exception as e:  # noqa: BLE001 - only people read it, and a scorer may be anybody's
        return f"(scorer {task.scorer_name!r} raised {describe_exception(e)})"


def response_entry(response: Response, *, role: str | None = None, epoch: int | None = None) -> ResponseEntry:
    """Return a response as the samples file holds it; fields that say nothing are left out."""
    entry: dict[str, Any] = {}
    if role is not None:
        entry["role"] = role
    entry["text"] = response.text
    for name in _OPTIONAL_FIELDS:  # dataclasses.asdict() copies deeply: too slow for every sample of a run
        value = getattr(response, name)
        if value is not None and value is not False:
            entry[name] = value
    if response.calls:
        entry["calls"] = [dataclasses.asdict(call) for call in response.calls]
    if epoch is not None:
        entry["epoch"] = epoch
    return cast(ResponseEntry, entry)


def dump(value: Mapping[str, Any]) -> str:
    """Return JSON in pure ASCII: lone surrogates and line separators of a model's text travel as escapes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
