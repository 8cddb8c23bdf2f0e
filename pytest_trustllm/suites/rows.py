"""The rows of a data set: bundled sample items, or TrustLLM's files in a directory or zip."""

from __future__ import annotations

import hashlib
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_trustllm.config.paths import exists, files_below, is_directory, is_file
from pytest_trustllm.config.reading import MOST_LEVELS, is_deep, read_bytes
from pytest_trustllm.errors import SuiteError, one_line

SECTIONS = ("truthfulness", "safety", "fairness", "robustness", "privacy", "ethics")
DataRow = Mapping[str, Any]
"""One row of a data file: field -> value."""


MOST_BYTES = 256 << 20
"""Longest file of a data set that is read; the longest of TrustLLM's has 5 MB."""
_MOST_DIRECTORY_BYTES = 8 << 20
"""Longest list of files of a zip: about 100,000 of them."""
_END_OF_DIRECTORY = b"PK\x05\x06"
_ZIP_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,  # encrypted, or compressed in a way that this Python cannot decompress
    ValueError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Archive:
    """TrustLLM's section folders in a directory or a zip, at the top or under one folder.

    Args:
        path: Directory or zip.
        source: Names the archive in messages, such as ``--trust-data``.

    Attributes:
        hashes: ``section/file.json`` -> SHA-256, for every file whose rows have been read.

    Raises:
        SuiteError: It does not exist, is not a zip, or has none of the six section folders.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.source = source
        self.hashes: dict[str, str] = {}
        self._members = self._sections()

    def _sections(self) -> dict[str, str]:
        """Return ``section/file.json`` -> member name."""
        members: dict[str, str] = {}
        # Shallow names first: of two copies inside an archive the outer one counts.
        for name in sorted(self._json_names(), key=lambda name: name.count("/")):
            parts = PurePosixPath(name).parts
            if len(parts) >= 2 and parts[-2] in SECTIONS:
                members.setdefault("/".join(parts[-2:]), name)
        if not members:
            raise SuiteError(
                f"{self.source}: {self.path} holds none of TrustLLM's folders ({', '.join(SECTIONS)}) "
                "with .json files; give the directory or zip of the TrustLLM data set"
            )
        return members

    def _json_names(self) -> list[str]:
        if is_directory(self.path):
            files = files_below(self.path, ".json", f"{self.source}: {self.path}", SuiteError)
            return [file.relative_to(self.path).as_posix() for file in files]
        if not exists(self.path):
            raise SuiteError(f"{self.source}: {self.path} does not exist")
        if not is_file(self.path) or not zipfile.is_zipfile(self.path):
            raise SuiteError(f"{self.source}: {self.path} is neither a directory nor a zip file")
        directory_bytes = _directory_bytes(self.path)
        if directory_bytes > _MOST_DIRECTORY_BYTES:
            raise SuiteError(f"{self.source}: {self.path} lists more files than a data set has; give its own zip")
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = archive.namelist()
        except _ZIP_ERRORS as e:
            raise SuiteError(f"{self.source}: {self.path} is a broken zip file: {one_line(e)}") from None
        # macOS adds a shadow of every file, which is not JSON whatever its name.
        return [name for name in names if name.endswith(".json") and not name.startswith("__MACOSX/")]

    def __contains__(self, file: object) -> bool:
        return file in self._members

    @property
    def files(self) -> tuple[str, ...]:
        """Every ``section/file.json`` in it, sorted."""
        return tuple(sorted(self._members))

    def read(self, file: str) -> bytes:
        """Return the bytes of ``section/file.json``.

        Raises:
            SuiteError: The file is missing or cannot be read.
        """
        if file not in self._members:
            raise SuiteError(f"{self.source}: {self.path} has no {file}")
        member = self._members[file]
        where = f"{self.source}: {self.path}: {one_line(member, 200)}"
        if is_directory(self.path):
            return read_bytes(self.path / member, where, SuiteError, MOST_BYTES)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as opened:
                data: bytes = opened.read(MOST_BYTES + 1)  # its size in the directory may be wrong
        except _ZIP_ERRORS as e:
            raise SuiteError(f"{where} cannot be read: {one_line(e)}") from None
        if len(data) > MOST_BYTES:
            raise SuiteError(f"{where} has more than {MOST_BYTES / 2**20:,.0f} MiB; such a file is not read")
        return data

    def rows(self, file: str) -> list[DataRow]:
        """Return the rows of ``section/file.json``.

        Raises:
            SuiteError: The file is missing or is not a JSON list of objects.
        """
        data = self.read(file)
        member = self._members[file]
        try:
            rows = json.loads(data)  # accepts a bare NaN, which some of TrustLLM's own files contain
        except (ValueError, RecursionError) as e:  # not UTF-8, not JSON, nested too deeply
            raise SuiteError(
                f"{self.source}: {self.path}: {one_line(member, 200)} cannot be read: {one_line(e)}"
            ) from None
        self.hashes[file] = hashlib.sha256(data).hexdigest()
        if is_deep(rows):
            raise SuiteError(
                f"{self.source}: {self.path}: {one_line(member, 200)}: nested more than {MOST_LEVELS} levels deep"
            )
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SuiteError(f"{self.source}: {self.path}: {member} is not a JSON list of objects")
        return rows


def _directory_bytes(path: Path) -> int:
    """Return how long the list of files at the end of a zip is, without reading it; 0 if there is none."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 66_000))  # behind the end of the directory there may be a comment
        tail = file.read()
    place = tail.rfind(_END_OF_DIRECTORY)
    if place < 0 or len(tail) < place + 16:
        return 0
    size: int = struct.unpack_from("<I", tail, place + 12)[0]
    return size


def read_lines(path: Path, shown: str) -> tuple[list[DataRow], str]:
    """Return the rows of a JSONL file and the SHA-256 of its bytes.

    Args:
        path: The file; blank lines are skipped.
        shown: Names the file in messages.

    Raises:
        SuiteError: It cannot be read, or a line is not a JSON object.
    """
    data = read_bytes(path, shown, SuiteError)
    try:
        # Not splitlines: a JSON string may contain other line separators such as U+2028.
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as e:
        raise SuiteError(f"{shown}: is not UTF-8 text (byte {e.start})") from None
    rows: list[DataRow] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append(_row(line, f"{shown}:{number}"))
    return rows, hashlib.sha256(data).hexdigest()


def _row(line: str, where: str) -> DataRow:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise SuiteError(f"{where}: not JSON: {e.msg} (column {e.colno})") from None
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, nested too deeply
        raise SuiteError(f"{where}: not JSON: {e}") from None
    if line.count("[") + line.count("{") > MOST_LEVELS and is_deep(row):
        raise SuiteError(f"{where}: nested more than {MOST_LEVELS} levels deep")
    if not isinstance(row, dict):
        raise SuiteError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row
