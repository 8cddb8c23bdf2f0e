"""Regular expressions that a response may meet, with a limit of time for every search.

Patterns are those of the library ``regex``, which knows all that Python's ``re`` does. Unlike ``re`` it can give up:
some patterns take years on a text that a model, or who attacks it, may write ("(a+)+$" on many a's).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Text
from pytest_trustllm.config.parameters import shaped
from pytest_trustllm.config.time_limit import time_limit
from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.scorers.base import met_or_not, why_missing
from pytest_trustllm.types import Response, Role, Sample, Score

if TYPE_CHECKING:
    import regex

COMPILING = 10.0
"""Seconds for compiling a pattern."""
SECONDS = 1.0
"""For one search. The library looks at the clock now and then, so that a search may take about a second more."""


class PatternTimeout(Exception):
    """A search took longer than its limit: nobody knows whether the pattern occurs."""


@lru_cache(256)
def compiled_pattern(pattern: str) -> regex.Pattern[str]:
    """Return a compiled pattern.

    Raises:
        TrustLLMError: It is not a pattern, or the library ``regex`` is missing.
    """
    try:
        import regex
    except ImportError:
        raise TrustLLMError("patterns need the package regex; pip install 'pytest-trustllm[scorers]'") from None
    try:
        # A suite may be somebody else's: "(a{1000}){1000}" takes long to compile.
        with time_limit(TrustLLMError(f"the regular expression was not compiled within {COMPILING:g} s"), COMPILING):
            # Version 0 reads a pattern as Python's re does; version 1 has set operations, as in [a&&b].
            return regex.compile(pattern, regex.VERSION0)
    except (regex.error, RecursionError, OverflowError, ValueError) as e:
        raise TrustLLMError(f"not a regular expression: {one_line(e, 120)}") from None


def search(pattern: str, text: str, *, whole: bool = False, seconds: float = SECONDS) -> regex.Match[str] | None:
    """Return the first match of a pattern, or of the pattern on the whole text.

    Raises:
        PatternTimeout: The search took longer than that.
        TrustLLMError: It is not a pattern.
    """
    compiled = compiled_pattern(pattern)
    find = compiled.fullmatch if whole else compiled.search
    try:
        return find(text, timeout=seconds)
    except TimeoutError:
        raise PatternTimeout(f"the pattern {one_line(pattern, 60)!r} took longer than {seconds:g} s") from None
    except MemoryError:
        raise PatternTimeout(f"the pattern {one_line(pattern, 60)!r} needs too much memory") from None


@dataclass(frozen=True, slots=True)
class PatternShape:
    """A regular expression that compiles."""

    def __call__(self, place: Place) -> str:
        """Return it."""
        pattern = place.text(blank=True)
        try:
            compiled_pattern(pattern)
        except TrustLLMError as e:
            raise place.fail(str(e)) from None
        return pattern

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {**Text(blank=True).schema(), "format": "regex"}


@dataclass(frozen=True, slots=True)
class RegexMatch:
    """The response matches a regular expression, or does not if ``forbid`` is true.

    The response is searched as it is, with its Markdown. A search that takes longer than a second leaves the sample
    unscored.

    Attributes:
        pattern: As Python writes it; ``(?i)`` at its start ignores case, ``(?s)`` lets a dot match line breaks too.
        full: It must match the whole response, without the blanks around it.
        forbid: The target is that it does not match.
        case: Upper and lower case matter.
    """

    pattern: str = field(metadata=shaped(lambda _: PatternShape()))
    full: bool = False
    forbid: bool = False
    case: bool = True
    roles: ClassVar[tuple[Role, ...]] = ()
    main: ClassVar[str] = "pattern"

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Search the response; a missing one is unscored."""
        text = replies[0].text
        nothing = why_missing(text)
        if text is None or nothing is not None:
            return Score.none(nothing or "")
        pattern = self.pattern if self.case else f"(?i){self.pattern}"
        try:
            match = search(pattern, text.strip() if self.full else text, whole=self.full)
        except PatternTimeout as e:
            return Score.none(str(e))
        answer = "no match" if match is None else match.group() or "an empty match"
        return met_or_not((match is None) == self.forbid, answer)

    def expected(self, sample: Sample) -> str:
        """Return the pattern, and whether it is to match."""
        if self.forbid:
            return f"no match of {self.pattern}"
        return f"a match of {self.pattern}"
