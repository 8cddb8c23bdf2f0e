"""Scorers made of others: all of several, any of several, the opposite of one.

The parts ask their roles together, so that a sample takes as many rounds as its slowest part. Every part is scored,
also where an earlier one has decided: each is a sub-metric of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import ListOf, Name, Shape
from pytest_trustllm.config.parameters import Scope, shaped
from pytest_trustllm.errors import ScorerError
from pytest_trustllm.scorers.base import ScoreAfterQuestions, expected_of, met_or_not, sub_scores_of, why_missing
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.types import BLOCKED, PART, Question, Response, Role, Sample, Score, SubScores, Tool


@dataclass(frozen=True, slots=True)
class ScorerPart:
    """One scorer of several.

    Attributes:
        name: Of its sub-metric.
        scorer: The scorer.
    """

    name: str
    scorer: Any


# --- reading a suite --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PartShape:
    """A scorer, with ``as: NAME`` if its sub-metric shall have another name than the scorer.

    Attributes:
        component: Reads a scorer.
    """

    component: Shape[tuple[str, Any]]

    def __call__(self, place: Place) -> ScorerPart:
        named = place.get("as") if isinstance(place.value, dict) else None
        if named is not None:
            own = {key: value for key, value in place.value.items() if key != "as"}
            place = dataclasses.replace(place, value=own)
        name, scorer = self.component(place)
        return ScorerPart(name if named is None else named.name(), scorer)

    def schema(self) -> dict[str, Any]:
        # The scorer's own schema knows no 'as', and refuses keys that it does not know
        labelled = {"type": "object", "properties": {"as": Name().schema()}, "required": ["as"]}
        return {"anyOf": [self.component.schema(), labelled]}


@dataclass(frozen=True, slots=True)
class _PartsShape:
    """Several scorers, whose sub-metrics have different names.

    Attributes:
        component: Reads a scorer.
    """

    component: Shape[tuple[str, Any]]

    def __call__(self, place: Place) -> tuple[ScorerPart, ...]:
        parts: tuple[ScorerPart, ...] = self._list()(place)
        given = [entry.value["as"] for entry in place.list() if isinstance(entry.value, dict) and "as" in entry.value]
        for name in given:
            if given.count(name) > 1:
                raise place.fail(f"two scorers are named {name!r}; give one another name")
        counts: dict[str, int] = {}
        numbered = []
        for part in parts:
            counts[part.name] = counts.get(part.name, 0) + 1
            number = counts[part.name]
            numbered.append(part if number == 1 else dataclasses.replace(part, name=f"{part.name}_{number}"))
        names = [part.name for part in numbered]
        for name in names:
            if names.count(name) > 1:
                raise place.fail(f"two scorers are named {name!r}; name one with 'as: NAME'")
        return tuple(numbered)

    def schema(self) -> dict[str, Any]:
        return self._list().schema()

    def _list(self) -> ListOf:
        return ListOf(_PartShape(self.component), "expected at least one scorer")


@dataclass(frozen=True, slots=True)
class _ScorerShape:
    """One scorer.

    Attributes:
        component: Reads a scorer.
    """

    component: Shape[tuple[str, Any]]

    def __call__(self, place: Place) -> ScorerPart:
        return ScorerPart(*self.component(place))

    def schema(self) -> dict[str, Any]:
        return self.component.schema()


def _parts_shape(scope: Scope) -> _PartsShape:
    return _PartsShape(scope.component)


def _scorer_shape(scope: Scope) -> _ScorerShape:
    return _ScorerShape(scope.component)


# --- asking together --------------------------------------------------------------------------------------------------


def scored_together(
    parts: Sequence[ScorerPart], sample: Sample, replies: Sequence[Response]
) -> Generator[Sequence[Question], Sequence[Response], list[Score]]:
    """Return the scores of all parts; their questions go out together, round by round."""
    scores: dict[int, Score] = {}
    asking: dict[int, ScoreAfterQuestions] = {}
    questions: dict[int, Sequence[Question]] = {}
    for number, part in enumerate(parts):
        step = part.scorer.score(sample, replies)
        if isinstance(step, Generator):
            asking[number] = step
            _advance(number, step, None, questions, scores)
        else:
            scores[number] = step
    while questions:
        everything = [question for of_part in questions.values() for question in of_part]
        answers = iter((yield everything))
        answered = {number: [next(answers) for _ in of_part] for number, of_part in questions.items()}
        questions = {}
        for number, of_part in answered.items():
            _advance(number, asking[number], of_part, questions, scores)
    return [scores[number] for number in range(len(parts))]


def _advance(
    number: int,
    step: ScoreAfterQuestions,
    answers: Sequence[Response] | None,
    questions: dict[int, Sequence[Question]],
    scores: dict[int, Score],
) -> None:
    """Let a part go on with its answers, to its next questions or to its score."""
    try:
        questions[number] = next(step) if answers is None else step.send(answers)
    except StopIteration as end:
        scores[number] = end.value


# --- the scorers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Combined:
    """What scorers of several parts have in common.

    Attributes:
        scorers: The parts; ``as: NAME`` names the sub-metric of one.
    """

    scorers: Sequence[ScorerPart] = field(metadata=shaped(_parts_shape))
    main: ClassVar[str] = "scorers"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of all parts."""
        return tuple(dict.fromkeys(role for part in self.scorers for role in part.scorer.roles))

    @property
    def sub_scores(self) -> SubScores:
        """The names of the parts."""
        return SubScores(PART, tuple(part.name for part in self.scorers))

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The judge's labels, if only one part uses the judge and names them."""
        judged = [part.scorer for part in self.scorers if "judge" in part.scorer.roles]
        if len(judged) != 1:
            return None
        vocabulary: Vocabulary | None = getattr(judged[0], "vocabulary", None)
        return vocabulary

    def part(self, name: str) -> Any:
        """Return the scorer of a part; None if there is none of this name."""
        return next((part.scorer for part in self.scorers if part.name == name), None)

    def check_sample(self, sample: Sample) -> None:
        """Refuse a row that a part refuses."""
        for part in self.scorers:
            _check(part, sample)

    def check_tools(self, tools: Sequence[Tool]) -> None:
        """Refuse tools that a part refuses."""
        for part in self.scorers:
            _check_tools(part, tools)

    def _scored(self, sample: Sample, replies: Sequence[Response], enough: int) -> ScoreAfterQuestions:
        nothing = _why_nothing(replies)
        if nothing is not None:  # a part that something is not there would be met by no response at all
            return Score.none(nothing)
        scores = yield from scored_together(self.scorers, sample, replies)
        return self._together(scores, enough)

    def _together(self, scores: Sequence[Score], enough: int) -> Score:
        """Return 1 if at least so many parts meet their target; unscored if a part is."""
        observed: dict[str, Any] = {}
        unmet = []
        for part, score in zip(self.scorers, scores, strict=True):
            if not score.applies:
                continue
            if score.value is None:
                return Score.none(f"{part.name}: {score.reason}")
            observed[f"{PART}.{part.name}"] = float(score.met)
            if not score.met:
                unmet.append(part.name)
        if not observed:
            return Score.not_applicable("no part applies")
        met = len(observed) - len(unmet)
        answer = f"unmet: {', '.join(unmet)}" if unmet else "all met"
        return met_or_not(met >= min(enough, len(observed)), answer, observed)

    def _blocked(self, enough: int) -> Score:
        scores = []
        for part in self.scorers:
            blocked = getattr(part.scorer, "blocked", None)
            scores.append(Score.none(BLOCKED) if blocked is None else blocked())
        return self._together(scores, enough)


@dataclass(frozen=True, slots=True)
class AllOf(_Combined):
    """1 if all of several scorers find their target met, 0 otherwise; each is a sub-metric ``{part=NAME}``.

    Attributes:
        scorers: The parts; ``as: NAME`` names the sub-metric of one.
    """

    def score(self, sample: Sample, replies: Sequence[Response]) -> ScoreAfterQuestions:
        """Score all parts; the sample is unscored if one of them is."""
        return (yield from self._scored(sample, replies, len(self.scorers)))

    def blocked(self) -> Score:
        """Score a prompt that the provider blocked, if every part can."""
        return self._blocked(len(self.scorers))

    def expected(self, sample: Sample) -> str:
        """Return what each part expects."""
        return " and ".join(_expected(self.scorers, sample))


@dataclass(frozen=True, slots=True)
class AnyOf(_Combined):
    """1 if at least one of several scorers finds its target met, 0 otherwise; each is a sub-metric ``{part=NAME}``.

    Attributes:
        scorers: The parts; ``as: NAME`` names the sub-metric of one.
    """

    def score(self, sample: Sample, replies: Sequence[Response]) -> ScoreAfterQuestions:
        """Score all parts; the sample is unscored if one of them is."""
        return (yield from self._scored(sample, replies, 1))

    def blocked(self) -> Score:
        """Score a prompt that the provider blocked, if every part can."""
        return self._blocked(1)

    def expected(self, sample: Sample) -> str:
        """Return what each part expects."""
        return " or ".join(_expected(self.scorers, sample))


@dataclass(frozen=True, slots=True)
class Not:
    """1 if another scorer finds its target missed, 0 if it finds it met.

    Attributes:
        scorer: The other scorer.
    """

    scorer: ScorerPart = field(metadata=shaped(_scorer_shape))
    main: ClassVar[str] = "scorer"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of the other scorer."""
        roles: tuple[Role, ...] = self.scorer.scorer.roles
        return roles

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The judge's labels, if the other scorer names them."""
        vocabulary: Vocabulary | None = getattr(self.scorer.scorer, "vocabulary", None)
        return vocabulary

    @property
    def sub_scores(self) -> SubScores | None:
        """The parts of the other scorer."""
        return sub_scores_of(self.scorer.scorer)

    def check_sample(self, sample: Sample) -> None:
        """Refuse a row that the other scorer refuses."""
        _check(self.scorer, sample)

    def check_tools(self, tools: Sequence[Tool]) -> None:
        """Refuse tools that the other scorer refuses."""
        _check_tools(self.scorer, tools)

    def score(self, sample: Sample, replies: Sequence[Response]) -> ScoreAfterQuestions:
        """Score it; a missing response is unscored, although it does not meet the other target either."""
        nothing = _why_nothing(replies)
        if nothing is not None:
            return Score.none(nothing)
        [score] = yield from scored_together([self.scorer], sample, replies)
        return _opposite(score)

    def blocked(self) -> Score:
        """Score a prompt that the provider blocked, if the other scorer can."""
        blocked = getattr(self.scorer.scorer, "blocked", None)
        return Score.none(BLOCKED) if blocked is None else _opposite(blocked())

    def expected(self, sample: Sample) -> str:
        """Return what is not to be there."""
        return f"not: {', '.join(_expected([self.scorer], sample))}"


def _why_nothing(replies: Sequence[Response]) -> str | None:
    """Return why there is nothing to score; None if every response has a text, or calls, which ``tool_calls`` reads."""
    for reply in replies:
        why = why_missing(reply.text)
        if why is not None and not reply.calls:
            return why
    return None


def _opposite(score: Score) -> Score:
    if score.value is None or not score.applies:
        return dataclasses.replace(score, parity=None)
    return met_or_not(not score.met, score.answer, score.observed)


def _check(part: ScorerPart, sample: Sample) -> None:
    check = getattr(part.scorer, "check_sample", None)
    if check is not None:
        check(sample)


def _check_tools(part: ScorerPart, tools: Sequence[Tool]) -> None:
    check = getattr(part.scorer, "check_tools", None)
    if check is not None:
        try:
            check(tools)
        except ScorerError as e:
            raise ScorerError(f"{part.name}: {e}") from None


def _expected(parts: Sequence[ScorerPart], sample: Sample) -> list[str]:
    return [expected_of(part.scorer, sample) or part.name for part in parts]
