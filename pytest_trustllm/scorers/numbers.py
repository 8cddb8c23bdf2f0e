"""The number that a response gives as its answer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from pytest_trustllm.config.fields import Choice, Number
from pytest_trustllm.config.parameters import shaped
from pytest_trustllm.scorers.answers import Answer, Mention, in_final_answer, is_denied, plain_text, without_prompt
from pytest_trustllm.scorers.base import met_or_not, number_of, why_missing
from pytest_trustllm.scorers.options import prompt_of
from pytest_trustllm.types import Response, Role, Sample, Score

# More numbers than an answer needs; the answer is at the start or at the end
_MOST_NUMBERS = 400
_POINT, _COMMA = "point", "comma"
# The minus of "-5", but not of "10-20". A digit right after a letter or an underscore belongs to a name: "v2", "x_1".
_SIGN = r"(?<![\w.,])(?:(?<![)\]%])-)?"
_UNSIGNED = MappingProxyType(
    {
        _POINT: r"(?:\d{1,3}(?:[,\u202f\xa0']\d{3})+|\d{1,300})(?:\.\d{1,300})?|\.\d{1,300}",
        _COMMA: r"(?:\d{1,3}(?:[.\u202f\xa0']\d{3})+|\d{1,300})(?:,\d{1,300})?",
    }
)
_TIMES: Mapping[str, float] = MappingProxyType(
    {"thousand": 1e3, "k": 1e3, "million": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12}
)
_AFTER = rf"(?:e[-+]?\d{{1,3}}(?!\w)|\s?(?P<times>{'|'.join(_TIMES)})\b)?(?![\d])(?![.,]\d)"


def _pattern(decimal: str) -> re.Pattern[str]:
    return re.compile(rf"{_SIGN}[$€£]?(?P<number>{_UNSIGNED[decimal]}){_AFTER}", re.I)


_PATTERNS = MappingProxyType({decimal: _pattern(decimal) for decimal in _UNSIGNED})
# "#### 42", as the data set GSM8K ends its answers, and "The total is $42"
_ANNOUNCED = re.compile(
    r"(?:####|\b(?:answer|result|total|sum|solution)\b"
    r"(?:\s+(?:is|are|was|would be|equals|comes to|will be)\b|\s*[:=])+)"
    r"(?:\s+(?:also|about|exactly|simply|therefore|thus|now|the|a))*\s*:?[\s(\[{\"'$€£]*$",
    re.I,
)
_NEAR = 70
# "12 + 30 = 42"
_EQUALS = re.compile(r"=[\s$€£(\[{]*$")
_NOTHING_BUT_UNIT = re.compile(r"[^\d=]{0,40}$")


def numbers_in(text: str, decimal: str = _POINT) -> list[tuple[float, Mention]]:
    """Return the numbers of a text with their places, in order; of a very long text, the first and the last ones.

    Args:
        text: As :func:`~pytest_trustllm.scorers.answers.plain_text` returns it.
        decimal: What a number writes before its decimals: ``point`` or ``comma``.
    """
    numbers = []
    for match in _PATTERNS[decimal].finditer(text):
        value = _value(match, decimal)
        numbers.append((value, Mention(f"{value:g}", match.start(), match.end(), True)))
    if len(numbers) <= _MOST_NUMBERS:
        return numbers
    half = _MOST_NUMBERS // 2
    return numbers[:half] + numbers[-half:]


def _value(match: re.Match[str], decimal: str) -> float:
    digits = match["number"]
    if decimal == _COMMA:
        digits = re.sub(r"[.\u202f\xa0']", "", digits).replace(",", ".")
    else:
        digits = re.sub(r"[,\u202f\xa0']", "", digits)
    exponent = re.search(r"e([-+]?\d+)$", match.group(), re.I)
    if exponent is not None:
        digits += f"e{exponent[1]}"
    value = float(digits) * _TIMES.get((match["times"] or "").lower(), 1.0)
    return -value if "-" in match.group().partition(match["number"])[0] else value


def read_number(text: str, prompt: str = "", decimal: str = _POINT) -> tuple[float | None, Answer]:
    r"""Return the number that a response gives as its answer, and what was read, or why nothing was.

    The first of these places that has a number decides; if it has several, nothing is read:

    1. a final answer: ``\boxed{42}``, ``{"answer": 42}``, "Final answer: 42";
    2. a statement: "The answer is 42", "Total: 42", "#### 42";
    3. the whole response, if it has one number, however often;
    4. the last line, if it has one number, or ends in "= 42".

    Numbers that the response denies ("not 42") and those in a copy of the prompt do not count.

    Args:
        text: The response; not blank.
        prompt: What the model was asked.
        decimal: What a number writes before its decimals: ``point`` or ``comma``.
    """
    response = without_prompt(plain_text(text), prompt)
    numbers = [(value, place) for value, place in numbers_in(response, decimal) if not is_denied(response, place)]
    if not numbers:
        return None, Answer(None, "names no number")
    places = [place for _, place in numbers]
    final = set(in_final_answer(response, places))
    for chosen in (
        [number for number in numbers if number[1] in final],
        [
            number
            for number in numbers
            if _ANNOUNCED.search(response[max(0, number[1].start - _NEAR) : number[1].start])
        ],
        numbers if len(_distinct(numbers)) == 1 else [],
        _on_last_line(response, numbers),
    ):
        values = _distinct(chosen)
        if len(values) == 1:
            return values[0], Answer(f"{values[0]:g}")
        if values:
            return None, Answer(None, f"names {_listed(values)}")
    return None, Answer(None, f"names {_listed(_distinct(numbers))}")


def _is_announced(text: str, place: Mention) -> bool:
    before = text[max(0, place.start - _NEAR) : place.start]
    return _ANNOUNCED.search(before) is not None


def _distinct(numbers: Iterable[tuple[float, Mention]]) -> list[float]:
    return list(dict.fromkeys(value for value, _ in numbers))


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more numbers"


def _on_last_line(text: str, numbers: Sequence[tuple[float, Mention]]) -> list[tuple[float, Mention]]:
    start = text.rfind("\n") + 1
    on_line = [number for number in numbers if number[1].start >= start]
    if len(on_line) <= 1:
        return on_line
    last = on_line[-1][1]
    is_outcome = _EQUALS.search(text[start : last.start]) and _NOTHING_BUT_UNIT.match(text, last.end)
    return on_line[-1:] if is_outcome else []


_NOT_NEGATIVE = shaped(lambda _: Number(0))


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """The number that the response gives is the right one, within a tolerance. It is observed as ``number``.

    Attributes:
        value: The right number; None: the row's field.
        target: Field with the number.
        tolerance: How far the number may be off.
        relative: How far it may be off as a share of the right one.
        decimal: What the response writes before decimals, ``point`` ("1,234.5") or ``comma`` ("1.234,5").
    """

    value: float | None = None
    target: str = "label"
    tolerance: float = field(default=0.0, metadata=_NOT_NEGATIVE)
    relative: float = field(default=0.0, metadata=_NOT_NEGATIVE)
    decimal: str = field(default=_POINT, metadata=shaped(lambda _: Choice((_POINT, _COMMA))))
    roles: ClassVar[tuple[Role, ...]] = ()
    main: ClassVar[str] = "value"
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (("value", "target"),)

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"'value' is {self.value}, expected a finite number")

    def check_sample(self, sample: Sample) -> None:
        """Refuse a row without the number."""
        self._right(sample)

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Return right or wrong; no number, or several, is wrong; a missing response is unscored."""
        text = replies[0].text
        nothing = why_missing(text)
        if text is None or nothing is not None:
            return Score.none(nothing or "")
        right = self._right(sample)
        number, answer = read_number(text, prompt_of(sample), self.decimal)
        if number is None or not math.isfinite(number):
            return met_or_not(False, answer.why or answer.name)
        # Decimals are not exact in binary: 0.3 is within 0.1 of 0.2
        room = max(self.tolerance, self.relative * abs(right)) + 1e-9 * max(abs(right), abs(number))
        return met_or_not(abs(number - right) <= room, answer.name, {"number": number})

    def expected(self, sample: Sample) -> str:
        """Return the right number with its tolerance."""
        room = max(self.tolerance, self.relative * abs(self._right(sample)))
        return f"{self._right(sample):g} ± {room:g}" if room else f"{self._right(sample):g}"

    def _right(self, sample: Sample) -> float:
        if self.value is not None:
            return self.value
        return number_of(sample, self.target)
