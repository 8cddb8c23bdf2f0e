"""What a saved run records about its model: what makes two runs runs of the same one, and how it generated."""

from __future__ import annotations

from typing import Any

from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.formats import GenerationEntry, ModelInfo, Results, RunEntry

_NAMES_ONLY = frozenset({"name", "label", "about"})


def identity_of(model: ModelInfo) -> dict[str, Any]:
    """Return everything recorded about a model that can change an answer: not its names and not facts about it."""
    return {key: value for key, value in model.items() if key not in _NAMES_ONLY}


def generation_of(run: RunEntry, task: str) -> GenerationEntry | None:
    """Return how a task's answers were generated: as its suite says, but for what the model's entry overrides.

    Returns:
        None if the task has no answers of its own.
    """
    generation = run["generation"].get(task)
    overrides = run["model"].get("generation")
    if generation is None or not isinstance(overrides, dict):
        return generation
    known = {name: overrides[name] for name in GenerationEntry.__annotations__ if name in overrides}
    try:
        return checked({**generation, **known}, GenerationEntry)
    except Mismatch:  # written by something else
        return generation


def roles_used(results: Results) -> dict[str, ModelInfo]:
    """Return the models that answered in a role; one that no sample needed took no part in the run.

    A run that recorded nothing of what its roles were asked is believed to have used them all.
    """
    roles = results["run"]["roles"]
    usage = results["usage"].get("roles")
    if usage is None:
        return dict(roles)
    return {role: model for role, model in roles.items() if role in usage}
