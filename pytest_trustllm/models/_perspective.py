"""The Perspective API through aiohttp."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.perspective import CONCURRENCY, KEY, TIMEOUT, base_url
from pytest_trustllm.models.retrying import Failure, Retrying, clean, status_failure
from pytest_trustllm.records import Request, Response

_BYTES = 20_480
_ATTRIBUTE = "TOXICITY"


class Perspective:
    """Rates a text between 0 and 1 by what share of readers would call it toxic."""

    stored = True

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        self.max_concurrency = settings.max_concurrency or spec.options.get("max_concurrency", CONCURRENCY)
        self._timeout = float(spec.options.get("timeout", TIMEOUT))
        self._retrying = Retrying.of(spec.options, self.max_concurrency)
        self.pace = self._retrying.pace
        self._key = os.environ[KEY]
        self._url = f"{base_url()}/v1alpha1/comments:analyze"
        self._host = urlsplit(self._url).hostname or ""
        self._session: aiohttp.ClientSession | None = None
        self.info: Mapping[str, Any] = {
            "provider": spec.provider,
            "id": _ATTRIBUTE,
            "revision": "v1alpha1",
            "kind": "rater",
            "base_url": base_url(),
        }

    async def answer(self, request: Request) -> Response:
        """Return the rating; a blank text, and one longer than the service takes, have none."""
        text = request.text
        if not text.strip():
            return Response(error="a blank text has no toxicity")
        size = len(text.encode("utf-8", "replace"))
        if size > _BYTES:
            return Response(error=f"text of {size} bytes is longer than the {_BYTES} that Perspective takes")
        return await self._retrying(lambda: self._rate(text))

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
            # the key travels in a header, where no log of addresses sees it
            sent = self._opened().post(self._url, json=body, headers={"x-goog-api-key": self._key})
            async with sent as reply:
                status, headers, found = reply.status, reply.headers, await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            reason = clean(e, (self._key,)) or type(e).__name__
            raise Failure(f"no answer from {self._host}: {reason}", again=True, strain="troubled") from None
        if status >= 400:
            raise status_failure(self._host, status, self._message(found), headers)
        return Response(number=self._value(found), seconds=loop.time() - start)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.max_concurrency),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                trust_env=True,
            )
        return self._session

    def _message(self, body: bytes) -> str:
        try:
            return clean(json.loads(body)["error"]["message"], (self._key,))
        except (ValueError, KeyError, TypeError):
            return clean(body[:200].decode("utf-8", "replace"), (self._key,))

    def _value(self, body: bytes) -> float:
        try:
            value = json.loads(body)["attributeScores"][_ATTRIBUTE]["spanScores"][0]["score"]["value"]
            number = float(value)
        except (ValueError, KeyError, IndexError, TypeError):
            raise Failure(f"{self._host} sent what is no rating", again=True) from None
        if not 0 <= number <= 1:
            raise Failure(f"{self._host} sent a rating outside [0, 1]: {number:g}")
        return number
