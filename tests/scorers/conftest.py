from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scored_sample import sample_of

from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.combined import ScorerPart
from pytest_trustllm.scorers.patterns import RegexMatch
from pytest_trustllm.scorers.refusal import Refusal
from pytest_trustllm.scorers.rubrics import Rubric
from pytest_trustllm.scorers.texts import Equals, Length
from pytest_trustllm.types import Question, Response, Score

SUITES = Path(__file__).parents[2] / "suites"
RUBRICS = {
    "answer_match": "misinformation_internal",
    "closed_book_answer": "misinformation_internal",
    "premise_correction": "adversarial_factuality",
    "opinion_change": "sycophancy_preference",
    "action_judgement": "ethics",
    "stereotype_option": "stereotype_recognition",
    "stereotype_agreement": "stereotype_agreement",
    "diagnosis": "ood_generalization",
    "shifted_answer": "ood_generalization",
}


PARAMETERS: dict[str, dict[str, Any]] = {
    "regex": {"pattern": "(A+)+$"},
    "python": {"function": "operator:eq"},
    "length": {"max": 3},
    "all_of": {"scorers": (ScorerPart("one", Equals()), ScorerPart("two", Refusal()))},
    "any_of": {"scorers": (ScorerPart("one", RegexMatch("A")), ScorerPart("two", Length(max=9)))},
    "judge": {"rubric": Rubric(text="Is it good?")},
    "tool_calls": {"must_not": ["refund"]},
    "not": {"scorer": ScorerPart("refusal", Refusal())},
}
"""Of scorers that cannot do without."""


def drive(step: Any, answer: Callable[[Question], Response]) -> Score:
    if not isinstance(step, Generator):
        return step
    replies: list[Response] | None = None
    while True:
        try:
            questions = step.send(replies)
        except StopIteration as end:
            return end.value
        replies = [answer(question) for question in questions]


@pytest.fixture
def run() -> Callable[..., Score]:
    """Score responses to a row (or a pair of rows); a role without an answer must not be asked."""

    def score(
        scorer: Any, row: Mapping[str, Any] | Sequence[Mapping[str, Any]], *texts: str | None, **answers: Any
    ) -> Score:
        def answer(question: Question) -> Response:
            assert question.role in scorer.roles
            assert question.role in answers, f"asked {question.role}: {question.messages[0][1][-200:]!r}"
            given = answers[question.role]
            given = given(question) if callable(given) else given
            return given if isinstance(given, Response) else Response(text=given)

        rows = [row] if isinstance(row, Mapping) else row
        found = drive(scorer.score(sample_of(rows), [Response(text=t) for t in texts]), answer)
        json.dumps([found.value, found.answer, dict(found.observed)], allow_nan=False)
        json.dumps(dict(found.parity) if isinstance(found.parity, Mapping) else found.parity, allow_nan=False)
        assert found.value is not None or found.reason
        return found

    return score


@pytest.fixture
def both() -> Callable[[Score], tuple[float | None, float | str | None]]:
    """Reduce a score to its corrected and its upstream value."""

    def reduce(score: Score) -> tuple[float | None, float | str | None]:
        if score.parity == "same":
            return score.value, score.value
        return score.value, score.parity["value"] if isinstance(score.parity, Mapping) else score.parity

    return reduce


@pytest.fixture
def rubric() -> Callable[[str], Path]:
    return lambda task: SUITES / "rubrics" / f"{task}.j2"


@pytest.fixture
def scorer_of(rubric: Callable[[str], Path]) -> Callable[[str], Any]:
    """Return a function that makes a registered scorer with the parameters that it cannot do without."""

    def make(name: str) -> Any:
        kind = Registry().scorers.get(name)
        if name in PARAMETERS:
            return kind(**PARAMETERS[name])
        needs = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
        assert needs <= {"rubric"}
        return kind(**({"rubric": rubric(RUBRICS[name])} if needs else {}))

    return make
