"""What makes two runs runs of the same model."""

from __future__ import annotations

from typing import Any

from pytest_trustllm.formats import ModelInfo

_NAMES_ONLY = frozenset({"name", "label", "about"})


def identity_of(model: ModelInfo) -> dict[str, Any]:
    """Return everything recorded about a model that can change an answer: not its names and not facts about it."""
    return {key: value for key, value in model.items() if key not in _NAMES_ONLY}
