"""A file of appended lines that a process can be killed over, at any byte, without losing what it had written.

A line is ``<crc32> <json>``; it is handed to the operating system in one write, so a process killed at any byte loses
at most the line it was writing, and that line is recognised.

A long file has an index beside it (:mod:`.line_index`). SQLite needs none, but takes four times as long for each answer
that is stored (27 instead of 6 us of CPU time, with its log in WAL mode and without waiting for the disk; 200,000
answers of 400 bytes), and people can read, filter and join lines with the tools they have.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm.config.reading import MOST_LINE_BYTES, descriptor_of, is_deep, open_regular
from pytest_trustllm.engine.line_index import KEY_BYTES, WORTH_INDEXING, read_index, write_index
from pytest_trustllm.errors import GenerationError

_KEY_START = b'{"key":"'
_KEY_END = len(_KEY_START) + 64
_LINE_BYTES = 2048
"""Read at once for a line; most are shorter."""


class AppendedLines:
    """The lines of a file.

    Args:
        path: The file; made together with its directory if it is missing.
        read_only: Nothing will be written or made; the directory need not be writable.

    Raises:
        GenerationError: The file cannot be read, or not be written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._writing: int | None = None
        self._reading: int | None = None
        self._ends_torn = False
        try:
            if not read_only:
                self._writing = _opened(path)
            if path.exists():
                self._reading = descriptor_of(path, os.O_RDONLY)
                self._ends_torn = not self._ends_whole()
        except OSError as e:
            hint = ""
            if e.errno == errno.EROFS and not read_only:
                hint = " (with --trust-offline it is only read)"
            raise GenerationError(f"--trust-store: {path.parent} cannot be used: {e.strerror or e}{hint}") from None

    @property
    def descriptor(self) -> int:
        """The file, open for appending."""
        assert self._writing is not None  # noqa: S101 - it was not opened read-only
        return self._writing

    @property
    def is_empty(self) -> bool:
        """Nothing was ever written."""
        return self._reading is None or os.fstat(self._reading).st_size == 0

    def _ends_whole(self) -> bool:
        assert self._reading is not None  # noqa: S101 - the caller opened it
        size = os.fstat(self._reading).st_size
        return size == 0 or os.pread(self._reading, 1, size - 1) == b"\n"

    def since(self, begin: int) -> Iterator[tuple[int, bytes, int]]:
        """Yield where each whole line from ``begin`` on begins, its JSON, and where it ends; torn lines are left out.

        Raises:
            GenerationError: The file cannot be read.
        """
        if self._reading is None:
            return
        try:
            with open_regular(self.path) as file:
                file.seek(begin)
                while line := file.readline(MOST_LINE_BYTES):
                    end = begin + len(line)
                    payload = _payload(line.removesuffix(b"\n"))
                    if payload is not None:
                        yield begin, payload, end
                    begin = end
        except OSError as e:
            raise GenerationError(f"--trust-store: {self.path.parent} cannot be used: {e.strerror or e}") from None

    def at(self, begin: int) -> bytes | None:
        """Return the JSON of the line that begins at a place; None if there is no whole line.

        Raises:
            GenerationError: The file cannot be read.
        """
        assert self._reading is not None  # noqa: S101 - a file with lines exists
        line = bytearray()
        try:
            while b"\n" not in line:
                # twice as much each time: some answers are very long
                piece = os.pread(self._reading, max(_LINE_BYTES, len(line)), begin + len(line))
                if not piece:
                    break
                line += piece
        except OverflowError:  # a place out of an index that somebody else wrote
            return None
        except OSError as e:
            raise GenerationError(f"--trust-store: {self.path} cannot be read: {e.strerror or e}") from None
        return _payload(bytes(line).partition(b"\n")[0])

    def append(self, entry: Mapping[str, Any]) -> int:
        """Write a line and return where it begins; once this returns, the line survives the end of the process.

        Raises:
            GenerationError: The disk is full or the file cannot be written.
        """
        payload = json.dumps(entry, separators=(",", ":")).encode("ascii")
        line = b"%08x %s\n" % (zlib.crc32(payload), payload)
        length = len(line)
        if self._ends_torn:
            line = b"\n" + line
        self._ends_torn = True  # until all of it is written
        file = self.descriptor
        try:
            written = os.write(file, line)
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError as e:
            raise GenerationError(f"--trust-store: {self.path} cannot be written: {e.strerror or e}") from None
        self._ends_torn = False
        # other processes append too: the end of what this one wrote is its position in the file
        return os.lseek(file, 0, os.SEEK_CUR) - length

    def close(self) -> None:
        """Close the file."""
        for descriptor in (self._writing, self._reading):
            if descriptor is not None:
                os.close(descriptor)
        self._writing = self._reading = None


class KeyedLines:
    """Lines of which most have a key; the last line of a key is found by it. Only where they begin is held in memory.

    A key is a SHA-256 in hexadecimal digits.

    Args:
        path: The file.
        header: Its first line.
        read_only: Nothing will be written or made.

    Raises:
        GenerationError: The file cannot be read, or not be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, read_only: bool = False) -> None:
        self._lines = AppendedLines(path, read_only=read_only)
        self._read_only = read_only
        self._index = read_index(path)
        self._places: dict[bytes, int] = {}
        """Key -> where its line begins, of the lines that the index does not cover."""
        self._others: list[int] = []
        """Where lines without a key begin, likewise."""
        self._read_to = 0
        if not read_only and self._lines.is_empty:
            self._lines.append(header)

    def __len__(self) -> int:
        if self._index is None:
            return len(self._places)
        return len(self._index.places().keys() | self._places.keys())

    def __contains__(self, key: str) -> bool:
        return self._place(key) is not None

    @property
    def descriptor(self) -> int:
        """The file, open for appending."""
        return self._lines.descriptor

    def news(self) -> Iterator[dict[str, Any]]:
        """Read what was appended since the last call, by whatever process, and yield the lines that have no key.

        A line with a key is found by it from the moment at which the lines before it were yielded. Of a long file, the
        first call reads what its index does not cover, and writes the index again if that was much.
        """
        if self._read_to == 0 and self._index is not None:
            self._read_to = self._index.covered
            for begin in self._index.others:
                line = _mapping(self._lines.at(begin) or b"")
                if line is not None:
                    yield line
        for begin, payload, end in self._lines.since(self._read_to):
            self._read_to = end
            key = _key_of(payload)
            if key is not None:
                self._places[key] = begin
                continue
            self._others.append(begin)
            line = _mapping(payload)
            if line is not None:
                yield line
        if not self._read_only:
            self._write_index()

    def _write_index(self) -> None:
        """Write the index if so many lines are not covered that reading them takes long."""
        covered = 0 if self._index is None else len(self._index)
        if len(self._places) < max(WORTH_INDEXING, covered // 4):
            return
        places = {} if self._index is None else self._index.places()
        others = () if self._index is None else self._index.others
        write_index(self._lines.path, self._read_to, {**places, **self._places}, [*others, *self._others])
        index = read_index(self._lines.path)
        if index is not None and index.covered == self._read_to:
            self._index = index
            self._places.clear()
            self._others.clear()

    def _place(self, key: str) -> int | None:
        place = self._places.get(bytes.fromhex(key))
        if place is None and self._index is not None:
            return self._index.place(key)
        return place

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the last line of a key; None if there is none, or if it is not what this package writes.

        Raises:
            GenerationError: The file cannot be read.
        """
        begin = self._place(key)
        if begin is None:
            return None
        payload = self._lines.at(begin)
        if payload is None or _key_of(payload) != bytes.fromhex(key):
            return None  # another process wrote in the middle of the line, or the file was changed: ask again
        return _mapping(payload)

    def put(self, key: str, fields: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            GenerationError: The disk is full or the file cannot be written.
        """
        self._places[bytes.fromhex(key)] = self._lines.append({"key": key, **fields})

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append a line without a key.

        Raises:
            GenerationError: As for :meth:`put`.
        """
        self._lines.append(entry)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _opened(path: Path) -> int:
    """Make the directory and return the file, open for appending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ignore = path.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="ascii")
    return descriptor_of(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _key_of(payload: bytes) -> bytes | None:
    """Return the key of a line as 32 bytes; None if it has none."""
    if not payload.startswith(_KEY_START):
        return None
    try:
        key = bytes.fromhex(payload[len(_KEY_START) : _KEY_END].decode("ascii"))
    except ValueError:  # written by something else
        return None
    return key if len(key) == KEY_BYTES else None


def _mapping(payload: bytes) -> dict[str, Any] | None:
    """Return the mapping of a line; None if it is something else, which this package did not write."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not is_deep(value) else None


def _payload(line: bytes) -> bytes | None:
    """Return the JSON of a line without its end; None if the line is torn, or if two processes wrote into it.

    A line of which only the end is missing is whole: its checksum tells.
    """
    payload = line[9:]
    if line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(payload):
        return None
    return payload
