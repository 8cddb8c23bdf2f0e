"""Chat completions of an OpenAI-compatible API."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.models.api import completions, error_bodies, http_errors
from pytest_trustllm.models.api.batches import BatchApi, BatchLine
from pytest_trustllm.models.api.completions import Completion, InvalidCompletion
from pytest_trustllm.models.api.embedder import Embedder
from pytest_trustllm.models.api.endpoint import Endpoint
from pytest_trustllm.models.api.error_bodies import ErrorBody
from pytest_trustllm.models.api.fleet import Fleet
from pytest_trustllm.models.api.parameter_support import LIMIT, NEWER_LIMIT, ParameterSupport
from pytest_trustllm.models.api.retrying import RequestFailure
from pytest_trustllm.models.api.transport import BYTES_PER_TOKEN, MOST_BYTES
from pytest_trustllm.models.base import AsyncModel, ModelSpec, encodable
from pytest_trustllm.models.generation_settings import GenerationOverrides
from pytest_trustllm.models.options import DELAY
from pytest_trustllm.models.reasoning import Reasoning, text_before, without_reasoning
from pytest_trustllm.models.refusal.chat_classifier import ChatClassifier
from pytest_trustllm.models.tool_messages import as_openai
from pytest_trustllm.types import BLOCKED, NOTHING, REASONING_CUT, Request, Response

_TIE_GAP = 0.125
"""Two units in the last place of a bfloat16 between 8 and 16, where the greatest logits of most models lie."""
_MOST_TOKENS = 200_000
"""Tokens of an answer for which a reply's body may have room, however many the entry asks for."""
_NO_REASONING_EFFORTS = ("none", "disable", "disabled", "off")
"""Values of ``reasoning_effort`` with which a model does not reason."""


def load(spec: ModelSpec, fleet: Fleet) -> AsyncModel:
    """Return a chat model, an embedder, or a chat model that classifies refusals."""
    if spec.kind == "embedder":
        return Embedder(spec, fleet)
    chat = Chat(spec, fleet)
    if spec.kind == "classifier":
        return ChatClassifier(chat, GenerationOverrides.of(spec.options, chat.reasoning))
    return chat


class Chat:
    """A chat model behind an OpenAI-compatible API.

    Attributes:
        reasoning: How the model's reasoning is told from its answers.
    """

    stored = True

    def __init__(self, spec: ModelSpec, fleet: Fleet) -> None:
        self._fleet = fleet
        self.info = self._fleet.info
        self.start = fleet.start
        self.max_concurrency = self._fleet.concurrency
        self.admission = self._fleet.admission
        self.reasoning = _reasoning(spec.options)
        self._system_prompt = spec.options.get("system_prompt")
        self._extra = extra_parameters(spec.options, self._fleet.host)
        self._parameters = ParameterSupport(spec.options.get("omit", ()), self._extra)
        self._is_reasoning = self.reasoning.expected
        self._retry_delay: float = spec.options.get("retry_delay", DELAY)

    async def answer(self, request: Request) -> Response:
        """Return the answer of the first choice."""
        messages = self._messages(request)
        tokens = request.tokens + self._max_tokens(request)
        return await self._fleet(lambda endpoint: self._send(endpoint, request, messages), tokens)

    def foresee(self, request: Request) -> tuple[int, int]:
        """Return how many tokens a request will send, and how many it can receive."""
        return request.tokens, self._max_tokens(request)

    async def close(self) -> None:
        """Close the connections."""
        await self._fleet.close()

    def batch_api(self) -> BatchApi | None:
        """Return the batches of the model's server; None if it has several servers or keys: a batch belongs to one."""
        endpoint = self._fleet.only_endpoint
        if endpoint is None:
            return None
        return BatchApi(endpoint, self._retry_delay)

    def batch_body(self, request: Request) -> dict[str, Any]:
        """Return the body of a request in a batch: the one that would be sent now, but for what makes it a stream."""
        body = self._parameters.applied(self._body(request, self._messages(request)))
        return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}

    def batch_response(self, request: Request, line: BatchLine, sent: Collection[str]) -> Response:
        """Return the response that a line of a batch's answers amounts to, as ``answer`` would return it.

        Args:
            request: What was sent.
            line: What became of it.
            sent: Names of the parameters that the request had.

        Raises:
            RequestFailure: There is no response; ``again`` tells whether another try may succeed.
        """
        endpoint = self._fleet.only_endpoint
        assert endpoint is not None  # noqa: S101 - batch_api() said that there is one
        parameters = dict.fromkeys(sent)
        if line.status == 200:
            return self._response(self._read(line.body, endpoint), request, parameters, endpoint.host)
        error = error_bodies.read(line.body)
        if line.status is None:
            failure = http_errors.body_failure(endpoint.host, error, NOTHING, endpoint.scrub)
        else:
            failure = http_errors.status_failure(endpoint.host, line.status, error, NOTHING, endpoint.scrub)
        if line.final:
            # The whole batch failed: that is no sign of a filter, nor of a parameter
            raise RequestFailure(failure.reason)
        return self._failed(failure, parameters)

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        messages = as_openai(tuple((role, encodable(content)) for role, content in request.messages))
        has_system_message = any(role == "system" for role, _ in request.messages)
        if self._system_prompt is not None and not has_system_message:
            messages.insert(0, {"role": "system", "content": self._system_prompt})
        return messages

    def _max_tokens(self, request: Request) -> int:
        limit = self._extra.get(NEWER_LIMIT, self._extra.get(LIMIT))
        # What the user set under these names may be anything that JSON can hold
        if type(limit) is int:
            return limit
        return request.generation.most_tokens

    def _most_bytes(self, request: Request) -> int:
        """Return how long the body of a reply may be."""
        return MOST_BYTES + BYTES_PER_TOKEN * min(self._max_tokens(request), _MOST_TOKENS)

    def _body(self, request: Request, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        generation = request.generation
        body: dict[str, Any] = {
            "model": self._fleet.model,
            "messages": messages,
            "temperature": generation.temperature,
        }
        if LIMIT not in self._extra and NEWER_LIMIT not in self._extra:
            body[LIMIT] = generation.most_tokens
        if generation.temperature > 0:
            body["seed"] = request.seed % 2**31  # several servers reject more than a signed 32-bit integer
        # A server would apply stop texts to the reasoning as well, and end it
        if generation.stop and not self._is_reasoning:
            body["stop"] = list(generation.stop)
        if self._fleet.notes_ties and generation.temperature == 0:
            body.update(logprobs=True, top_logprobs=2)
        if request.tools:
            body["tools"] = [tool.schema() for tool in request.tools]
        body.update(self._extra)
        return body

    async def _send(self, endpoint: Endpoint, request: Request, messages: Sequence[Mapping[str, str]]) -> Response:
        loop = asyncio.get_running_loop()
        start = loop.time()
        body = self._parameters.applied(self._body(request, messages))
        try:
            reply = await endpoint.post("/chat/completions", body, self._most_bytes(request))
            completion = self._read(reply, endpoint)
        except RequestFailure as e:
            return self._failed(e, body)
        response = self._response(completion, request, body, endpoint.host)
        return replace(response, seconds=loop.time() - start)

    def _failed(self, failure: RequestFailure, body: Mapping[str, Any]) -> Response:
        """Return the response that a failure amounts to: a prompt that was blocked has one.

        Raises:
            RequestFailure: There is no response; the next try may send something else.
        """
        if self._adapts_to(failure, body):
            if self._parameters.lines:
                self._fleet.about["adapted"] = list(self._parameters.lines)
            raise RequestFailure(failure.reason, again=True, adapted=True) from None
        if failure.blocked:
            return Response(unanswered=BLOCKED, finish="content_filter", detail=failure.reason)
        raise failure

    def _adapts_to(self, failure: RequestFailure, body: Mapping[str, Any]) -> bool:
        if failure.status is None or failure.error_body is None:
            return False
        return self._parameters.learn(failure.status, failure.error_body, body, failure.reason)

    def _read(self, body: str, endpoint: Endpoint) -> Completion:
        """Return the completion that the server sent.

        Raises:
            RequestFailure: It sent something else, or a completion that reports an error.
        """
        try:
            completion = completions.read(body, self.reasoning.field)
        except InvalidCompletion as e:
            raise RequestFailure(endpoint.did_not_send("a chat completion", e), again=True) from None
        if completion.error is not None or completion.finish == "error":
            error = completion.error or ErrorBody(f"finish_reason {completion.finish_reason}")
            raise http_errors.body_failure(endpoint.host, error, NOTHING, endpoint.scrub)
        # Once more: a secret may have been escaped in the body, or divided among the events of a stream
        return completion.changed(endpoint.scrub.content)

    def _response(self, completion: Completion, request: Request, body: Mapping[str, Any], host: str) -> Response:
        text = encodable(completion.content or completion.refusal or "")
        response = _with_text(text, completion)
        if request.generation.temperature == 0 and _is_near_tie(completion):
            response = replace(response, near_tie=True)
        if completion.finish == "content_filter":
            return replace(response, text=None, unanswered=BLOCKED, detail=text or None)
        response = without_reasoning(response, self.reasoning, request.generation)
        if response.reasoning is not None:
            self._note_reasoning(response, body)
        if response.unanswered is not None:
            return response
        # A call that no tool was offered for is no answer
        if completion.calls and request.tools and completion.finish != "length":
            return replace(response, text=response.text or None, calls=completion.calls)
        if completion.finish == "length" and not (response.text or "").strip():
            return replace(response, text=None, unanswered=REASONING_CUT)
        if not response.text:
            return replace(response, text=None, error=_empty_answer(completion, response.reasoning, host))
        if "stop" not in body:
            return replace(response, text=text_before(response.text, request.generation.stop))
        return response

    def _note_reasoning(self, response: Response, body: Mapping[str, Any]) -> None:
        """Note that the model reasons: from now on the server gets no stop texts.

        Raises:
            RequestFailure: A stop text ended the reasoning; the next try is sent without stop texts.
        """
        self._is_reasoning = True
        sent_stop_texts = "stop" in body and "stop" not in self._extra
        is_empty = response.text is None or not response.text.strip()
        if sent_stop_texts and is_empty and response.finish != "length":
            raise RequestFailure("a stop text ended the model's reasoning", again=True, adapted=True)


def _empty_answer(completion: Completion, reasoning: str | None, host: str) -> str:
    content = "reasoning and no answer" if reasoning else "an empty answer"
    reason = f"finish_reason {one_line(completion.finish_reason, 40)}"
    if completion.calls:
        names = ", ".join(call.name for call in completion.calls)
        reason = f"{reason}, a call of {one_line(names, 60)}"
    return f"{host} returned {content} ({reason})"


def _is_near_tie(completion: Completion) -> bool:
    return completion.smallest_gap is not None and completion.smallest_gap <= _TIE_GAP


def _with_text(text: str, completion: Completion) -> Response:
    """Return a response with a text, and with everything that is known about its completion."""
    return Response(
        text=text,
        input_tokens=completion.input_tokens,
        output_tokens=completion.output_tokens,
        reasoning_tokens=completion.reasoning_tokens,
        finish=completion.finish,
        revision=None if completion.model is None else one_line(completion.model, 200),
        reasoning=None if completion.reasoning is None else encodable(completion.reasoning),
    )


def _reasoning(options: Mapping[str, Any]) -> Reasoning:
    """Return how a model's reasoning is recognised; a model that is told how much to reason is known to do so."""
    reasoning = Reasoning.of(options.get("reasoning"))
    effort = options.get("reasoning_effort")
    is_told_to_reason = bool(options.get("thinking_budget")) or (
        effort is not None and effort not in _NO_REASONING_EFFORTS
    )
    if is_told_to_reason and reasoning.setting != "none":
        return replace(reasoning, expected=True)
    return reasoning


def extra_parameters(options: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the parameters that the entry adds to every request; ``extra_body`` overrides the other keys."""
    parameters: dict[str, Any] = {}
    for name in ("reasoning_effort", NEWER_LIMIT):
        if options.get(name) is not None:
            parameters[name] = options[name]
    budget = options.get("thinking_budget")
    if budget is not None:
        parameters.update(_thinking_budget(budget, host))
    template_options = options.get("template_options")
    if template_options is not None:
        parameters["chat_template_kwargs"] = template_options
    parameters.update(options.get("extra_body") or {})
    return parameters


def _thinking_budget(tokens: int, host: str) -> dict[str, Any]:
    """Return the parameters by which a vendor limits the tokens of its model's reasoning.

    Source:
        https://ai.google.dev/gemini-api/docs/openai, https://platform.claude.com/docs/en/api/openai-sdk; the plain
        parameter is that of Alibaba's and SiliconFlow's Qwen models.
    """
    if host.endswith("googleapis.com"):
        return {"extra_body": {"google": {"thinking_config": {"thinking_budget": tokens}}}}
    if host.endswith("anthropic.com"):
        if not tokens:
            return {"thinking": {"type": "disabled"}}
        return {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    return {"thinking_budget": tokens}
