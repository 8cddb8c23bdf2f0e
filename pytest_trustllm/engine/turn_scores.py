"""The scores of a conversation's turns to the score of the conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pytest_trustllm.suites.talks import ScoredTurns
from pytest_trustllm.types import Score


def score_of_turns(scores: Sequence[Score], rule: ScoredTurns) -> Score:
    """Return the score of a conversation: that of the turn which decides it.

    ``last``: the last turn. ``every``: each turn must meet the target, so the first one that misses it decides.
    ``any``: one turn must meet it, so the first one that does decides. If no turn decides, the last one does. A turn
    that cannot be scored leaves the conversation unscored unless another one decides: nobody knows what it would be.
    Turns that the task does not apply to are left out.

    Args:
        scores: Of the scored turns in order, at least one; for ``last`` that of the last turn alone.
        rule: Which turns count.
    """
    if rule == "last" or len(scores) == 1:
        return scores[-1]
    concerned = [number for number, score in enumerate(scores) if score.applies]
    if not concerned:
        return scores[-1]
    for number in concerned:
        score = scores[number]
        if score.value is not None and score.met == (rule == "any"):
            return _named(score, number, len(scores))
    for number in concerned:
        if scores[number].value is None:
            return _named(scores[number], number, len(scores))
    return _named(scores[concerned[-1]], concerned[-1], len(scores))


def _named(score: Score, number: int, count: int) -> Score:
    """Return a score that says of which turn it is."""
    where = f"turn {number + 1} of {count}"
    if score.value is None:
        return dataclasses.replace(score, reason=f"{where}: {score.reason}")
    return dataclasses.replace(score, answer=where if score.answer is None else f"{where}: {score.answer}")
