"""Static batches for architectures that slots do not fit: padded on the left, finished rows leave."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pytest_trustllm.models._line import Line
from pytest_trustllm.models._sampling import Draft, Row, pick, rounding_of
from pytest_trustllm.models._transformers import cache_name, is_out_of_memory
from pytest_trustllm.records import Response

_LOG = logging.getLogger(__name__)


class StaticBatches:
    """Answers batch by batch.

    Args:
        model: A causal language model that keeps keys and values.
        inputs: Arguments of its forward.
        size: Rows of a batch.
    """

    def __init__(self, model: Any, inputs: frozenset[str], size: int) -> None:
        self._model, self._inputs = model, inputs
        self._cache = cache_name(model)
        self._rounding = rounding_of(model.dtype)
        self._warned = False
        self.size = size

    def run(self, line: Line) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) of all that comes along the line."""
        while line.rows or line.fill(wait=True):
            yield from line.refused()
            batch = line.rows[: self.size]
            finished = self._tried(batch, line) if batch else []
            if finished is not None:
                del line.rows[: len(batch)]
                for draft in finished:
                    yield draft.row.number, line.chat.respond(draft)
            elif len(batch) == 1:
                row = line.rows.pop(0)
                yield row.number, Response(error=f"out of memory for a prompt of {len(row.ids)} tokens")
            else:
                self._shrink(len(batch) // 2)

    def _tried(self, batch: Sequence[Row], line: Line) -> list[Draft] | None:
        began = time.perf_counter()
        with torch.inference_mode():
            try:
                drafts = self._decode(batch, line)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                return None
        for draft in drafts:
            draft.seconds = (time.perf_counter() - began) / len(batch)
        return drafts

    def _shrink(self, size: int) -> None:
        self.size = size
        if not self._warned:
            self._warned = True
            _LOG.warning("out of memory: %d answers at once from here on, fewer if need be", size)
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _decode(self, batch: Sequence[Row], line: Line) -> list[Draft]:
        """Return the answers to the rows; a quarter of finished rows is taken out of the tensors together."""
        device, width = self._model.device, max(len(row.ids) for row in batch)
        ids = torch.tensor([[0] * (width - len(row.ids)) + list(row.ids) for row in batch], device=device)
        mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in batch], device=device)
        drafts = [Draft(row) for row in batch]
        live, done = list(drafts), set[Draft]()
        cache: Any = None
        while len(done) < len(drafts):
            logits, cache = self._step(ids, mask, cache)
            chosen = pick(logits, live, self._rounding)
            for draft, token in zip(live, chosen.tolist(), strict=True):
                if draft not in done:
                    draft.tokens.append(token)
                    if line.chat.is_done(draft):
                        done.add(draft)
            running = [i for i, draft in enumerate(live) if draft not in done]
            if running and len(running) <= 0.75 * len(live) and _can_select(cache):
                keep = torch.tensor(running, device=device)
                cache.batch_select_indices(keep)
                mask, chosen, live = mask[keep], chosen[keep], [live[i] for i in running]
            ids = chosen.clamp(min=0)[:, None]  # a finished row computes on; what it is given does not matter
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        return drafts

    def _step(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """Run the new tokens.

        Args:
            ids: (batch, new), left-padded.
            mask: (batch, past + new), 1 where a token is real.
            cache: Keys and values of the past, None at first.

        Returns:
            Logits of the last position, (batch, vocabulary) in float32; the cache.
        """
        inputs = {"input_ids": ids, "attention_mask": mask, self._cache: cache, "use_cache": True}
        if "position_ids" in self._inputs:
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._inputs:
            inputs["logits_to_keep"] = 1
        found = self._model(**inputs)
        return found.logits[:, -1].float(), getattr(found, self._cache)


def _can_select(cache: Any) -> bool:
    layers = getattr(cache, "layers", None)
    return layers is not None and all(hasattr(layer, "batch_select_indices") for layer in layers)
