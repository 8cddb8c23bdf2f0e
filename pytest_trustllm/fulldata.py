"""TrustLLM's whole data set: which file it is, where a copy lies, how to get one and how to check one."""

from __future__ import annotations

import contextlib
import hashlib
import http
import http.client
import io
import json
import os
import re
import stat
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

from pytest_trustllm import paths
from pytest_trustllm.dataset import Archive
from pytest_trustllm.errors import SuiteError, one_line

NAME = "dataset.zip"
TRIES = 3
MAX_MEMBERS, MAX_MEMBER, MAX_TOTAL = 1_000, 64 << 20, 256 << 20
"""More than the data set will ever need; an archive beyond it is not read."""
_CHUNK = 1 << 16


class File(NamedTuple):
    """One published file of the data set."""

    rows: int
    size: int
    sha256: str


class DataSet(NamedTuple):
    """One of the data sets that TrustLLM put together.

    Attributes:
        name: As upstream's README has it.
        files: Where its rows are.
        origin: ``prior work`` or ``TrustLLM's own``, as the README says; ``not in README`` if it does not list it.
    """

    name: str
    files: tuple[str, ...]
    origin: str


@dataclass(frozen=True, slots=True)
class Published:
    """The data set as it was published.

    Attributes:
        repository: On GitHub.
        commit: The one that brought this version.
        url: Address of the zip at this commit.
        size: Of the zip, in bytes.
        sha256: Of the zip.
        files: ``section/file.json`` -> what it holds.
        sets: All data sets, those of the README first.
    """

    repository: str
    commit: str
    url: str
    size: int
    sha256: str
    files: Mapping[str, File]
    sets: tuple[DataSet, ...]

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(f.rows for f in self.files.values())


@cache
def published() -> Published:
    """Return the pinned version."""
    found = json.loads(paths.packaged("fulldata.json").read_text(encoding="utf-8"))
    repository, commit = found["repository"], found["commit"]
    return Published(
        repository=repository,
        commit=commit,
        url=f"https://raw.githubusercontent.com/{repository}/{commit}/{found['path']}",
        size=found["size"],
        sha256=found["sha256"],
        files=MappingProxyType({name: File(**f) for name, f in found["files"].items()}),
        sets=tuple(DataSet(s["name"], tuple(s["files"]), s["origin"]) for s in found["sets"]),
    )


def home() -> Path:
    """Return the directory of the fetched data: ``TRUSTLLM_DATA``, else one in the user's cache; it may not exist."""
    own = os.environ.get("TRUSTLLM_DATA")
    if own:
        return Path(own).expanduser().absolute()
    return _caches() / "pytest-trustllm"


def _caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    given = os.environ.get("XDG_CACHE_HOME", "")  # the specification wants relative paths ignored
    return Path(given) if Path(given).is_absolute() else Path.home() / ".cache"


def located() -> Path:
    """Return the fetched zip.

    Raises:
        SuiteError: There is none, or it is not the published one.
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
    try:
        if path.stat().st_size != published().size:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == published().sha256
    except OSError:
        return False


# --- check a copy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """A copy held against the published data.

    Attributes:
        path: The copy.
        problems: One line each, such as ``missing  safety/jailbreak.json``; none: it is the published data.
        files: Files that are as published.
        rows: Rows of these.
    """

    path: Path
    problems: tuple[str, ...]
    files: int
    rows: int


def verify(path: Path) -> Check:
    """Hold a directory or zip, with or without top folder, against the published files.

    Raises:
        SuiteError: It does not exist, or is nothing that could be a copy.
    """
    unsafe = list(unsafe_members(path)) if path.is_file() else []
    if unsafe:
        return Check(path, tuple(f"unsafe   {line}" for line in unsafe), 0, 0)
    archive = Archive(path, "data verify")
    expected = published().files
    problems = [f"missing  {name}" for name in expected if name not in archive]
    problems += [f"extra    {name}" for name in archive.files if name not in expected]
    good = 0
    rows = 0
    for name, file in expected.items():
        if name in archive:
            changed = _changed(archive, name, file)
            if changed is None:
                good, rows = good + 1, rows + file.rows
            else:
                problems.append(f"changed  {name}: {changed}")
    return Check(path, tuple(problems), good, rows)


def _changed(archive: Archive, name: str, file: File) -> str | None:
    try:
        data = archive.read(name)
    except SuiteError as e:
        return str(e)
    found = hashlib.sha256(data).hexdigest()
    if found == file.sha256:
        return None
    try:
        rows = json.loads(data)
        count = f"{len(rows)} rows" if isinstance(rows, list) else "no list of rows"
    except (ValueError, RecursionError):
        count = "not JSON"
    return f"{count} (expected {file.rows}), SHA-256 {found[:16]}... (expected {file.sha256[:16]}...)"


def unsafe_members(archive: Path | BinaryIO) -> Iterator[str]:
    """Yield what would make a zip dangerous to unpack or to read; what is no zip at all yields nothing.

    Members must lie below the directory they are unpacked to, be plain files or directories, and be of a size that a
    data set can have.
    """
    try:
        with zipfile.ZipFile(archive) as z:
            members = z.infolist()
    except (OSError, zipfile.BadZipFile):
        return
    if len(members) > MAX_MEMBERS:
        yield f"{len(members)} members, at most {MAX_MEMBERS} are read"
    total = sum(m.file_size for m in members)
    if total > MAX_TOTAL:
        yield f"{total} bytes unpacked, at most {MAX_TOTAL} are read"
    for member in members[:MAX_MEMBERS]:
        name = one_line(member.orig_filename, 120)
        if _leaves(member.orig_filename):
            yield f"{name}: the path leads out of the archive"
        elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"{name}: not a plain file"
        elif member.file_size > MAX_MEMBER:
            yield f"{name}: {member.file_size} bytes unpacked, at most {MAX_MEMBER} are read"


def _leaves(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/"))
    return parts.is_absolute() or ".." in parts.parts or name[1:2] == ":" or "\0" in name


# --- get a copy -------------------------------------------------------------------------------------------------------


class _Interrupted(Exception):
    """The download broke off; another try may go on."""


def fetch(directory: Path, url: str | None = None, *, timeout: float = 30.0, pause: float = 1.0) -> bool:
    """Download the published zip to ``directory / NAME``, unless it is there.

    The bytes go to a ``.part`` file that a later call continues. They are moved into place only after size, SHA-256 and
    members were checked. Proxies are taken from the environment, as urllib does.

    Args:
        directory: Made if it is missing.
        url: Of a mirror; None: the pinned one.
        timeout: Seconds without a byte before a try is given up.
        pause: Seconds before the second try, doubled before the third.

    Returns:
        False if the file was there already.

    Raises:
        SuiteError: It could not be had, with what to do instead.
    """
    url = published().url if url is None else _checked(url)
    target = directory / NAME
    if is_published(target):
        return False
    if target.exists() and directory != home():
        raise SuiteError(f"data fetch: {target} exists and is another file; move it away or give another --to")
    part = directory / f"{NAME}.part"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+b") as file:
            _lock(file)
            if is_published(target):  # another process got it while this one waited
                return False
            _write(target, _download(url, file, timeout, pause))
            file.truncate(0)
    except OSError as e:
        raise SuiteError(f"data fetch: {directory} cannot be written: {e.strerror or e}") from None
    finally:
        with contextlib.suppress(OSError):
            if part.stat().st_size == 0:
                part.unlink()
    return True


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise SuiteError(f"data fetch: --url: {one_line(e)}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise SuiteError("data fetch: --url: expected an address that begins with http:// or https://")
    if parts.username or parts.password:
        raise SuiteError("data fetch: --url: the address holds a name or password; use one without")
    if not url.isascii() or any(c <= " " for c in url):
        raise SuiteError("data fetch: --url: write blanks and non-ASCII characters in the address as %XX")
    return url


def _lock(file: BinaryIO) -> None:
    """Wait until no other process downloads to the same file; where that cannot be told, the checks still hold."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)


def _download(url: str, part: BinaryIO, timeout: float, pause: float) -> bytes:
    """Return the checked bytes of the zip, going on where ``part`` ends."""
    resumed = part.seek(0, os.SEEK_END) > 0
    for left in reversed(range(TRIES)):
        try:
            _transfer(url, part, timeout)
        except _Interrupted as e:
            if not left:
                raise SuiteError(
                    f"{_failed(url, str(e))} (what arrived is kept: the next try goes on from it)"
                ) from None
            time.sleep(pause * 2 ** (TRIES - 1 - left))
            continue
        part.seek(0)
        data = part.read()
        found = hashlib.sha256(data).hexdigest()
        if found == published().sha256:
            problem = next(unsafe_members(io.BytesIO(data)), None)
            if problem is not None:
                raise SuiteError(_failed(url, problem))
            return data
        part.truncate(0)
        if not resumed:
            raise SuiteError(
                _failed(
                    url, f"these are other bytes (SHA-256 {found}, expected {published().sha256}), nothing was kept"
                )
            )
        resumed = False  # the earlier part may have been of another file
    raise SuiteError(_failed(url, "no try brought the file"))


def _transfer(url: str, part: BinaryIO, timeout: float) -> None:
    """Append to ``part`` what is missing of it.

    Raises:
        _Interrupted: The connection broke or the server is busy.
        SuiteError: Another try cannot help.
    """
    size = published().size
    have = part.seek(0, os.SEEK_END)
    if have == size:
        return
    if have > size:
        part.truncate(0)
        have = 0
    with _open(url, have, timeout) as response:
        part.truncate(part.seek(_start(url, response, have)))
        while chunk := _read(response, url, timeout):
            if part.tell() + len(chunk) > size:
                part.truncate(0)
                raise SuiteError(_failed(url, f"more than the {size} bytes of the published file"))
            part.write(chunk)
            part.flush()
    if part.tell() < size:
        raise _Interrupted(f"the connection ended after {part.tell()} of {size} bytes")


def _open(url: str, have: int, timeout: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "pytest-trustllm", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http and https only, see _checked
    with _network(url, timeout):
        try:
            response: http.client.HTTPResponse = urllib.request.build_opener().open(request, timeout=timeout)
            return response
        except urllib.error.HTTPError as e:
            if e.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
                raise
            e.close()
    return _open(url, 0, timeout)


def _read(response: http.client.HTTPResponse, url: str, timeout: float) -> bytes:
    with _network(url, timeout):
        return response.read1(_CHUNK)  # what has come, so that a timeout loses nothing


def _start(url: str, response: http.client.HTTPResponse, have: int) -> int:
    """Return the position of the first byte that the server sends."""
    size = published().size
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) > have:
            raise SuiteError(_failed(url, "the server sent another part of the file than it was asked for"))
        start, total = int(found[1]), found[2]
    else:  # it knows nothing of ranges and sends everything
        start, total = 0, response.headers.get("Content-Length", "*")
    if total.isdigit() and int(total) != size:
        raise SuiteError(_failed(url, f"the file there has {total} bytes, the published one {size}"))
    return start


@contextlib.contextmanager
def _network(url: str, timeout: float) -> Iterator[None]:
    """Tell what another try can mend from what it cannot."""
    try:
        yield
    except urllib.error.HTTPError as e:
        with e:
            if e.code in (408, 429) or e.code >= 500:
                raise _Interrupted(f"HTTP {e.code}") from None
            raise SuiteError(_failed(url, f"HTTP {e.code} {one_line(e.reason, 60)}")) from None
    except urllib.error.URLError as e:
        why = e.reason.strerror if isinstance(e.reason, OSError) and e.reason.strerror else e.reason
        raise SuiteError(_failed(url, f"no connection: {one_line(why, 120)}")) from None
    except TimeoutError:
        raise _Interrupted(f"no byte for {timeout:g} s") from None
    except (http.client.HTTPException, OSError) as e:
        raise _Interrupted(one_line(f"{type(e).__name__}: {e}", 120)) from None


def _failed(url: str, why: str) -> str:
    """Return the one line that says what to do; the query of an address may hold a secret and is left out."""
    shown = urlsplit(url)._replace(query="", fragment="").geturl()
    hand = "" if url == published().url else f" from {published().url}"
    return (
        f"data fetch: {one_line(shown)}: {why}; download it by hand{hand}, "
        "check it with 'pytest-trustllm data verify PATH', and run pytest with --trust-data=PATH"
    )


def _write(target: Path, data: bytes) -> None:
    """Write a file under another name and move it into place when it is complete."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
