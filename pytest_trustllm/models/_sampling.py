"""Choosing the next token of every row, by a rule that neither the batch nor the neighbours can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from pytest_trustllm.records import Request

_NEAR = 2.0
"""Two logits are nearly tied when they differ by at most this many units of rounding of the greater one.

Of 24 answers in bfloat16 that a batch of 64 changed, one unit had marked all and half a unit all but six.
"""


NOWHERE = -1
"""Token id of a choice that could not be made: among logits that are no numbers any token would be an accident."""


@dataclass(frozen=True, slots=True)
class Row:
    """A request ready to be computed.

    Attributes:
        number: Of the request.
        request: The request.
        ids: Token ids of the prompt, at least one.
        room: How many tokens the answer may have, at least one.
    """

    number: int
    request: Request
    ids: Sequence[int]
    room: int


class Draft:
    """An answer that is being written.

    Args:
        row: What it answers.

    Attributes:
        row: What it answers.
        tokens: Chosen so far.
        near_tie: A greedy choice was so close that other batches may round it the other way.
        seconds: Its share of the time spent on it.
    """

    __slots__ = ("_numbers", "near_tie", "row", "seconds", "temperature", "tokens")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.tokens: list[int] = []
        self.near_tie = False
        self.seconds = 0.0
        self.temperature = row.request.generation.temperature
        self._numbers = uniform(row.request.seed, row.room) if self.temperature > 0 else ()

    def number(self) -> float:
        """Return the uniform number of the next step; 0 past the end, where nobody looks at the token."""
        step = len(self.tokens)
        return float(self._numbers[step]) if step < len(self._numbers) else 0.0


def pick(logits: torch.Tensor, drafts: Sequence[Draft], rounding: float) -> torch.Tensor:
    """Return the next token of every draft: the likeliest, or one drawn with the draft's own uniform number.

    Args:
        logits: (drafts, vocabulary), float32.
        drafts: Their answers so far; greedy ones may be marked as near ties.
        rounding: Relative precision in which the logits were computed; 0: too fine to count near ties.

    Returns:
        (drafts,) token ids; ``NOWHERE`` where a logit is NaN or the likeliest is infinite.
    """
    if rounding:
        likeliest, where = logits.topk(2)
        most, chosen = likeliest[:, 0], where[:, 0]
        near = (most - likeliest[:, 1]) <= _NEAR * rounding * most.abs()
        for draft, tied in zip(drafts, near.tolist(), strict=True):
            draft.near_tie |= tied and draft.temperature == 0
    else:
        most, chosen = logits.max(-1)
    drawn = [i for i, draft in enumerate(drafts) if draft.temperature > 0]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        scale = torch.tensor([drafts[i].temperature for i in drawn], device=logits.device)
        chosen[rows] = draw(logits[rows] / scale[:, None], [drafts[i].number() for i in drawn])
    return chosen.masked_fill_(~most.isfinite(), NOWHERE)  # the greatest of numbers and NaN is NaN


def rounding_of(dtype: torch.dtype) -> float:
    """Return the relative precision of a type in which batches can change a choice; 0 for float32 and wider."""
    return 0.0 if dtype in (torch.float32, torch.float64) else torch.finfo(dtype).eps


def uniform(seed: int, count: int) -> Any:
    """Return the first ``count`` uniform numbers in [0, 1) of a seed, as a numpy array."""
    return numpy.random.Generator(numpy.random.Philox(key=seed % 2**128)).random(count)


def draw(logits: torch.Tensor, numbers: Sequence[float]) -> torch.Tensor:
    """Return the token at which the distribution function of each row passes its uniform number in [0, 1).

    Args:
        logits: (rows, vocabulary).
        numbers: One per row.
    """
    device = logits.device
    if device.type == "mps":  # it has no float64
        logits = logits.cpu()
    heights = torch.softmax(logits.double(), -1).cumsum(-1)
    marks = torch.tensor(numbers, dtype=torch.float64, device=heights.device)[:, None] * heights[:, -1:]
    found = torch.searchsorted(heights, marks, right=True).squeeze(1)
    return found.clamp(max=logits.shape[1] - 1).to(device)
