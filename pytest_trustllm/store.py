"""Responses kept as appended lines, found by a fingerprint of model and request.

One file per model identity. A line is ``<crc32> <json>``; it is handed to the operating system in one write before the
answer is used, so a process killed at any byte loses at most the line it was writing, and that line is recognised.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import GenerationError
from pytest_trustllm.records import Request, Response, digest

GENERATION_VERSION = 1
"""Raised when the same request could be answered differently by a newer version of this package."""

_FIELDS = tuple(
    f.name for f in dataclasses.fields(Response) if f.name not in ("error", "raised", "fatal", "cached", "cut")
)


class Shelf:
    """The stored responses of one model.

    Args:
        directory: The store's directory; made if it is missing.
        info: What the model says about itself; all of it but ``about`` tells models apart.

    Raises:
        GenerationError: The directory cannot be written.
    """

    def __init__(self, directory: Path, info: Mapping[str, Any]) -> None:
        self.identity = digest([GENERATION_VERSION, {k: v for k, v in info.items() if k != "about"}])
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", str(info.get("id", "model"))).strip("-.")[-40:] or "model"
        self.path = directory / f"{label}-{self.identity[:16]}.jsonl"
        self._found: dict[str, dict[str, Any]] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            ignore = directory / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="ascii")
            clean_end = self._read()
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as e:
            raise GenerationError(f"--trust-store: {directory} cannot be used: {e.strerror or e}") from None
        self._torn = not clean_end
        if not self._found and os.fstat(self._file).st_size == 0:
            self._append({"model": dict(info)})

    def _read(self) -> bool:
        """Read the file and return whether it ends with a whole line."""
        if not self.path.exists():
            return True
        data = self.path.read_bytes()
        for line in data.split(b"\n"):
            if line[8:9] == b" " and b"%08x" % zlib.crc32(line[9:]) == line[:8]:
                entry = json.loads(line[9:])
                if "key" in entry:
                    self._found[entry["key"]] = entry["response"]
        return not data or data.endswith(b"\n")

    def __len__(self) -> int:
        return len(self._found)

    def key(self, request: Request) -> str:
        """Return the fingerprint of model and request."""
        return digest([self.identity, request.key()])

    def get(self, key: str) -> Response | None:
        """Return a stored response."""
        found = self._found.get(key)
        if found is None:
            return None
        vector = found.get("vector")
        return Response(**{**found, "vector": tuple(vector) if vector is not None else None}, cached=True)

    def put(self, key: str, response: Response) -> None:
        """Keep a response; when this returns it survives the process.

        Raises:
            GenerationError: The disk is full or the file cannot be written.
        """
        kept = {name: value for name in _FIELDS if (value := getattr(response, name)) is not None}
        self._append({"key": key, "response": kept})
        self._found[key] = kept

    def _append(self, entry: Mapping[str, Any]) -> None:
        payload = json.dumps(entry, separators=(",", ":")).encode("ascii")
        line = b"\n" * self._torn + b"%08x %s\n" % (zlib.crc32(payload), payload)
        self._torn = True
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as e:
            raise GenerationError(f"--trust-store: {self.path} cannot be written: {e.strerror or e}") from None
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
