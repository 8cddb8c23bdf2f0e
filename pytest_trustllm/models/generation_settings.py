"""The generation settings of a model's entry in a models file, whatever its provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_trustllm.models.reasoning import AUTOMATIC, DEFAULT_THINKING_TOKENS, Reasoning, without_reasoning
from pytest_trustllm.types import NOTHING, Request, Response


@dataclass(frozen=True, slots=True)
class GenerationOverrides:
    """Settings of one model that override those of the suites.

    Attributes:
        reasoning: How the model's reasoning is told from its answers.
        thinking_tokens: Tokens granted for the reasoning, on top of the task's limit.
        generation: Those of ``temperature``, ``max_new_tokens``, ``stop`` and ``seed`` that the entry sets.
        recorded: The settings as the entry has them, for the results file and the store's fingerprint; empty if it has
            none.
    """

    reasoning: Reasoning = AUTOMATIC
    thinking_tokens: int = 0
    generation: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    recorded: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    @classmethod
    def of(cls, options: Mapping[str, Any], reasoning: Reasoning | None = None) -> GenerationOverrides:
        """Return the settings of an entry.

        Args:
            options: Of its :class:`~pytest_trustllm.models.base.ModelSpec`.
            reasoning: What the loaded model knows about its reasoning; None: the entry or the well-known tags decide.
        """
        if reasoning is None:
            reasoning = Reasoning.of(options.get("reasoning"))
        thinking_tokens = options.get("thinking_tokens", options.get("thinking_budget"))
        if thinking_tokens is None:
            thinking_tokens = DEFAULT_THINKING_TOKENS if reasoning.expected else 0
        generation = dict(options.get("generation") or {})
        settings = {
            "reasoning": reasoning.setting,
            # A zero is recorded if the entry has it, and not if it is the default
            "thinking_tokens": thinking_tokens or options.get("thinking_tokens"),
            "generation": generation or None,
        }
        recorded = {name: value for name, value in settings.items() if value is not None}
        return cls(reasoning, thinking_tokens, generation, recorded)

    def applied(self, request: Request) -> Request:
        """Return a request with this model's settings."""
        if not self.generation and not self.thinking_tokens:
            return request
        settings = dict(self.generation)
        seed = settings.pop("seed", None)
        if "stop" in settings:
            settings["stop"] = tuple(settings["stop"])
        generation = replace(request.generation, thinking_tokens=self.thinking_tokens, **settings)
        if seed is None:
            return replace(request, generation=generation)
        # Epochs are meant to differ, so each gets another seed
        return replace(request, generation=generation, seed=seed + request.epoch)

    def described(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a model reports about itself together with its settings: both can change an answer."""
        return {**info, **self.recorded}

    def read(self, response: Response, request: Request) -> Response:
        """Return a response with its reasoning separated from the answer.

        Args:
            response: As the model returned it.
            request: As :meth:`applied` returned it.
        """
        return without_reasoning(response, self.reasoning, request.generation)


NO_OVERRIDES = GenerationOverrides()
"""The settings of a model without an entry."""
