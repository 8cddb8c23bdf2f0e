"""A run split over several machines: which samples belong to which part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.types import CHARACTERS_PER_TOKEN, Generation, Sample

ANSWERED = 0.25
"""Share of ``max_new_tokens`` that an answer is expected to use."""
ShardedSample = tuple[str, str, str]
"""(fingerprint, task, sample id)"""


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run.

    Attributes:
        index: From 1.
        count: Number of parts.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse(text: str, flag: str = "--trust-shard") -> Shard:
    """Read ``I/N``.

    Raises:
        SuiteError: The text is not ``I/N``.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is not None:
        shard = Shard(int(match[1]), int(match[2]))
        if 1 <= shard.index <= shard.count:
            return shard
    raise SuiteError(f"{flag}: expected I/N with I from 1 to N, such as 2/4, or auto, found {text!r}")


def expected_tokens(sample: Sample, generation: Generation, turns: int = 1) -> float:
    """Return about how many tokens a sample costs: those of its prompts, and a quarter of what its answers may have.

    Args:
        sample: Rendered.
        generation: How its answers are generated.
        turns: Greatest number of answers to one prompt, in a conversation.
    """
    characters = 0
    for prompt in sample.prompts:
        characters += sum(len(content) for _, content in prompt)
    answers = ANSWERED * generation.max_new_tokens * len(sample.prompts) * turns
    return characters / CHARACTERS_PER_TOKEN + answers


def members(costs: Mapping[ShardedSample, float], shard: Shard) -> set[ShardedSample]:
    """Return the samples of one shard.

    All samples are sorted by fingerprint, which is as good as random, and the line is cut into parts of equal cost. A
    sample that is added or removed moves each cut by its own cost at most, so nearly all samples stay where they were.

    Args:
        costs: Expected cost of every sample, greater than 0.
        shard: Which part.
    """
    ordered = sorted(costs)
    # Summed in this order, so that every machine rounds alike and no sample falls between two parts.
    total = sum(costs[key] for key in ordered)
    passed = 0.0
    chosen = set()
    for key in ordered:
        middle = passed + costs[key] / 2
        passed += costs[key]
        part = int(middle / total * shard.count) + 1
        if min(part, shard.count) == shard.index:  # rounding may put the last middle at the very end
            chosen.add(key)
    return chosen
