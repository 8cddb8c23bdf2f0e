"""Provider ``perspective``: toxicity by Google's Perspective API."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import ClassVar

from pytest_trustllm.config.fields import Reader
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models import environment
from pytest_trustllm.models.base import AsyncModel, BaseProvider, LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.models.options import request_keys

KEY = "PERSPECTIVE_API_KEY"
URL = "PERSPECTIVE_BASE_URL"
DEFAULT_URL = "https://commentanalyzer.googleapis.com"
CONCURRENCY = 8
TIMEOUT = 60.0


class PerspectiveProvider(BaseProvider):
    """Rates texts by the attribute TOXICITY."""

    form = ""
    kinds: ClassVar[frozenset[ModelKind]] = frozenset({"rater"})
    options: ClassVar[Mapping[str, Reader]] = request_keys(CONCURRENCY, TIMEOUT)

    def check(self, spec: ModelSpec) -> None:
        """Check that there are an HTTP client library and a key.

        Raises:
            ModelError: One of them is missing.
        """
        if importlib.util.find_spec("aiohttp") is None:
            raise ModelError("models: 'perspective' needs aiohttp; run: pip install 'pytest-trustllm[openai]'")
        key = environment.value(KEY)
        if not key:
            raise ModelError(f"models: 'perspective' needs an API key; set the environment variable {KEY}")
        problem = environment.unfit_for_header(key)
        if problem is not None:
            raise ModelError(f"models: 'perspective': the API key in {KEY} holds {problem}; set it again")
        if not environment.is_address(base_url()):
            raise ModelError(f"models: 'perspective': {URL} is not an address that begins with http:// or https://")

    def keeps_answers(self, spec: ModelSpec) -> bool:
        """Return True."""
        return True

    def load(self, spec: ModelSpec, settings: LoadSettings) -> AsyncModel:
        """Return the rater, without sending anything yet.

        Raises:
            ModelError: As ``check``.
        """
        self.check(spec)
        from pytest_trustllm.models.api.perspective_client import Perspective

        return Perspective(
            spec,
            base_url=base_url(),
            key=environment.value(KEY),
            max_concurrency=settings.max_concurrency or spec.options.get("max_concurrency", CONCURRENCY),
            timeout=float(spec.options.get("timeout", TIMEOUT)),
        )


def base_url() -> str:
    """Return the address of the service, without a trailing slash."""
    return (environment.value(URL) or DEFAULT_URL).rstrip("/")


PROVIDER = PerspectiveProvider()
