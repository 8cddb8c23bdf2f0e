"""What was found out about a saved run, and whether its model answers the same again."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

from pytest_trustllm.scorers.base import required_field, why_missing
from pytest_trustllm.types import Response, Role, Sample, Score

_MOST_WORDS = 2_000
"""Words of an answer that are compared one by one: the comparison takes the square of their number."""


@dataclass(frozen=True, slots=True)
class Verified:
    """1 if what a row is about holds for a saved run, 0 if not; unscored if that is not known. Nobody is asked.

    The row has ``holds`` (true, false or null), ``found`` (one line) and, if the question does not arise,
    ``applies: false``.
    """

    roles: ClassVar[tuple[Role, ...]] = ()
    asks: ClassVar[bool] = False

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Return what was found out."""
        holds = required_field(sample, "holds")
        found = str(required_field(sample, "found"))
        if not sample.row.get("applies", True):
            return Score.not_applicable(found)
        if holds is None:
            return Score.none(found)
        return Score(float(holds), bool(holds), found)

    def expected(self, sample: Sample) -> str:
        """Return what is to hold."""
        return str(sample.row.get("title", "holds"))


@dataclass(frozen=True, slots=True)
class SameAnswer:
    """1 if the model gives the answers of a saved run again, character by character; 0 with the drift if it does not.

    The row has ``responses``, the earlier answers. Reasoning before an answer is not compared.
    """

    roles: ClassVar[tuple[Role, ...]] = ()

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Compare the answers."""
        earlier: Sequence[str] = required_field(sample, "responses")
        drifts = []
        for before, reply in zip(earlier, replies, strict=True):
            nothing = why_missing(reply.text)
            if reply.text is None or nothing is not None:
                return Score.none(nothing or "no response")
            if reply.text != before:
                drifts.append(_drift(before, reply.text))
        if drifts:
            return Score(0.0, False, "; ".join(drifts))
        return Score(1.0, True, "the same")

    def expected(self, sample: Sample) -> str:
        """Return the earlier answers."""
        return "\n\n".join(str(response) for response in sample.row.get("responses", ()))


def _drift(before: str, now: str) -> str:
    """Return how two answers differ, in one line without any of their text."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False)))
    words, words_now = before.split()[:_MOST_WORDS], now.split()[:_MOST_WORDS]
    shared = difflib.SequenceMatcher(None, words, words_now, autojunk=False).ratio()
    return f"drift: differs from character {same + 1} on; {shared:.0%} of the words are the same"
