"""Responses kept as appended lines, found by a fingerprint of model and request.

One file per model identity. An answer is written before it is used, so that none is lost however the process ends.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.engine.appended_lines import KeyedLines
from pytest_trustllm.formats import StoredLine
from pytest_trustllm.types import Request, Response, digest

GENERATION_VERSION = 2
"""Raised when the same request could be answered differently by a newer version of this package.

2: reasoning is kept apart from the answer.
"""

_STORED_FIELDS = tuple(
    f.name
    for f in dataclasses.fields(Response)
    if f.name not in ("error", "raised", "fatal", "cached", "cut", "pending")
)
_ANSWERS = ("text", "vector", "number", "unanswered", "calls")
"""Fields of which a response has at least one."""


def _file_label(info: Mapping[str, Any]) -> str:
    """Return the readable part of a file name: the end of the model's id, where its name is."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", str(info.get("id", "model")))
    return safe.strip("-.")[-40:] or "model"


class Shelf:
    """The stored responses of one model.

    Args:
        directory: The store's directory; made if it is missing.
        info: What the model says about itself, and what its entry says about generating; everything
            except ``about`` distinguishes models.
        read_only: Nothing will be stored or created; the directory need not be writable.

    Raises:
        GenerationError: The directory cannot be read, or not be written.
    """

    def __init__(self, directory: Path, info: Mapping[str, Any], *, read_only: bool = False) -> None:
        identifying = {name: value for name, value in info.items() if name != "about"}
        self.identity = digest([GENERATION_VERSION, identifying])
        self.path = directory / f"{_file_label(info)}-{self.identity[:16]}.jsonl"
        self._answers = KeyedLines(self.path, {"model": dict(info)}, read_only=read_only)
        for _ in self._answers.news():
            pass  # the header says for people which model it is

    def __len__(self) -> int:
        return len(self._answers)

    def key(self, request: Request) -> str:
        """Return the fingerprint of model and request."""
        return digest([self.identity, request.key()])

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def get(self, key: str) -> Response | None:
        """Return a stored response; None if there is none, or if its line is not what this package writes.

        Raises:
            GenerationError: The file cannot be read.
        """
        line = self._answers.get(key)
        if line is None:
            return None
        try:
            stored = checked(line, StoredLine)
        except Mismatch:  # written by something else, or by a version whose lines mean something else
            return None
        # A later version may add fields; an answer to another request is none to this one
        fields: dict[str, Any] = {name: value for name, value in stored["response"].items() if name in _STORED_FIELDS}
        if stored["key"] != key or fields.keys().isdisjoint(_ANSWERS):
            return None
        return dataclasses.replace(Response.restored(fields), cached=True)

    def put(self, key: str, response: Response) -> None:
        """Store a response; once this returns, it survives the end of the process.

        Raises:
            GenerationError: The disk is full or the file cannot be written.
        """
        fields: dict[str, Any] = {}
        for name in _STORED_FIELDS:
            value = getattr(response, name)
            if value is not None and value != ():
                fields[name] = value
        if response.calls:
            fields["calls"] = [dataclasses.asdict(call) for call in response.calls]
        self._answers.put(key, {"response": fields})

    def close(self) -> None:
        """Close the file."""
        self._answers.close()
