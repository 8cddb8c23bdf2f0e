"""TrustLLM's complete data set: which file it is, where a copy is kept, how to download and how to verify one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

from pytest_trustllm.config import paths
from pytest_trustllm.config.files import replacing
from pytest_trustllm.errors import SuiteError, one_line
from pytest_trustllm.suites.downloads import Undelivered, download, part_of
from pytest_trustllm.suites.rows import Archive

NAME = "dataset.zip"
MAX_MEMBERS, MAX_MEMBER, MAX_TOTAL = 1_000, 64 << 20, 256 << 20
"""More than the data set will ever need (members, bytes of one, bytes of all); an archive beyond it is not read."""


class PublishedFile(NamedTuple):
    """One published file of the data set."""

    rows: int
    size: int
    sha256: str


class DataSet(NamedTuple):
    """One of the data sets that make up TrustLLM's.

    Attributes:
        name: As in upstream's README.
        files: The files that contain its rows.
        origin: ``prior work`` or ``TrustLLM's own``, according to the README; ``not in README`` if it is not listed.
    """

    name: str
    files: tuple[str, ...]
    origin: str


@dataclass(frozen=True, slots=True)
class PublishedData:
    """The data set as it was published.

    Attributes:
        repository: On GitHub.
        commit: The commit that added this version.
        url: Address of the zip at this commit.
        size: Of the zip, in bytes.
        sha256: Of the zip.
        files: ``section/file.json`` -> its facts.
        sets: All data sets, those of the README first.
    """

    repository: str
    commit: str
    url: str
    size: int
    sha256: str
    files: Mapping[str, PublishedFile]
    sets: tuple[DataSet, ...]

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(file.rows for file in self.files.values())


@cache
def published_data() -> PublishedData:
    """Return the pinned version."""
    facts = json.loads(paths.packaged("suites", "full_data.json").read_text(encoding="utf-8"))
    repository = facts["repository"]
    commit = facts["commit"]
    files = {name: PublishedFile(**file) for name, file in facts["files"].items()}
    sets = [DataSet(entry["name"], tuple(entry["files"]), entry["origin"]) for entry in facts["sets"]]
    return PublishedData(
        repository=repository,
        commit=commit,
        url=f"https://raw.githubusercontent.com/{repository}/{commit}/{facts['path']}",
        size=facts["size"],
        sha256=facts["sha256"],
        files=MappingProxyType(files),
        sets=tuple(sets),
    )


def home() -> Path:
    """Return the directory of the downloaded data, which may not exist: ``TRUSTLLM_DATA``, else in the user's cache."""
    chosen = os.environ.get("TRUSTLLM_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return _user_cache() / "pytest-trustllm"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():  # the XDG specification says to ignore relative paths
        return xdg
    return Path.home() / ".cache"


def downloaded_zip() -> Path:
    """Return the path of the downloaded zip.

    Raises:
        SuiteError: There is none, or it is not the published file.
    """
    path = home() / NAME
    if not path.is_file():
        raise SuiteError(
            "--trust-data: 'full' is not on this machine; run 'pytest-trustllm data fetch', "
            "or give --trust-data=PATH with the directory or zip of the TrustLLM data set"
        )
    if not is_published(path):
        raise SuiteError(
            f"--trust-data: {path} is not the published file (SHA-256 differs); run 'pytest-trustllm data fetch' again"
        )
    return path


def is_published(path: Path) -> bool:
    """Return whether a file is byte for byte the published zip."""
    expected = published_data()
    try:
        if path.stat().st_size != expected.size:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == expected.sha256
    except OSError:
        return False


# --- verify a copy ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verification:
    """How a copy compares with the published data.

    Attributes:
        path: The copy.
        problems: One line each, such as ``missing  safety/jailbreak.json``; empty if it is the published data.
        files: Number of files that are as published.
        rows: Number of rows in these.
    """

    path: Path
    problems: tuple[str, ...]
    files: int
    rows: int


def verify(path: Path) -> Verification:
    """Compare a directory or zip, with or without a top folder, with the published files.

    Raises:
        SuiteError: It does not exist, or cannot be a copy of the data.
    """
    if paths.is_file(path):
        unsafe = tuple(f"unsafe   {problem}" for problem in unsafe_members(path))
        if unsafe:
            return Verification(path, unsafe, 0, 0)
    archive = Archive(path, "data verify")
    expected = published_data().files
    missing = [f"missing  {name}" for name in expected if name not in archive]
    extra = [f"extra    {name}" for name in archive.files if name not in expected]
    changed: list[str] = []
    files = 0
    rows = 0
    for name, file in expected.items():
        if name not in archive:
            continue
        difference = _difference(archive, name, file)
        if difference is None:
            files += 1
            rows += file.rows
        else:
            changed.append(f"changed  {name}: {difference}")
    return Verification(path, (*missing, *extra, *changed), files, rows)


def _difference(archive: Archive, name: str, expected: PublishedFile) -> str | None:
    """Return in words how a file differs from the published one; None if it does not."""
    try:
        data = archive.read(name)
    except SuiteError as e:
        return str(e)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 == expected.sha256:
        return None
    content = _content(data)
    return f"{content} (expected {expected.rows}), SHA-256 {sha256[:16]}... (expected {expected.sha256[:16]}...)"


def _content(data: bytes) -> str:
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(rows, list):
        return "not a list of rows"
    return f"{len(rows)} rows"


def unsafe_members(archive: Path | BinaryIO) -> Iterator[str]:
    """Yield what would make a zip dangerous to unpack or to read; nothing for a file that is not a zip.

    Members must stay below the directory they are unpacked to, be plain files or directories, and be of a size that a
    data set can have.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
    except (OSError, zipfile.BadZipFile):
        return
    if len(members) > MAX_MEMBERS:
        yield f"{len(members)} members, at most {MAX_MEMBERS} are read"
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL:
        yield f"{total} bytes unpacked, at most {MAX_TOTAL} are read"
    for member in members[:MAX_MEMBERS]:
        problem = _unsafe(member)
        if problem is not None:
            yield f"{one_line(member.orig_filename, 120)}: {problem}"


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    # orig_filename: zipfile cuts the other name at a NUL and turns backslashes into slashes on Windows
    if _leaves_archive(member.orig_filename):
        return "the path leads out of the archive"
    # a zip made on Unix has the file's mode in the upper half; others have 0 there
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "not a plain file"
    if member.file_size > MAX_MEMBER:
        return f"{member.file_size} bytes unpacked, at most {MAX_MEMBER} are read"
    return None


def _leaves_archive(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    has_drive = name[1:2] == ":"
    return path.is_absolute() or ".." in path.parts or has_drive or "\0" in name


# --- get a copy -------------------------------------------------------------------------------------------------------


def fetch(directory: Path, url: str | None = None, *, timeout: float = 30.0) -> bool:
    """Download the published zip to ``directory / NAME``, unless it is already there.

    The file takes its place only after its size, SHA-256 and members have been checked. A download that was interrupted
    is continued by the next call. urllib takes proxies from the
    environment.

    Args:
        directory: Created if it is missing.
        url: Address of a mirror; None: the pinned address.
        timeout: Seconds without a byte after which the download is given up.

    Returns:
        False if the file was already there.

    Raises:
        SuiteError: It could not be downloaded; the message says what to do instead.
    """
    if url is None:
        url = published_data().url
    else:
        _check_url(url)
    target = directory / NAME
    if is_published(target):
        return False
    if target.exists() and directory != home():
        raise SuiteError(f"data fetch: {target} exists and is another file; move it away or choose another --to")
    # Two processes may download at the same time: both get the same bytes, and each move is atomic.
    with replacing(target, "data fetch", SuiteError, public=True) as temporary:
        temporary.write_bytes(_download(url, timeout, part_of(target)))
    return True


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise SuiteError(f"data fetch: --url: {one_line(e)}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise SuiteError("data fetch: --url: expected an address that begins with http:// or https://")
    if parts.username or parts.password:
        raise SuiteError("data fetch: --url: the address contains a name or password; use one without")
    if not url.isascii() or any(character <= " " for character in url):
        raise SuiteError("data fetch: --url: write spaces and non-ASCII characters in the address as %XX")


def _download(url: str, timeout: float, part: Path) -> bytes:
    """Return the bytes of the published zip.

    Raises:
        SuiteError: They did not arrive, or other bytes did.
    """
    expected = published_data()
    try:
        data = download(url, expected.size, timeout, part)
    except Undelivered as e:
        raise _failed(url, str(e)) from None
    if len(data) < expected.size:
        raise _failed(url, f"the file there has {len(data)} bytes, the published one {expected.size}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected.sha256:
        raise _failed(url, f"the bytes differ from the published file (SHA-256 {digest}, expected {expected.sha256})")
    for problem in unsafe_members(io.BytesIO(data)):
        raise _failed(url, problem)
    return data


def _failed(url: str, why: str) -> SuiteError:
    """Return the error that says what to do."""
    shown = urlsplit(url)._replace(query="", fragment="").geturl()  # the query may contain a secret
    pinned = published_data().url
    source = "" if url == pinned else f" from {pinned}"
    return SuiteError(
        f"data fetch: {one_line(shown)}: {why}; try again, or download it by hand{source}, "
        "check it with 'pytest-trustllm data verify PATH', and run pytest with --trust-data=PATH"
    )
