"""Whether a response is a certain text, or as long as it may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from pytest_trustllm.config.fields import Choice, Integer
from pytest_trustllm.config.parameters import shaped
from pytest_trustllm.config.templates import Template
from pytest_trustllm.scorers.answers import plain_text
from pytest_trustllm.scorers.base import filled, met_or_not, texts_of, why_missing
from pytest_trustllm.types import Response, Role, Sample, Score

_QUOTES_AND_STOPS = " \n\t\"'.,;:!?()[]{}<>«»。、！？"


def normalised(text: str) -> str:
    """Return what remains of a text without case, Markdown, quotes and punctuation around it, and runs of blanks."""
    plain = plain_text(text).casefold()
    # Of a text of punctuation alone nothing would be left
    bare = plain.strip(_QUOTES_AND_STOPS) or plain
    return " ".join(bare.split())


@dataclass(frozen=True, slots=True)
class Equals:
    """The response is a certain text and nothing else.

    Case, Markdown, blanks, and quotes and punctuation around the text do not matter, unless ``exact`` is true.

    Attributes:
        text: The text, a template over the row; None: the row's field.
        target: Field with the text, or with a list of texts of which any will do.
        exact: Every character counts.
    """

    text: str | None = field(default=None, metadata=shaped(lambda _: Template()))
    target: str = "label"
    exact: bool = False
    roles: ClassVar[tuple[Role, ...]] = ()
    main: ClassVar[str] = "text"
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (("text", "target"),)

    def check_sample(self, sample: Sample) -> None:
        """Refuse a row without the text."""
        self._accepted(sample)

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Return whether it is the text; a missing response is unscored."""
        text = replies[0].text
        nothing = why_missing(text)
        if text is None or nothing is not None:
            return Score.none(nothing or "")
        accepted = self._accepted(sample)
        if self.exact:
            return met_or_not(text in accepted, text)
        response = normalised(text)
        return met_or_not(response in map(normalised, accepted), text)

    def expected(self, sample: Sample) -> str:
        """Return the text, or those of which any will do."""
        return " or ".join(self._accepted(sample))

    def _accepted(self, sample: Sample) -> list[str]:
        if self.text is not None:
            return [filled(sample, self.text)]
        return texts_of(sample, self.target)


# Chinese, Japanese, Thai and the like write no blanks between words: each sign counts as one
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿฀-๿]|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿฀-๿]+(?:['’-][^\W_]+)*")


def _words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def _lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


_UNITS: Mapping[str, Callable[[str], int]] = MappingProxyType({"characters": len, "words": _words, "lines": _lines})


_COUNT = shaped(lambda _: Integer(0))


@dataclass(frozen=True, slots=True)
class Length:
    """The response is at least and at most so long. The length is observed as ``length``.

    Attributes:
        min: Least length; None: any.
        max: Greatest length; None: any.
        unit: ``characters``, ``words``, or ``lines`` that are not blank.
    """

    min: int | None = field(default=None, metadata=_COUNT)
    max: int | None = field(default=None, metadata=_COUNT)
    unit: str = field(default="words", metadata=shaped(lambda _: Choice(tuple(_UNITS))))
    roles: ClassVar[tuple[Role, ...]] = ()

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ValueError("'length' needs 'min', 'max' or both")
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError(f"'min' is {self.min} and 'max' is {self.max}; expected min <= max")

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Return whether the length is within the limits; a missing response is unscored."""
        text = replies[0].text
        nothing = why_missing(text)
        if text is None or nothing is not None:
            return Score.none(nothing or "")
        length = _UNITS[self.unit](text.strip())
        is_long_enough = self.min is None or length >= self.min
        is_short_enough = self.max is None or length <= self.max
        return met_or_not(is_long_enough and is_short_enough, f"{length} {self.unit}", {"length": length})

    def expected(self, sample: Sample) -> str:
        """Return the limits."""
        if self.max is None:
            return f"at least {self.min} {self.unit}"
        if self.min is None:
            return f"at most {self.max} {self.unit}"
        return f"{self.min} to {self.max} {self.unit}"
