"""Responses kept as appended lines, found by a fingerprint of model and request.

One file per model identity. A line is ``<crc32> <json>``; it is handed to the operating system in one write before the
answer is used, so a process killed at any byte loses at most the line it was writing, and that line is recognised.

Only where the lines begin is held in memory. SQLite would open a store without reading it, but takes four times as long
for each answer that is stored (27 instead of 6 us of CPU time, with its log in WAL mode and without waiting for the
disk; 200,000 answers of 400 bytes), and people can read, filter and join lines with the tools they have.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import GenerationError
from pytest_trustllm.types import Request, Response, digest

GENERATION_VERSION = 2
"""Raised when the same request could be answered differently by a newer version of this package.

2: reasoning is kept apart from the answer.
"""

_KEY_START = b'{"key":"'
_KEY_END = len(_KEY_START) + 64
_LINE_BYTES = 2048
"""Read at once for an answer; most are shorter."""
_STORED_FIELDS = tuple(
    f.name for f in dataclasses.fields(Response) if f.name not in ("error", "raised", "fatal", "cached", "cut")
)


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
        self._places: dict[bytes, int] = {}
        """Key -> where its line begins."""
        self._file: int | None = None
        self._reading: int | None = None
        try:
            clean_end = self._index()
            if not read_only:
                self._file = self._opened(directory)
            if self.path.exists():
                self._reading = os.open(self.path, os.O_RDONLY)
        except OSError as e:
            hint = ""
            if e.errno == errno.EROFS and not read_only:
                hint = " (with --trust-offline it is only read)"
            raise GenerationError(f"--trust-store: {directory} cannot be used: {e.strerror or e}{hint}") from None
        self._ends_torn = not clean_end
        if self._file is not None and not self._places and os.fstat(self._file).st_size == 0:
            self._append({"model": dict(info)})

    def _opened(self, directory: Path) -> int:
        """Make the directory and return the file, open for appending."""
        directory.mkdir(parents=True, exist_ok=True)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _index(self) -> bool:
        """Find the lines of the file and return whether it ends with a whole one."""
        if not self.path.exists():
            return True
        begin = 0
        line = b"\n"
        with self.path.open("rb") as file:
            for line in file:
                payload = _payload(line)
                if payload is not None and payload.startswith(_KEY_START):
                    self._places[payload[len(_KEY_START) : _KEY_END]] = begin
                begin += len(line)
        return line.endswith(b"\n")

    def __len__(self) -> int:
        return len(self._places)

    def key(self, request: Request) -> str:
        """Return the fingerprint of model and request."""
        return digest([self.identity, request.key()])

    def get(self, key: str) -> Response | None:
        """Return a stored response.

        Raises:
            GenerationError: The file cannot be read.
        """
        begin = self._places.get(key.encode("ascii"))
        if begin is None:
            return None
        payload = _payload(self._line_at(begin))
        if payload is None:  # another process wrote in the middle of the line, or the file was cut: ask again
            return None
        response = Response(**json.loads(payload)["response"], cached=True)
        if response.vector is not None:
            response = dataclasses.replace(response, vector=tuple(response.vector))  # JSON made it a list
        return response

    def _line_at(self, begin: int) -> bytes:
        """Return a line with its end."""
        assert self._reading is not None  # noqa: S101 - a file with lines exists
        line = bytearray()
        try:
            while b"\n" not in line:
                # twice as much each time: some answers are very long
                piece = os.pread(self._reading, max(_LINE_BYTES, len(line)), begin + len(line))
                if not piece:
                    break
                line += piece
        except OSError as e:
            raise GenerationError(f"--trust-store: {self.path} cannot be read: {e.strerror or e}") from None
        return bytes(line[: line.find(b"\n") + 1])

    def put(self, key: str, response: Response) -> None:
        """Store a response; once this returns, it survives the end of the process.

        Raises:
            GenerationError: The disk is full or the file cannot be written.
        """
        fields: dict[str, Any] = {}
        for name in _STORED_FIELDS:
            value = getattr(response, name)
            if value is not None:
                fields[name] = value
        self._places[key.encode("ascii")] = self._append({"key": key, "response": fields})

    def _append(self, entry: Mapping[str, Any]) -> int:
        """Write a line and return where it begins."""
        payload = json.dumps(entry, separators=(",", ":")).encode("ascii")
        line = b"%08x %s\n" % (zlib.crc32(payload), payload)
        length = len(line)
        if self._ends_torn:
            line = b"\n" + line
        self._ends_torn = True  # until all of it is written
        assert self._file is not None  # noqa: S101 - it was not opened read-only
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as e:
            raise GenerationError(f"--trust-store: {self.path} cannot be written: {e.strerror or e}") from None
        self._ends_torn = False
        # other processes append too: the end of what this one wrote is its position in the file
        return os.lseek(self._file, 0, os.SEEK_CUR) - length

    def close(self) -> None:
        """Close the file."""
        for descriptor in (self._file, self._reading):
            if descriptor is not None:
                os.close(descriptor)


def _payload(line: bytes) -> bytes | None:
    """Return the JSON of a line; None if the line is torn, or if two processes wrote into it."""
    payload = line[9:-1]
    if line[8:9] != b" " or line[-1:] != b"\n" or line[:8] != b"%08x" % zlib.crc32(payload):
        return None
    return payload
