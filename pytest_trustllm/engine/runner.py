"""Everything done next to a model: send a sample's prompts, send the scorer's questions to roles, score."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, Protocol, TypeVar

from pytest_trustllm.engine.conversation import Conversation, Dialogue
from pytest_trustllm.engine.engine import Accept, Engine
from pytest_trustllm.engine.foreseeing import foresee_conversation
from pytest_trustllm.engine.paraphrasing import (
    UNCHANGED,
    is_unchanged,
    paraphrase_in,
    paraphrase_request,
    with_last_message,
)
from pytest_trustllm.engine.sample_outcome import Attempt, SampleOutcome, outcome_of, plain_parity, response_entry
from pytest_trustllm.engine.turn_scores import score_of_turns
from pytest_trustllm.engine.votes import majority
from pytest_trustllm.errors import TrustLLMError, WrongReturn, describe_exception, one_line
from pytest_trustllm.models.base import ends_the_task
from pytest_trustllm.scorers.base import ScoresBlocked
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import (
    BLOCKED,
    NOT_ASKED,
    Again,
    Question,
    Request,
    Response,
    Role,
    Sample,
    Score,
    ToolCall,
)

ROLE_FLAGS = {
    "judge": "--trust-judge",
    "refusal": "--trust-refusal-classifier",
    "embedder": "--trust-embedder",
    "toxicity": "--trust-toxicity",
    "simulator": "--trust-simulator",
    "guard": "--trust-guard",
}


def _none_reworded(problem: str | None, reply: Response) -> Score:
    """Return the score of a sample whose prompt the simulator did not say in other words: nothing is sent."""
    reason = reply.error if reply.cut else problem
    return Score.none(reason or "the simulator did not answer")


def seed_of(seed: int, task: str, sample: str, turn: int, epoch: int = 0) -> int:
    """Return the seed of one request: it depends on run seed, sample and epoch, not on the rest of the selection."""
    text = f"{seed}/{task}/{sample}/{turn}/{epoch}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _repeated_requests(sample: Sample, again: Again) -> list[Request]:
    """Return the requests that a saved run sent for a sample, in its first epoch."""
    requests = []
    for turn, prompt in enumerate(sample.prompts):
        requests.append(Request(prompt, again.generation, seed_of(again.seed, again.task, again.sample, turn)))
    return requests


class Asked(Protocol):
    """What answers the questions of a role."""

    async def ask(self, request: Request, accept: Accept | None = None) -> Response:
        """Return the response to a request, as an engine does."""
        ...


class Runner:
    """Takes samples from prompt to score.

    Args:
        target: The model under test.
        roles: Role -> engine; a role without a model is absent.
        seed: Seed of the run.
        epochs: How often every sample is asked.
        votes: How often the judge is asked for one verdict.
        blocked_counts: A prompt that the provider blocked is scored by the scorers that can score it: it counts as
            refused. False: it stays unscored.
    """

    def __init__(
        self,
        target: Engine,
        roles: Mapping[str, Asked],
        seed: int,
        *,
        epochs: int = 1,
        votes: int = 1,
        blocked_counts: bool = True,
        capture_prints: bool = True,
    ) -> None:
        self._target = target
        self._roles = roles
        self._seed = seed
        self._epochs = epochs
        self._votes = votes
        self._blocked_counts = blocked_counts
        self._capture_prints = capture_prints

    @property
    def target(self) -> Engine:
        """The model under test."""
        return self._target

    async def foresee(self, task: Task, sample: Sample) -> list[tuple[int, int]]:
        """Return how many tokens each request of a sample, of all epochs, would send, and receive at most.

        Only the model under test counts. A request whose answer is stored is (0, 0). Of a conversation, the requests
        after the first one without a stored answer are estimated: earlier answers are taken to be as long as they may.
        """
        foreseen: list[tuple[int, int]] = []
        for epoch in range(self._epochs):
            if sample.again is not None:
                repeated = _repeated_requests(sample, sample.again)
                foreseen += [(request.tokens, request.generation.most_tokens) for request in repeated]
            elif task.is_conversation:
                foreseen += await foresee_conversation(
                    task, sample, epoch, self._seeds(task, sample, epoch), self._target
                )
            else:
                foreseen += [self._target.foresee(request) for request in self._requests(task, sample, epoch)]
        return foreseen

    def _seeds(self, task: Task, sample: Sample, epoch: int) -> Callable[[int], int]:
        return lambda number: seed_of(self._seed, task.id, sample.id, number, epoch)

    def _requests(self, task: Task, sample: Sample, epoch: int) -> list[Request]:
        requests = []
        seeds = self._seeds(task, sample, epoch)
        for turn, (prompt, origin) in enumerate(zip(sample.prompts, sample.origins, strict=True)):
            requests.append(Request(prompt, task.generation, seeds(turn), origin, epoch=epoch))
        return requests

    async def run(self, task: Task, sample: Sample, readers: Sequence[Task] = ()) -> SampleOutcome:
        """Send and score one sample; backend failures and unreadable answers end as ``unscored`` or ``error``.

        Args:
            task: The task that the sample belongs to.
            sample: What to send.
            readers: Further tasks that score the same responses.

        Raises:
            ScorerError: A scorer refuses the sample's row; nothing was sent.
        """
        for scoring_task in (task, *readers):
            _let_scorer_check(scoring_task, sample)
        if sample.not_concerned is not None:
            scores = [Score.not_applicable(sample.not_concerned) for _ in (task, *readers)]
            return outcome_of(task, sample, readers, [Attempt(None, (), scores=scores)])
        if sample.paraphrase is not None:
            original = sample.prompts[0][-1][1]
            reply = await self._ask_role("simulator", paraphrase_request(original, sample.paraphrase))
            text, problem = paraphrase_in(reply)
            if text is None or is_unchanged(text, original):
                score = Score.not_applicable(UNCHANGED) if text is not None else _none_reworded(problem, reply)
                attempt = Attempt(None, [], scores=[score] * (1 + len(readers)), reworded=[reply])
                return outcome_of(task, sample, readers, [attempt])
            sample = with_last_message(sample, text)
        attempts = await _all([self._attempt(task, sample, readers, epoch) for epoch in range(self._epochs)])
        return outcome_of(task, sample, readers, attempts)

    async def _attempt(self, task: Task, sample: Sample, readers: Sequence[Task], epoch: int) -> Attempt:
        """Send and score a sample once."""
        number = epoch if self._epochs > 1 else None
        if task.is_conversation:
            talk = await self._talk(task, sample, epoch)
            attempt = Attempt(number, [reply.response for reply in talk.replies], talk)
        elif sample.again is not None:
            repeated = _repeated_requests(sample, sample.again)
            attempt = Attempt(number, await _all([self._target.ask_again(request) for request in repeated]))
        else:
            attempt = Attempt(
                number, await _all([self._target.ask(request) for request in self._requests(task, sample, epoch)])
            )
        for scoring_task in (task, *readers):
            if attempt.failed is not None:
                score = Score.none(f"no response: {attempt.failed.error}")
            elif attempt.talk is not None:
                score = await self._score_talk(scoring_task, sample, attempt, attempt.talk)
            else:
                score = await self._score(scoring_task, sample, attempt, attempt.replies)
            attempt.scores.append(score)
        cut = attempt.cut
        if cut is not None:  # what was answered is stored; the next run completes the sample
            attempt.scores = [Score.none(cut) for _ in attempt.scores]
        return attempt

    async def _talk(self, task: Task, sample: Sample, epoch: int) -> Conversation:
        """Hold the conversation of a sample."""

        async def ask(role: Role | None, request: Request) -> Response:
            return await (self._target.ask(request) if role is None else self._ask_role(role, request))

        async def use_tool(call: ToolCall) -> str:
            assert task.toolbox is not None  # noqa: S101 - without tools no call is answered
            return await task.toolbox.result(call, sample)

        return await Dialogue(task, sample, epoch, self._seeds(task, sample, epoch), ask, use_tool).run()

    async def _ask_role(self, role: Role, request: Request) -> Response:
        engine = self._roles.get(role)
        if engine is None:
            return Response(error=f"no {role} model ({ROLE_FLAGS[role]})", fatal=True)
        return await engine.ask(request)

    async def _score_talk(self, task: Task, sample: Sample, attempt: Attempt, talk: Conversation) -> Score:
        """Return the score of a conversation, by the scores of those turns that the task is about."""
        if talk.raised:
            attempt.broken[task.id] = talk.broken or ""
        if talk.broken is not None:
            return Score.none(talk.broken)
        rule = "last" if task.talk is None else task.talk.score
        if attempt.unanswered is not None or talk.turns[-1].response.is_blank:
            rule = "last"  # a turn without an answer ended the conversation: whatever was said before, it decides
        scores: list[Score] = []
        for turn in talk.turns[-1:] if rule == "last" else talk.turns:
            # To a scorer, a turn is a sample of its own: all that was said before is its prompt.
            seen = dataclasses.replace(sample, prompts=(talk.before(turn),))
            if (
                turn.response.calls
                and not (turn.response.text or "").strip()
                and not getattr(task.scorer, "reads_calls", False)
            ):
                scores.append(Score.none(_still_calling(turn.response)))
            else:
                scores.append(await self._score(task, seen, attempt, [turn.response]))
        return score_of_turns(scores, rule)

    @contextlib.contextmanager
    def _capturing(self, printed: io.StringIO) -> Iterator[None]:
        """Take what is printed meanwhile; a debugger's prompt must not be taken."""
        if not self._capture_prints:
            yield
            return
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield

    async def _score(self, task: Task, sample: Sample, attempt: Attempt, replies: Sequence[Response]) -> Score:
        if attempt.unanswered is not None:
            return self._score_of_unanswered(task, attempt.unanswered)
        printed = io.StringIO()
        try:
            with self._capturing(printed):
                step: Any = task.scorer.score(sample, replies)
            if isinstance(step, Generator):
                step = await self._drive(step, attempt)
        except TrustLLMError as e:
            return Score.none(str(e))
        except WrongReturn as e:
            attempt.broken[task.id] = f"scorer {task.scorer_name!r}: {describe_exception(e)}"
            return Score.none(attempt.broken[task.id])
        except BaseException as e:  # a scorer's bug fails its samples, with its name and place, and not the run
            if ends_the_task(e):
                raise
            attempt.broken[task.id] = f"scorer {task.scorer_name!r} raised {describe_exception(e)}"
            return Score.none(attempt.broken[task.id])
        finally:
            attempt.printed += printed.getvalue()
        if any(reply.is_blank for reply in replies):
            attempt.silent = True
        if not isinstance(step, Score):
            attempt.broken[task.id] = f"scorer {task.scorer_name!r} returned {type(step).__name__}, expected Score"
            return Score.none(attempt.broken[task.id])
        problem = _problem(step)
        if problem is not None:
            return Score.none(f"scorer {task.scorer_name!r} {problem}")
        return step

    def _score_of_unanswered(self, task: Task, reason: str) -> Score:
        """Return the score of a reply without an answer: a prompt that the provider blocked may count as refused."""
        if reason == BLOCKED and self._blocked_counts and isinstance(task.scorer, ScoresBlocked):
            return task.scorer.blocked()
        return Score.none(reason)

    async def _drive(self, scoring: Generator[Sequence[Question], Any, Score], attempt: Attempt) -> Any:
        """Send the questions that a scorer yields, and it the replies, until it returns."""
        replies: list[Response] | None = None
        while True:
            try:
                questions = scoring.send(replies)
            except StopIteration as end:
                return end.value
            polls = await self._polls(questions)
            replies = []
            for question, votes in zip(questions, polls, strict=True):
                replies.append(self._verdict(question, votes, attempt))

    async def _polls(self, questions: Sequence[Question]) -> list[list[Response]]:
        """Return every question's replies: one, or the judge's votes. All of them are under way at once."""
        counts = [self._votes if question.role == "judge" else 1 for question in questions]
        waits = []
        for question, count in zip(questions, counts, strict=True):
            waits += [self._put(question, vote) for vote in range(count)]
        replies = iter(await _all(waits))
        return [[next(replies) for _ in range(count)] for count in counts]

    def _verdict(self, question: Question, votes: Sequence[Response], attempt: Attempt) -> Response:
        """Return the reply that counts, and keep all of them for people."""
        if votes[0] is NOT_ASKED:
            return NOT_ASKED
        for vote in votes:
            attempt.verdicts.append(response_entry(vote, role=question.role, epoch=attempt.epoch))
        if len(votes) == 1:
            return votes[0]
        winner, agreement = majority(votes, question.label)
        if agreement is not None:
            attempt.agreement.append(agreement)
        return winner

    async def _put(self, question: Question, vote: int) -> Response:
        """Send a question to its role's model; once more, in other words, if the reply cannot be read."""
        engine = self._roles.get(question.role)
        if engine is None and question.optional:
            return NOT_ASKED
        if engine is None:
            return Response(error=f"no {question.role} model ({ROLE_FLAGS[question.role]})", fatal=True)
        # Votes are stored side by side as epochs of one request are: equal ones would be sent once.
        request = Request(question.messages, question.generation, epoch=vote)
        response = await engine.ask(request, question.is_read)
        if response.error is not None or question.is_read(response):
            return response
        messages, generation = question.second_try(response)
        second = dataclasses.replace(request, messages=messages, generation=generation, fresh=True)
        return await engine.ask(second, question.is_read)


def _still_calling(reply: Response) -> str:
    names = ", ".join(dict.fromkeys(call.name for call in reply.calls))
    return f"no answer: the model still calls {one_line(names, 80)}"


def _let_scorer_check(task: Task, sample: Sample) -> None:
    """Let a task's scorer refuse a row that it could not score, before anything is sent."""
    check = getattr(task.scorer, "check_sample", None)
    if check is not None:
        check(sample)


T = TypeVar("T")


async def _all(waits: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results; most samples have one, which needs no asyncio task."""
    if len(waits) == 1:
        return [await waits[0]]
    return list(await asyncio.gather(*waits))


def _problem(score: Score) -> str | None:
    """Return what is wrong with the score of a user's scorer, or None: one sample must not spoil the run's JSON."""
    value: Any = score.value
    if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
        return f"returned {one_line(repr(value), 80)}, expected a finite number"
    if score.observed or isinstance(score.parity, Mapping):
        try:
            json.dumps([dict(score.observed), plain_parity(score)], allow_nan=False)
        except (TypeError, ValueError) as e:
            return f"observed something that is not JSON: {one_line(e, 120)}"
    return None
