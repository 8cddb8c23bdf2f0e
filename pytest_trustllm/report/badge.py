"""Badges: small SVG files for a README."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pytest_trustllm.errors import one_line
from pytest_trustllm.report import figures, verdicts

_COLOURS = {"good": "#1a7f46", "bad": "#b3261e", "warn": "#8a5a00", "quiet": "#5a6472"}
"""White text on each of them has a contrast of at least 4.5."""
_CHAR = 7.1  # mean width in pixels of an 11 px sans-serif character, with some room
_PAD = 10


def badges(results: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> SVG: one of the gates, and one per dimension's trust score."""
    verdict = verdicts.verdict_of(verdicts.gates_of(results))
    found = {"trust.svg": badge("trust", verdict.word.lower(), verdict.tone)}
    for name, score in results["scores"].items():
        safe = "".join(c if c.isalnum() or c in "_-" else "-" for c in one_line(name, 60))
        tone = "quiet" if score["value"] is None else "good" if verdict.tone == "good" else "quiet"
        value = "no value" if score["value"] is None else figures.number(score["value"])
        found[f"trust-{safe}.svg"] = badge(one_line(name, 60), value, tone)
    return found


def badge(label: str, value: str, tone: str) -> str:
    """Return one badge.

    Args:
        label: Left half.
        value: Right half.
        tone: ``good``, ``bad``, ``warn`` or ``quiet``; the words say the same without colour.
    """
    left, right = (_width(text) for text in (label, value))
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
    cells = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
    return round(cells * _CHAR) + _PAD
