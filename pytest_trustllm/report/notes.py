"""What readers should know of how sure single answers and verdicts are, in one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def judge_votes(results: Mapping[str, Any]) -> str | None:
    """Return how far the judge agreed with itself; None if no sample was put to a vote."""
    judging = results.get("judging")
    if judging is None or not judging["samples"]:
        return None
    return (
        f"judge: {judging['votes']} votes a verdict; {judging['agreement']:.1%} agree, "
        f"unanimous for {judging['unanimous']:.1%} of {judging['samples']:,} samples"
    )


def near_ties(results: Mapping[str, Any]) -> str | None:
    """Return how many answers could be others in another batch; None if the model computes exactly enough."""
    usage, about = results.get("usage", {}), results["run"].get("model", {}).get("about", {})
    if about.get("batch_effects") is None:
        return None
    ties, answers = usage.get("near_ties", 0), usage.get("requests", 0) + usage.get("cached", 0)
    return f"reduced precision: batch effects possible; near-ties in {ties:,} of {answers:,} answers"
