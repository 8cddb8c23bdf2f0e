"""A sample of made-up rows, for tests of scorers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_trustllm.types import Sample


def sample_of(rows: Sequence[Mapping[str, Any]]) -> Sample:
    prompts = tuple((("user", str(row.get("prompt", "?"))),) for row in rows)
    return Sample("dim/task", "0001", tuple(rows), prompts, tuple(("d/f.json", n) for n in range(len(rows))), {}, "f")
