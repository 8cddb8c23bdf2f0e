"""A run split over several machines: which samples are whose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.records import Generation, Sample

CHARACTERS_PER_TOKEN = 4
ANSWERED = 0.25
"""Share of ``max_new_tokens`` that an answer is expected to have."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run.

    Attributes:
        index: From 1.
        count: Parts in all.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse(text: str, flag: str = "--trust-shard") -> Shard:
    """Read ``I/N``.

    Raises:
        SuiteError: It is something else.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise SuiteError(f"{flag}: expected I/N with I from 1 to N, such as 2/4, found {text!r}")
    return Shard(int(found[1]), int(found[2]))


def cost(sample: Sample, generation: Generation) -> float:
    """Return about how many tokens a sample costs: its prompts', and a quarter of what its answers may have."""
    asked = sum(len(content) for prompt in sample.prompts for _, content in prompt) / CHARACTERS_PER_TOKEN
    return asked + ANSWERED * generation.max_new_tokens * len(sample.prompts)


def part(costs: Mapping[tuple[str, str, str], float], shard: Shard) -> set[tuple[str, str, str]]:
    """Return the samples of one shard.

    All samples stand in the order of their fingerprints, which is as good as random, and the line is cut where every
    part costs the same. A sample that is added or removed moves the cuts by its own cost at most, so nearly all samples
    stay where they were.

    Args:
        costs: (fingerprint, task, sample) -> expected cost, more than 0.
        shard: Which part.
    """
    total, passed, mine = sum(costs[key] for key in sorted(costs)), 0.0, set()
    for key in sorted(costs):
        middle = passed + costs[key] / 2
        passed += costs[key]
        if min(int(middle / total * shard.count), shard.count - 1) == shard.index - 1:
            mine.add(key)
    return mine
