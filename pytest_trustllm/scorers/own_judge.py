"""A judge with a rubric and labels of one's own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Flag, Key, Number, Table, Text
from pytest_trustllm.config.parameters import Scope, shaped
from pytest_trustllm.errors import TrustLLMError
from pytest_trustllm.scorers.base import ScoreAfterQuestions, why_missing
from pytest_trustllm.scorers.formulas import evaluate, limits, names_in, parsed
from pytest_trustllm.scorers.judge import why_unjudged
from pytest_trustllm.scorers.rubrics import Rubric, RubricShape, judge_prompt, reminder
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.types import PART, VERDICT, Generation, Question, Response, Role, Sample, Score, SubScores

_YES_OR_NO: Mapping[str, float] = MappingProxyType({"YES": 1.0, "NO": 0.0})
_REASONED = Generation(max_new_tokens=1024)
"""For a judge that gives its reasons before its verdict."""


# --- reading a suite --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _LabelsShape:
    """Label -> value; labels of which none contains another."""

    def __call__(self, place: Place) -> Mapping[str, float]:
        labels: dict[str, float] = {}
        for label, value in self._entries(place).items():
            labels[label] = Number()(value)
            if not math.isfinite(labels[label]):
                raise value.fail(f"{labels[label]} is not accepted; write a finite number")
        if len(labels) < 2:
            raise place.fail("expected at least two labels, such as {GOOD: 1, BAD: 0}")
        try:
            overlap = Vocabulary(tuple(labels)).overlapping()
        except ValueError as e:
            raise place.fail(str(e)) from None
        if overlap is not None:
            raise place.fail(f"the label {overlap[0]!r} is a part of {overlap[1]!r}; choose labels that do not overlap")
        return MappingProxyType(labels)

    def _entries(self, place: Place) -> dict[str, Place]:
        if not isinstance(place.value, dict):
            raise place.fail("expected a mapping of labels to numbers, such as {GOOD: 1, BAD: 0}")
        entries: dict[str, Place] = {}
        for label, value in place.value.items():
            if isinstance(label, bool):
                raise place.fail("YAML reads an unquoted YES or NO as true or false; quote the label")
            name = str(label)
            entries[name] = Place(value, place.file, f"{place.path}.{name}", place.error)
        return entries

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "minProperties": 2, "additionalProperties": Number().schema()}


@dataclass(frozen=True, slots=True)
class JudgedPart:
    """One question to the judge.

    Attributes:
        rubric: The instructions.
        labels: Label -> value; None: those of the whole scorer.
        reason: The judge gives its reasons first; None: as the whole scorer says.
    """

    rubric: Rubric
    labels: Mapping[str, float] | None = None
    reason: bool | None = None


@dataclass(frozen=True, slots=True)
class _PartsShape:
    """Name -> rubric, or ``{rubric: ..., labels: ..., reason: ...}``."""

    rubric: RubricShape

    def __call__(self, place: Place) -> Mapping[str, JudgedPart]:
        parts: dict[str, JudgedPart] = {}
        for name, entry in place.items():
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) or name in ("min", "max"):
                raise entry.fail(f"{name!r} is not a name for a formula; use letters, digits and '_'")
            is_table = isinstance(entry.value, dict) and "field" not in entry.value
            parts[name] = JudgedPart(**self._table()(entry)) if is_table else JudgedPart(self.rubric(entry))
        if not parts:
            raise place.fail("expected at least one part")
        return MappingProxyType(parts)

    def _table(self) -> Table:
        return Table(
            {
                "rubric": Key(self.rubric, "Instructions for the judge.", required=True),
                "labels": Key(_LabelsShape(), "Label: value; absent: the scorer's."),
                "reason": Key(Flag(), "Reasons first, the label on the last line; absent: the scorer's."),
            }
        )

    def schema(self) -> dict[str, Any]:
        part = {"anyOf": [self.rubric.schema(), self._table().schema()]}
        return {"type": "object", "minProperties": 1, "additionalProperties": part}


@dataclass(frozen=True, slots=True)
class _FormulaShape:
    """Arithmetic over the parts."""

    def __call__(self, place: Place) -> str:
        formula = place.text()
        try:
            parsed(formula)
        except TrustLLMError as e:
            raise place.fail(str(e)) from None
        return formula

    def schema(self) -> dict[str, Any]:
        return Text().schema()


def _rubric_shape(scope: Scope) -> RubricShape:
    return RubricShape(scope.folder)


def _parts_shape(scope: Scope) -> _PartsShape:
    return _PartsShape(RubricShape(scope.folder))


# --- the scorer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnJudge:
    """What the judge makes of the response by a rubric, as the value of the label that it gives.

    With ``parts``, the judge is asked several questions, and a formula makes one value of theirs; each is a sub-metric
    ``{part=NAME}``. A response without a readable verdict is unscored.

    Attributes:
        rubric: The instructions: a file, a text, or ``{field: NAME}`` of the row.
        labels: Label -> value.
        met_at: Value from which the target is met; None: the greatest one.
        reason: The judge gives its reasons first; only the label alone on the last line counts.
        parts: Name -> question, instead of a rubric.
        formula: Of the parts' values; None: their mean.
    """

    rubric: Rubric | None = field(default=None, metadata=shaped(_rubric_shape))
    labels: Mapping[str, float] = field(default_factory=lambda: _YES_OR_NO, metadata=shaped(lambda _: _LabelsShape()))
    met_at: float | None = None
    reason: bool = False
    parts: Mapping[str, JudgedPart] | None = field(default=None, metadata=shaped(_parts_shape))
    formula: str | None = field(default=None, metadata=shaped(lambda _: _FormulaShape()))
    roles: ClassVar[tuple[Role, ...]] = ("judge",)
    main: ClassVar[str] = "rubric"

    def __post_init__(self) -> None:
        if (self.rubric is None) == (self.parts is None):
            raise ValueError("'judge' needs either 'rubric' or 'parts'")
        if self.parts is None:
            if self.formula is not None:
                raise ValueError("'formula' is about 'parts'; there are none")
        else:
            self._check_parts(self.parts)
        least, greatest = self._limits()
        if self.met_at is not None and not least < self.met_at <= greatest:
            raise ValueError(f"'met_at' is {self.met_at:g}, but values are from {least:g} to {greatest:g}")

    def _check_parts(self, parts: Mapping[str, JudgedPart]) -> None:
        for name, part in parts.items():
            values = (part.labels or self.labels).values()
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"the labels of part {name!r} have values outside [0, 1]; scale them")
        unknown = sorted(names_in(self._formula) - set(parts))
        if unknown:
            raise ValueError(f"'formula' names {unknown[0]!r}; the parts are {', '.join(parts)}")

    @property
    def _formula(self) -> str:
        if self.formula is not None:
            return self.formula
        names = tuple(self.parts or ())
        return f"({' + '.join(names)}) / {len(names)}"

    def _limits(self) -> tuple[float, float]:
        """Return the least and the greatest value that the labels can lead to."""
        if self.parts is None:
            return min(self.labels.values()), max(self.labels.values())
        choices = [(name, tuple((part.labels or self.labels).values())) for name, part in self.parts.items()]
        return limits(self._formula, tuple(choices))

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The labels of the only question; None with parts."""
        if self.parts is not None:
            return None
        return Vocabulary(tuple(self.labels), last_line=self.reason)

    @property
    def counted(self) -> str | None:
        """The label whose share the mean score is: the only one with the value 1, if all others have the value 0."""
        ones = [label for label, value in self.labels.items() if value == 1]
        others = {value for value in self.labels.values() if value != 1}
        if self.parts is not None or len(ones) != 1 or others != {0}:
            return None
        return ones[0]

    @property
    def sub_scores(self) -> SubScores | None:
        """The parts."""
        return None if self.parts is None else SubScores(PART, tuple(self.parts))

    def part(self, name: str) -> OwnJudge | None:
        """Return the scorer that asks the question of one part alone; None if there is none of this name."""
        part = (self.parts or {}).get(name)
        if part is None:
            return None
        reason = self.reason if part.reason is None else part.reason
        return OwnJudge(part.rubric, part.labels or self.labels, reason=reason)

    def check_sample(self, sample: Sample) -> None:
        """Refuse a row that lacks a field of a rubric."""
        for _, judge in self._questions():
            judge._prompt(sample, "")

    def expected(self, sample: Sample) -> str:
        """Return the labels that meet the target, or the least value."""
        least = self._least()
        if self.parts is None:
            return " or ".join(label for label, value in self.labels.items() if value >= least)
        return f"at least {least:g}"

    def score(self, sample: Sample, replies: Sequence[Response]) -> ScoreAfterQuestions:
        """Ask the judge; a missing response is unscored."""
        text = replies[0].text
        nothing = why_missing(text)
        if text is None or nothing is not None:
            return Score.none(nothing or "")
        judges = self._questions()
        verdicts = yield [judge._question(sample, text) for _, judge in judges]
        labels: dict[str, str] = {}
        values: dict[str, float] = {}
        for (name, judge), verdict in zip(judges, verdicts, strict=True):
            label = judge._vocabulary.read(verdict)
            if label is None:
                part = f"{name}: " if name else ""
                return Score.none(part + why_unjudged(verdict, judge._vocabulary))
            labels[name] = label
            values[name] = judge.labels[label]
        if self.parts is None:
            return self._scored(values[""], labels[""], {})
        observed = {f"{PART}.{name}": value for name, value in values.items()}
        answer = ", ".join(f"{name}: {label}" for name, label in labels.items())
        return self._scored(evaluate(self._formula, values), answer, observed)

    def _scored(self, value: float, answer: str, observed: Mapping[str, Any]) -> Score:
        # (0.1 + 0.2) / 0.3 is a little more than 1: sums of decimals are not exact
        return Score(value, value >= self._least() - 1e-9, answer, observed=observed)

    def _least(self) -> float:
        return self._limits()[1] if self.met_at is None else self.met_at

    def _questions(self) -> list[tuple[str, OwnJudge]]:
        """Return every question as (part, judge); without parts the scorer itself, under an empty name."""
        if self.parts is None:
            return [("", self)]
        judges = []
        for name in self.parts:
            judge = self.part(name)
            assert judge is not None  # noqa: S101 - the name is one of the parts
            judges.append((name, judge))
        return judges

    @property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(tuple(self.labels), last_line=self.reason)

    def _prompt(self, sample: Sample, text: str) -> str:
        assert self.rubric is not None  # noqa: S101 - only a judge with parts has none
        return judge_prompt(self.rubric, sample, text, self._vocabulary)

    def _question(self, sample: Sample, text: str) -> Question:
        prompt = self._prompt(sample, text)
        return Question(
            "judge",
            (("user", prompt),),
            retry=(("user", reminder(prompt, self._vocabulary)),),
            generation=_REASONED if self.reason else VERDICT,
            label=self._vocabulary.read,
        )
