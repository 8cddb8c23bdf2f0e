"""Provider ``perspective``: toxicity by Google's Perspective API."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import ClassVar

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import AsyncModel, BaseProvider, Kind, LoadSettings, ModelSpec
from pytest_trustllm.models.options import COUNT, DEADLINE, DELAY, RATE, SECONDS
from pytest_trustllm.shapes import Key, Reader

KEY = "PERSPECTIVE_API_KEY"
URL = "PERSPECTIVE_BASE_URL"
DEFAULT_URL = "https://commentanalyzer.googleapis.com"
CONCURRENCY = 8
TIMEOUT = 60.0


class PerspectiveProvider(BaseProvider):
    """Rates texts by the attribute TOXICITY."""

    form = ""
    kinds: ClassVar[frozenset[Kind]] = frozenset({"rater"})
    options: ClassVar[Mapping[str, Reader]] = {
        "max_concurrency": Key(COUNT, "Requests in flight at most, over the whole run.", default=CONCURRENCY),
        "timeout": Key(SECONDS, "Seconds for one try.", default=TIMEOUT),
        "deadline": Key(SECONDS, "Seconds for all tries of a request, from the first.", default=DEADLINE),
        "retry_delay": Key(SECONDS, "Seconds before the second try; doubled each time.", default=DELAY),
        "requests_per_minute": Key(RATE, "Limit on requests, retries included."),
    }

    def check(self, spec: ModelSpec) -> None:
        """Look for the HTTP client and the key.

        Raises:
            ModelError: One of them is missing.
        """
        if importlib.util.find_spec("aiohttp") is None:
            raise ModelError("models: 'perspective' needs aiohttp; run: pip install 'pytest-trustllm[openai]'")
        if not os.environ.get(KEY):
            raise ModelError(f"models: 'perspective' needs an API key; set the environment variable {KEY}")
        if not base_url().startswith(("http://", "https://")):
            raise ModelError(f"models: 'perspective': {URL} is no address that begins with http:// or https://")

    def load(self, spec: ModelSpec, settings: LoadSettings) -> AsyncModel:
        """Return the rater; nothing is asked yet.

        Raises:
            ModelError: As ``check``.
        """
        self.check(spec)
        from pytest_trustllm.models._perspective import Perspective

        return Perspective(spec, settings)


def base_url() -> str:
    """Return the address of the service, without a slash at the end."""
    return (os.environ.get(URL) or DEFAULT_URL).rstrip("/")


PROVIDER = PerspectiveProvider()
