"""Choosing the next token of every row, by a rule that neither the batch size nor the neighbours can change.

A score must not depend on which samples happened to share a batch, or the same model would pass a gate in a full run
and fail it under ``-k``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from pytest_trustllm.types import Request

_TIE_UNITS = 2.0
"""Two logits are nearly tied when they differ by at most this many rounding units of the greater one.

Measured on 24 bfloat16 answers that a batch of 64 had changed: one unit marked all of them, half a unit all but six.
"""


NO_TOKEN = -1
"""Token id of a choice that could not be made: among NaN logits any token would be an accident."""


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A request that is ready to be computed.

    Attributes:
        number: Number of the request.
        request: The request.
        ids: Token ids of the prompt, at least one.
        room: Most tokens that the answer may have, its reasoning included; at least one.
        opened: Whether the prompt ends inside a thought.
    """

    number: int
    request: Request
    ids: Sequence[int]
    room: int
    opened: bool = False


class Draft:
    """An answer that is being written.

    Args:
        prompt: The prompt that it answers.

    Attributes:
        prompt: The prompt that it answers.
        tokens: Token ids chosen so far.
        near_tie: Whether a greedy choice was so close that another batch may round it the other way.
        seconds: Its share of the time spent on it.
        temperature: Sampling temperature; 0 is greedy.
    """

    __slots__ = ("_random", "_uniforms", "_uniforms_step", "near_tie", "prompt", "seconds", "temperature", "tokens")

    def __init__(self, prompt: PreparedPrompt) -> None:
        self.prompt = prompt
        self.tokens: list[int] = []
        self.near_tie = False
        self.seconds = 0.0
        self.temperature = prompt.request.generation.temperature
        # A generator for each answer: with one for all, a draw would depend on how many neighbours drew before it.
        # Philox takes its key as it is, so neighbouring seeds give independent streams without any mixing.
        self._random = numpy.random.Generator(numpy.random.Philox(key=prompt.request.seed % 2**128))
        self._uniforms_step = -1

    def uniforms(self, count: int) -> Any:
        """Return the numbers that draw the next token, a numpy array of uniforms in [0, 1).

        They stay the same until a token is appended, so that a choice that is repeated does not shift the later ones.
        """
        step = len(self.tokens)
        if self._uniforms_step != step:
            self._uniforms_step = step
            self._uniforms = self._random.random(count)
        return self._uniforms


def choose_tokens(logits: torch.Tensor, drafts: Sequence[Draft], rounding: float) -> torch.Tensor:
    """Return the next token of every draft: the likeliest, or one drawn with the draft's own uniform numbers.

    Args:
        logits: (drafts, vocabulary), float32.
        drafts: The answers so far; greedy ones may be marked as near ties.
        rounding: Relative precision in which the logits were computed; 0: too fine to look for near ties.

    Returns:
        (drafts,) token ids; ``NO_TOKEN`` where a logit is NaN or the greatest is infinite.
    """
    if rounding:
        highest, chosen = _likeliest_marking_ties(logits, drafts, rounding)
    else:
        highest, chosen = logits.max(-1)
    sampled = [i for i, draft in enumerate(drafts) if draft.temperature > 0]
    if sampled:
        rows = torch.tensor(sampled, device=logits.device)
        temperatures = torch.tensor([drafts[i].temperature for i in sampled], device=logits.device)
        halvings = halvings_of(logits.shape[1])
        uniforms = numpy.stack([drafts[i].uniforms(halvings) for i in sampled])
        chosen[rows] = draw_tokens(logits[rows] / temperatures[:, None], torch.from_numpy(uniforms))
    # A single NaN logit is enough: the maximum of numbers and NaN is NaN.
    return chosen.masked_fill_(~highest.isfinite(), NO_TOKEN)


def _likeliest_marking_ties(
    logits: torch.Tensor, drafts: Sequence[Draft], rounding: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the greatest logits and their tokens, both (drafts,), and mark greedy drafts that are nearly tied."""
    top_logits, top_tokens = logits.topk(2)
    highest = top_logits[:, 0]
    gap = highest - top_logits[:, 1]
    tied = gap <= _TIE_UNITS * rounding * highest.abs()
    for draft, is_tied in zip(drafts, tied.tolist(), strict=True):
        # A sampled token is not decided by the order of two logits.
        if is_tied and draft.temperature == 0:
            draft.near_tie = True
    return highest, top_tokens[:, 0]


def rounding_of(dtype: torch.dtype) -> float:
    """Return the relative precision of a type in which batches can change a choice; 0 for float32 and wider."""
    if dtype in (torch.float32, torch.float64):
        return 0.0
    return float(torch.finfo(dtype).eps)


def halvings_of(vocabulary: int) -> int:
    """Return how often a vocabulary is halved until one token is left: the uniform numbers that a draw takes."""
    return (vocabulary - 1).bit_length()


def draw_tokens(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Draw a token of each row by halves: first the left or the right half of the vocabulary, then a half of that half.

    Comparing one uniform number with the cumulative distribution would also be a correct draw, but a batch of another
    size rounds every logit a little differently, which moves every step of the cumulative distribution, and the token
    changes whenever any step crosses the number. By halves only the boundaries on the path to the token matter. Of
    the tokens of a Llama in float32, other batches changed 2 in a million instead of 55; no way to draw can change
    fewer than 1.

    Args:
        logits: (rows, vocabulary), float32: in a narrower type the softmax alone would round away rare tokens.
        uniforms: (rows, ``halvings_of(vocabulary)``) in [0, 1), float64.

    Returns:
        (rows,) token ids.
    """
    device, vocabulary = logits.device, logits.shape[1]
    if device.type == "mps":  # it has no float64
        logits = logits.cpu()
    # float64: in float32 a sum over 100,000 tokens loses the rare ones at its end
    cumulative = torch.softmax(logits, -1).cumsum(-1, dtype=torch.float64)
    uniforms = uniforms.to(cumulative.device)
    halvings = uniforms.shape[1]
    first = torch.zeros(len(logits), dtype=torch.long, device=cumulative.device)  # of the part that is left
    mass_before, mass = torch.zeros_like(cumulative[:, -1]), cumulative[:, -1]
    for level in range(halvings):
        half = 1 << (halvings - 1 - level)
        last_of_left = (first + (half - 1)).clamp_(max=vocabulary - 1)
        left_mass = cumulative.gather(1, last_of_left[:, None]).squeeze(1) - mass_before
        goes_right = uniforms[:, level] * mass >= left_mass
        first += goes_right * half
        mass_before += goes_right * left_mass
        mass = torch.where(goes_right, mass - left_mass, left_mass)
    return first.clamp_(max=vocabulary - 1).to(device)
