"""Badges: small SVG files for a README."""

from __future__ import annotations

import unicodedata
from xml.sax.saxutils import escape, quoteattr

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report import caveats, formatting, gate_verdicts

_COLOURS = {"good": "#1a7f46", "bad": "#b3261e", "warn": "#8a5a00", "quiet": "#5a6472"}
"""White text on each of them has a contrast of at least 4.5."""
_CHAR = 7.1  # mean width in pixels of an 11 px sans-serif character, with some room
_PAD = 10


def badges(results: Results) -> dict[str, str]:
    """Return file name -> SVG: a badge for the gates, and one for the trust score of each dimension."""
    verdict = gate_verdicts.verdict_of(gate_verdicts.gates_of(results), caveats.left_out(results))
    files = {"trust.svg": badge("trust", verdict.word.lower(), verdict.tone)}
    for dimension, score in results["scores"].items():
        label = one_line(dimension, 60)
        tone = "quiet"
        value = "no value"
        if score["value"] is not None:
            value = formatting.number(score["value"])
            # a score alone is neither good nor bad: only gates decide that
            if verdict.tone == "good":
                tone = "good"
        files[f"trust-{_stem(label)}.svg"] = badge(label, value, tone)
    return files


def _stem(label: str) -> str:
    """Return a label with punctuation replaced, for a file name."""
    stem = ""
    for char in label:
        stem += char if char.isalnum() or char in "_-" else "-"
    return stem


def badge(label: str, value: str, tone: str) -> str:
    """Return one badge.

    Args:
        label: Left half.
        value: Right half.
        tone: ``good``, ``bad``, ``warn`` or ``quiet``. The words say the same without the colour.
    """
    left = _width(label)
    right = _width(value)
    title = f"{label}: {value}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f"aria-label={quoteattr(title)}><title>{escape(title)}</title>"
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#343b45"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{_COLOURS[tone]}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:g}" y="14">{escape(label)}</text>'
        f'<text x="{left + right / 2:g}" y="14">{escape(value)}</text></g></svg>\n'
    )


def _width(text: str) -> int:
    # East Asian wide characters take the space of two
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return round((len(text) + wide) * _CHAR) + _PAD
