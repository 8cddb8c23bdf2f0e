"""Static batches, for architectures that the slot loop does not fit: padded on the left, finished rows leave."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pytest_trustllm.models.local.loading import cache_name, forward_inputs, is_out_of_memory
from pytest_trustllm.models.local.rope import LengthRule, length_rule
from pytest_trustllm.models.local.sampling import Draft, PreparedPrompt, choose_tokens, rounding_of
from pytest_trustllm.models.local.scheduling import PromptQueue
from pytest_trustllm.types import Response

_LOG = logging.getLogger(__name__)
_KEPT_SHARE = 0.75
"""Finished rows are removed once at most this share is running: each removal copies all keys and values."""


class PaddedForward:
    """The forward of a static batch: new tokens of every row, after the keys and values of its past.

    Args:
        model: A causal language model that keeps keys and values.

    Attributes:
        rule: How its positions depend on length; if they do, only one row at a time may be computed.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._inputs = model, forward_inputs(model)
        self._cache_name = cache_name(model)
        self.rule: LengthRule | None = length_rule(model)

    def begin(self) -> None:
        """Forget what earlier texts left in the model.

        Dynamic rotary frequencies grow with the longest text and return only with a short one; a single token is one.
        """
        if self.rule is not None and self.rule.is_growing:
            self._model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self._model.device))

    def is_switched(self, past: int) -> bool:
        """Tell whether the next token is the first of other frequencies, which need the whole text computed again."""
        return self.rule is not None and self.rule.switch == past

    def step(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """Run the new tokens.

        Args:
            ids: (batch, new), left-padded.
            mask: (batch, past + new), 1 where a token is real.
            cache: Keys and values of the past, None at first.

        Returns:
            Logits of the last position, (batch, vocabulary) in float32; the cache, None if the model keeps none.
        """
        inputs = {"input_ids": ids, "attention_mask": mask, self._cache_name: cache, "use_cache": True}
        if "position_ids" in self._inputs:
            # Padding is not counted: a prompt's first real token is at position 0, as it would be alone.
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._inputs:
            inputs["logits_to_keep"] = 1
        output = self._model(**inputs)
        # float32: a softmax in a narrower type would lose the rare tokens.
        return output.logits[:, -1].float(), getattr(output, self._cache_name, None)


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask, both (rows, width).

    Padding is on the left because every row then continues in the same column: the cache appends one column a step, and
    logits are read from the last one.
    """
    width = max(len(row) for row in rows)
    ids = [[0] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


class StaticBatches:
    """Answers batch by batch.

    Args:
        model: A causal language model that keeps keys and values.
        size: Rows of a batch; 1 where a row's neighbours would change it.

    Attributes:
        size: As given, and smaller after a batch that did not fit into memory.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._model = model
        self._forward = PaddedForward(model)
        self._rounding = rounding_of(model.dtype)
        self._warned = False
        self.size = size

    def run(self, queue: PromptQueue) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) of every request of the queue."""
        while queue.prompts or queue.fill(wait=True):
            yield from queue.refused()
            batch = queue.prompts[: self.size]
            if not batch:
                continue
            finished = self._attempt(batch, queue)
            if finished is not None:
                del queue.prompts[: len(batch)]
                for draft in finished:
                    yield draft.prompt.number, queue.codec.respond(draft)
            elif len(batch) == 1:
                prompt = queue.prompts.pop(0)
                yield prompt.number, Response(error=f"out of memory for a prompt of {len(prompt.ids)} tokens")
            else:
                self._shrink(len(batch) // 2)

    def _attempt(self, batch: Sequence[PreparedPrompt], queue: PromptQueue) -> list[Draft] | None:
        """Return the answers to a batch, None if there was not enough memory."""
        began = time.perf_counter()
        with torch.inference_mode():
            try:
                drafts = self._decode(batch, queue)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                return None
        share = (time.perf_counter() - began) / len(batch)
        for draft in drafts:
            draft.seconds = share
        return drafts

    def _shrink(self, size: int) -> None:
        self.size = size
        if not self._warned:
            self._warned = True
            _LOG.warning("out of memory: %d answers at once from here on, fewer if need be", size)
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _decode(self, batch: Sequence[PreparedPrompt], queue: PromptQueue) -> list[Draft]:
        """Return the answers to the prompts; finished rows are removed from the tensors a quarter at a time."""
        device = self._model.device
        ids, mask = left_padded([prompt.ids for prompt in batch], device)
        drafts = [Draft(prompt) for prompt in batch]
        rows = list(drafts)  # what each row of the tensors answers
        done: set[Draft] = set()
        cache: Any = None
        self._forward.begin()
        while len(done) < len(drafts):
            if cache is not None and self._forward.is_switched(mask.shape[1] - 1):
                # Keys of the old frequencies do not fit the new ones. Such a model has one row, so nothing is padded.
                ids = torch.tensor([[*draft.prompt.ids, *draft.tokens] for draft in rows], device=device)
                cache = None
            logits, cache = self._forward.step(ids, mask, cache)
            chosen = choose_tokens(logits, rows, self._rounding)
            for draft, token in zip(rows, chosen.tolist(), strict=True):
                if draft not in done:
                    draft.tokens.append(token)
                    if queue.codec.is_done(draft):
                        done.add(draft)
            running = [row for row, draft in enumerate(rows) if draft not in done]
            if running and len(running) <= _KEPT_SHARE * len(rows) and can_select(cache):
                kept = torch.tensor(running, device=device)
                cache.batch_select_indices(kept)
                mask, chosen = mask[kept], chosen[kept]
                rows = [rows[row] for row in running]
            # A finished row that stays is computed on; what it is given does not matter, but it must be a token.
            ids = chosen.clamp(min=0)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        return drafts


def can_select(cache: Any) -> bool:
    """Tell whether rows can be removed from a cache."""
    layers = getattr(cache, "layers", None)
    return layers is not None and all(hasattr(layer, "batch_select_indices") for layer in layers)
