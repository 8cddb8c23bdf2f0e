"""Provider ``openai``: any OpenAI-compatible API."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from pytest_trustllm.config.fields import Choice, Integer, Key, ListOf, Reader, Text
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.api.connection import CONCURRENCY, TIMEOUT, environment_headers, headers_of, servers_of
from pytest_trustllm.models.base import AsyncModel, BaseProvider, LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.models.options import RATE, Address, Headers, Json, Variable, request_keys

CHAT_KEYS: Mapping[str, Key] = {
    "system_prompt": Key(Text(), "Put before every chat that has no system message."),
    "omit": Key(ListOf(Choice(("seed", "temperature", "stop", "max_tokens"))), "Parameters the server does not know."),
    "extra_body": Key(
        Json(("model", "messages")), "Further parameters of every chat, as the API names them; they win over ours."
    ),
    "reasoning_effort": Key(Text(), "How much the model thinks.", examples=("minimal", "low", "medium", "high")),
    "thinking_budget": Key(Integer(0, 1_000_000), "Tokens that the model may think; 0: not at all."),
    "max_completion_tokens": Key(
        Integer(1, 10_000_000), "Tokens of reasoning and answer together, whatever the task's max_new_tokens."
    ),
    "template_options": Key(Json(), "Variables of the server's chat template (vLLM, SGLang, llama.cpp)."),
}
"""Keys of an entry that say what is sent to the model."""


class OpenAIProvider(BaseProvider):
    """Chat models, embedders, and chat models as refusal classifiers, over HTTP."""

    form = "<model>"
    kinds: ClassVar[frozenset[ModelKind]] = frozenset({"chat", "embedder", "classifier"})
    options: ClassVar[Mapping[str, Reader]] = {
        "base_url": Key(Address(), "Address of the API; absent: OPENAI_BASE_URL, else OpenAI."),
        "base_urls": Key(
            ListOf(Address(), "expected at least one address"),
            "Addresses of several servers that serve the same model; requests are divided among them.",
        ),
        "base_url_env": Key(Variable(), "Environment variable that holds the address, or several with commas."),
        "api_key_env": Key(
            Variable(), "Environment variable that holds the key, or several with commas.", default="OPENAI_API_KEY"
        ),
        "headers": Key(Headers(), "Extra headers; $NAME in a value stands for an environment variable."),
        "extra_headers": Key(Headers(), "The same, under the name that OpenAI's client gives them."),
        **request_keys(CONCURRENCY, TIMEOUT),
        "tokens_per_minute": Key(RATE, "Limit on tokens, prompts and answers together."),
        **CHAT_KEYS,
    }

    def check(self, spec: ModelSpec) -> None:
        """Check that there are a client library, an address and a key.

        Raises:
            ModelError: One of them is missing.
        """
        if importlib.util.find_spec("openai") is None:
            raise ModelError(f"models: {spec.name!r} needs openai; run: pip install 'pytest-trustllm[openai]'")
        servers_of(spec)
        headers_of(spec)
        environment_headers(spec)

    def check_batches(self, spec: ModelSpec) -> None:
        """See that the model's requests could be submitted to a batch API.

        Raises:
            ModelError: They could not, whatever the server has.
        """
        servers = servers_of(spec)
        if len(servers) > 1:
            raise ModelError(f"{spec.name!r} has {len(servers)} addresses or keys, and a batch belongs to one of them")

    def find_batches(self, spec: ModelSpec) -> None:
        """Ask the model's server whether it has a batch API.

        Raises:
            ModelError: It has none.
        """
        from pytest_trustllm.models.api.chat import Chat
        from pytest_trustllm.models.api.fleet import Fleet

        async def ask_server() -> None:
            chat = Chat(spec, Fleet(spec, LoadSettings()))
            try:
                server = chat.batch_api()
                if server is not None:
                    await server.check()
            finally:
                await chat.close()

        # In a thread: asyncio.run() would take the event loop of this one away from the user's tests
        with ThreadPoolExecutor(1, "trustllm-check") as thread:
            thread.submit(asyncio.run, ask_server()).result()

    def keeps_answers(self, spec: ModelSpec) -> bool:
        """Return True."""
        return True

    def must_start(self, spec: ModelSpec, settings: LoadSettings) -> bool:
        """Return whether the model has several servers, which are compared before the first prompt."""
        return len(servers_of(spec)) > 1

    def load(self, spec: ModelSpec, settings: LoadSettings) -> AsyncModel:
        """Return the model, without sending anything yet.

        Raises:
            ModelError: As ``check``.
        """
        self.check(spec)
        from pytest_trustllm.models.api import chat
        from pytest_trustllm.models.api.fleet import Fleet

        return chat.load(spec, Fleet(spec, settings))


PROVIDER = OpenAIProvider()
