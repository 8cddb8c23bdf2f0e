"""Provider ``openai``: any OpenAI-compatible API."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import AsyncModel, BaseProvider, Kind, LoadSettings, ModelSpec
from pytest_trustllm.models.options import COUNT, DEADLINE, DELAY, RATE, SECONDS, Address, Variable
from pytest_trustllm.shapes import Choice, Key, ListOf, MappingOf, Reader, Text

DEFAULT_URL = "https://api.openai.com/v1"
CONCURRENCY = 32
TIMEOUT = 120.0


class OpenAIProvider(BaseProvider):
    """Chat models, embedders, and chat models asked as refusal classifiers, over HTTP."""

    form = "<model>"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"chat", "embedder", "classifier"})
    options: ClassVar[Mapping[str, Reader]] = {
        "base_url": Key(Address(), "Address of the API; absent: OPENAI_BASE_URL, else OpenAI."),
        "base_url_env": Key(Variable(), "Environment variable that holds the address."),
        "api_key_env": Key(Variable(), "Environment variable that holds the key.", default="OPENAI_API_KEY"),
        "headers": Key(MappingOf(Text()), "Extra headers; $NAME in a value stands for an environment variable."),
        "max_concurrency": Key(COUNT, "Requests in flight at most, over the whole run.", default=CONCURRENCY),
        "timeout": Key(SECONDS, "Seconds for one try.", default=TIMEOUT),
        "deadline": Key(SECONDS, "Seconds for all tries of a request, from the first.", default=DEADLINE),
        "retry_delay": Key(SECONDS, "Seconds before the second try; doubled each time.", default=DELAY),
        "requests_per_minute": Key(RATE, "Limit on requests, retries included."),
        "tokens_per_minute": Key(RATE, "Limit on tokens, prompts and answers together."),
        "system_prompt": Key(Text(), "Put before every chat that has no system message."),
        "omit": Key(ListOf(Choice(("seed", "temperature", "stop"))), "Parameters that the server does not know."),
    }

    def check(self, spec: ModelSpec) -> None:
        """Look for the client, the address and the key.

        Raises:
            ModelError: One of them is missing.
        """
        if importlib.util.find_spec("openai") is None:
            raise ModelError(f"models: {spec.name!r} needs openai; run: pip install 'pytest-trustllm[openai]'")
        url = base_url(spec)
        variable = spec.options.get("api_key_env", "OPENAI_API_KEY")
        if not os.environ.get(variable):
            host = urlsplit(url).hostname or ""
            own = "" if host.endswith("openai.com") else f" (if the server at {host} asks for none, any text will do)"
            raise ModelError(f"models: {spec.name!r} needs an API key; set the environment variable {variable}{own}")

    def load(self, spec: ModelSpec, settings: LoadSettings) -> AsyncModel:
        """Return the model; nothing is asked yet.

        Raises:
            ModelError: As ``check``.
        """
        self.check(spec)
        from pytest_trustllm.models import _openai

        return _openai.load(spec, settings)


def base_url(spec: ModelSpec) -> str:
    """Return the address: of the entry, of the variable it names, of OPENAI_BASE_URL, or OpenAI's own.

    Raises:
        ModelError: The variable is not set, or holds no address.
    """
    named = spec.options.get("base_url_env")
    if named and not os.environ.get(named):
        raise ModelError(f"models: {spec.name!r} needs its server's address; set the environment variable {named}")
    variable = named or "OPENAI_BASE_URL"
    url = (not named and spec.options.get("base_url")) or os.environ.get(variable) or DEFAULT_URL
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ModelError(f"models: {spec.name!r}: {variable} is no address that begins with http:// or https://")
    return str(url)


PROVIDER = OpenAIProvider()
