"""The model under test, as fixtures and tests see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pytest_trustllm.errors import ModelError
from pytest_trustllm.formats import Record, Transcript
from pytest_trustllm.models.python import CallableModel
from pytest_trustllm.types import Generation, Messages, Request, Response, Sample, Score


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
        stop: Sequence[str] = (),
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
        """
        messages: Messages
        if isinstance(prompt, str):
            messages = (("user", prompt),)
        else:
            messages = tuple((message["role"], message["content"]) for message in prompt)
        request = Request(messages, Generation(temperature, max_new_tokens, tuple(stop)), seed)
        if self._link is not None:
            return self._link.ask(self.name, request)
        if self.own is None:
            raise ModelError(f"model {self.name!r} belongs to no run")
        return asyncio.run(self.own.answer(request))

    def answer(self, sample: Sample) -> tuple[Response, ...]:
        """Return the responses to a sample, one per prompt (and epoch); they were generated ahead, in batches.

        Args:
            sample: What ``trust_sample`` gave.
        """
        transcript = self._run().transcript(self.name, sample)
        responses = []
        for entry in transcript.get("responses", ()):
            fields: dict[str, Any] = {name: value for name, value in entry.items() if name != "epoch"}
            responses.append(Response(**fields))
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
