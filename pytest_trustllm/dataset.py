"""The rows of a data set: bundled sample items, or TrustLLM's files in a directory or zip."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_trustllm.errors import SuiteError

SECTIONS = ("truthfulness", "safety", "fairness", "robustness", "privacy", "ethics")
Row = Mapping[str, Any]


class Archive:
    """TrustLLM's section folders in a directory or a zip, at the top or under one folder.

    Args:
        path: Directory or zip.
        what: What messages call it, such as ``--trust-data``.

    Raises:
        SuiteError: It does not exist, is no zip, or has none of the six section folders.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        self.hashes: dict[str, str] = {}
        self._members = self._find()

    def _find(self) -> dict[str, str]:
        """Return ``section/file.json`` -> member name."""
        if self.path.is_dir():
            names = [p.relative_to(self.path).as_posix() for p in sorted(self.path.glob("**/*.json"))]
        elif self.path.is_file() and zipfile.is_zipfile(self.path):
            try:
                with zipfile.ZipFile(self.path) as z:
                    names = [n for n in z.namelist() if n.endswith(".json") and not n.startswith("__MACOSX/")]
            except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as e:
                raise SuiteError(f"{self.what}: {self.path} is a broken zip file: {e}") from None
        elif self.path.exists():
            raise SuiteError(f"{self.what}: {self.path} is neither a directory nor a zip file")
        else:
            raise SuiteError(f"{self.what}: {self.path} does not exist")
        found: dict[str, str] = {}
        for name in sorted(names, key=lambda n: n.count("/")):
            parts = PurePosixPath(name).parts
            if len(parts) >= 2 and parts[-2] in SECTIONS:
                found.setdefault("/".join(parts[-2:]), name)
        if not found:
            raise SuiteError(
                f"{self.what}: {self.path} holds none of TrustLLM's folders ({', '.join(SECTIONS)}) with .json files; "
                "give the directory or zip of the TrustLLM data set"
            )
        return found

    def __contains__(self, file: object) -> bool:
        return file in self._members

    @property
    def files(self) -> tuple[str, ...]:
        """Every ``section/file.json`` that it holds, sorted."""
        return tuple(sorted(self._members))

    def read(self, file: str) -> bytes:
        """Return the bytes of ``section/file.json``.

        Raises:
            SuiteError: The file is missing or cannot be read.
        """
        if file not in self._members:
            raise SuiteError(f"{self.what}: {self.path} has no {file}")
        member = self._members[file]
        try:
            if self.path.is_dir():
                return (self.path / member).read_bytes()
            with zipfile.ZipFile(self.path) as z:
                return z.read(member)
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as e:
            # RuntimeError: encrypted, or packed in a way that this Python cannot unpack
            raise SuiteError(f"{self.what}: {self.path}: {member} cannot be read: {e}") from None

    def rows(self, file: str) -> list[Row]:
        """Return the rows of ``section/file.json``.

        Raises:
            SuiteError: The file is missing or is not a JSON list of objects.
        """
        data = self.read(file)
        member = self._members[file]
        try:
            rows = json.loads(data)  # bare NaN, which TrustLLM's own files hold, is read
        except (ValueError, RecursionError) as e:  # not UTF-8, not JSON, a nest of brackets
            raise SuiteError(f"{self.what}: {self.path}: {member} cannot be read: {e}") from None
        self.hashes[file] = hashlib.sha256(data).hexdigest()
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise SuiteError(f"{self.what}: {self.path}: {member} is not a JSON list of objects")
        return rows


def read_lines(path: Path, shown: str) -> tuple[list[Row], str]:
    """Return the rows of a JSONL file and the SHA-256 of its bytes.

    Raises:
        SuiteError: It cannot be read, or a line is not a JSON object.
    """
    try:
        data = path.read_bytes()
        lines = data.decode("utf-8-sig").split("\n")
    except OSError as e:
        raise SuiteError(f"{shown}: cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        raise SuiteError(f"{shown}: is not UTF-8 text (byte {e.start})") from None
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as e:
            raise SuiteError(f"{shown}:{number}: not JSON: {e.msg} (column {e.colno})") from None
        except (ValueError, RecursionError) as e:  # a number of thousands of digits, a nest of brackets
            raise SuiteError(f"{shown}:{number}: not JSON: {e}") from None
        if not isinstance(row, dict):
            raise SuiteError(f"{shown}:{number}: expected a JSON object, found {type(row).__name__}")
        rows.append(row)
    return rows, hashlib.sha256(data).hexdigest()
