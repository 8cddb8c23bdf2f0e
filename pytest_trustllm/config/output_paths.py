"""Whether files could be written, found out before the work that they are for; nothing is made or changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pytest_trustllm.config.files import is_stream, temporary_prefix
from pytest_trustllm.config.paths import exists, is_directory
from pytest_trustllm.errors import ResultsError, TrustLLMError

_RANDOM = "x" * 8
"""As long as what :mod:`tempfile` adds to a prefix."""


def check_replaceable(path: Path, flag: str) -> None:
    """Refuse a file that :func:`pytest_trustllm.config.files.write_whole` could not write.

    Args:
        path: The file; neither it nor its directory need be there.
        flag: Names the file in messages, such as ``--trust-results``.

    Raises:
        ResultsError: Nobody may write there, a name is too long, or it is a directory.
    """
    if is_stream(path):
        check_permission(path, path, flag)
        return
    _refuse_directory(path, flag)
    check_directory(path.parent, path, flag)
    check_length(path.with_name(f"{temporary_prefix(path)}{_RANDOM}"), path, flag)


def check_openable(path: Path, flag: str) -> None:
    """Refuse a file that could not be opened for writing where it is; see :func:`check_replaceable`."""
    _refuse_directory(path, flag)
    if exists(path):
        check_permission(path, path, flag)
        return
    check_directory(path.parent, path, flag)
    check_length(path, path, flag)


def check_directory(directory: Path, path: Path, flag: str, error: type[TrustLLMError] = ResultsError) -> None:
    """Refuse a directory in which no file can be made; one that is not there is made below the first that is.

    Args:
        directory: The directory.
        path: What messages are about: the directory, or a file in it.
        flag: Names the path in messages.
        error: Class of the exception.

    Raises:
        TrustLLMError: Of class ``error``.
    """
    there = _first_there(directory)
    if not is_directory(there):
        raise error(f"{flag}: {path} cannot be made: {there} is no directory; give another path")
    check_permission(there, path, flag, error)
    if directory.absolute() != there:
        check_length(directory, path, flag, error)


def check_permission(there: Path, path: Path, flag: str, error: type[TrustLLMError] = ResultsError) -> None:
    """Refuse a path if nobody may write to the file, or make files in the directory, that is there.

    Raises:
        TrustLLMError: Of class ``error``.
    """
    needed = os.W_OK | os.X_OK if is_directory(there) else os.W_OK
    if not os.access(there, needed):
        where = "it" if there == path else there
        raise error(f"{flag}: {path} cannot be written: {where} is not writable; give another path")


def check_length(needed: Path, path: Path, flag: str, error: type[TrustLLMError] = ResultsError) -> None:
    """Refuse a path that needs a name, or a path, longer than the file system has.

    Raises:
        TrustLLMError: Of class ``error``.
    """
    needed = needed.absolute()
    there = _first_there(needed)
    names = needed.relative_to(there).parts  # of directories that are not there, only the first would be looked up
    for looked_up in (needed, *(there / name for name in names)):
        try:
            looked_up.lstat()
        except OSError as e:
            if e.errno == errno.ENAMETOOLONG:
                raise error(f"{flag}: {path} cannot be written: its name is too long; give another path") from None


def _first_there(path: Path) -> Path:
    """Return the path, or the first directory above it that exists."""
    there = path.absolute()
    while not exists(there) and there != there.parent:
        there = there.parent
    return there


def _refuse_directory(path: Path, flag: str) -> None:
    if is_directory(path):
        raise ResultsError(f"{flag}: {path} cannot be written: it is a directory; give another path")
