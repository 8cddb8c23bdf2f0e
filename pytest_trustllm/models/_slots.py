"""In-flight batching: a finished answer's place is taken by the next prompt, while the other answers go on.

One block of keys and values per layer holds a row per slot. Each step runs one token of every live slot, at its own
position, under a mask by its own length. When a quarter of the slots is free, waiting prompts of similar length are
computed together by a forward of their own, which writes into the free rows. Live slots always are the first rows of
the block, and a step attends no further than the longest of them.
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

from pytest_trustllm.models._line import Line
from pytest_trustllm.models._sampling import NOWHERE, Draft, Row, pick, rounding_of
from pytest_trustllm.models._transformers import cache_name, free_memory, is_out_of_memory
from pytest_trustllm.records import Response

_LOG = logging.getLogger(__name__)
_PREFILL = 2048
"""Padded tokens of prompts computed at once."""
_SPAN = 4
"""Rows that attend together on a CPU."""
_WORTHWHILE = 0.9
_ATTENTION = "trustllm_spans"
_STRIDE = 128
"""Rows grow by this many positions."""
_SHARE = 0.6
"""Part of the free memory that the block may take; the rest is for the forwards."""
_MOST_ON_CPU = 64
_MOST_ELSEWHERE = 256


class _Layer(CacheLayerMixin):  # type: ignore[misc] # transformers is not typed
    """Keys and values of one layer: (slots, positions, heads, size) each, made at the first use."""

    is_sliding = False

    def __init__(self, block: Block) -> None:
        super().__init__()
        self._block = block

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = self._made(key_states), self._made(value_states)
        self.is_initialized = True

    def _made(self, states: torch.Tensor) -> torch.Tensor:
        # zeros: what lies behind a row's end is masked, but 0 * nan would not be
        return states.new_zeros(self._block.slots, self._block.length, states.shape[1], states.shape[3])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        block, keys, values = self._block, self.keys, self.values
        if block.positions is None:
            end, width = block.first + key_states.shape[0], key_states.shape[2]
            keys[block.first : end, :width] = key_states.transpose(1, 2)
            values[block.first : end, :width] = value_states.transpose(1, 2)
            return key_states, value_states
        count, width = key_states.shape[0], block.width
        rows, positions = block.rows[:count].to(keys.device), block.positions.to(keys.device)
        keys[rows, positions] = key_states[:, :, 0]
        values[rows, positions] = value_states[:, :, 0]
        return keys[:count, :width].transpose(1, 2), values[:count, :width].transpose(1, 2)

    def move(self, to: torch.Tensor, of: torch.Tensor, width: int) -> None:
        """Copy the first positions of rows ``of`` into rows ``to``."""
        for states in (self.keys, self.values):
            if states is not None:
                states[to.to(states.device), :width] = states[of.to(states.device), :width]

    def clear(self, rows: torch.Tensor) -> None:
        """Fill rows with zeros."""
        for states in (self.keys, self.values):
            if states is not None:
                states[rows.to(states.device)] = 0

    def resize(self, live: int) -> None:
        """Make rows of the block's present size, with the contents of the first ``live`` ones."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self._resized(self.keys, live), self._resized(self.values, live)

    def _resized(self, states: torch.Tensor, live: int) -> torch.Tensor:
        made = states.new_zeros(self._block.slots, self._block.length, *states.shape[2:])
        kept = min(self._block.length, states.shape[1])
        made[:live, :kept] = states[:live, :kept]
        return made

    def bytes_per_token(self) -> int:
        """Return what one position of one row takes."""
        return sum(s.element_size() * s.shape[2] * s.shape[3] for s in (self.keys, self.values) if s is not None)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return (query_length if self._block.positions is None else self._block.width), 0

    def get_seq_length(self) -> int:
        return 0 if self._block.positions is None else self._block.width - 1

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before transformers 5.24


class Block(Cache):  # type: ignore[misc] # transformers is not typed
    """The cache that a model writes to: all layers, and which rows and positions the next forward is about.

    Args:
        slots: Rows.
        length: Positions of a row.
        layers: Of the model.

    Attributes:
        slots: Rows.
        length: Positions of a row.
        first: Row that the first prompt of a prefill goes to.
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
        self.first, self.positions = first, None

    def decode(self, positions: torch.Tensor, width: int) -> None:
        """Make the next forward write one token per live row."""
        self.positions, self.width = positions, width

    def move(self, to: Sequence[int], of: Sequence[int], width: int) -> None:
        """Copy rows ``of`` into rows ``to``."""
        there, here = (torch.tensor(rows, device=self.rows.device) for rows in (to, of))
        for layer in self.layers:
            layer.move(there, here, width)

    def clear(self, rows: Sequence[int]) -> None:
        """Forget what rows hold: a number that is none would reach whoever comes after them, mask or not."""
        there = torch.tensor(rows, device=self.rows.device)
        for layer in self.layers:
            layer.clear(there)

    def resize(self, slots: int, length: int, live: int) -> None:
        """Change the number and length of rows; the first ``live`` keep their contents."""
        self.slots, self.length = slots, length
        self.rows = torch.arange(slots, device=self.rows.device)
        for layer in self.layers:
            layer.resize(live)

    def bytes_per_token(self) -> int:
        """Return what one position of one row takes in all layers; 0 before the first forward."""
        return sum(layer.bytes_per_token() for layer in self.layers)


def attend_in_spans(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attend as ``sdpa`` does, but a few rows at a time, each no further than it must.

    Rows are of very different length, and on a CPU reading keys and values is most of a step. The mask's ``spans``
    name (first row, end row, width); without them all rows are taken together.
    """
    spans = getattr(attention_mask, "spans", None)
    if spans is None:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return found
    parts = [
        sdpa_attention_forward(
            module,
            query[first:end],
            key[first:end, :, :width],
            value[first:end, :, :width],
            attention_mask[first:end, :, :, :width],
            **kwargs,
        )[0]
        for first, end, width in spans
    ]
    return torch.cat(parts), None


class Forward:
    """The two forwards of the loop: prompts into rows, and one token for each live row.

    Args:
        model: A causal language model.
        slots: Rows to begin with.
        length: Positions of a row to begin with.
    """

    def __init__(self, model: Any, slots: int, length: int) -> None:
        self._model, self._device = model, model.device
        self.block = Block(slots, length, model.config.get_text_config().num_hidden_layers, model.device)
        self._cache = {cache_name(model): self.block, "use_cache": True, "logits_to_keep": 1}
        self._columns = torch.arange(length, device=model.device)
        self._hidden = torch.finfo(model.dtype).min
        self._config = model.config.get_text_config()
        self._spans = self._config._attn_implementation == "sdpa" and model.device.type == "cpu"
        AttentionInterface.register(_ATTENTION, attend_in_spans)

    def prefill(self, prompts: Sequence[Sequence[int]], first: int) -> None:
        """Compute all of every prompt but its last token; the first step computes that one with its neighbours' tokens.

        Args:
            prompts: Token ids; right-padded here: no real token sees what comes after it.
            first: Row of the first prompt; the others follow.
        """
        width = max(map(len, prompts)) - 1
        if width:
            ids = torch.tensor([list(p[:-1]) + [0] * (width + 1 - len(p)) for p in prompts], device=self._device)
            positions = torch.arange(width, device=self._device)[None].expand(len(prompts), -1)
            self.block.prefill(first)
            self._model(input_ids=ids, position_ids=positions, **self._cache)

    def step(self, tokens: torch.Tensor, positions: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Compute one token per row.

        Args:
            tokens: (live,) ids.
            positions: (live,) where they stand.
            lengths: Positions and 1, as plain numbers.

        Returns:
            (live, vocabulary) logits in float32.
        """
        width = min(-(-max(lengths) // 8) * 8, self.block.length)  # kernels like masks whose rows are aligned
        if len(self._columns) < width:
            self._columns = torch.arange(self.block.length, device=self._device)
        seen = self._columns[:width] <= positions[:, None]
        mask: Any = torch.zeros(seen.shape, dtype=self._model.dtype, device=self._device)
        mask = mask.masked_fill_(~seen, self._hidden)[:, None, None]
        self.block.decode(positions, width)
        inputs = {"input_ids": tokens[:, None], "position_ids": positions[:, None], **self._cache}
        spans = _spans(lengths) if self._spans else None
        if spans is None:
            found = self._model(attention_mask=mask, **inputs)
        else:
            mask.spans = spans
            with self._attention(_ATTENTION):
                found = self._model(attention_mask=mask, **inputs)
        logits: torch.Tensor = found.logits[:, -1].float()
        return logits

    @contextlib.contextmanager
    def _attention(self, name: str) -> Iterator[None]:
        theirs = self._config._attn_implementation
        self._config._attn_implementation = name
        try:
            yield
        finally:
            self._config._attn_implementation = theirs


def _spans(lengths: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """Return (first row, end row, width) of every few rows; None if that would spare little."""
    starts = range(0, len(lengths), _SPAN)
    found = [(i, min(i + _SPAN, len(lengths)), max(lengths[i : i + _SPAN])) for i in starts]
    computed = sum((end - first) * width for first, end, width in found)
    return found if computed < _WORTHWHILE * len(lengths) * max(lengths) else None


class SlotLoop:
    """Answers with a block of slots.

    Args:
        model: One that :func:`pytest_trustllm.models._trial.slots_fit` accepts.
        most: Slots; None: as many as the free memory holds and the device has use for.
    """

    def __init__(self, model: Any, most: int | None) -> None:
        self._model = model
        self._most = most or (_MOST_ON_CPU if model.device.type == "cpu" else _MOST_ELSEWHERE)
        self._budget = None if most else free_memory(model.device) * _SHARE
        self._rounding = rounding_of(model.dtype)
        self._begin()
        self._warned = False

    def _begin(self) -> None:
        self._forward = Forward(self._model, 1, _STRIDE)
        self._tokens = torch.zeros(self._most, dtype=torch.long, device=self._model.device)
        self._positions = torch.zeros(self._most, dtype=torch.long, device=self._model.device)
        self._live: list[Draft] = []
        self._joining: Sequence[Row] = ()

    @property
    def size(self) -> int:
        """Sequences computed at once, where memory allows."""
        return self._most

    def run(self, line: Line) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) of all that comes along the line."""
        while True:
            if len(line.rows) < self._most and not line.fill(wait=not self._live and not line.rows):
                return
            yield from line.refused()
            finished = self._advance(line)
            if finished is None:
                yield from self._retreat(line)
            else:
                for draft in finished:
                    yield draft.row.number, line.chat.respond(draft)

    def _advance(self, line: Line) -> list[Draft] | None:
        """Let prompts join and add a token to every live answer.

        Returns:
            Answers that are finished now; None if there was not enough memory.
        """
        with torch.inference_mode():
            try:
                while line.rows and self._has_room(line.rows[0]):
                    self._admit(line)
                return self._step(line) if self._live else []
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                return None

    def _has_room(self, row: Row) -> bool:
        slots = self._slots_for(row)
        free = slots - len(self._live)
        return not self._live or (free > 0 and free * 4 >= slots)

    def _slots_for(self, row: Row) -> int:
        """Return how many rows the memory holds if all are as long as the longest can become, this one included."""
        per_token = self._forward.block.bytes_per_token()
        if self._budget is None or not per_token:
            return self._most
        longest = max(len(r.ids) + r.room for r in (row, *(draft.row for draft in self._live)))
        return max(1, min(self._most, int(self._budget // (per_token * max(longest, _STRIDE)))))

    def _admit(self, line: Line) -> None:
        """Compute a group of prompts of similar length, which are live afterwards."""
        began, live, width = time.perf_counter(), len(self._live), len(line.rows[0].ids)
        slots = self._slots_for(line.rows[0])
        group = line.group(max(1, min(slots - live, _PREFILL // width)))
        self._joining = group
        self._reserve(max(slots, live + 1), width)
        self._forward.prefill([row.ids for row in group], live)
        here = slice(live, live + len(group))
        self._tokens[here] = torch.tensor([row.ids[-1] for row in group])
        self._positions[here] = torch.tensor([len(row.ids) - 1 for row in group])
        self._live += map(Draft, group)
        self._joining = ()
        del line.rows[: len(group)]
        for draft in self._live[here]:
            draft.seconds = (time.perf_counter() - began) / len(group)

    def _reserve(self, slots: int, length: int) -> None:
        """Make the block large enough for rows of ``length`` positions, and not much larger than ``slots`` rows."""
        block = self._forward.block
        if slots > block.slots or slots < block.slots // 2 or length > block.length:
            longer = max(block.length, -(-length // _STRIDE) * _STRIDE)
            block.resize(max(slots, len(self._live)), longer, len(self._live))

    def _step(self, line: Line) -> list[Draft]:
        """Add a token to every live answer and return those that are finished by it."""
        began, live = time.perf_counter(), len(self._live)
        lengths = [len(draft.row.ids) + len(draft.tokens) for draft in self._live]
        self._reserve(self._forward.block.slots, max(lengths))
        tokens, positions = self._tokens[:live], self._positions[:live]
        tokens.copy_(pick(self._forward.step(tokens, positions, lengths), self._live, self._rounding))
        positions += 1
        done = []
        for i, (draft, token) in enumerate(zip(self._live, tokens.tolist(), strict=True)):
            draft.tokens.append(token)
            if line.chat.is_done(draft):
                done.append(i)
        share = (time.perf_counter() - began) / live
        for draft in self._live:
            draft.seconds += share
        finished = [self._live[i] for i in done]
        self._drop(done, max(lengths))
        return finished

    def _drop(self, rows: Sequence[int], width: int) -> None:
        """Take rows out; the last live ones move into their places."""
        left, gone = len(self._live) - len(rows), set(rows)
        if spoilt := [i for i in rows if self._live[i].tokens[-1] == NOWHERE]:
            self._forward.block.clear(spoilt)
        to = [i for i in rows if i < left]
        of = [i for i in range(left, len(self._live)) if i not in gone]
        if to:
            self._forward.block.move(to, of, width)
            self._tokens[to], self._positions[to] = self._tokens[of], self._positions[of]
            for there, here in zip(to, of, strict=True):
                self._live[there] = self._live[here]
        del self._live[left:]

    def _retreat(self, line: Line) -> Iterator[tuple[int, Response]]:
        """Begin the live answers again, with half the slots; a prompt that is too long alone has no answer."""
        tried = len(self._live) + len(self._joining)
        line.rows[:0] = [draft.row for draft in self._live]  # those that were joining never left the line
        self._most = max(1, tried // 2)
        self._begin()
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            row = line.rows.pop(0)
            yield row.number, Response(error=f"out of memory for a prompt of {len(row.ids)} tokens")
        elif not self._warned:
            self._warned = True
            _LOG.warning("out of memory: %d answers at once from here on, fewer if need be", self._most)
