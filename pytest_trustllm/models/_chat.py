"""Chat models of transformers: prompts through the template, answers in flight, none changed by its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import transformers
from jinja2 import TemplateError
from transformers.cache_utils import CacheLayerMixin

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models._line import Line
from pytest_trustllm.models._sampling import NOWHERE, Draft, Row, rounding_of
from pytest_trustllm.models._slots import SlotLoop
from pytest_trustllm.models._static import StaticBatches
from pytest_trustllm.models._transformers import Loaded, cache_name, forward_inputs, load, position_limit, quiet
from pytest_trustllm.models._trial import layers_of, padding_is_harmless, slots_fit
from pytest_trustllm.models.base import LoadSettings, ModelSpec, encodable
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Request, Response, digest

_BATCH = 16
"""Rows of a static batch."""
# Some templates put today's date into the prompt; a fixed one keeps prompts, answers and the store the same tomorrow.
_TEMPLATE_DATE = "26 Jul 2024"


class ChatModel:
    """A causal language model behind its chat template.

    A greedy answer is that of the prompt alone; a sampled one depends on the prompt, the request's seed and the step:
    batch size and neighbours change neither (in float32; narrower types round differently in other batches, and an
    answer says if that could have changed it).
    """

    stored = True
    repeats_itself = True

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        loaded = load(spec, settings, transformers.AutoModelForCausalLM)
        self._tokenizer = loaded.tokenizer
        self._context = position_limit(loaded.model.config)
        self._cuts = spec.options.get("long_prompts") == "cut"
        self._system = spec.options.get("system_prompt")
        self._template = spec.options.get("chat_template") or self._tokenizer.chat_template
        self._template_options = {"date_string": _TEMPLATE_DATE, **spec.options.get("template_options", {})}
        self._specials = spec.options.get("add_special_tokens", self._template is None)
        self._ends = _end_tokens(loaded.model, self._tokenizer) | {NOWHERE}
        self._computer = _computer(spec, loaded, settings.batch_size or spec.options.get("batch_size"))
        self.info: Mapping[str, Any] = {
            **loaded.info,
            "chat_template": digest(self._template)[:16] if self._template else None,
            "template_options": self._template_options,
            "add_special_tokens": self._specials,
            "system_prompt": self._system,
            "context": self._context,
            **({"long_prompts": "cut"} if self._cuts else {}),
            "about": {
                **loaded.info["about"],
                "batch_size": self._computer.size,
                "batching": "in flight" if isinstance(self._computer, SlotLoop) else "static",
                **({"batch_effects": "possible"} if rounding_of(loaded.model.dtype) else {}),
            },
        }

    def generate(self, waiting: Waiting) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) as answers are finished."""
        return self._computer.run(Line(waiting, self))

    def prepare(self, number: int, request: Request) -> Row | Response:
        """Return the token ids of a request, or why it cannot be asked."""
        try:
            ids = self._tokenizer(encodable(self.prompt(request)), add_special_tokens=self._specials, verbose=False)[
                "input_ids"
            ]
        except (TemplateError, TypeError, ValueError) as e:
            return Response(error=f"the chat template does not take this chat: {one_line(e)}")
        if not ids:
            return Response(error="the prompt has no tokens")
        room = request.generation.max_new_tokens
        if self._context is None:
            return Row(number, request, ids, room)
        if len(ids) >= self._context and self._cuts:
            ids = ids[-max(1, self._context - room, self._context // 2) :]
        room = min(room, self._context - len(ids))
        if room < 1:
            error = f"prompt of {len(ids)} tokens is longer than the model's context of {self._context}"
            return Response(error=error, input_tokens=len(ids))
        return Row(number, request, ids, room)

    def foresee(self, request: Request) -> tuple[int, int]:
        """Return the tokens of a request, and how many its answer can have."""
        row = self.prepare(0, request)
        return (len(row.ids), row.room) if isinstance(row, Row) else (0, 0)

    def prompt(self, request: Request) -> str:
        """Return the text that the model continues."""
        messages = list(request.messages)
        if self._system is not None and not any(role == "system" for role, _ in messages):
            messages.insert(0, ("system", self._system))
        if self._template is None:
            return "\n\n".join(content for _, content in messages)
        text: str = self._tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=False,
            **self._template_options,
        )
        return text

    def is_done(self, draft: Draft) -> bool:
        """Tell whether the last token ended the answer: an end token, the limit, a stop string, or none at all."""
        if draft.tokens[-1] in self._ends or len(draft.tokens) >= draft.row.room:
            return True
        stop = draft.row.request.generation.stop
        if not stop:
            return False
        tail = self._tokenizer.decode(draft.tokens[-(max(map(len, stop)) + 8) :], skip_special_tokens=True)
        return any(word in tail for word in stop)

    def respond(self, draft: Draft) -> Response:
        """Return the response of a finished answer."""
        if draft.tokens[-1] == NOWHERE:
            error = f"the model's logits are no numbers after {len(draft.tokens) - 1} tokens; try another dtype"
            return Response(error=error, input_tokens=len(draft.row.ids), output_tokens=len(draft.tokens) - 1)
        text, stopped = self._text(draft.tokens, draft.row.request.generation.stop)
        return Response(
            text=text,
            input_tokens=len(draft.row.ids),
            output_tokens=len(draft.tokens),
            finish="stop" if stopped or draft.tokens[-1] in self._ends else "length",
            seconds=draft.seconds,
            near_tie=draft.near_tie or None,
        )

    def _text(self, ids: Sequence[int], stop: Sequence[str]) -> tuple[str, bool]:
        """Return the answer's text, cut before the first stop string, and whether there was one."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cuts = [found for found in (text.find(word) for word in stop) if found >= 0]
        return (text[: min(cuts)], True) if cuts else (text, False)


def _computer(spec: ModelSpec, loaded: Loaded, size: int | None) -> SlotLoop | StaticBatches:
    """Return the fastest way to compute the model that gives its own answers.

    Raises:
        ModelError: It keeps no keys and values.
    """
    model, layers = loaded.model, layers_of(loaded.model)
    recurrent = bool(layers) and not any(isinstance(layer, CacheLayerMixin) for layer in layers)
    if recurrent or not cache_name(model):
        raise ModelError(
            f"models: {spec.name!r}: {type(model).__name__} keeps no keys and values; "
            "serve it with vLLM or the like and use 'openai:<model>'"
        )
    inputs = forward_inputs(model)
    with quiet():
        if slots_fit(model, inputs):
            return SlotLoop(model, size)
        return StaticBatches(model, inputs, (size or _BATCH) if padding_is_harmless(model, inputs) else 1)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = configured if configured is not None else getattr(model.config.get_text_config(), "eos_token_id", None)
    ends = {found} if isinstance(found, int) else set(found or ())
    return frozenset(ends | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()))
