"""Chat models of transformers: prompts through the template, answers in flight, none changed by its neighbours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import transformers
from jinja2 import TemplateError

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import LoadSettings, ModelSpec, encodable
from pytest_trustllm.models.local.batching_trial import Batching, UnsupportedModel, choose_batching
from pytest_trustllm.models.local.chat_template import ChatTemplate
from pytest_trustllm.models.local.checkpoint import ELSEWHERE
from pytest_trustllm.models.local.loading import (
    Loaded,
    load_checkpoint,
    position_limit,
    quiet,
    table_size,
    unknown_token,
)
from pytest_trustllm.models.local.sampling import NO_TOKEN, Draft, PreparedPrompt, rounding_of
from pytest_trustllm.models.local.scheduling import PromptQueue
from pytest_trustllm.models.local.slot_loop import SlotLoop
from pytest_trustllm.models.local.static_batches import StaticBatches
from pytest_trustllm.models.local.tool_formats import format_of
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.models.reasoning import (
    CHANNEL_MARKS,
    Reasoning,
    SplitText,
    ends_inside_thought,
    tags_named_in,
    text_before,
    with_split_text,
)
from pytest_trustllm.types import Request, Response

_NO_TOOLS = (
    "the model's chat template takes no tools, or writes calls in a form that is not known here; "
    "ask it through a server with a parser for its calls, such as vllm:"
)
_BATCH = 16
"""Rows of a static batch."""
_STOP_MARGIN = 8
"""Tokens decoded beyond the length of a stop string: a character can take several, which alone decode to nothing."""


class ChatModel:
    """A causal language model behind its chat template.

    A greedy answer is that of the prompt alone; a sampled one depends on the prompt, the request's seed and the step.
    Batch size and neighbours change neither in float32. Narrower types round differently in other batches, and an
    answer reports whether that could have changed it.

    Args:
        spec: Which model, and its options.
        settings: Device and batch size.

    Attributes:
        info: What the results file records of the model.
        reasoning: How its thoughts are recognised.

    Raises:
        ModelError: It cannot be loaded, or its answers cannot be computed here.
    """

    stored = True
    repeats_itself = True

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        loaded = load_checkpoint(spec, settings, transformers.AutoModelForCausalLM)
        self._tokenizer = loaded.tokenizer
        self._context = position_limit(loaded.model.config)
        self._cuts = spec.options.get("long_prompts") == "cut"
        self._system = spec.options.get("system_prompt")
        self._template = ChatTemplate(spec, self._tokenizer)
        # A template writes the special tokens itself; added once more, the prompt would begin with two.
        self._specials = spec.options.get("add_special_tokens", self._template.text is None)
        self.reasoning = _reasoning(spec, self._template.text)
        self._tool_format = format_of(self._template.text)
        special = frozenset(self._tokenizer.all_special_ids)
        self._unmarked = special - _marks(self._tokenizer, self.reasoning)
        self._unmarked_calls = self._unmarked
        if self._tool_format is not None:
            self._unmarked_calls -= _special_tokens(self._tokenizer, self._tool_format.marks)
        self._table = table_size(loaded.model)
        self._check_question(spec)
        self._ends = _end_tokens(loaded.model, self._tokenizer) | {NO_TOKEN}
        batching = _batching(spec, loaded)
        self._computer = _computer(loaded, batching, settings.batch_size or spec.options.get("batch_size"))
        self.info: Mapping[str, Any] = self._info(loaded, batching)

    def _info(self, loaded: Loaded, batching: Batching) -> dict[str, Any]:
        """Return what the results file records of the model."""
        info = {
            **loaded.info,
            **self._template.info,
            "add_special_tokens": self._specials,
            "system_prompt": self._system,
            "context": self._context,
        }
        if self._cuts:
            info["long_prompts"] = "cut"
        about = {
            **loaded.info["about"],
            "batch_size": self._computer.size,
            "batching": "in flight" if isinstance(self._computer, SlotLoop) else "static",
            "batching_reason": batching.reason,
        }
        if self.reasoning.expected:
            about["reasons"] = True
        if rounding_of(loaded.model.dtype):
            about["batch_effects"] = "possible"
        info["about"] = about
        return info

    def generate(self, waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        """Yield (number, response) as answers are finished."""
        return self._computer.run(PromptQueue(waiting, self))

    def prepare(self, number: int, request: Request) -> PreparedPrompt | Response:
        """Return the token ids of a request, or a response that says why it has no answer."""
        chat = self._chat(request)
        if request.tools and self._tool_format is None:
            return Response(error=_NO_TOOLS)
        try:
            lost = self._template.loss(chat)
            prompt = encodable(self._template.render(chat, request.tools))
            ids = self._token_ids(prompt)
        except (TemplateError, TypeError, ValueError) as e:
            return Response(error=f"the chat template does not take this chat: {one_line(e)}")
        if lost is not None:
            return Response(
                error=f"the chat template leaves the {lost} message out; see 'chat_template' in a models file"
            )
        if not ids:
            return Response(error="the prompt has no tokens")
        unknown = unknown_token(self._tokenizer, ids, self._table)
        if unknown:
            return Response(error=unknown)
        room = request.generation.most_tokens
        opened = ends_inside_thought(prompt, self.reasoning.tags)
        if self._context is None:
            return PreparedPrompt(number, request, ids, room, opened)
        if len(ids) >= self._context and self._cuts:
            # The question is at the end of a prompt. At least half of the context is the prompt's.
            ids = ids[-max(1, self._context - room, self._context // 2) :]
        room = min(room, self._context - len(ids))
        if room < 1:
            error = f"prompt of {len(ids)} tokens is longer than the model's context of {self._context}"
            return Response(error=error, input_tokens=len(ids))
        return PreparedPrompt(number, request, ids, room, opened)

    def foresee(self, request: Request) -> tuple[int, int]:
        """Return the tokens of a request, and the most that its answer can have."""
        prepared = self.prepare(0, request)
        if isinstance(prepared, Response):
            return 0, 0
        return len(prepared.ids), prepared.room

    def prompt(self, request: Request) -> str:
        """Return the text that the model continues."""
        return self._template.render(self._chat(request), request.tools)

    def _token_ids(self, text: str, *, specials: bool | None = None) -> list[int]:
        """Return the token ids of a text; special tokens are added as for a prompt unless told otherwise."""
        if specials is None:
            specials = self._specials
        # verbose=False: no warning about a long prompt, which is cut or refused by the model's own limit
        ids: list[int] = self._tokenizer(text, add_special_tokens=specials, verbose=False)["input_ids"]
        return ids

    def _chat(self, request: Request) -> list[tuple[str, str]]:
        """Return the messages, with the entry's system prompt before those that have none."""
        messages = list(request.messages)
        if self._system is not None and not any(role == "system" for role, _ in messages):
            messages.insert(0, ("system", self._system))
        return messages

    def _check_question(self, spec: ModelSpec) -> None:
        """Try the frame that every prompt gets.

        Raises:
            ModelError: It has tokens that the model has no embedding for.
        """
        frame = self._template.render([("user", "a")])
        unknown = unknown_token(self._tokenizer, self._token_ids(frame), self._table)
        if unknown:
            raise ModelError(f"models: {spec.name!r} cannot be loaded: {unknown}")

    def is_done(self, draft: Draft) -> bool:
        """Tell whether the last token ended the answer: an end token, the limit, a stop string, or no token at all."""
        if draft.tokens[-1] in self._ends or len(draft.tokens) >= draft.prompt.room:
            return True
        stop = draft.prompt.request.generation.stop
        if not stop:
            return False
        # Only the last tokens: decoding the whole answer at every step would take time with the square of its length.
        tail = self.raw_text(draft.tokens[-(max(map(len, stop)) + _STOP_MARGIN) :])
        if not any(word in tail for word in stop):
            return False
        # A stop string ends the answer, not the thought before it.
        answer = self._parts(draft).answer
        return answer is not None and any(word in answer for word in stop)

    def respond(self, draft: Draft) -> Response:
        """Return the response of a finished answer."""
        prompt = draft.prompt
        if draft.tokens[-1] == NO_TOKEN:
            computed = len(draft.tokens) - 1
            error = f"the model's logits are no numbers after {computed} tokens; try another dtype"
            return Response(error=error, input_tokens=len(prompt.ids), output_tokens=computed)
        parts = self._parts(draft)
        answer = parts.answer or ""
        stop = prompt.request.generation.stop
        has_ended = draft.tokens[-1] in self._ends or any(word in answer for word in stop)
        response = Response(
            text=text_before(answer, stop),
            input_tokens=len(prompt.ids),
            output_tokens=len(draft.tokens),
            finish="stop" if has_ended else "length",
            seconds=draft.seconds,
            near_tie=draft.near_tie or None,
        )
        if parts.reasoning is not None:
            thought = self._token_ids(parts.reasoning, specials=False)
            response = with_split_text(replace(response, reasoning_tokens=len(thought)), parts, stop)
        if prompt.request.tools and self._tool_format is not None and response.text:
            text, calls = self._tool_format.parse(response.text)
            if calls:
                return replace(response, text=text or None, calls=calls)
        return response

    def _parts(self, draft: Draft) -> SplitText:
        """Return the thoughts and the answer that a draft holds so far."""
        is_cut = len(draft.tokens) >= draft.prompt.room and draft.tokens[-1] not in self._ends
        may_call = bool(draft.prompt.request.tools)
        unmarked = self._unmarked_calls if may_call else self._unmarked
        marked = [token for token in draft.tokens if token not in unmarked]
        text = self.raw_text(marked, special_tokens=True)
        parts = self.reasoning.split(text, opened=draft.prompt.opened, cut=is_cut)
        if parts.reasoning is not None:
            return parts
        return SplitText(None, text if may_call else self.raw_text(draft.tokens))

    def raw_text(self, ids: Sequence[int], *, special_tokens: bool = False) -> str:
        """Return generated tokens as text: the one place where they are decoded.

        Args:
            ids: Token ids.
            special_tokens: Keep tokens that the tokenizer calls special, such as the channels of gpt-oss.
        """
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=not special_tokens, clean_up_tokenization_spaces=False
        )
        return text


def _reasoning(spec: ModelSpec, template: object) -> Reasoning:
    """Return how the model's thoughts are recognised: as its entry says, or else by what its chat template names."""
    configured = Reasoning.of(spec.options.get("reasoning"))
    if configured.setting is not None:
        return configured
    template_text = str(template or "")
    names_thoughts = tags_named_in([template_text]) or "<|channel|>" in template_text
    return replace(configured, expected=bool(names_thoughts))


def _marks(tokenizer: Any, reasoning: Reasoning) -> frozenset[int]:
    """Return the special tokens that mark thoughts; decoding keeps them, so that thoughts can be told apart."""
    marks = set()
    for tags in reasoning.tags:
        marks |= {tags.start, tags.end}
    if reasoning.channels and "<|channel|>" in tokenizer.all_special_tokens:
        marks |= set(CHANNEL_MARKS)
    return _special_tokens(tokenizer, marks)


def _special_tokens(tokenizer: Any, texts: Collection[str]) -> frozenset[int]:
    """Return those special tokens that stand for one of the texts."""
    specials = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    # Some tokenizers pad such a token with blanks or a zero-width space.
    return frozenset(token for text, token in specials if text.strip("\u200b ") in texts)


def _batching(spec: ModelSpec, loaded: Loaded) -> Batching:
    """Return the fastest method to compute the model that gives its own answers.

    Raises:
        ModelError: There is none here.
    """
    try:
        with quiet():
            return choose_batching(loaded.model)
    except UnsupportedModel as e:
        raise ModelError(f"models: {spec.name!r}: {type(loaded.model).__name__} {e}; {ELSEWHERE}") from None


def _computer(loaded: Loaded, batching: Batching, size: int | None) -> SlotLoop | StaticBatches:
    if batching.method == "slots":
        return SlotLoop(loaded.model, size)
    if batching.method == "padded":
        return StaticBatches(loaded.model, size or _BATCH)
    return StaticBatches(loaded.model, 1)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer: the model's own, which may be several, and the tokenizer's."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if configured is None:
        configured = getattr(model.config.get_text_config(), "eos_token_id", None)
    ends = {configured} if isinstance(configured, int) else set(configured or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    return frozenset(ends)
