"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pytest_trustllm.errors import ResultsError, TrustLLMError


def write_whole(path: Path, parts: Iterable[str], flag: str) -> None:
    """Write a text file, whole or not at all.

    Args:
        path: The file; its directory is created if necessary.
        parts: The text, piece by piece.
        flag: Names the file in messages, such as ``--trust-results``.

    Raises:
        ResultsError: It cannot be written.
    """
    with replacing(path, flag) as temporary, _open(temporary) as file:
        file.writelines(parts)


def _open(path: Path) -> TextIO:
    # An answer may contain a lone surrogate, which UTF-8 cannot encode: the file must not be lost because of it.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def replacing(path: Path, flag: str, error: type[TrustLLMError] = ResultsError) -> Iterator[Path]:
    """Yield the path of a temporary file to write to; it replaces ``path`` when the block ends.

    If the block raises, the temporary file is removed and ``path`` stays as it was.

    Args:
        path: The file; its directory is created if necessary.
        flag: Names the file in messages, such as ``--trust-results``.
        error: Class of the exception if it cannot be written.

    Raises:
        TrustLLMError: Of class ``error``: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # in the same directory, because only a move within one file system is atomic
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(_mode_of_new_files())
            temporary.replace(path)
        except BaseException:  # Ctrl-C too
            temporary.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise error(f"{flag}: {path} cannot be written: {e.strerror or e}") from None


def _mode_of_new_files() -> int:
    """Return the permissions that ``open`` would give a new file; mkstemp makes one that others cannot read."""
    umask = os.umask(0)  # setting it is the only way to read it
    os.umask(umask)
    return 0o666 & ~umask
