"""Whether a server is ready: one real token came back, from the model that was asked for.

A server may open its port, or answer ``/health``, long before it can answer, and an engine that has died behind its
API server may still be called healthy.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.base import ModelKind

_LISTING_SECONDS = 30.0
_MOST_BYTES = 4 << 20
"""Of an answer; a list of models, one token and one vector are shorter."""
_TOO_EARLY = frozenset({404, 408, 425, 429})
"""Statuses besides 5xx with which a server that is starting may answer."""


class NotReady(Exception):
    """The server does not answer yet; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server of the run listens.

    Attributes:
        port: On the loopback interface.
        key: The key that the run chose for it.
    """

    port: int
    key: str

    @property
    def url(self) -> str:
        """The address of its OpenAI-compatible API."""
        return f"http://127.0.0.1:{self.port}/v1"


def opened(address: Address, path: str) -> None:
    """Return once a path of the server answers with success.

    Raises:
        NotReady: It does not.
    """
    _sent(f"http://127.0.0.1:{address.port}{path}", address.key, None, _LISTING_SECONDS)


def served_name(address: Address, model: str) -> str:
    """Return the name under which a server serves a model.

    Raises:
        NotReady: The server does not answer yet.
        ModelError: It serves another model.
    """
    document = _sent(f"{address.url}/models", address.key, None, _LISTING_SECONDS)
    names: dict[str, str] = {}
    try:
        for card in document["data"]:
            names[str(card["id"])] = str(card.get("root") or card["id"])
    except (KeyError, TypeError, AttributeError):
        raise NotReady("its list of models cannot be read") from None
    if model in names or not names:
        return model
    for name, root in names.items():
        if root == model:
            return name
    raise ModelError(f"it serves {one_line(', '.join(sorted(names)), 200)} instead of {model!r}")


def answer_one_token(address: Address, model: str, kind: ModelKind, seconds: float) -> None:
    """Ask for one token, or for one vector of an embedder.

    Raises:
        NotReady: The server does not answer yet, or in ``seconds``.
        ModelError: It refuses the request, as it would refuse all others.
    """
    if kind == "embedder":
        reply = _sent(f"{address.url}/embeddings", address.key, {"model": model, "input": "Hi"}, seconds)
        if not reply.get("data"):
            raise NotReady("it returned no vector")
        return
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "temperature": 0}
    reply = _sent(f"{address.url}/chat/completions", address.key, body, seconds)
    if not reply.get("choices"):
        raise NotReady("it returned no answer")


def _sent(url: str, key: str, body: Mapping[str, Any] | None, seconds: float) -> Any:
    """Return the JSON object that a server sent.

    Raises:
        NotReady: It may send one later.
        ModelError: It never will.
    """
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - loopback
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    # A proxy of the environment is for other machines
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as reply:
            text = _text_of(reply, seconds)
    except urllib.error.HTTPError as e:
        reason = f"HTTP {e.code}"
        detail = error_bodies.read(e.read(100_000).decode("utf-8", "replace")).message
        if detail:
            reason = f"{reason}: {one_line(detail, 300)}"
        if e.code >= 500 or e.code in _TOO_EARLY:
            raise NotReady(reason) from None
        raise ModelError(reason) from None
    except (OSError, http.client.HTTPException) as e:
        raise NotReady(one_line(getattr(e, "reason", None) or repr(e), 120)) from None
    if not text.strip() and body is None:
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        if body is None:
            return {}
        raise NotReady("its answer is not JSON") from None
    return document if isinstance(document, dict) else {}


def _text_of(reply: http.client.HTTPResponse, seconds: float) -> str:
    """Return the text of an answer, which must end: the timeout of a socket is only about the next byte.

    Raises:
        NotReady: It does not.
    """
    end = time.monotonic() + seconds
    data = bytearray()
    while piece := reply.read1(1 << 16):
        data += piece
        if len(data) > _MOST_BYTES or time.monotonic() > end:
            raise NotReady(f"its answer did not end within {seconds:g} s and {_MOST_BYTES >> 20} MiB")
    return data.decode("utf-8", "replace")
