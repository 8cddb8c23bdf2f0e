"""Tasks that mix data sets with different rules: the row's ``source`` says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pytest_trustllm.records import Response, Role, Sample, Score
from pytest_trustllm.scorers.base import Asking, field
from pytest_trustllm.scorers.choice import FirstNumber, OptionLetter
from pytest_trustllm.scorers.judged import AnswerMatch
from pytest_trustllm.scorers.label import Contains, YesOrNo
from pytest_trustllm.scorers.partly_judged import Diagnosis


@dataclass(frozen=True, slots=True)
class ClosedBookAnswer:
    """An answer from memory: CODAH's rows by their number, all others by the judge.

    Attributes:
        rubric: See :class:`~pytest_trustllm.scorers.judged.AnswerMatch`.
    """

    rubric: Path
    roles: ClassVar[tuple[Role, ...]] = ("judge",)

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score | Asking:
        """Read the number or ask the judge."""
        if field(sample, "source") == "codah":
            return FirstNumber().score(sample, replies)
        return AnswerMatch(self.rubric).score(sample, replies)


@dataclass(frozen=True, slots=True)
class HallucinationAnswer:
    """Multiple choice (``mc``) by the option's letter, HaluEval's rows by yes or no."""

    roles: ClassVar[tuple[Role, ...]] = ()

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Read the letter or the word."""
        return (OptionLetter() if field(sample, "source") == "mc" else YesOrNo()).score(sample, replies)


@dataclass(frozen=True, slots=True)
class ShiftedAnswer:
    """A label outside of the training distribution: DDXPlus by its diagnosis, Flipkart by its sentiment.

    Attributes:
        rubric: See :class:`~pytest_trustllm.scorers.partly_judged.Diagnosis`.
    """

    rubric: Path
    roles: ClassVar[tuple[Role, ...]] = ("judge",)

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score | Asking:
        """Look for the label or the diagnosis."""
        if field(sample, "source") == "ddxplus":
            return Diagnosis(self.rubric).score(sample, replies)
        return Contains().score(sample, replies)
