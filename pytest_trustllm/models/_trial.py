"""Which way of computing batches gives a model's own answers: by structure, then by trial on a few random tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from pytest_trustllm.models._sampling import rounding_of
from pytest_trustllm.models._slots import Forward

_LOG = logging.getLogger(__name__)
_TOLERANCE = 1e-3
_COARSE = 0.2
"""Greatest difference, in standard deviations of the logits; narrow types round by about a tenth of that."""


def slots_fit(model: Any, inputs: frozenset[str]) -> bool:
    """Tell whether the slot loop computes what the model computes for a prompt alone.

    Args:
        model: A causal language model.
        inputs: Arguments of its forward.
    """
    attention = getattr(model.config.get_text_config(), "_attn_implementation", None)
    if not {"position_ids", "attention_mask", "logits_to_keep"} <= inputs or attention not in ("sdpa", "eager"):
        return False
    if any(type(layer) is not DynamicLayer for layer in layers_of(model)):
        return False
    try:
        return _slots_agree(model)
    except Exception as e:  # noqa: BLE001 - whatever an unfit architecture stumbles over, there is another way
        _LOG.debug("no slots for %s: %s", type(model).__name__, e)
        return False


def padding_is_harmless(model: Any, inputs: frozenset[str]) -> bool:
    """Tell whether a prompt that is padded on the left gets the logits that it gets alone."""
    text, most = _text(model), 12
    ids = torch.tensor([[0] * (most - n) + row[:n] for row, n in zip(text, (12, 5, 7), strict=True)])
    mask = torch.tensor([[0] * (most - n) + [1] * n for n in (12, 5, 7)])
    given = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    if "position_ids" in inputs:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0).to(model.device)
    with torch.inference_mode():
        found = model(**given).logits[:, -1].float()
    return _same(model, found, [_alone(model, row[:n]) for row, n in zip(text, (12, 5, 7), strict=True)])


def layers_of(model: Any) -> Sequence[Any]:
    """Return the layers of the cache that transformers makes for the model; none where all are alike and plain."""
    found: Sequence[Any] = DynamicCache(config=model.config).layers
    return found


def _slots_agree(model: Any) -> bool:
    """Let two prompts of different lengths advance by two tokens, and a third join them."""
    text, forward = _text(model), Forward(model, 3, 16)

    def agrees(*ends: int) -> bool:
        seen = [row[:end] for row, end in zip(text, ends, strict=False)]
        positions = torch.tensor(ends, device=model.device) - 1
        tokens = torch.tensor([row[-1] for row in seen], device=model.device)
        found = forward.step(tokens, positions, ends)
        return _same(model, found, [_alone(model, row) for row in seen])

    with torch.inference_mode():
        forward.prefill([text[0][:9], text[1][:5]], 0)
        if not (agrees(9, 5) and agrees(10, 6)):
            return False
        forward.prefill([text[2][:7]], 2)
        return agrees(11, 7, 7)


def _text(model: Any) -> list[list[int]]:
    vocabulary = model.config.get_text_config().vocab_size
    found: list[list[int]] = torch.randint(vocabulary, (3, 12), generator=torch.Generator().manual_seed(0)).tolist()
    return found


def _alone(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0, -1].float()
        return found


def _same(model: Any, found: torch.Tensor, expected: Sequence[torch.Tensor]) -> bool:
    wanted = torch.stack(list(expected)).to(found.device)
    allowed = (_COARSE if rounding_of(model.dtype) else _TOLERANCE) * wanted.std()
    return bool((found - wanted).abs().max() <= allowed)
