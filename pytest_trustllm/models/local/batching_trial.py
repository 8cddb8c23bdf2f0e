"""How to compute batches of a model and still get its own answers: decided by its structure, then by a trial.

Padding, masks and caches differ between architectures, and a model's own code is the only description of what it does
with them. So a model is tried: random texts of different length are computed together and each alone, and logits have
to be equal but for rounding. What fails the trial is computed more slowly, never differently.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers.cache_utils import CacheLayerMixin, DynamicCache, DynamicLayer

from pytest_trustllm.errors import one_line
from pytest_trustllm.models.local.loading import cache_name, forward_inputs, position_limit
from pytest_trustllm.models.local.rope import length_rule
from pytest_trustllm.models.local.sampling import rounding_of
from pytest_trustllm.models.local.slot_loop import SlotForward
from pytest_trustllm.models.local.static_batches import PaddedForward, can_select, left_padded

_LOG = logging.getLogger(__name__)
_TOLERANCE = 1e-3
"""Greatest difference in float32, in standard deviations of the logits."""
_NARROW_TOLERANCE = 0.15
"""Greatest root mean square of a row's differences in narrower types, in standard deviations of the logits.

Not their maximum, which grows with the vocabulary: among 49,152 logits of SmolLM2-135M-Instruct in bfloat16 it is 0.22,
and their root mean square 0.04. Of a fault it is at least 0.25 there: a position off by one, a token hidden or shown by
mistake, a neighbour's key (the faults of ``test_slots.py``).
"""
_LEAST_CORRELATION = 0.9
"""Least correlation of logits that differ by rounding, or by another order of the same sums."""
_TOKENS = 48
"""Tokens of a text of the trial: more than the blocks and windows of small models, and quick for large ones."""
_STEPS = 6
"""Tokens that are added to each text, one by one."""
_SLOT_INPUTS = frozenset({"position_ids", "attention_mask", "logits_to_keep"})
"""What the forward of a model must accept for the slot loop."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How a model's answers are computed.

    Attributes:
        method: ``slots``: in flight; ``padded``: static batches; ``single``: one prompt at a time.
        reason: Why no faster method fits; for people.
    """

    method: Literal["slots", "padded", "single"]
    reason: str


class UnsupportedModel(Exception):
    """The model's answers cannot be computed here; the text says why, with the model as its subject."""


def choose_batching(model: Any) -> Batching:
    """Return the fastest method that computes what the model computes for a prompt alone.

    Args:
        model: A causal language model.

    Raises:
        UnsupportedModel: There is none.
    """
    layers = layers_of(model)
    is_recurrent = bool(layers) and not any(isinstance(layer, CacheLayerMixin) for layer in layers)
    if is_recurrent or not cache_name(model):
        raise UnsupportedModel("keeps no keys and values")
    _check_causal(model)
    rule = length_rule(model)
    if rule is not None:
        _check_steps(model)
        return Batching("single", rule.reason)
    reason = _reason_against_slots(model)
    if reason is None:
        return Batching("slots", "a trial gave the logits of each prompt alone")
    if _padding_is_harmless(model):
        return Batching("padded", reason)
    _check_steps(model)
    return Batching("single", "a trial: neighbours change its logits")


def _check_causal(model: Any) -> None:
    """Check that no token sees what follows it, as in BERT and XLNet, which fill gaps.

    Raises:
        UnsupportedModel: One does, or the model does not run.
    """
    ids = _random_texts(model)[0]
    first = max(1, len(ids) // 2)
    try:
        with torch.inference_mode():
            in_whole_text = model(input_ids=_tensor(model, [ids])).logits[0, first - 1].float()
        alone = _alone(model, ids[:first])
    except Exception as e:  # the code of an architecture can raise anything
        raise UnsupportedModel(f"does not run on token ids alone ({type(e).__name__}: {one_line(e, 120)})") from e
    if not _is_same_model(model, in_whole_text[None], [alone]):
        raise UnsupportedModel("looks at the tokens that come after, so it does not continue a text")


def _check_steps(model: Any) -> None:
    """Check that one prompt can be continued token by token.

    Raises:
        UnsupportedModel: Its logits have little to do then with those of the whole text.
    """
    text = _random_texts(model)[0]
    end = _prompt_lengths(len(text))[0]
    try:
        by_steps = _continued(model, [(text, end)], [0])[: len(text) - end + 1]
        wholes = [_alone(model, text[: end + step]) for step in range(len(by_steps))]
    except Exception as e:
        raise UnsupportedModel(f"cannot be continued token by token ({type(e).__name__}: {one_line(e, 120)})") from e
    for step_logits, whole in zip(by_steps, wholes, strict=True):
        if not _are_correlated(step_logits, [whole]):
            raise UnsupportedModel("gives other logits token by token than for the whole text")


def _reason_against_slots(model: Any) -> str | None:
    """Return why the slot loop does not fit, None if it does."""
    missing = _SLOT_INPUTS - forward_inputs(model)
    if missing:
        return f"its forward takes no {', '.join(sorted(missing))}"
    attention = getattr(model.config.get_text_config(), "_attn_implementation", None)
    if attention not in ("sdpa", "eager"):
        return f"its attention is {attention}"
    other = sorted({type(layer).__name__ for layer in layers_of(model) if type(layer) is not DynamicLayer})
    if other:
        return f"its cache has layers of another kind: {', '.join(other)}"
    try:
        fits = _slots_agree(model)
    except Exception as e:  # noqa: BLE001 - whatever the code of an architecture raises, there is a slower method
        _LOG.debug("no slots for %s: %s", type(model).__name__, e)
        fits = False
    return None if fits else "a trial in flight gave other logits"


def _padding_is_harmless(model: Any) -> bool:
    """Tell whether prompts that are padded on the left get the logits that they get alone, step after step."""
    texts = _random_texts(model)
    prompts = list(zip(texts, _prompt_lengths(len(texts[0])), strict=True))
    kept = [0, 2]
    try:
        together = _continued(model, prompts, kept)
        alone = [_continued(model, [prompt], [0]) for prompt in prompts]
    except Exception as e:  # noqa: BLE001 - whatever the code of an architecture raises, there is a slower method
        _LOG.debug("no padding for %s: %s", type(model).__name__, e)
        return False
    for step, logits in enumerate(together):
        # Rows leave half-way where the cache allows it.
        rows = alone if len(logits) == len(alone) else [alone[row] for row in kept]
        if not equal_up_to_rounding(model, logits, [row[step][0] for row in rows]):
            return False
    return True


def layers_of(model: Any) -> Sequence[Any]:
    """Return the layers of the cache that transformers makes for the model; none where all are alike and plain."""
    layers: Sequence[Any] = DynamicCache(config=model.config).layers
    return layers


def _continued(model: Any, prompts: Sequence[tuple[Sequence[int], int]], keep: Sequence[int]) -> list[torch.Tensor]:
    """Let texts of different length advance together, token by token.

    Args:
        model: The model.
        prompts: A text, and how many of its tokens are the prompt.
        keep: Rows that stay after half of the steps; the others leave as a finished answer does.

    Returns:
        Logits of each step, (rows, vocabulary).
    """
    forward, rows = PaddedForward(model), list(prompts)
    ids, mask = left_padded([text[:end] for text, end in rows], model.device)
    cache: Any = None
    logits_of_steps = []
    with torch.inference_mode():
        forward.begin()
        for step in range(_STEPS):
            logits, cache = forward.step(ids, mask, cache)
            if cache is None:
                raise ValueError("no keys and values come back")
            logits_of_steps.append(logits)
            if step == _STEPS // 2 and len(keep) < len(rows) and can_select(cache):
                kept = _tensor(model, keep)
                cache.batch_select_indices(kept)
                mask = mask[kept]
                rows = [rows[row] for row in keep]
            # A text that is used up begins again: any token will do, as long as it is the same alone.
            ids = _tensor(model, [[text[(end + step) % len(text)]] for text, end in rows])
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return logits_of_steps


def _slots_agree(model: Any) -> bool:
    """Let two prompts of different lengths advance, and a third join them; tell whether each is as it is alone."""
    first, second, third = _random_texts(model)
    long, short, joining = _prompt_lengths(len(first))
    forward = SlotForward(model, 3, len(first))
    steps = min(_STEPS, len(first) - long)
    half = steps // 2
    with torch.inference_mode():
        forward.prefill([first[:long], second[:short]], 0)
        for step in range(half):
            if not _step_agrees(model, forward, [first[: long + step], second[: short + step]]):
                return False
        forward.prefill([third[:joining]], 2)
        for step in range(half, steps + 1):
            rows = [first[: long + step], second[: short + step], third[: joining + step - half]]
            if not _step_agrees(model, forward, rows):
                return False
    return True


def _step_agrees(model: Any, forward: SlotForward, rows: Sequence[Sequence[int]]) -> bool:
    """Compute the last token of each row in the slots, which hold the ones before it; tell whether it is as alone."""
    lengths = [len(row) for row in rows]
    positions = _tensor(model, lengths) - 1
    last_tokens = _tensor(model, [row[-1] for row in rows])
    logits = forward.step(last_tokens, positions, lengths)
    return equal_up_to_rounding(model, logits, [_alone(model, row) for row in rows])


def _prompt_lengths(length: int) -> tuple[int, int, int]:
    """Return how many tokens of each text are its prompt: nearly all, a quarter, a half."""
    longest = max(1, length - _STEPS)
    return longest, max(1, longest // 4), max(1, longest // 2)


def _random_texts(model: Any) -> list[list[int]]:
    """Return three texts of equal length, each row a list of token ids.

    Random tokens need no tokenizer and give every position a key of its own: in a text that repeats itself, a token
    that attends to the wrong place could go unnoticed.
    """
    rule = length_rule(model)
    limits = [_TOKENS, position_limit(model.config)]
    if rule is not None:
        limits.append(rule.steady)
    length = max(2, min(limit for limit in limits if limit is not None))
    vocabulary = model.config.get_text_config().vocab_size
    seeded = torch.Generator().manual_seed(0)  # the same trial, and so the same batching, in every run
    texts: list[list[int]] = torch.randint(vocabulary, (3, length), generator=seeded).tolist()
    return texts


def _tensor(model: Any, rows: Sequence[Any]) -> torch.Tensor:
    return torch.tensor(rows, device=model.device)


def _alone(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits after a text that is computed alone and at once, (vocabulary,)."""
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=_tensor(model, [list(ids)])).logits[0, -1].float()
        return logits


def _comparable(logits: torch.Tensor, expected: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both without the rows that are NaN or infinite even alone: an answer that meets those reports it."""
    wanted = torch.stack(list(expected)).to(logits.device)
    finite = wanted.isfinite().all(-1)
    return logits[finite], wanted[finite]


def equal_up_to_rounding(model: Any, logits: torch.Tensor, expected: Sequence[torch.Tensor]) -> bool:
    """Tell whether numbers that a model computed in two ways are equal but for rounding.

    Args:
        model: The model, whose type decides how much rounding is allowed.
        logits: (rows, numbers).
        expected: (numbers,) for each row.
    """
    computed, wanted = _comparable(logits, expected)
    if not len(wanted):
        return True
    # In standard deviations, because the scale of logits differs between models by orders of magnitude.
    differences, scale = computed - wanted, wanted.std(correction=0)
    if rounding_of(model.dtype):
        return bool(differences.pow(2).mean(-1).sqrt().max() <= _NARROW_TOLERANCE * scale)
    return bool(differences.abs().max() <= _TOLERANCE * scale)


def _is_same_model(model: Any, logits: torch.Tensor, expected: Sequence[torch.Tensor]) -> bool:
    """Tell whether logits are those of the same model.

    More lenient than :func:`equal_up_to_rounding` in narrow types: it rejects models, and an accident of rounding must
    not.
    """
    if rounding_of(model.dtype):
        return _are_correlated(logits, expected)
    return equal_up_to_rounding(model, logits, expected)


def _are_correlated(logits: torch.Tensor, expected: Sequence[torch.Tensor]) -> bool:
    """Tell whether logits go together, although not to the last digit.

    In narrow types rounding can send a token to another expert, and layers that compute a text in blocks (Mamba and its
    relatives) give somewhat other logits than token by token.
    """
    computed, wanted = _comparable(logits, expected)
    for pair in zip(computed, wanted, strict=True):
        correlation = float(torch.corrcoef(torch.stack(pair))[0, 1])
        if not correlation >= _LEAST_CORRELATION:  # NaN fails too
            return False
    return True
