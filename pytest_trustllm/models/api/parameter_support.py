"""Which request parameters a model supports: learned from what its server rejects, once for all requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_trustllm.models.api.error_bodies import ErrorBody

LIMIT = "max_tokens"
"""What all servers call the limit on an answer's length."""
NEWER_LIMIT = "max_completion_tokens"
"""What OpenAI's newer models want in its place."""
OPTIONAL = ("temperature", "stop", "seed", LIMIT, NEWER_LIMIT, "stream_options")
"""Parameters that the plugin sends and that a request can do without."""
_STATUSES = frozenset({400, 404, 405, 415, 422, 501})
_REJECTED = re.compile(
    r"unsupported|not (?:currently )?support|n't support|no longer support|deprecated|unrecogni[sz]ed|unknown"
    r"|not permitted|not allowed|not accepted|not available|unexpected|forbidden|cannot find field"
    r"|(?:is|are) (?:not|an?) (?:valid|invalid|known) (?:parameter|argument|field|option)"
    r"|invalid (?:parameter|argument)"
    r"|only the default|only be set to|must be (?:unset|omitted|removed)|remove (?:the|this) parameter",
    re.IGNORECASE,
)
_REJECTED_MARKS = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"})
_DROPPED_ON_ANY_COMPLAINT = frozenset({"stop", "seed"})
"""Nothing is lost without them: the plugin cuts answers at stop texts itself, and no API guarantees its seed."""
_STREAM_REQUIRED = re.compile(
    r"\b(?:only|must|requires?|need|enable|please|use|set)\b.{0,60}\bstream|\bnon-?stream|\bstream\w*\b.{0,40}"
    r"\b(?:only|required|must|mandatory)\b",
    re.IGNORECASE,
)
_CONSEQUENCES: Mapping[str, str] = {
    "temperature": ", so that answers may vary from run to run",
    "stop": ", so that answers are cut after they arrive",
    NEWER_LIMIT: ", so that answers can be of any length",
}


class ParameterSupport:
    """Which request parameters a model supports, learned from its rejections, and what is sent instead of the others.

    Args:
        omit: Parameters that the user wants left out.
        given: Parameters that the user set by name. If the server rejects one of them, the request fails: what the
            user set is never dropped silently.

    Attributes:
        dropped: Parameters that are not sent.
        streams: The server only answers in a stream.
        limit: The server's name of the limit on an answer's length.
        lines: What the user should know, one line each.
    """

    def __init__(self, omit: Iterable[str] = (), given: Iterable[str] = ()) -> None:
        self.dropped = set(omit)
        self._given = frozenset(given)
        self.streams = False
        self.limit = LIMIT
        self.lines: list[str] = []

    def applied(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body with supported parameters only.

        Args:
            body: The request's body, with the limit on the answer under ``max_tokens``.
        """
        supported: dict[str, Any] = {}
        if self.streams:
            supported = self._sent({"stream": True, "stream_options": {"include_usage": True}})
        supported.update(self._sent(body))
        return supported

    def _sent(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        sent: dict[str, Any] = {}
        for name, value in parameters.items():
            if name in self._given:
                sent[name] = value
                continue
            server_name = self.limit if name == LIMIT else name
            if name not in self.dropped and server_name not in self.dropped:
                sent[server_name] = value
        return sent

    def learn(self, status: int, error: ErrorBody, sent: Mapping[str, Any], reason: str) -> bool:
        """Learn from a rejected request.

        Args:
            status: HTTP status.
            error: The reply's body.
            sent: The body of the rejected request.
            reason: The rejection in one line, for people.

        Returns:
            Whether the next try will send something else.
        """
        if status not in _STATUSES:
            return False
        candidates = [name for name in OPTIONAL if name in sent and name not in self._given]
        rejected = _rejected_parameter(error, candidates)
        if rejected is not None:
            self._drop(rejected, reason)
            return True
        if not sent.get("stream") and _STREAM_REQUIRED.search(error.message):
            self._stream(reason)
            return True
        return False

    def _drop(self, name: str, reason: str) -> None:
        if name == LIMIT:
            self.limit = NEWER_LIMIT
            return
        # Another request that was in flight may have learned it already
        if name not in self.dropped:
            self.dropped.add(name)
            self.lines.append(f"{name} is not sent{_CONSEQUENCES.get(name, '')}: {reason}")

    def _stream(self, reason: str) -> None:
        if not self.streams:
            self.streams = True
            self.lines.append(f"answers come as a stream: {reason}")


def _rejected_parameter(error: ErrorBody, candidates: list[str]) -> str | None:
    """Return which parameter a server does not support: the one its error points at, else the first its text names."""
    says_unsupported = bool(_REJECTED.search(error.message)) or bool(error.marks & _REJECTED_MARKS)
    pointed_at = [name for name in candidates if name in error.names]
    if pointed_at and (says_unsupported or pointed_at[0] in _DROPPED_ON_ANY_COMPLAINT):
        return pointed_at[0]
    if not says_unsupported:
        return None
    positions: dict[str, int] = {}
    for name in candidates:
        position = _mention(name, error.message)
        if position is not None:
            positions[name] = position
    return min(positions, key=lambda name: positions[name], default=None)


def _mention(name: str, message: str) -> int | None:
    """Return where a message names a parameter: in quotes, after a word such as 'parameter', or before 'is not'."""
    word = re.escape(name)
    match = re.search(
        rf"['\"`‘’“”]{word}['\"`‘’“”]"
        rf"|\b(?:parameters?|arguments?|fields?|names?|property|keys?|options?|inputs?|supplied|permitted|model):?"
        rf" +{word}\b"
        rf"|: *{word}\b(?! )"
        rf"|\b{word}\b:? +(?:(?:is|are|was|does|do|may|must|can) (?:not|no|only|un\w+|deprecated|forbidden|currently)\b"
        rf"|(?:cannot|can't|isn't|doesn't|not|parameter|unsupported)\b)",
        message,
    )
    if match is None:
        return None
    return match.start()
