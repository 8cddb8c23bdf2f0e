"""Files of other people's data that a suite pins: where they come from, under which licence, and what they must be."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Integer, Key, Made, MappingOf, Table, Text
from pytest_trustllm.config.files import replacing
from pytest_trustllm.config.paths import is_file
from pytest_trustllm.config.reading import parse_json, read_bytes
from pytest_trustllm.errors import SuiteError, one_line
from pytest_trustllm.suites.downloads import Undelivered, download, part_of
from pytest_trustllm.suites.full_data import home
from pytest_trustllm.suites.rows import DataRow, read_lines

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
MOST_BYTES = 256 << 20
"""A file beyond this is not fetched."""
_MOST_EXPANDED = 1 << 30
_ROWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file that a suite reads and does not contain.

    Attributes:
        name: What the suite calls it.
        url: Where it is published; it contains the commit.
        sha256: Of its bytes.
        licence: As an SPDX expression where there is one.
        commit: Of the repository that publishes it; None: the address is of another kind.
        size: In bytes; None: the suite does not say.
    """

    name: str
    url: str
    sha256: str
    licence: str
    commit: str | None = None
    size: int | None = None

    @property
    def base_name(self) -> str:
        """Its name in the address."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def path(self) -> Path:
        """Where its copy is on this machine, if there is one."""
        return home() / "files" / self.sha256[:16] / self.base_name

    @property
    def is_here(self) -> bool:
        """Whether there is a copy, whatever is in it."""
        return is_file(self.path)


def rows_of(file: PinnedFile, package: str) -> list[DataRow]:
    """Return the rows of a pinned file.

    Args:
        file: The file.
        package: What 'data fetch' calls the suite, for messages.

    Raises:
        SuiteError: There is no copy on this machine, its bytes are not those that the suite pins, or it cannot be read.
    """
    if not file.is_here:
        raise SuiteError(f"{file.base_name} is not on this machine; run 'pytest-trustllm data fetch {package}'")
    data = read_bytes(file.path, file.path, SuiteError, MOST_BYTES)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise SuiteError(
            f"{file.path} is not the file that the suite pins (SHA-256 differs); "
            f"run 'pytest-trustllm data fetch {package}' again"
        )
    return _read(file.path, data)


def _read(path: Path, data: bytes) -> list[DataRow]:
    """Return the rows of a file, in the format that its name tells.

    Raises:
        SuiteError: It is not in that format.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return read_lines(path, path.name)[0]
    if suffix == ".parquet":
        return _parquet(path)
    try:
        if suffix == ".csv":
            # Texts alone: what looks like a number in one row need not be one in the next.
            return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
        rows: Any = parse_json(data.decode("utf-8-sig"), path.name, SuiteError)
    except (ValueError, RecursionError, csv.Error) as e:
        raise SuiteError(f"{path.name} cannot be read: {one_line(e, 120)}") from None
    if isinstance(rows, Mapping):  # the rows below one key, as some sets have them
        lists = [value for value in rows.values() if isinstance(value, list)]
        rows = lists[0] if len(lists) == 1 else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SuiteError(f"{path.name} is not a JSON list of objects")
    return rows


def _parquet(path: Path) -> list[DataRow]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise SuiteError(f"{path.name} needs pyarrow; pip install 'pytest-trustllm[parquet]'") from None
    rows: list[DataRow] = []
    size = 0
    try:
        with parquet.ParquetFile(path) as file:
            # a few rows at a time: in the file, a value that is repeated takes no place
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                size += batch.nbytes
                if size > _MOST_EXPANDED:
                    raise SuiteError(f"{path.name} has more than {_MOST_EXPANDED >> 20:,} MiB of rows; it is not read")
                rows += batch.to_pylist()
    except (ValueError, OSError, MemoryError) as e:  # pyarrow's own are of these classes
        raise SuiteError(f"{path.name} cannot be read: {one_line(e, 120)}") from None
    return rows


def fetch(file: PinnedFile, *, mirror: Path | None = None, timeout: float = 30.0) -> bool:
    """Bring a file to this machine, unless it is here.

    Args:
        file: The file.
        mirror: Directory that has a copy under the same name; None: it is downloaded.
        timeout: Seconds without a byte after which a download is given up.

    Returns:
        False if it was here already.

    Raises:
        SuiteError: It could not be had, or it is another file than the suite pins.
    """
    target = file.path
    if is_file(target) and hashlib.sha256(read_bytes(target, target, SuiteError)).hexdigest() == file.sha256:
        return False
    data = _downloaded(file, timeout) if mirror is None else _copied(mirror / file.base_name)
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        where = file.url if mirror is None else mirror / file.base_name
        raise SuiteError(
            f"data fetch: {one_line(where)}: the bytes are not those that the suite pins "
            f"(SHA-256 {found}, expected {file.sha256}); nothing was kept"
        )
    with replacing(target, "data fetch", SuiteError) as temporary:
        temporary.write_bytes(data)
    return True


def _downloaded(file: PinnedFile, timeout: float) -> bytes:
    try:
        return download(file.url, file.size or MOST_BYTES, timeout, part_of(file.path))
    except Undelivered as e:
        shown = one_line(urlsplit(file.url)._replace(query="", fragment="").geturl())  # the query may contain a secret
        raise SuiteError(f"data fetch: {shown}: {e}; try again") from None


def _copied(path: Path) -> bytes:
    return read_bytes(path, f"data fetch: {path}", SuiteError, MOST_BYTES)


# --- the shape in a suite ---------------------------------------------------------------------------------------------


def _file(place: Place, values: Mapping[str, Any]) -> PinnedFile:
    url, commit = values["url"], values["commit"]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not url.isascii():
        raise place["url"].fail("expected an address that begins with https://")
    if not PurePosixPath(parts.path).name:
        raise place["url"].fail("the address names no file")
    if not _SHA256.fullmatch(values["sha256"]):
        raise place["sha256"].fail("expected 64 hexadecimal digits in lower case")
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise place["commit"].fail(f"{commit!r} is not a commit")
    if commit is not None and commit not in url:
        raise place["url"].fail("the address does not contain the commit, so its content may change")
    return PinnedFile("", url, values["sha256"], values["licence"], commit, values["size"])


_FILE = Made(
    Table(
        {
            "url": Key(Text(), "Where the file is published.", required=True),
            "sha256": Key(Text(), "Of its bytes.", required=True),
            "licence": Key(Text(), "Under which it is published.", required=True, examples=("CC-BY-4.0", "MIT")),
            "commit": Key(Text(), "Commit of the repository; the address must contain it."),
            "size": Key(Integer(1), "In bytes."),
        }
    ),
    _file,
)
FILES = MappingOf(_FILE, names=True)


def named_files(files: Mapping[str, PinnedFile] | None) -> dict[str, PinnedFile]:
    """Return the files of a suite, each with the name that the suite gives it."""
    named: dict[str, PinnedFile] = {}
    for name, file in (files or {}).items():
        named[name] = PinnedFile(name, file.url, file.sha256, file.licence, file.commit, file.size)
    return named


def licences_of(files: Iterable[PinnedFile]) -> str:
    """Return the licences of files, each once."""
    return ", ".join(dict.fromkeys(file.licence for file in files))
