"""In-flight batching: a finished answer's place is taken by the next prompt while the other answers continue.

One block of keys and values per layer holds a row per slot. Each step runs one token of every live slot, at its own
position, under a mask by its own length. When a quarter of the slots is free, waiting prompts of similar length are
computed together by a forward of their own, which writes into the free rows. Live slots are always the first rows of
the block, and a step attends no further than the longest of them.

Why not ``generate_batch``, transformers' own continuous batching? Its greedy answers are those of batch 1 too, but:

- Its sampled answers depend on their neighbours: one generator draws for the whole batch. With a fixed seed, 16 of 16
  sampled answers of the demo model were others in a batch than alone. Here the seed belongs to the request.
- It has no stop strings, and does not report near ties.
- It is slower on a CPU. Without flash attention every token attends, under a mask, to the pages of all requests.
  The slot loop gave 1.5 times its tokens per second with SmolLM2-135M-Instruct and 2.7 times with the demo model
  (48 prompts, greedy, up to 32 tokens, float32, CPU time of one thread, medians of 3 interleaved rounds, transformers
  5.24.0, torch 2.13.0; tables in benchmarks/README.md, no figure from a GPU yet):
  ``python benchmarks/local.py checkpoint --model DIRECTORY --prompts 48 --static --threads 1 --cpu-time``
- Left to itself it reserves 60 % of the machine's memory at every call, 25 s on a machine with 24 GB.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pytest_trustllm.models.local.loading import cache_name, free_memory, is_out_of_memory
from pytest_trustllm.models.local.sampling import NO_TOKEN, Draft, PreparedPrompt, choose_tokens, rounding_of
from pytest_trustllm.models.local.scheduling import PromptQueue
from pytest_trustllm.types import Response

_LOG = logging.getLogger(__name__)
_PREFILL = 2048
"""Padded prompt tokens computed at once."""
_SPAN = 4
"""Rows that attend together on a CPU."""
_WORTHWHILE = 0.9
"""Spans are used if they compute less than this share of what all rows together would."""
_ATTENTION = "trustllm_spans"
_STRIDE = 128
"""Rows grow by this many positions, so that the block is copied once in 128 steps and not at every one."""
_SHARE = 0.6
"""Part of the free memory that the block may take; the rest is for the forwards."""
_FREE_SHARE = 4
"""Prompts join when one slot in this many is free: a prefill of its own for each would stop all others each time."""
_MOST_ON_CPU = 64
_MOST_ELSEWHERE = 256
_MASK_MULTIPLE = 8
"""Attention kernels are faster on masks whose rows are aligned."""


class _Layer(CacheLayerMixin):  # type: ignore[misc] # transformers is not typed
    """Keys and values of one layer: (slots, positions, heads, size) each, allocated at the first use."""

    is_sliding = False

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._allocated(key_states)
        self.values = self._allocated(value_states)
        self.is_initialized = True

    def _allocated(self, states: torch.Tensor) -> torch.Tensor:
        # Zeros, not empty memory: what is behind a row's end is masked, but a masked NaN is still NaN.
        return states.new_zeros(self._cache.slots, self._cache.length, states.shape[1], states.shape[3])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        if self._cache.positions is None:
            return self._write_prompts(key_states, value_states)
        return self._write_tokens(key_states, value_states, self._cache.positions)

    def _write_prompts(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store prompts, (prompts, heads, width, size), in their rows; they attend to themselves alone."""
        first = self._cache.first
        end, width = first + key_states.shape[0], key_states.shape[2]
        self.keys[first:end, :width] = key_states.transpose(1, 2)
        self.values[first:end, :width] = value_states.transpose(1, 2)
        return key_states, value_states

    def _write_tokens(
        self, key_states: torch.Tensor, value_states: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one token per live row, (live, heads, 1, size), and return all that the rows hold."""
        # With a device map, layers are on different devices.
        device, live, width = self.keys.device, key_states.shape[0], self._cache.width
        rows, columns = self._cache.rows[:live].to(device), positions.to(device)
        self.keys[rows, columns] = key_states[:, :, 0]
        self.values[rows, columns] = value_states[:, :, 0]
        return self.keys[:live, :width].transpose(1, 2), self.values[:live, :width].transpose(1, 2)

    def move(self, targets: torch.Tensor, sources: torch.Tensor, width: int) -> None:
        """Copy the first ``width`` positions of the source rows into the target rows."""
        for states in self._states():
            states[targets.to(states.device), :width] = states[sources.to(states.device), :width]

    def clear(self, rows: torch.Tensor) -> None:
        """Fill rows with zeros."""
        for states in self._states():
            states[rows.to(states.device)] = 0

    def resize(self, live: int) -> None:
        """Allocate rows of the cache's present size, with the contents of the first ``live`` ones."""
        if self.keys is not None and self.values is not None:
            self.keys = self._resized(self.keys, live)
            self.values = self._resized(self.values, live)

    def _resized(self, states: torch.Tensor, live: int) -> torch.Tensor:
        resized = states.new_zeros(self._cache.slots, self._cache.length, *states.shape[2:])
        kept = min(self._cache.length, states.shape[1])
        resized[:live, :kept] = states[:live, :kept]
        return resized

    def bytes_per_token(self) -> int:
        """Return the bytes of one position of one row."""
        return sum(states.element_size() * states.shape[2] * states.shape[3] for states in self._states())

    def _states(self) -> list[torch.Tensor]:
        """Return keys and values; nothing before the first forward."""
        return [states for states in (self.keys, self.values) if states is not None]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        if self._cache.positions is None:
            return query_length, 0
        return self._cache.width, 0

    def get_seq_length(self) -> int:
        if self._cache.positions is None:
            return 0
        return self._cache.width - 1

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before transformers 5.24


class SlotCache(Cache):  # type: ignore[misc] # transformers is not typed
    """The cache that a model writes to: all layers, and which rows and positions the next forward is about.

    Args:
        slots: Number of rows.
        length: Positions of a row.
        layers: Number of the model's layers.
        device: Where indices are kept.

    Attributes:
        slots: Number of rows.
        length: Positions of a row.
        first: Row of the first prompt of a prefill.
        positions: (live,) where each row's new token goes; None: the next forward computes prompts.
        width: Positions that the next step attends to.
        rows: (slots,) 0, 1, 2, ...
    """

    def __init__(self, slots: int, length: int, layers: int, device: torch.device) -> None:
        self.slots, self.length = slots, length
        self.first, self.width = 0, 0
        self.positions: torch.Tensor | None = None
        self.rows = torch.arange(slots, device=device)
        super().__init__(layers=[_Layer(self) for _ in range(layers)])

    def prefill(self, first: int) -> None:
        """Make the next forward write prompts into the rows from ``first`` on."""
        self.first = first
        self.positions = None

    def decode(self, positions: torch.Tensor, width: int) -> None:
        """Make the next forward write one token per live row."""
        self.positions = positions
        self.width = width

    def move(self, targets: Sequence[int], sources: Sequence[int], width: int) -> None:
        """Copy the first ``width`` positions of the source rows into the target rows."""
        target_rows, source_rows = self._indices(targets), self._indices(sources)
        for layer in self.layers:
            layer.move(target_rows, source_rows, width)

    def clear(self, rows: Sequence[int]) -> None:
        """Forget what rows hold: a NaN would reach whichever answer gets the row next, in spite of its mask."""
        indices = self._indices(rows)
        for layer in self.layers:
            layer.clear(indices)

    def resize(self, slots: int, length: int, live: int) -> None:
        """Change the number and length of rows; the first ``live`` keep their contents."""
        self.slots, self.length = slots, length
        self.rows = torch.arange(slots, device=self.rows.device)
        for layer in self.layers:
            layer.resize(live)

    def bytes_per_token(self) -> int:
        """Return the bytes of one position of one row in all layers; 0 before the first forward."""
        return sum(layer.bytes_per_token() for layer in self.layers)

    def _indices(self, rows: Sequence[int]) -> torch.Tensor:
        return torch.tensor(rows, device=self.rows.device)


def attend_in_spans(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attend as ``sdpa`` does, but a few rows at a time, each no further than it must.

    Rows differ widely in length, and on a CPU reading keys and values is most of a step. The attribute ``spans`` of
    the mask holds (first row, end row, width); without it all rows attend together.
    """
    spans = getattr(attention_mask, "spans", None)
    if spans is None:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return whole
    parts = []
    for first, end, width in spans:
        rows_key, rows_value = key[first:end, :, :width], value[first:end, :, :width]
        rows_mask = attention_mask[first:end, :, :, :width]
        part, _ = sdpa_attention_forward(module, query[first:end], rows_key, rows_value, rows_mask, **kwargs)
        parts.append(part)
    return torch.cat(parts), None


class SlotForward:
    """The two forwards of the loop: prompts into rows, and one token for each live row.

    Args:
        model: A causal language model.
        slots: Rows to begin with.
        length: Positions of a row to begin with.

    Attributes:
        cache: The rows.
    """

    def __init__(self, model: Any, slots: int, length: int) -> None:
        self._model, self._device = model, model.device
        self._config = model.config.get_text_config()
        self.cache = SlotCache(slots, length, self._config.num_hidden_layers, model.device)
        self._common_inputs = {cache_name(model): self.cache, "use_cache": True, "logits_to_keep": 1}
        self._columns = torch.arange(length, device=model.device)
        self._hidden = torch.finfo(model.dtype).min  # not -inf, whose softmax is NaN where nothing else is
        self._uses_spans = self._config._attn_implementation == "sdpa" and model.device.type == "cpu"
        AttentionInterface.register(_ATTENTION, attend_in_spans)

    def prefill(self, prompts: Sequence[Sequence[int]], first: int) -> None:
        """Compute all of every prompt but its last token, which the first step computes together with other rows.

        Prompts of different length end in different columns, and logits are wanted at each one's end alone.

        Args:
            prompts: Token ids. They are padded on the right: under the causal mask no real token sees what follows it,
                so prompts need no mask of their own and begin at position 0 as they would alone.
            first: Row of the first prompt; the others follow.
        """
        width = max(map(len, prompts)) - 1
        if not width:
            return
        padded = [list(prompt[:-1]) + [0] * (width + 1 - len(prompt)) for prompt in prompts]
        ids = torch.tensor(padded, device=self._device)
        positions = torch.arange(width, device=self._device)[None].expand(len(prompts), -1)
        self.cache.prefill(first)
        self._model(input_ids=ids, position_ids=positions, **self._common_inputs)

    def step(self, tokens: torch.Tensor, positions: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Compute one token per row.

        Args:
            tokens: (live,) ids.
            positions: (live,) their positions.
            lengths: Positions and 1, as plain numbers: reading them from the device would wait for it.

        Returns:
            (live, vocabulary) logits in float32.
        """
        width = min(_round_up(max(lengths), _MASK_MULTIPLE), self.cache.length)
        mask = self._mask(positions, width)
        self.cache.decode(positions, width)
        inputs = {"input_ids": tokens[:, None], "position_ids": positions[:, None], **self._common_inputs}
        spans = _spans(lengths) if self._uses_spans else None
        if spans is None:
            output = self._model(attention_mask=mask, **inputs)
        else:
            # The model hands the mask through to the attention as it is, and nothing else could carry the spans.
            mask.spans = spans
            with self._attention(_ATTENTION):
                output = self._model(attention_mask=mask, **inputs)
        # float32: a softmax in a narrower type would lose the rare tokens, and temperature would widen its rounding.
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _mask(self, positions: torch.Tensor, width: int) -> Any:
        """Return what is added to attention scores, (live, 1, 1, width): each row sees up to its own new token."""
        if len(self._columns) < width:
            self._columns = torch.arange(self.cache.length, device=self._device)
        visible = self._columns[:width] <= positions[:, None]
        mask = torch.zeros(visible.shape, dtype=self._model.dtype, device=self._device)
        return mask.masked_fill_(~visible, self._hidden)[:, None, None]

    @contextlib.contextmanager
    def _attention(self, name: str) -> Iterator[None]:
        original = self._config._attn_implementation
        self._config._attn_implementation = name
        try:
            yield
        finally:
            self._config._attn_implementation = original


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _spans(lengths: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """Return (first row, end row, width) of every few rows; None if that would save little."""
    spans = []
    computed = 0
    for first in range(0, len(lengths), _SPAN):
        rows = lengths[first : first + _SPAN]
        width = max(rows)
        spans.append((first, first + len(rows), width))
        computed += len(rows) * width
    if computed < _WORTHWHILE * len(lengths) * max(lengths):
        return spans
    return None


class SlotLoop:
    """Answers with a block of slots.

    Args:
        model: One that :func:`pytest_trustllm.models.local.batching_trial.choose_batching` finds fit for slots.
        most: Slots; None: as many as the free memory holds and the device has use for.
    """

    def __init__(self, model: Any, most: int | None) -> None:
        self._model = model
        if most:
            self._most = most
            self._budget = None
        else:
            self._most = _MOST_ON_CPU if model.device.type == "cpu" else _MOST_ELSEWHERE
            self._budget = free_memory(model.device) * _SHARE
        self._rounding = rounding_of(model.dtype)
        self._begin()
        self._warned = False

    def _begin(self) -> None:
        self._forward = SlotForward(self._model, 1, _STRIDE)
        self._tokens = torch.zeros(self._most, dtype=torch.long, device=self._model.device)
        self._positions = torch.zeros(self._most, dtype=torch.long, device=self._model.device)
        self._live: list[Draft] = []
        self._joining: Sequence[PreparedPrompt] = ()

    @property
    def size(self) -> int:
        """Most sequences computed at once, where memory allows."""
        return self._most

    def run(self, queue: PromptQueue) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) of every request of the queue, as answers are finished."""
        while True:
            is_idle = not self._live and not queue.prompts
            if len(queue.prompts) < self._most and not queue.fill(wait=is_idle):
                return
            yield from queue.refused()
            finished = self._advance(queue)
            if finished is None:
                yield from self._retreat(queue)
            else:
                for draft in finished:
                    yield draft.prompt.number, queue.codec.respond(draft)

    def _advance(self, queue: PromptQueue) -> list[Draft] | None:
        """Let prompts join and add a token to every live answer.

        Returns:
            Answers that are finished now; None if there was not enough memory.
        """
        with torch.inference_mode():
            try:
                while queue.prompts and self._has_room(queue.prompts[0]):
                    self._admit(queue)
                if not self._live:
                    return []
                return self._step(queue)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                return None

    def _has_room(self, prompt: PreparedPrompt) -> bool:
        if not self._live:
            return True
        slots = self._slots_for(prompt)
        free = slots - len(self._live)
        return free > 0 and free * _FREE_SHARE >= slots

    def _slots_for(self, prompt: PreparedPrompt) -> int:
        """Return how many rows the memory holds if all are as long as the longest can become, this one included."""
        bytes_per_token = self._forward.cache.bytes_per_token()
        if self._budget is None or not bytes_per_token:
            return self._most
        prompts = [prompt, *(draft.prompt for draft in self._live)]
        longest = max(len(candidate.ids) + candidate.room for candidate in prompts)
        affordable = int(self._budget // (bytes_per_token * max(longest, _STRIDE)))
        return max(1, min(self._most, affordable))

    def _admit(self, queue: PromptQueue) -> None:
        """Compute a group of prompts of similar length, which are live afterwards."""
        began = time.perf_counter()
        live, width = len(self._live), len(queue.prompts[0].ids)
        slots = self._slots_for(queue.prompts[0])
        group = queue.group(max(1, min(slots - live, _PREFILL // width)))
        self._joining = group
        self._reserve(max(slots, live + 1), width)
        self._forward.prefill([prompt.ids for prompt in group], live)
        joined = slice(live, live + len(group))
        self._tokens[joined] = torch.tensor([prompt.ids[-1] for prompt in group])
        self._positions[joined] = torch.tensor([len(prompt.ids) - 1 for prompt in group])
        self._live += map(Draft, group)
        self._joining = ()
        del queue.prompts[: len(group)]
        share = (time.perf_counter() - began) / len(group)
        for draft in self._live[joined]:
            draft.seconds = share

    def _reserve(self, slots: int, length: int) -> None:
        """Make the block large enough for rows of ``length`` positions, and not much larger than ``slots`` rows."""
        cache = self._forward.cache
        if slots > cache.slots or slots < cache.slots // 2 or length > cache.length:
            longer = max(cache.length, _round_up(length, _STRIDE))
            cache.resize(max(slots, len(self._live)), longer, len(self._live))

    def _step(self, queue: PromptQueue) -> list[Draft]:
        """Add a token to every live answer and return those that are finished by it."""
        began, live = time.perf_counter(), len(self._live)
        lengths = [len(draft.prompt.ids) + len(draft.tokens) for draft in self._live]
        self._reserve(self._forward.cache.slots, max(lengths))
        tokens, positions = self._tokens[:live], self._positions[:live]
        logits = self._forward.step(tokens, positions, lengths)
        tokens.copy_(choose_tokens(logits, self._live, self._rounding))
        positions += 1
        done = []
        for row, (draft, token) in enumerate(zip(self._live, tokens.tolist(), strict=True)):
            draft.tokens.append(token)
            if queue.codec.is_done(draft):
                done.append(row)
        share = (time.perf_counter() - began) / live
        for draft in self._live:
            draft.seconds += share
        finished = [self._live[row] for row in done]
        self._drop(done, max(lengths))
        return finished

    def _drop(self, rows: Sequence[int], width: int) -> None:
        """Remove rows; the last live ones move into their places."""
        spoilt = [row for row in rows if self._live[row].tokens[-1] == NO_TOKEN]
        if spoilt:
            self._forward.cache.clear(spoilt)
        left, dropped = len(self._live) - len(rows), set(rows)
        gaps = [row for row in rows if row < left]
        movers = [row for row in range(left, len(self._live)) if row not in dropped]
        if gaps:
            self._forward.cache.move(gaps, movers, width)
            self._tokens[gaps] = self._tokens[movers]
            self._positions[gaps] = self._positions[movers]
            for gap, mover in zip(gaps, movers, strict=True):
                self._live[gap] = self._live[mover]
        del self._live[left:]

    def _retreat(self, queue: PromptQueue) -> Iterator[tuple[int, Response]]:
        """Begin the live answers again with half the slots; a prompt that is too long alone gets an error."""
        tried = len(self._live) + len(self._joining)
        # Prompts that were joining never left the queue.
        queue.prompts[:0] = [draft.prompt for draft in self._live]
        self._most = max(1, tried // 2)
        self._begin()
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            prompt = queue.prompts.pop(0)
            yield prompt.number, Response(error=f"out of memory for a prompt of {len(prompt.ids)} tokens")
        elif not self._warned:
            self._warned = True
            _LOG.warning("out of memory: %d answers at once from here on, fewer if need be", self._most)
