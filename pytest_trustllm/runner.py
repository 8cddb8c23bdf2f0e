"""Everything done next to a model: ask the sample's prompts, put the scorer's questions, score."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.generation import Engine
from pytest_trustllm.records import Question, Request, Response, Sample, Score, Status
from pytest_trustllm.suites import Task

ROLE_FLAGS = {
    "judge": "--trust-judge",
    "refusal": "--trust-refusal-classifier",
    "embedder": "--trust-embedder",
    "toxicity": "--trust-toxicity",
}


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
    """

    def __init__(self, target: Engine, roles: Mapping[str, Engine], seed: int) -> None:
        self._target = target
        self._roles = roles
        self._seed = seed

    async def run(self, task: Task, sample: Sample, readers: Sequence[Task] = ()) -> Outcome:
        """Ask and score one sample; backend failures and unreadable answers end as ``unscored`` or ``error``.

        Args:
            task: The task that asks.
            sample: What to ask.
            readers: Further tasks that score the same responses.
        """
        requests = [
            Request(prompt, task.generation, seed_of(self._seed, task.id, sample.id, turn), origin)
            for turn, (prompt, origin) in enumerate(zip(sample.prompts, sample.origins, strict=True))
        ]
        replies = await asyncio.gather(*(self._target.ask(r) for r in requests))
        verdicts: list[dict[str, Any]] = []
        failed = next((r for r in replies if r.error is not None), None)
        if failed is not None:
            scores = [Score.none(f"no response: {failed.error}") for _ in (task, *readers)]
        else:
            scores = [await self._score(t, sample, replies, verdicts) for t in (task, *readers)]
        status = _status(scores[0], failed)
        record = {
            "task": task.id,
            "id": sample.id,
            "fingerprint": sample.fingerprint,
            "group": dict(sample.group),
            "status": status,
            **_plain(scores[0]),
            "also": {t.id: _plain(s) for t, s in zip(readers, scores[1:], strict=True)},
        }
        transcript = {
            "prompts": [[list(m) for m in prompt] for prompt in sample.prompts],
            "responses": [_shown(r) for r in replies],
            "verdicts": verdicts,
        }
        return Outcome(status, record, transcript, failed is not None and failed.fatal)

    async def _score(
        self, task: Task, sample: Sample, replies: Sequence[Response], verdicts: list[dict[str, Any]]
    ) -> Score:
        try:
            step = task.scorer.score(sample, replies)
            if isinstance(step, Generator):
                step = await self._drive(step, verdicts)
        except TrustLLMError as e:
            return Score.none(str(e))
        except Exception as e:  # noqa: BLE001 - a scorer's bug costs its samples, with its name, and not the run
            return Score.none(f"scorer {task.scorer_name!r} raised {type(e).__name__}: {one_line(e)}")
        problem = _problem(step)
        return step if problem is None else Score.none(f"scorer {task.scorer_name!r} {problem}")

    async def _drive(self, scoring: Generator[Sequence[Question], Any, Score], verdicts: list[dict[str, Any]]) -> Any:
        answers: list[Response] | None = None
        while True:
            try:
                questions = scoring.send(answers)
            except StopIteration as end:
                return end.value
            answers = list(await asyncio.gather(*(self._put(q) for q in questions)))
            verdicts.extend({"role": q.role, **_shown(a)} for q, a in zip(questions, answers, strict=True))

    async def _put(self, question: Question) -> Response:
        engine = self._roles.get(question.role)
        if engine is None:
            return Response(error=f"no {question.role} model ({ROLE_FLAGS[question.role]})", fatal=True)
        response = await engine.ask(Request(question.messages, question.generation), question.accept)
        if response.error is not None or question.accept is None or question.accept(response):
            return response
        retry = Request(question.retry or question.messages, question.generation, fresh=True)
        return await engine.ask(retry, question.accept)


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


def _status(score: Score, failed: Response | None) -> Status:
    if failed is not None and (failed.raised or failed.fatal):
        return "error"
    if score.value is None:
        return "unscored"
    return "passed" if score.met else "missed"


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
    found = {
        k: v for k, v in dataclasses.asdict(response).items() if v is not None and v is not False and k != "vector"
    }
    return {"text": None, **found}


def dump(value: Mapping[str, Any]) -> str:
    """Return JSON in pure ASCII: lone surrogates and line separators of a model's text travel as escapes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
