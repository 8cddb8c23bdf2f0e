"""Sequence classifiers and encoders of transformers: refusal, toxicity, embeddings."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import BatchModel, LoadSettings, ModelSpec, encodable
from pytest_trustllm.models.local.batching_trial import equal_up_to_rounding
from pytest_trustllm.models.local.loading import (
    Loaded,
    forward_inputs,
    is_out_of_memory,
    load_checkpoint,
    quiet,
    table_size,
    unknown_token,
)
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Response

_LOG = logging.getLogger(__name__)
_NEGATED = re.compile(r"(?<![a-z])(?:no|non|not|un)[-_ ]*(?:refus|reject)")
"""Labels such as ``not_refusal``, which name a refusal and mean the opposite."""
LABELS = ("refusal", "compliance")
_BATCH = 64
_TOKENS = 8192
"""Padded tokens in a batch: many short texts at once, few long ones (attention grows with the square of the length)."""
_WINDOW = 1024
"""Texts that are tokenized and sorted by length together."""
_UNLIMITED = 1_000_000
"""Tokenizers without a limit report an astronomic one."""
_TRIAL_LENGTHS = (24, 3, 11)
"""Tokens of the texts that are read together and alone."""

OutputReader = Callable[[Any, torch.Tensor], list[Response]]
"""Model output and attention mask (batch, tokens) -> one response per text."""


def load_encoder(spec: ModelSpec, settings: LoadSettings) -> BatchModel:
    """Return the classifier, rater or embedder that a repository of the hub or a directory holds.

    All of them are loaded in float32 unless the entry names another type: they are small, and scores are made of their
    probabilities and vectors.

    Raises:
        ModelError: It cannot be loaded, or none of its labels names a refusal or toxicity.
    """
    if spec.kind == "embedder":
        loaded = load_checkpoint(spec, settings, transformers.AutoModel, dtype="float32")
        return Encoder(spec, settings, loaded, _read_embeddings, {"pooling": "mean"}, "a blank text has no embedding")
    loaded = load_checkpoint(spec, settings, transformers.AutoModelForSequenceClassification, dtype="float32")
    names = {int(i): str(name) for i, name in loaded.model.config.id2label.items()}
    if spec.kind == "classifier":
        labels = refusal_labels(spec, names)
        return Encoder(spec, settings, loaded, _label_reader(labels), {"labels": labels}, None)
    toxic = toxic_label(spec, names)
    reader = _probability_reader(toxic, multi_label=_is_multi_label(loaded.model.config))
    return Encoder(spec, settings, loaded, reader, {"label": names[toxic]}, "a blank text has no toxicity")


def refusal_labels(spec: ModelSpec, names: Mapping[int, str]) -> list[str]:
    """Return ``refusal`` or ``compliance`` for every label of a classifier.

    The entry's ``labels`` decide. Without them, a name that contains "refus" or "reject" is the refusal, and of LABEL_0
    and LABEL_1 it is the first, as in the paper's LibrAI/longformer-harmful-ro.

    Args:
        spec: Which model.
        names: Index -> name of each label.

    Raises:
        ModelError: Neither tells which label is the refusal.
    """
    indices = sorted(names)
    given = spec.options.get("labels")
    if given is not None:
        invalid = [name for name in names.values() if given.get(name) not in LABELS]
        unknown = set(given) - set(names.values())
        if invalid or unknown:
            raise ModelError(f"models: {spec.name!r}: 'labels' must map {_listed(names)} to 'refusal' or 'compliance'")
        return [given[names[i]] for i in indices]
    if sorted(names.values()) == ["LABEL_0", "LABEL_1"]:
        return ["refusal" if names[i] == "LABEL_0" else "compliance" for i in indices]
    guessed = ["refusal" if _names_refusal(names[i]) else "compliance" for i in indices]
    if guessed.count("refusal") != 1:
        raise ModelError(
            f"models: {spec.name!r}: none of its labels {_listed(names)} is clearly a refusal; "
            "say which one is with 'labels: {<label>: refusal, <label>: compliance}' in your models file"
        )
    return guessed


def _names_refusal(label: str) -> bool:
    lower = label.lower()
    return ("refus" in lower or "reject" in lower) and _NEGATED.search(lower) is None


def toxic_label(spec: ModelSpec, names: Mapping[int, str]) -> int:
    """Return the index of the label whose probability is the toxicity.

    Args:
        spec: Which model; its option ``label`` names the label, else it is the first that begins with "toxic".
        names: Index -> name of each label.

    Raises:
        ModelError: There is no such label.
    """
    given = spec.options.get("label")
    for i, name in sorted(names.items()):
        if name == given or (given is None and name.lower().startswith("toxic")):
            return i
    wanted = repr(given) if given else "called toxic"
    raise ModelError(
        f"models: {spec.name!r}: none of its labels {_listed(names)} is {wanted}; "
        "name the toxic one with 'label: <label>' in your models file"
    )


def _listed(names: Mapping[int, str]) -> str:
    return ", ".join(names[i] for i in sorted(names))


def _is_multi_label(config: Any) -> bool:
    """Tell whether labels do not exclude each other: each logit then has a sigmoid instead of a common softmax."""
    return config.num_labels == 1 or getattr(config, "problem_type", None) == "multi_label_classification"


def _label_reader(labels: Sequence[str]) -> OutputReader:
    """Return a reader of the likeliest label and its probability."""

    def read(output: Any, mask: torch.Tensor) -> list[Response]:
        probabilities, indices = torch.softmax(output.logits.float(), -1).max(-1)
        responses = []
        for probability, index in zip(probabilities.tolist(), indices.tolist(), strict=True):
            responses.append(Response(text=labels[index], number=probability))
        return responses

    return read


def _probability_reader(label: int, *, multi_label: bool) -> OutputReader:
    """Return a reader of the probability of one label."""

    def read(output: Any, mask: torch.Tensor) -> list[Response]:
        logits = output.logits.float()
        probabilities = torch.sigmoid(logits) if multi_label else torch.softmax(logits, -1)
        return [Response(number=probability) for probability in probabilities[:, label].tolist()]

    return read


def _read_embeddings(output: Any, mask: torch.Tensor) -> list[Response]:
    return [Response(vector=tuple(row)) for row in _mean_of_tokens(output, mask).tolist()]


def _mean_of_tokens(output: Any, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the last hidden states of real tokens, (batch, size) in float32."""
    is_real = mask[:, :, None].float()
    total = (output.last_hidden_state.float() * is_real).sum(1)
    mean: torch.Tensor = total / is_real.sum(1).clamp(min=1)
    return mean


def _read_numbers(output: Any, mask: torch.Tensor) -> torch.Tensor:
    """Return the numbers that every response is made of: logits, or the mean of the tokens."""
    logits = getattr(output, "logits", None)
    if logits is None:
        return _mean_of_tokens(output, mask)
    numbers: torch.Tensor = logits.float()
    return numbers


@dataclass(frozen=True, slots=True)
class _TokenizedText:
    """A text as its model takes it.

    Attributes:
        ids: Token ids.
        types: Token types, as many; empty: all are of the first type, which need not be given.
    """

    ids: Sequence[int]
    types: Sequence[int]


class Encoder:
    """A model that reads a text once: its label, its rating or its vector, which no neighbour in a batch changes.

    Args:
        spec: Which model.
        settings: Batch size.
        loaded: The model and its tokenizer.
        reader: Makes responses of the model's output.
        info: What the results file records beside what all models have.
        blank_error: Error for a blank text; None: it is read like any other.
    """

    stored = True

    def __init__(
        self,
        spec: ModelSpec,
        settings: LoadSettings,
        loaded: Loaded,
        reader: OutputReader,
        info: Mapping[str, Any],
        blank_error: str | None,
    ) -> None:
        self._model, self._tokenizer, self._device = loaded.model, loaded.tokenizer, loaded.device
        self._reader = reader
        self._blank_error = blank_error
        self._limit = text_limit(self._model, self._tokenizer)
        self._table = table_size(self._model)
        self._takes_types = "token_type_ids" in forward_inputs(self._model)
        self._padding = self._padding_token()
        self._batch = self._batch_size(spec, settings.batch_size or spec.options.get("batch_size") or _BATCH)
        self.info: Mapping[str, Any] = {**loaded.info, "max_tokens": self._limit, **info}

    def _padding_token(self) -> int | None:
        """Return the token to pad with, None if there is none that the model has an embedding for."""
        padding: int | None = self._tokenizer.pad_token_id
        if padding is None:
            return None
        if self._table is not None and padding >= self._table:
            return None
        if getattr(self._model.config, "pad_token_id", None) is None:
            # Classifiers made of language models read the last token that is not this one.
            self._model.config.pad_token_id = padding
        return padding

    def _batch_size(self, spec: ModelSpec, most: int) -> int:
        """Return how many texts may be read together: one, if padding changes what the model reads (XLNet).

        Raises:
            ModelError: The model does not read a text at all.
        """
        rows = self._trial_texts()
        try:
            alone = [self._output([row], _read_numbers)[0] for row in rows]
        except Exception as e:  # the code of an architecture can raise anything
            fault = f"{type(self._model).__name__} does not read a text alone ({type(e).__name__}: {one_line(e, 120)})"
            raise ModelError(f"models: {spec.name!r} cannot be loaded: {fault}") from e
        if self._padding is None:
            return 1
        try:
            together = self._output(rows, _read_numbers)
        except Exception as e:  # noqa: BLE001 - alone it does read them
            _LOG.debug("no batches for %s: %s", type(self._model).__name__, e)
            return 1
        return most if equal_up_to_rounding(self._model, together, alone) else 1

    def _trial_texts(self) -> list[_TokenizedText]:
        """Return random texts of different length, so that most are padded when read together."""
        seeded = torch.Generator().manual_seed(0)  # the same trial, and so the same batches, in every run
        vocabulary = self._table or self._model.config.vocab_size
        ids = torch.randint(vocabulary, (len(_TRIAL_LENGTHS), max(_TRIAL_LENGTHS)), generator=seeded)
        rows = []
        for row, wanted in zip(ids, _TRIAL_LENGTHS, strict=True):
            length = min(wanted, self._limit or wanted)
            # As text and back, because the tokenizer adds what the model needs at both ends.
            tokens = self._tokenized(self._tokenizer.decode(row[:length].tolist()))
            if tokens.ids and not self._unknown(tokens.ids):
                rows.append(tokens)
        return rows

    def generate(self, waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) batch by batch, longest texts first; a text is cut at the model's limit."""
        while taken := waiting.take(_WINDOW):
            rows: list[tuple[int, _TokenizedText]] = []
            for number, request in taken:
                tokens = self._tokenized(request.text)
                if self._blank_error is not None and not request.text.strip():
                    yield number, Response(error=self._blank_error)
                elif unknown := self._unknown(tokens.ids):
                    yield number, Response(error=unknown)
                else:
                    rows.append((number, tokens))
            # Texts of similar length need little padding when they are read together.
            rows.sort(key=lambda row: -len(row[1].ids))
            yield from self._computed(rows)

    def _unknown(self, ids: Sequence[int]) -> str | None:
        """Return what is wrong with tokens that the model cannot look up."""
        return unknown_token(self._tokenizer, ids, self._table)

    def _computed(self, rows: list[tuple[int, _TokenizedText]]) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) of texts that are sorted by length, with smaller batches where memory is short."""
        while rows:
            longest = len(rows[0][1].ids)
            size = max(1, min(self._batch, _TOKENS // max(1, longest)))
            batch, rows = rows[:size], rows[size:]
            try:
                yield from self._run(batch)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                if len(batch) == 1:
                    yield batch[0][0], Response(error=f"out of memory for a text of {longest} tokens")
                else:
                    self._batch = len(batch) // 2
                    rows = batch + rows
                    _LOG.warning("out of memory: batches of %d from here on", self._batch)

    def _tokenized(self, text: str) -> _TokenizedText:
        encoding = self._tokenizer(
            encodable(text), truncation=self._limit is not None, max_length=self._limit, verbose=False
        )
        types = encoding.get("token_type_ids") or []
        # GPT-2 and its relatives add an embedding for every type they are given, even the first, which they were not
        # trained with; to other models the first type makes no difference.
        needs_types = self._takes_types and any(types)
        return _TokenizedText(encoding["input_ids"], types if needs_types else [])

    def _run(self, batch: Sequence[tuple[int, _TokenizedText]]) -> Iterator[tuple[int, Response]]:
        began = time.perf_counter()
        responses = self._output([tokens for _, tokens in batch], self._reader)
        share = (time.perf_counter() - began) / len(batch)
        for (number, tokens), response in zip(batch, responses, strict=True):
            yield number, replace(response, input_tokens=len(tokens.ids), seconds=share)

    def _output(self, batch: Sequence[_TokenizedText], reader: Callable[[Any, torch.Tensor], Any]) -> Any:
        """Return what ``reader`` makes of the model's output and the mask."""
        width = max(len(row.ids) for row in batch)
        padding = self._padding or 0  # without a token to pad with, the batch is one text
        mask = self._padded([[1] * len(row.ids) for row in batch], width, 0)
        inputs = {"input_ids": self._padded([row.ids for row in batch], width, padding), "attention_mask": mask}
        if any(row.types for row in batch):
            inputs["token_type_ids"] = self._padded([row.types for row in batch], width, 0)
        with torch.inference_mode(), quiet():
            return reader(self._model(**inputs), mask)

    def _padded(self, rows: Sequence[Sequence[int]], width: int, padding: int) -> torch.Tensor:
        """Return rows padded on the right, (rows, width): encoders count positions from the left."""
        padded = [[*row, *[padding] * (width - len(row))] for row in rows]
        return torch.tensor(padded, device=self._device)


def text_limit(model: Any, tokenizer: Any) -> int | None:
    """Return how many tokens fit, special ones included; None if nothing limits them.

    The least of the tokenizer's limit, the configuration's, and the rows of the position table. Tables of the RoBERTa
    family (Longformer too) begin after the padding index, so two of their rows are never used.
    """
    limits = []
    if tokenizer.model_max_length < _UNLIMITED:
        limits.append(tokenizer.model_max_length)
    configured = getattr(model.config, "max_position_embeddings", None)
    if isinstance(configured, int) and configured > 0:
        limits.append(configured)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - unused)
    return min(limits) if limits else None
