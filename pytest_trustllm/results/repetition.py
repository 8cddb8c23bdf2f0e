"""The samples of a saved run that its model is asked again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.formats import Results, SampleLine
from pytest_trustllm.results.files import samples_of


def repetitions(results: Results, path: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """Return the rows of some samples of a saved run, drawn at random, in the order of its samples file.

    Only samples that can be asked again exactly are drawn: each prompt has an answer with text, and no turn depends on
    an earlier answer.

    Args:
        results: The results file.
        path: Where it is.
        count: How many; fewer if there are not as many.
        seed: The draw depends on it, and on which samples there are.

    Raises:
        ResultsError: The samples file is missing or broken.
    """
    if not count:
        return []
    rows = [row for line in samples_of(results, path) if (row := _row(line, results)) is not None]
    names = sorted((row["of"], row["sample"]) for row in rows)
    drawn = set(random.Random(f"{seed}:repetition").sample(names, min(count, len(names))))  # noqa: S311 - no secret
    return [row for row in rows if (row["of"], row["sample"]) in drawn]


def _row(line: SampleLine, results: Results) -> dict[str, Any] | None:
    """Return the row of a sample; None if it cannot be asked again exactly."""
    generation = results["run"]["generation"].get(line["task"])
    prompts = line.get("prompts", [])
    answers = _answers(line, len(prompts))
    if generation is None or not prompts or answers is None or "talks" in line:
        return None
    return {
        "title": f"{line['task']}[{line['id']}]",
        "of": line["task"],
        "sample": line["id"],
        "seed": results["run"]["seed"],
        "generation": dict(generation),
        "prompts": prompts,
        "responses": list(answers),
    }


def _answers(line: SampleLine, count: int) -> Sequence[str] | None:
    """Return the texts of the first epoch; None if one is missing or blank."""
    texts = [response["text"] for response in line.get("responses", [])[:count]]
    answers = [text for text in texts if text is not None and text.strip()]
    return answers if len(answers) == count else None
