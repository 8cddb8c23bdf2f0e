"""Folding: what may differ between two texts that mean the same."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from pytest_trustllm.scorers.folding import folded

BREAKS = "\n\r\t\x0b\x0c\x1c\x1d\x1e\x85"


def test_every_invisible_sign_of_unicode_goes_and_line_breaks_stay() -> None:
    signs = [chr(code) for code in range(sys.maxunicode + 1)]
    invisible = [sign for sign in signs if unicodedata.category(sign) in ("Cc", "Cf") and sign not in BREAKS]
    assert len(invisible) > 200
    assert [sign for sign in invisible if folded(f"a{sign}b") != "ab"] == []
    assert [sign for sign in BREAKS if folded(f"a{sign}b") != f"a{sign}b"] == []
    seen = [sign for sign in signs if unicodedata.category(sign) not in ("Cc", "Cf", "Cn", "Cs")]
    assert [sign for sign in seen if not folded(sign)] == []


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Ｂ", "B"),
        ("anti\u2011stereotype", "anti-stereotype"),
        ("isn’t", "isn't"),
        ("“yes”", '"yes"'),
        ("a — b", "a — b"),
    ],
)
def test_width_hyphens_and_quotes_are_one(text: str, same: str) -> None:
    assert folded(text) == same
