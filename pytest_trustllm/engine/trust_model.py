"""The model under test, as fixtures and tests see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pytest_trustllm.engine.call_arguments import generation_of, messages_of, seed_of, text_of, tools_of
from pytest_trustllm.errors import ModelError, TrustLLMError, one_line
from pytest_trustllm.formats import Record, Transcript
from pytest_trustllm.models.python import CallableModel
from pytest_trustllm.types import Generation, Messages, Request, Response, Sample, Score, Tool


def __tracebackhide__(raised: Any) -> bool:
    """Tell pytest to leave the frames of this module out of a failure that is a mistake in the test."""
    return raised is not None and isinstance(raised.value, TrustLLMError)


class Link(Protocol):
    """What a trust model needs of the run that it belongs to."""

    def ask(self, model: str, request: Request) -> Response:
        """Send a request through the run's host."""
        ...

    def transcript(self, model: str, sample: Sample) -> Transcript:
        """Return prompts and responses of a sample of the plan."""
        ...

    def record(self, model: str, sample: Sample) -> str:
        """Return the record of a sample of the plan, as JSON."""
        ...


class Chat:
    """A conversation of a test's own; :meth:`TrustModel.chat` begins one.

    Attributes:
        messages: All that was said, as (role, content) pairs.
    """

    def __init__(
        self,
        send: Callable[[Request], Response],
        messages: Messages,
        generation: Generation,
        seed: int,
        tools: tuple[Tool, ...],
    ) -> None:
        self.messages = messages
        self._send = send
        self._generation = generation
        self._seed = seed
        self._tools = tools
        self._answers = 0
        self._open_calls = 0

    def say(self, text: str) -> Response:
        """Send the user's next message with all that was said before, and wait for the response.

        A response with ``error`` or without text adds nothing to the conversation, and neither does the message.

        Args:
            text: The message.

        Raises:
            ModelError: It is no text or an empty one, or the model waits for the results of tools.
        """
        message = text_of(text, "chat.say()")
        if self._open_calls:
            raise ModelError(
                f"the model waits for the results of {self._open_calls} tool calls; give them to results()"
            )
        return self._next(("user", message))

    def results(self, *results: str) -> Response:
        """Give the results of the tools that the last response calls, and wait for the response.

        Args:
            results: One per call, in the order of the calls.

        Raises:
            ModelError: There are more or fewer calls, or a result is no text.
        """
        if not self._open_calls:
            raise ModelError("chat.results(): the last response calls no tools; write say()")
        for result in results:
            if not isinstance(result, str):
                raise ModelError(f"chat.results(): expected texts, found {one_line(repr(result), 60)}")
        if len(results) != self._open_calls:
            raise ModelError(
                f"the last response has {self._open_calls} tool calls, and there are {len(results)} results"
            )
        return self._next(*(("tool", result) for result in results))

    def _next(self, *messages: tuple[str, str]) -> Response:
        chat = (*self.messages, *messages)
        request = Request(chat, self._generation, self._seed + self._answers, tools=self._tools)
        response = self._send(request)
        if response.error is None and response.unanswered is None and not response.is_blank:
            self.messages = (*chat, *response.said)
            self._answers += 1
            self._open_calls = len(response.calls)
        return response


class TrustModel:
    """The model under test: the value of the ``trust_model`` fixture.

    Args:
        name: Label in ids, results and report.
        link: The run; None until the run takes a model made by :meth:`from_callable`.
        own: The callable's model.
    """

    def __init__(self, name: str, link: Link | None = None, own: CallableModel | None = None) -> None:
        self.name = name
        self.own = own
        self._link = link

    @classmethod
    def from_callable(
        cls, function: Callable[..., Any], *, name: str, max_concurrency: int = 1, revision: str | None = None
    ) -> TrustModel:
        """Return a model that answers with your own code.

        Args:
            function: Takes the prompt as text (a list of ``{"role", "content"}`` if a sample has several messages) and
                returns text; may be async. A plain function is called from ``max_concurrency`` threads.
            name: Label in results and report.
            max_concurrency: Most calls in progress at once, over all test processes.
            revision: Distinguishes this version of your app from others, such as a commit hash. Answers are kept
                between runs only if it is given: only you can know whether your code would still answer the same.
        """
        return cls(name, own=CallableModel(function, name, max_concurrency, revision=revision))

    def bind(self, link: Link) -> None:
        """Let the run answer for this model from now on."""
        self._link = link

    def ask(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        temperature: float = 0.0,
        max_new_tokens: int = 512,
        stop: str | Sequence[str] = (),
        seed: int = 0,
    ) -> Response:
        """Send one prompt and wait for the response.

        Args:
            prompt: Text, or a list of ``{"role", "content"}``.
            temperature: 0: greedy.
            max_new_tokens: Upper bound of the answer's length.
            stop: The answer ends before the first of these strings.
            seed: Seed of a sampled answer.

        Returns:
            The response; ``error`` is set if there is none.

        Raises:
            ModelError: An argument is not what it should be.
        """
        generation = generation_of(temperature, max_new_tokens, stop)
        return self._send(Request(messages_of(prompt), generation, seed_of(seed)))

    def chat(
        self,
        system: str | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        temperature: float = 0.0,
        max_new_tokens: int = 512,
        stop: str | Sequence[str] = (),
        seed: int = 0,
    ) -> Chat:
        """Return a conversation with the model, in which its own answers stand between your messages.

        Args:
            system: The system prompt.
            tools: What the model may call: mappings with ``name``, and ``description`` and ``parameters`` (a JSON
                Schema) where it has them.
            temperature: 0: greedy.
            max_new_tokens: Upper bound of the length of each answer.
            stop: An answer ends before the first of these strings.
            seed: Seed of sampled answers; every answer of the conversation has another one.

        Raises:
            ModelError: An argument is not what it should be.
        """
        generation = generation_of(temperature, max_new_tokens, stop)
        begins = () if system is None else (("system", text_of(system, "system")),)
        return Chat(self._send, begins, generation, seed_of(seed), tools_of(tools))

    def _send(self, request: Request) -> Response:
        if self._link is not None:
            return self._link.ask(self.name, request)
        if self.own is None:
            raise ModelError(f"model {self.name!r} belongs to no run")
        return asyncio.run(self.own.answer(request))

    def answer(self, sample: Sample) -> tuple[Response, ...]:
        """Return the responses to a sample, one per prompt (and epoch); they were generated ahead, in batches.

        Of a conversation, all of the model's responses in the order in which it gave them.

        Args:
            sample: What ``trust_sample`` gave.
        """
        transcript = self._run().transcript(self.name, sample)
        responses = []
        for entry in transcript.get("responses", ()):
            fields: dict[str, Any] = {name: value for name, value in entry.items() if name not in ("epoch", "at")}
            responses.append(Response.restored(fields))
        return tuple(responses)

    def score(self, sample: Sample) -> Score:
        """Return the sample's score by the scorer of its suite.

        Args:
            sample: What ``trust_sample`` gave.
        """
        record: Record = json.loads(self._run().record(self.name, sample))
        return Score(
            value=record["value"],
            answer=record.get("answer"),
            reason=record["reason"],
            observed=record["observed"],
            parity=record["parity"],
            met=record["status"] == "passed",
            applies=record.get("applies", True),
        )

    def _run(self) -> Link:
        if self._link is None:
            raise ModelError(f"model {self.name!r} is not part of a run; start pytest with --trust-model")
        return self._link

    def __repr__(self) -> str:
        return f"TrustModel({self.name!r})"
