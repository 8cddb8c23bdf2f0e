"""Rotary positions whose frequencies depend on the longest row of a batch, and on what was computed before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_BY_LENGTH = ("longrope", "su", "dynamic")
"""Kinds that choose frequencies by length; ``su`` is what Phi-3's own code called LongRoPE."""

_ROPES = ("rope_parameters", "rope_scaling")
"""Attributes of a configuration; the second is the name before transformers 5, which repositories' own code reads."""
_ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True, slots=True)
class LengthRule:
    """How a model's positions depend on length.

    Attributes:
        reason: Why its rows cannot be computed together; for people.
        is_growing: Frequencies stay those of the longest text so far until a short one comes.
        switch: Tokens after which other frequencies hold and the whole text is computed again, as transformers does;
            None: what was computed is kept.
        steady: Tokens up to which nothing changes, None if the configuration does not tell.
    """

    reason: str
    is_growing: bool
    switch: int | None
    steady: int | None


def length_rule(model: Any) -> LengthRule | None:
    """Return how the positions of a model depend on length, None if they do not."""
    config = model.config.get_text_config()
    # Modules know what transformers made of the configuration, the configuration what a repository's own code reads.
    rope_types = [*_types_of_modules(model), *_types_of_config(config)]
    kind = _kind_by_length(rope_types)
    if kind is None:
        return None
    steady = _original_length(config)
    if kind == "dynamic":
        reason = "dynamic rotary positions: their frequencies follow the longest text"
        steady = steady or getattr(config, "max_position_embeddings", None)
        return LengthRule(reason, is_growing=True, switch=None, steady=steady)
    # Phi-3 and its relatives, whose configuration has the attribute, start again; others keep the keys they have.
    switch = steady if hasattr(config, _ORIGINAL) else None
    reason = "LongRoPE: the longest text chooses the frequencies of its neighbours"
    return LengthRule(reason, is_growing=False, switch=switch, steady=steady)


def _kind_by_length(rope_types: Iterable[str]) -> str | None:
    """Return which kind that depends on length is among some types of positions, None if none is."""
    lower = [rope_type.lower() for rope_type in rope_types]
    for kind in _BY_LENGTH:
        # Contained, not equal: repositories' own code has names of its own for variants.
        if any(kind in rope_type for rope_type in lower):
            return kind
    return None


def stretched(config: Any, limit: int) -> int:
    """Return a model's context in tokens, also where its configuration has only the one before it is stretched.

    With dynamic positions, some configurations have the stretched length as ``max_position_embeddings`` and some the
    original one; those that name no other original length mean the latter.

    Args:
        config: Configuration of a language model.
        limit: Its ``max_position_embeddings``.
    """
    for rope in _all_ropes(config):
        rope_type = rope.get("rope_type") or rope.get("type")
        factor = rope.get("factor")
        is_original = rope.get(_ORIGINAL, limit) == limit
        if rope_type == "dynamic" and isinstance(factor, int | float) and is_original:
            return int(limit * max(1.0, factor))
    return limit


def _original_length(config: Any) -> int | None:
    """Return the length that the model was trained with before its positions were stretched."""
    candidates = [getattr(config, _ORIGINAL, None)]
    candidates += [rope.get(_ORIGINAL) for rope in _all_ropes(config)]
    lengths = [length for length in candidates if isinstance(length, int) and length > 0]
    return min(lengths) if lengths else None


def _types_of_modules(model: Any) -> Iterator[str]:
    """Yield the types of positions that the modules of a model compute."""
    for module in model.modules():
        rope_type = getattr(module, "rope_type", None)
        if isinstance(rope_type, Mapping):  # by layer type, where layers differ
            yield from _texts(rope_type.values())
        else:
            yield from _texts([rope_type])


def _types_of_config(config: Any) -> Iterator[str]:
    """Yield the types of positions that a configuration names, also those that only a repository's own code reads."""
    for rope in _all_ropes(config):
        yield from _texts([rope.get("rope_type"), rope.get("type")])
    for key, value in vars(config).items():
        if "dynamic_ntk" in key and value:  # Qwen's own code: use_dynamic_ntk
            yield "dynamic"


def _all_ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of positions in a configuration, also those of each type of layer."""
    for key in _ROPES:
        parameters = getattr(config, key, None)
        if not isinstance(parameters, Mapping):
            continue
        yield parameters
        for of_layer_type in parameters.values():
            if isinstance(of_layer_type, Mapping):
                yield of_layer_type


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
