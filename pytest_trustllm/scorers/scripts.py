"""In which script a text is written: all that can be told of its language without a library, and for certain."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

LATIN = "Latin"
SCRIPTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ar": ("Arabic",),
        "de": (LATIN,),
        "en": (LATIN,),
        "es": (LATIN,),
        "fr": (LATIN,),
        "hi": ("Devanagari",),
        "it": (LATIN,),
        "ja": ("Han", "Kana"),
        "ko": ("Hangul", "Han"),
        "pt": (LATIN,),
        "ru": ("Cyrillic",),
        "zh": ("Han",),
    }
)
"""The languages that label scorers and the refusal role read -> their scripts."""
_NAMES = MappingProxyType({"Cjk": "Han", "Hiragana": "Kana", "Katakana": "Kana", "Fullwidth": LATIN, "Kangxi": "Han"})
_MOST_LETTERS = 500


@lru_cache(4096)
def _script(letter: str) -> str:
    """Return the script of a letter, which is the first word of its name in Unicode."""
    first_word = unicodedata.name(letter, "").partition(" ")[0].capitalize()
    return _NAMES.get(first_word, first_word)


def main_script(text: str) -> str | None:
    """Return the script of more than half of a text's letters; None if there is none."""
    if text.isascii():  # nearly every response: there is nothing to look up
        return LATIN if any(map(str.isalpha, text)) else None
    letters = [sign for sign in text[: 2 * _MOST_LETTERS] if sign.isalpha()][:_MOST_LETTERS]
    if not letters:
        return None
    [(script, count)] = Counter(map(_script, letters)).most_common(1)
    return script if 2 * count > len(letters) else None


def unread_script(text: str, languages: Iterable[str]) -> str | None:
    """Return the script of a text that none of the languages is written in; None if one is, or if it is not plain.

    Args:
        text: The response.
        languages: Codes that :data:`SCRIPTS` has.
    """
    script = main_script(text)
    if script is None:
        return None
    known = {script for language in languages for script in SCRIPTS[language]}
    return None if script in known else script
