"""What an answer on a model's card is made of: facts that can be told by their form, and words that say nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+")
_OF_ANY_MODEL = (
    "recent recently latest current up to date various several many some diverse different multiple other etc mix "
    "mixed mixture public publicly available open source private internal confidential online standard usual default "
    "yes as a an the and of from by on in at for with very all kinds types high quality curated data set sets dataset "
    "datasets source sources text texts web internet language languages hardware gpu gpus benchmark benchmarks"
)
_WHOEVER_MADE_IT = "us our ours we team teams author authors researchers engineers experts developer developers company"
_ELSEWHERE = (
    "see refer check visit read cf please somewhere elsewhere website webpage site page paper technical report blog "
    "post docs documentation repo repository github link license licence file terms above below here more details "
    "information official upon request contact ask"
)
_EMPTY_WORDS = frozenset(f"{_OF_ANY_MODEL} {_WHOEVER_MADE_IT} {_ELSEWHERE}".split())
"""Whoever answers with these words alone says nothing about this model, as in 'recent' and 'see our website'."""
_LICENCES = (
    "mit|isc|bsd|apache|[al]?gpl|mpl|epl|eupl|afl|ms-pl|zlib|unlicense|wtfpl|ncsa|gfdl|postgresql|cc0|cc[- ]by"
    "|creative commons|public domain|odbl|odc|pddl|cdla|open ?rail|proprietary|gemma|llama ?\\d"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A kind of fact that can be told by its form.

    Attributes:
        missing: What to say where there is none.
        patterns: Any of them tells it.
    """

    missing: str
    patterns: tuple[re.Pattern[str], ...]

    def is_in(self, text: str) -> bool:
        """Return whether a text has such a fact."""
        return any(pattern.search(text) for pattern in self.patterns)


FACTS: Mapping[str, Fact] = {
    "year": Fact("no date or year", (re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)"),)),
    "number": Fact("no number", (re.compile(r"\d"),)),
    "address": Fact(
        "no address and no link",
        (
            re.compile(r"[\w.+-]@[\w-]{1,63}\.[A-Za-z]{2}"),
            re.compile(r"https?://\w"),
            re.compile(r"\w\.(?:com|org|net|io|ai|eu|dev)\b"),
        ),
    ),
    "licence": Fact(
        "no licence by name",
        (
            re.compile(rf"\b(?:{_LICENCES})(?![a-z])", re.IGNORECASE),
            # an identifier that stands alone, as in the head of a card
            re.compile(r"^(?!non-?commercial)[\w.+]*[-\d][\w.+-]*$", re.MULTILINE | re.IGNORECASE),
            # a name before the word, such as Qwen Research License
            re.compile(
                r"\b(?!(?:The|Our|An?|This|See|Model|Open|Source|Same|Its|Under|Free)\b)[A-Z][\w.-]{1,40} "
                r"(?:[A-Z\d][\w.-]{0,40} ){0,4}(?:[Ll]icen[cs]e|[Aa]greement)\b"
            ),
            re.compile(r"https?://\S{0,200}licen[cs]e", re.IGNORECASE),
        ),
    ),
}


def says_nothing(answer: str) -> bool:
    """Return whether an answer consists of words that are true of any model, or of no word at all."""
    return _EMPTY_WORDS.issuperset(_WORD.findall(answer.casefold()))
