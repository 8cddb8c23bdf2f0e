"""The Perspective API through aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from pytest_trustllm.config import secrets
from pytest_trustllm.config.secrets import Scrubber
from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.api.http_errors import clean, status_failure
from pytest_trustllm.models.api.pacing import Pace
from pytest_trustllm.models.api.retrying import RequestFailure, Retrying
from pytest_trustllm.models.api.transport import (
    UnacceptableReply,
    check_redirect,
    clean_connector,
    read_whole,
)
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.options import DELAY
from pytest_trustllm.types import Request, Response

_MAX_BYTES = 20_480
"""Longest text that the service accepts."""
_ATTRIBUTE = "TOXICITY"


class Perspective:
    """Rates a text in [0, 1] by the estimated share of readers who would call it toxic."""

    stored = True

    def __init__(self, spec: ModelSpec, *, base_url: str, key: str, max_concurrency: int, timeout: float) -> None:
        self.max_concurrency = max_concurrency
        self._timeout = timeout
        options = spec.options
        pace = Pace(max_concurrency, options.get("requests_per_minute"), delay=options.get("retry_delay", DELAY))
        self._retrying = Retrying.of(options, pace)
        self.admission = self._retrying.admission
        self._key = key
        self._scrub = Scrubber([key, *secrets.of_url(base_url)])
        self._url = f"{base_url}/v1alpha1/comments:analyze"
        self._host = urlsplit(self._url).hostname or ""
        self._session: aiohttp.ClientSession | None = None
        self.info: Mapping[str, Any] = {
            "provider": spec.provider,
            "id": _ATTRIBUTE,
            "revision": "v1alpha1",
            "kind": "rater",
            "base_url": secrets.public_url(base_url),
        }

    async def answer(self, request: Request) -> Response:
        """Return the rating; a blank text has none, nor has one that is longer than the service accepts."""
        text = request.text
        if not text.strip():
            return Response(error="a blank text has no toxicity")
        size = len(text.encode("utf-8", "replace"))
        if size > _MAX_BYTES:
            return Response(error=f"text of {size} bytes is longer than the {_MAX_BYTES} that Perspective takes")
        return await self._retrying(lambda _: self._rate(text))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _rate(self, text: str) -> Response:
        loop = asyncio.get_running_loop()
        start = loop.time()
        body = {"comment": {"text": text}, "requestedAttributes": {_ATTRIBUTE: {}}, "doNotStore": True}
        try:
            # The key is sent in a header rather than in the address, which servers and proxies log
            headers = {"x-goog-api-key": self._key}
            request = self._opened().post(self._url, json=body, headers=headers, allow_redirects=False)
            async with request as reply:
                check_redirect(reply.status, reply.headers, self._url)
                content = await read_whole(reply.content.iter_any())
        except UnacceptableReply as e:
            reason = clean(e, self._scrub)
            raise RequestFailure(f"{self._host} {reason}", again=e.again, denied=not e.again) from None
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, TimeoutError, OSError) as e:
            reason = clean(e, self._scrub) or type(e).__name__
            raise RequestFailure(f"no answer from {self._host}: {reason}", again=True, strain="troubled") from None
        if reply.status >= 300:
            error = error_bodies.read(content.decode("utf-8", "replace"))
            raise status_failure(self._host, reply.status, error, reply.headers, self._scrub)
        return Response(number=self._rating(content), seconds=loop.time() - start)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=clean_connector(self.max_concurrency),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                trust_env=True,
            )
        return self._session

    def _rating(self, body: bytes) -> float:
        try:
            document = error_bodies.parsed(body.decode("utf-8", "replace"))
            spans = document["attributeScores"][_ATTRIBUTE]["spanScores"]
            rating = float(spans[0]["score"]["value"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise RequestFailure(f"{self._host} did not send a rating", again=True) from None
        if not 0 <= rating <= 1:
            raise RequestFailure(f"{self._host} sent a rating outside [0, 1]: {rating:g}")
        return rating
