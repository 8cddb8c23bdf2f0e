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

    __slots__ = ("_numbers", "_random", "_step", "near_tie", "row", "seconds", "temperature", "tokens")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.tokens: list[int] = []
        self.near_tie = False
        self.seconds = 0.0
        self.temperature = row.request.generation.temperature
        self._random = numpy.random.Generator(numpy.random.Philox(key=row.request.seed % 2**128))
        self._step = -1

    def numbers(self, count: int) -> Any:
        """Return the uniform numbers in [0, 1) of the next step, a numpy array; the same until its token is chosen."""
        if self._step != len(self.tokens):
            self._step, self._numbers = len(self.tokens), self._random.random(count)
        return self._numbers


def pick(logits: torch.Tensor, drafts: Sequence[Draft], rounding: float) -> torch.Tensor:
    """Return the next token of every draft: the likeliest, or one drawn with the draft's own uniform numbers.

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
        levels = levels_of(logits.shape[1])
        numbers = numpy.stack([drafts[i].numbers(levels) for i in drawn])
        chosen[rows] = draw(logits[rows] / scale[:, None], torch.from_numpy(numbers))
    return chosen.masked_fill_(~most.isfinite(), NOWHERE)  # the greatest of numbers and NaN is NaN


def rounding_of(dtype: torch.dtype) -> float:
    """Return the relative precision of a type in which batches can change a choice; 0 for float32 and wider."""
    return 0.0 if dtype in (torch.float32, torch.float64) else torch.finfo(dtype).eps


def levels_of(vocabulary: int) -> int:
    """Return how many uniform numbers a draw takes: how often a vocabulary is halved until one token is left."""
    return (vocabulary - 1).bit_length()


def draw(logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return a token of each row, drawn by halves: the left or the right half of the vocabulary, then of that half.

    One number laid on the whole distribution function would do, but rounding moves every step of that function, and the
    token changes wherever a step passes the number. Here only the steps on the way count: of the tokens of a Llama in
    float32, other batches changed 2 in a million instead of 55, where any way to draw changes at least 1.

    Args:
        logits: (rows, vocabulary).
        numbers: (rows, ``levels_of(vocabulary)``) uniform in [0, 1), float64.
    """
    device, vocabulary = logits.device, logits.shape[1]
    if device.type == "mps":  # it has no float64
        logits = logits.cpu()
    heights = torch.softmax(logits, -1).cumsum(-1, dtype=torch.float64)
    numbers = numbers.to(heights.device)
    found = torch.zeros(len(logits), dtype=torch.long, device=heights.device)
    below, mass = torch.zeros_like(heights[:, -1]), heights[:, -1]
    for level in range(numbers.shape[1]):
        half = 1 << (numbers.shape[1] - 1 - level)
        last = (found + (half - 1)).clamp_(max=vocabulary - 1)
        left = heights.gather(1, last[:, None]).squeeze(1) - below
        right = numbers[:, level] * mass >= left
        found += right * half
        below += right * left
        mass = torch.where(right, mass - left, left)
    return found.clamp_(max=vocabulary - 1).to(device)
