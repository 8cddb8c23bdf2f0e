"""Sequence classifiers and encoders of transformers: refusal, toxicity, embeddings."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import transformers

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models._transformers import Loaded, is_out_of_memory, quiet
from pytest_trustllm.models._transformers import load as load_model
from pytest_trustllm.models.base import BatchModel, LoadSettings, ModelSpec, encodable
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Response

_LOG = logging.getLogger(__name__)
_NEGATED = re.compile(r"(?<![a-z])(?:no|non|not|un)[-_ ]*(?:refus|reject)")
LABELS = ("refusal", "compliance")
_BATCH = 64
_TOKENS = 8192
"""Padded tokens in a batch: many short texts at once, few long ones (attention grows with the square of the length)."""
_WINDOW = 1024
_UNLIMITED = 1_000_000
"""Tokenizers without a limit name an astronomic one."""

Read = Callable[[Any, torch.Tensor], list[Response]]
"""Model output and attention mask (batch, tokens) -> one response per text."""


def load(spec: ModelSpec, settings: LoadSettings) -> BatchModel:
    """Return the classifier, rater or embedder that a model of the hub or a directory is.

    Raises:
        ModelError: It cannot be loaded, or its labels say nothing about refusal or toxicity.
    """
    if spec.kind == "embedder":
        loaded = load_model(spec, settings, transformers.AutoModel, dtype="float32")
        return Encoder(spec, settings, loaded, _pooled, {"pooling": "mean"}, blank="a blank text has no embedding")
    loaded = load_model(spec, settings, transformers.AutoModelForSequenceClassification, dtype="float32")
    names = {int(i): str(name) for i, name in loaded.model.config.id2label.items()}
    if spec.kind == "classifier":
        labels = refusal_labels(spec, names)
        return Encoder(spec, settings, loaded, _labelled(labels), {"labels": labels}, blank=None)
    which = toxic_label(spec, names)
    read = _rated(which, several=_is_multi_label(loaded.model.config))
    return Encoder(spec, settings, loaded, read, {"label": names[which]}, blank="a blank text has no toxicity")


def refusal_labels(spec: ModelSpec, names: Mapping[int, str]) -> list[str]:
    """Return ``refusal`` or ``compliance`` for every label of a classifier.

    The entry's ``labels`` decide; without them a name with "refus" or "reject" in it is the refusal, and of LABEL_0 and
    LABEL_1 the first, as in the paper's LibrAI/longformer-harmful-ro.

    Raises:
        ModelError: Neither says which label is the refusal.
    """
    given = spec.options.get("labels")
    if given is not None:
        wrong = [name for name in names.values() if given.get(name) not in LABELS]
        if wrong or set(given) - set(names.values()):
            raise ModelError(f"models: {spec.name!r}: 'labels' must map {_listed(names)} to 'refusal' or 'compliance'")
        return [given[names[i]] for i in sorted(names)]
    if sorted(names.values()) == ["LABEL_0", "LABEL_1"]:
        return ["refusal" if names[i] == "LABEL_0" else "compliance" for i in sorted(names)]
    found = ["refusal" if _names_refusal(names[i]) else "compliance" for i in sorted(names)]
    if found.count("refusal") != 1:
        raise ModelError(
            f"models: {spec.name!r}: none of its labels {_listed(names)} is clearly a refusal; "
            "say which one is with 'labels: {<label>: refusal, <label>: compliance}' in your models file"
        )
    return found


def _names_refusal(label: str) -> bool:
    low = label.lower()
    return ("refus" in low or "reject" in low) and _NEGATED.search(low) is None


def toxic_label(spec: ModelSpec, names: Mapping[int, str]) -> int:
    """Return the index of the label whose probability is the toxicity.

    Raises:
        ModelError: No label is called toxic, and the entry's ``label`` names none.
    """
    given = spec.options.get("label")
    for i, name in sorted(names.items()):
        if name == given or (given is None and name.lower().startswith("toxic")):
            return i
    what = f"none of its labels {_listed(names)} is " + (repr(given) if given else "called toxic")
    raise ModelError(f"models: {spec.name!r}: {what}; name the toxic one with 'label: <label>' in your models file")


def _listed(names: Mapping[int, str]) -> str:
    return ", ".join(names[i] for i in sorted(names))


def _is_multi_label(config: Any) -> bool:
    return config.num_labels == 1 or getattr(config, "problem_type", None) == "multi_label_classification"


def _labelled(labels: Sequence[str]) -> Read:
    def read(output: Any, mask: torch.Tensor) -> list[Response]:
        likely, which = torch.softmax(output.logits.float(), -1).max(-1)
        pairs = zip(likely.tolist(), which.tolist(), strict=True)
        return [Response(text=labels[i], number=number) for number, i in pairs]

    return read


def _rated(which: int, *, several: bool) -> Read:
    def read(output: Any, mask: torch.Tensor) -> list[Response]:
        logits = output.logits.float()
        numbers = torch.sigmoid(logits) if several else torch.softmax(logits, -1)
        return [Response(number=number) for number in numbers[:, which].tolist()]

    return read


def _pooled(output: Any, mask: torch.Tensor) -> list[Response]:
    real = mask[:, :, None].float()
    mean = (output.last_hidden_state.float() * real).sum(1) / real.sum(1).clamp(min=1)
    return [Response(vector=tuple(row)) for row in mean.tolist()]


class Encoder:
    """A model that reads a text once and says something about it; batches change nothing it says."""

    stored = True

    def __init__(
        self,
        spec: ModelSpec,
        settings: LoadSettings,
        loaded: Loaded,
        read: Read,
        info: Mapping[str, Any],
        blank: str | None,
    ) -> None:
        self._model, self._tokenizer, self._device = loaded.model, loaded.tokenizer, loaded.device
        self._read = read
        self._blank = blank
        self._limit = text_limit(self._model, self._tokenizer)
        self._batch = settings.batch_size or spec.options.get("batch_size") or _BATCH
        if self._tokenizer.pad_token_id is None:
            self._batch = 1  # nothing to pad with
        elif getattr(self._model.config, "pad_token_id", None) is None:
            self._model.config.pad_token_id = self._tokenizer.pad_token_id
        self.info: Mapping[str, Any] = {**loaded.info, "max_tokens": self._limit, **info}

    def generate(self, waiting: Waiting) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) batch by batch, longest texts first; a text is cut at the model's limit."""
        while taken := waiting.take(_WINDOW):
            rows: list[tuple[int, list[int]]] = []
            for number, request in taken:
                if self._blank is not None and not request.text.strip():
                    yield number, Response(error=self._blank)
                else:
                    rows.append((number, self._tokens(request.text)))
            yield from self._computed(sorted(rows, key=lambda row: -len(row[1])))

    def _computed(self, rows: list[tuple[int, list[int]]]) -> Iterator[tuple[int, Response]]:
        while rows:
            size = max(1, min(self._batch, _TOKENS // max(1, len(rows[0][1]))))
            batch, rows = rows[:size], rows[size:]
            try:
                yield from self._run(batch)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                if len(batch) == 1:
                    yield batch[0][0], Response(error=f"out of memory for a text of {len(batch[0][1])} tokens")
                else:
                    self._batch = len(batch) // 2
                    rows = batch + rows
                    _LOG.warning("out of memory: batches of %d from here on", self._batch)

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(
            encodable(text), truncation=self._limit is not None, max_length=self._limit, verbose=False
        )["input_ids"]
        return ids

    def _run(self, batch: Sequence[tuple[int, list[int]]]) -> Iterator[tuple[int, Response]]:
        start = time.perf_counter()
        width, filler = max(len(ids) for _, ids in batch), self._tokenizer.pad_token_id or 0
        ids = torch.tensor([ids + [filler] * (width - len(ids)) for _, ids in batch], device=self._device)
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for _, ids in batch], device=self._device)
        with torch.inference_mode(), quiet():
            found = self._read(self._model(input_ids=ids, attention_mask=mask), mask)
        share = (time.perf_counter() - start) / len(batch)
        for (index, tokens), response in zip(batch, found, strict=True):
            yield index, replace(response, input_tokens=len(tokens), seconds=share)


def text_limit(model: Any, tokenizer: Any) -> int | None:
    """Return how many tokens fit, special ones included: the position table's rows, or the tokenizer's limit.

    Tables of the RoBERTa family (Longformer too) begin after the padding index, so two of their rows are never used.
    """
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < _UNLIMITED else []
    configured = getattr(model.config, "max_position_embeddings", None)
    if isinstance(configured, int) and configured > 0:
        limits.append(configured)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    return min(limits) if limits else None
