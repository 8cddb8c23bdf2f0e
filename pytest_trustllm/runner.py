"""Everything done next to a model: ask the sample's prompts, put the scorer's questions, score."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeVar

from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.generation import Engine
from pytest_trustllm.models.base import ends_the_task
from pytest_trustllm.records import Question, Request, Response, Sample, Score, Status
from pytest_trustllm.suites import Task

ROLE_FLAGS = {
    "judge": "--trust-judge",
    "refusal": "--trust-refusal-classifier",
    "embedder": "--trust-embedder",
    "toxicity": "--trust-toxicity",
}


_SHOWN = tuple(f.name for f in dataclasses.fields(Response) if f.name not in ("text", "vector"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sample after its run.

    Attributes:
        status: What the test shows.
        record: What metrics need: plain JSON, small.
        transcript: What people want to read: prompts, responses, verdicts. Plain JSON.
        fatal: No further sample of this model can succeed.
    """

    status: Status
    record: Mapping[str, Any]
    transcript: Mapping[str, Any]
    fatal: bool = False


@dataclass(slots=True)
class _Try:
    """A sample asked once, while it is under way.

    Attributes:
        mark: Tells its texts from those of other epochs.
        replies: Of the model under test, one per prompt.
        scores: Of the task, then of those that read its answers.
        verdicts: What the roles said, as people will read it.
        agreement: Share of the judge's votes that agree, per question that was put to a vote.
    """

    mark: dict[str, Any]
    replies: Sequence[Response]
    scores: list[Score] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)

    @property
    def failed(self) -> Response | None:
        """The first response that there is not."""
        return next((r for r in self.replies if r.error is not None), None)

    @property
    def cut(self) -> str | None:
        """Why something could not be asked for that the run's budget did not allow; None: it could."""
        cut = (*(r.error for r in self.replies if r.cut), *(v["error"] for v in self.verdicts if v.get("cut")))
        return next(iter(cut), None)


def seed_of(seed: int, task: str, sample: str, turn: int, epoch: int = 0) -> int:
    """Return the seed of one request: it depends on run seed, sample and epoch, not on what else is asked."""
    text = f"{seed}/{task}/{sample}/{turn}/{epoch}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class Runner:
    """Takes samples from prompt to score.

    Args:
        target: The model under test.
        roles: Role -> engine; a role without a model is absent.
        seed: Seed of the run.
        epochs: How often every sample is asked.
        votes: How often the judge is asked for one verdict.
    """

    def __init__(
        self, target: Engine, roles: Mapping[str, Engine], seed: int, *, epochs: int = 1, votes: int = 1
    ) -> None:
        self._target = target
        self._roles = roles
        self._seed = seed
        self._epochs = epochs
        self._votes = votes

    @property
    def target(self) -> Engine:
        """The model under test."""
        return self._target

    def requests(self, task: Task, sample: Sample) -> list[Request]:
        """Return what the model under test is asked about a sample, in all epochs."""
        return [request for epoch in range(self._epochs) for request in self._requests(task, sample, epoch)]

    def _requests(self, task: Task, sample: Sample, epoch: int) -> list[Request]:
        return [
            Request(prompt, task.generation, seed_of(self._seed, task.id, sample.id, turn, epoch), origin, epoch=epoch)
            for turn, (prompt, origin) in enumerate(zip(sample.prompts, sample.origins, strict=True))
        ]

    async def run(self, task: Task, sample: Sample, readers: Sequence[Task] = ()) -> Outcome:
        """Ask and score one sample; backend failures and unreadable answers end as ``unscored`` or ``error``.

        Args:
            task: The task that asks.
            sample: What to ask.
            readers: Further tasks that score the same responses.
        """
        tries = list(await _all([self._try(task, sample, readers, epoch) for epoch in range(self._epochs)]))
        cut = next((t.cut for t in tries if t.cut is not None), None)
        failed = next((t.failed for t in tries if t.failed is not None), None)
        scores = [_merged([t.scores[i] for t in tries]) for i in range(1 + len(readers))]
        agreement = [share for t in tries for share in t.agreement]
        status = _status(scores[0], failed)
        record = {
            "task": task.id,
            "id": sample.id,
            "fingerprint": sample.fingerprint,
            "group": dict(sample.group),
            **({} if sample.cluster is None else {"cluster": sample.cluster}),
            "status": status,
            **{name: value for name, value in scores[0].items() if name != "met"},
            "also": {t.id: s for t, s in zip(readers, scores[1:], strict=True)},
            **({} if cut is None else {"cut": True}),
            **({"agreement": min(agreement)} if agreement else {}),
        }
        transcript = {
            "prompts": [[list(m) for m in prompt] for prompt in sample.prompts],
            "responses": [_shown(r) | t.mark for t in tries for r in t.replies],
            "verdicts": [v | t.mark for t in tries for v in t.verdicts],
        }
        return Outcome(status, record, transcript, failed is not None and failed.fatal)

    async def _try(self, task: Task, sample: Sample, readers: Sequence[Task], epoch: int) -> _Try:
        """Ask and score a sample once."""
        replies = await _all([self._target.ask(r) for r in self._requests(task, sample, epoch)])
        found = _Try({"epoch": epoch} if self._epochs > 1 else {}, replies)
        if found.failed is not None:
            found.scores = [Score.none(f"no response: {found.failed.error}") for _ in (task, *readers)]
        else:
            found.scores = [await self._score(t, sample, found) for t in (task, *readers)]
        if found.cut is not None:  # what it has so far is stored; the next run completes it
            found.scores = [Score.none(found.cut) for _ in found.scores]
        return found

    async def _score(self, task: Task, sample: Sample, found: _Try) -> Score:
        try:
            step = task.scorer.score(sample, found.replies)
            if isinstance(step, Generator):
                step = await self._drive(step, found)
        except TrustLLMError as e:
            return Score.none(str(e))
        except BaseException as e:  # a scorer's bug costs its samples, with its name, and not the run
            if ends_the_task(e):
                raise
            return Score.none(f"scorer {task.scorer_name!r} raised {type(e).__name__}: {one_line(e)}")
        problem = _problem(step)
        return step if problem is None else Score.none(f"scorer {task.scorer_name!r} {problem}")

    async def _drive(self, scoring: Generator[Sequence[Question], Any, Score], found: _Try) -> Any:
        answers: list[Response] | None = None
        while True:
            try:
                questions = scoring.send(answers)
            except StopIteration as end:
                return end.value
            polls = await self._polls(questions)
            answers = [self._counted(q, votes, found) for q, votes in zip(questions, polls, strict=True)]

    async def _polls(self, questions: Sequence[Question]) -> list[list[Response]]:
        """Return every question's replies: one, or the judge's votes."""
        counts = [self._votes if q.role == "judge" else 1 for q in questions]
        waits = [self._put(q, vote) for q, count in zip(questions, counts, strict=True) for vote in range(count)]
        replies = iter(await _all(waits))
        return [[next(replies) for _ in range(count)] for count in counts]

    def _counted(self, question: Question, votes: Sequence[Response], found: _Try) -> Response:
        found.verdicts += [{"role": question.role, **_shown(v)} for v in votes]
        if len(votes) == 1:
            return votes[0]
        winner, agreement = majority(votes)
        if agreement is not None:
            found.agreement.append(agreement)
        return winner

    async def _put(self, question: Question, vote: int) -> Response:
        engine = self._roles.get(question.role)
        if engine is None:
            return Response(error=f"no {question.role} model ({ROLE_FLAGS[question.role]})", fatal=True)
        request = Request(question.messages, question.generation, epoch=vote)
        response = await engine.ask(request, question.accept)
        if response.error is not None or question.accept is None or question.accept(response):
            return response
        retry = dataclasses.replace(request, messages=question.retry or question.messages, fresh=True)
        return await engine.ask(retry, question.accept)


def majority(votes: Sequence[Response]) -> tuple[Response, float | None]:
    """Return the verdict that more than half of the votes give, and the share of the votes for the commonest one.

    Args:
        votes: At least one. Replies that differ in case, blanks or the full stop at the end are the same verdict.

    Returns:
        The first vote for the verdict. Without a reply in any vote the first failure, and no share; without a majority
        of all votes, those that failed too, a failure that says so.
    """
    replies = [(v, v.text.strip().rstrip(".").casefold()) for v in votes if v.error is None and v.text is not None]
    if not replies:
        return votes[0], None
    ((best, count),) = Counter(text for _, text in replies).most_common(1)
    share = count / len(votes)
    if 2 * count <= len(votes):
        said = ", ".join(repr(one_line(text, 40)) for text in dict.fromkeys(text for _, text in replies))
        return Response(error=f"no majority among the judge's {len(votes)} votes: {said}"), share
    return next(v for v, text in replies if text == best), share


T = TypeVar("T")


async def _all(waits: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results; most samples have one, which needs no task of its own."""
    return [await waits[0]] if len(waits) == 1 else list(await asyncio.gather(*waits))


def _problem(score: object) -> str | None:
    """Return what a scorer of the user's did wrong, or None: one sample must not spoil the run's JSON."""
    if not isinstance(score, Score):
        return f"returned {type(score).__name__}, expected Score"
    value: Any = score.value
    if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
        return f"gave {one_line(repr(value), 80)}, expected a finite number"
    if score.observed or isinstance(score.parity, Mapping):
        try:
            json.dumps([dict(score.observed), _plain_parity(score)], allow_nan=False)
        except (TypeError, ValueError) as e:
            return f"observed what is no JSON: {one_line(e, 120)}"
    return None


def _status(score: Mapping[str, Any], failed: Response | None) -> Status:
    if failed is not None and (failed.raised or failed.fatal):
        return "error"
    if score["value"] is None:
        return "unscored"
    return "passed" if score["met"] else "missed"


def _merged(scores: Sequence[Score]) -> dict[str, Any]:
    """Return what a record says of a sample: its score, or what its epochs come to together.

    Over several epochs the score is their mean, and the target is met if every epoch meets it. An epoch that the task
    concerns and that has no score leaves the sample without one: a mean of survivors is another number.
    """
    if len(scores) == 1:
        return _plain(scores[0]) | {"met": scores[0].met}
    epochs = [_plain(s) | {"met": s.met} for s in scores]
    concerned = [s for s in scores if s.applies]
    lost = next(((i, s) for i, s in enumerate(scores) if s.applies and s.value is None), None)
    values = [float(s.value) for s in concerned if s.value is not None]
    whole = lost is None and bool(values)
    return {
        "value": math.fsum(values) / len(values) if whole else None,
        "answer": f"target met in {sum(s.met for s in concerned)} of {len(concerned)} epochs" if whole else None,
        "reason": f"epoch {lost[0] + 1} of {len(scores)}: {epochs[lost[0]]['reason']}" if lost else None,
        "observed": {},
        "parity": None,
        "met": whole and all(s.met for s in concerned),
        **({} if concerned else {"applies": False, "reason": epochs[0]["reason"]}),
        "epochs": epochs,
    }


def _plain_parity(score: Score) -> Any:
    return dict(score.parity) if isinstance(score.parity, Mapping) else score.parity


def _plain(score: Score) -> dict[str, Any]:
    return {
        "value": None if score.value is None else float(score.value),
        "answer": None if score.answer is None else one_line(score.answer, 200),
        "reason": None if score.reason is None else one_line(score.reason),
        "observed": dict(score.observed),
        "parity": _plain_parity(score),
        **({} if score.applies else {"applies": False}),
    }


def _shown(response: Response) -> dict[str, Any]:
    found = ((name, getattr(response, name)) for name in _SHOWN)  # asdict copies deeply, for every sample of a run
    return {"text": response.text, **{name: v for name, v in found if v is not None and v is not False}}


def dump(value: Mapping[str, Any]) -> str:
    """Return JSON in pure ASCII: lone surrogates and line separators of a model's text travel as escapes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
