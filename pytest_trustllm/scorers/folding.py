"""Folds away differences between characters that mean the same, for every reader of answers and verdicts."""

from __future__ import annotations

import re
import unicodedata

# All format characters of Unicode (category Cf), and the control characters (Cc) that do not break a line
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f"
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f]"
)
# Characters that mean the same. En and em dashes are not here: between words they are punctuation, not hyphens.
_HYPHENS = "\u2010\u2011\u2012\u2212\u058a\u1400\u1806\ufe63\uff0d"
_APOSTROPHES = "\u2018\u2019\u201b\u02bc\u2032\u00b4"
_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033"
_ALIKE = str.maketrans(
    {
        **dict.fromkeys(_HYPHENS, "-"),
        **dict.fromkeys(_APOSTROPHES, "'"),
        **dict.fromkeys(_QUOTES, '"'),
    }
)

_LONGEST_GAP = 100
_LONG_GAP = re.compile(rf"\s{{{_LONGEST_GAP},}}")


def folded(text: str) -> str:
    """Return a text with letters of one width, one kind of hyphen and quote, and no invisible characters.

    Of more than a hundred blanks and line breaks in a row, a hundred are left: a model that repeats them for ever would
    hold up every pattern that begins or ends with some. No pattern here looks further than that.
    """
    normal = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).translate(_ALIKE)
    return without_long_gaps(normal)


def without_long_gaps(text: str) -> str:
    """Return a text with at most a hundred blanks and line breaks in a row."""
    return _LONG_GAP.sub(lambda gap: gap[0][:_LONGEST_GAP], text)
