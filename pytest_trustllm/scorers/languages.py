"""Whether a response is in the language that was asked for."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

from pytest_trustllm.config.fields import Choice
from pytest_trustllm.config.parameters import shaped
from pytest_trustllm.errors import ScorerError, TrustLLMError, one_line, suggest
from pytest_trustllm.scorers.base import label_of, met_or_not, why_missing
from pytest_trustllm.types import Response, Role, Sample, Score

_MISSING = "'language' needs the package py3langid; pip install 'pytest-trustllm[scorers]'"
_SURE = 0.5
"""Probability from which a language counts as recognised: more likely than all others together."""
# What the library tells apart and a suite does not: Cantonese and Wu are written Chinese, and so on
_VARIETIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ar": ("arz", "ary"),
        "en": ("pcm",),
        "fa": ("prs",),
        "no": ("nn", "nb"),
        "zh": ("yue", "wuu"),
    }
)
_NOT_LANGUAGE = "zxx"
"""What the library calls numbers, markup and the like."""
_CODES = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr ht hu hy id ig"
    " is it ja jv ka kk km kn ko ku ky la lg ln lo lt lv mg mk ml mn mr ms mt my ne nl no oc om or pa pl ps pt qu ro ru"
    " rw sa si sk sl so sq sr sv sw ta te tg th tk tl tr tt ug uk ur uz vi xh yo zh zu"
)
LANGUAGES = frozenset(re.findall(r"\w+", _CODES))
"""The languages with a two-letter code that the library recognises. Its model takes seconds to load, so that a suite is
read without it."""
# Code, links and addresses are in no language
_NO_LANGUAGE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|[^\s@]{1,64}@[^\s@]{1,255}\.\w+", re.S)


@cache
def _identifier() -> Any:
    """Return what recognises languages.

    Raises:
        TrustLLMError: The library ``py3langid`` is missing.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise TrustLLMError(_MISSING) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def probabilities(text: str) -> dict[str, float]:
    """Return language -> probability that a text is in it, the likeliest first.

    Raises:
        TrustLLMError: The library ``py3langid`` is missing.
    """
    prose = _NO_LANGUAGE.sub(" ", text)
    main_language = {variety: language for language, varieties in _VARIETIES.items() for variety in varieties}
    totals: dict[str, float] = {}
    for code, probability in _identifier().rank(prose):
        language = main_language.get(code, code)
        totals[language] = totals.get(language, 0.0) + float(probability)
    return dict(sorted(totals.items(), key=lambda entry: (-entry[1], entry[0])))


@dataclass(frozen=True, slots=True)
class AnswerLanguage:
    """The response is in a certain language.

    A response too short or too mixed to tell is unscored. Code and links do not count. Its language is observed as
    ``language``.

    Attributes:
        language: ISO 639 code such as ``de``; None: the row's field.
        target: Field with the code.
    """

    language: str | None = field(default=None, metadata=shaped(lambda _: Choice(tuple(sorted(LANGUAGES)))))
    target: str = "language"
    roles: ClassVar[tuple[Role, ...]] = ()
    main: ClassVar[str] = "language"
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (("language", "target"),)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("py3langid") is None:
            raise TrustLLMError(_MISSING)

    def check_sample(self, sample: Sample) -> None:
        """Refuse a row without a known language."""
        code = self._wanted(sample)
        if code not in LANGUAGES:
            where = f"{sample.task}[{sample.id}]: the row's {self.target!r}"
            raise ScorerError(f"{where} is {one_line(code, 20)!r}, which is no language{suggest(code, LANGUAGES)}")

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Recognise the language; a missing response is unscored."""
        text = replies[0].text
        nothing = why_missing(text)
        if text is None or nothing is not None:
            return Score.none(nothing or "")
        [(likeliest, probability), *_] = probabilities(text).items()
        if probability < _SURE or likeliest == _NOT_LANGUAGE:
            return Score.none("its language cannot be told")
        return met_or_not(likeliest == self._wanted(sample), likeliest, {"language": likeliest})

    def expected(self, sample: Sample) -> str:
        """Return the language."""
        return self._wanted(sample)

    def _wanted(self, sample: Sample) -> str:
        if self.language is not None:
            return self.language
        return label_of(sample, self.target)
