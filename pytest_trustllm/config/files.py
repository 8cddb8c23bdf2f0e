"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from pytest_trustllm.errors import ResultsError, TrustLLMError


def write_whole(path: Path, parts: Iterable[str], flag: str, *, public: bool = False) -> None:
    """Write a text file, whole or not at all.

    Args:
        path: The file; its directory is created if necessary.
        parts: The text, piece by piece.
        flag: Names the file in messages, such as ``--trust-results``.
        public: It holds nothing that a model or its user said: others may read a new file as far as the umask allows.

    Raises:
        ResultsError: It cannot be written.
    """
    with replacing(path, flag, public=public) as temporary, _open(temporary) as file:
        file.writelines(parts)


def _open(path: Path) -> TextIO:
    # An answer may contain a lone surrogate, which UTF-8 cannot encode: the file must not be lost because of it.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


@contextlib.contextmanager
def replacing(
    path: Path, flag: str, error: type[TrustLLMError] = ResultsError, *, public: bool = False
) -> Iterator[Path]:
    """Yield the path of a temporary file to write to; it replaces ``path`` when the block ends.

    If the block raises, the temporary file is removed and ``path`` stays as it was. A file that is replaced keeps its
    permissions; a new one can be read by its owner alone, as the store can: what a model said to harmful prompts is
    nobody else's business.

    Args:
        path: The file; its directory is created if necessary.
        flag: Names the file in messages, such as ``--trust-results``.
        error: Class of the exception if it cannot be written.
        public: Others may read a new file, as far as the umask allows.

    Raises:
        TrustLLMError: Of class ``error``: the file cannot be written.
    """
    try:
        if is_stream(path):
            with _through(path) as temporary:
                yield temporary
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # in the same directory, because only a move within one file system is atomic
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path))
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(_mode(path, public=public))
            temporary.replace(path)
        except BaseException:  # Ctrl-C too
            temporary.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise error(f"{flag}: {path} cannot be written: {e.strerror or e}") from None


def temporary_prefix(path: Path) -> str:
    """Return how the name of the temporary file begins that replaces ``path``."""
    return f".{path.name}."


def is_stream(path: Path) -> bool:
    """Return whether a path is that of a pipe or terminal, such as ``/dev/stdout``: there is no file to replace."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return True
    directory = os.path.realpath(path.parent)
    return directory == "/dev" or directory.startswith("/proc/")


@contextlib.contextmanager
def _through(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file whose content is written to a pipe or terminal when the block ends."""
    with tempfile.TemporaryDirectory(prefix="trustllm-output-") as directory:
        temporary = Path(directory) / path.name
        yield temporary
        # without a wait for somebody who reads a pipe
        descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "wb") as stream, temporary.open("rb") as file:
            os.set_blocking(descriptor, True)
            shutil.copyfileobj(file, stream)


def _mode(path: Path, *, public: bool) -> int:
    """Return the permissions of a file that is written."""
    with contextlib.suppress(OSError):
        existing = path.lstat().st_mode
        if stat.S_ISREG(existing):
            return stat.S_IMODE(existing)
    if not public:
        return 0o600
    umask = os.umask(0)  # setting it is the only way to read it
    os.umask(umask)
    return 0o666 & ~umask
