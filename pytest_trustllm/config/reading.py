"""Read files that may come from anywhere: whatever is in them, one line tells what is wrong, and nothing hangs.

A file is opened only if it is a regular one, since a pipe or a device never ends; it is read up to a limit; it is UTF-8
text, and JSON in it is neither nested without end nor does it hold what is not JSON.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from pytest_trustllm.errors import TrustLLMError, one_line

MOST_BYTES = 2**30
"""Longest document that is read."""
MOST_LINE_BYTES = 2**28
"""Longest line of a file of lines that is read."""
MOST_LEVELS = 64
"""Lists and mappings inside each other."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, in binary mode.

    Raises:
        OSError: As for :func:`descriptor_of`.
    """
    return os.fdopen(descriptor_of(path, os.O_RDONLY), "rb")


def descriptor_of(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file and return its descriptor.

    Args:
        path: The file.
        flags: For ``os.open``.
        mode: Permissions, if it is created.

    Raises:
        OSError: It cannot be opened, or is not a regular file: a pipe, a device or a socket may never end.
    """
    try:
        # Without waiting: to open a pipe that nobody else has open takes for ever
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), mode)
    except ValueError:  # a NUL in its name
        raise OSError("not the name of a file") from None
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(kind):
            raise OSError("not a regular file")
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, shown: object, error: type[TrustLLMError], most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file.

    Args:
        path: The file.
        shown: Its name in messages.
        error: What to raise.
        most: It may not be longer.

    Raises:
        TrustLLMError: Of class ``error``: the file cannot be read, is not a regular one, or is too long.
    """
    try:
        with open_regular(path) as file:
            data = file.read(most + 1)
    except OSError as e:
        raise error(f"{shown}: cannot be read: {e.strerror or e}") from None
    if len(data) > most:
        raise error(f"{shown}: is longer than {most / 2**20:,.0f} MiB; such a file is not read")
    return data


def read_text(path: Path, shown: object, error: type[TrustLLMError], most: int = MOST_BYTES) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises:
        TrustLLMError: As for :func:`read_bytes`, or it is not UTF-8.
    """
    data = read_bytes(path, shown, error, most)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise error(f"{shown}: is not UTF-8 text (byte {e.start})") from None


def read_json(path: Path, shown: object, error: type[TrustLLMError], most: int = MOST_BYTES) -> Any:
    """Read a JSON file.

    Raises:
        TrustLLMError: As for :func:`read_text`, or it is not JSON.
    """
    return parse_json(read_text(path, shown, error, most), shown, error)


def parse_json(text: str, shown: object, error: type[TrustLLMError]) -> Any:
    """Return decoded JSON.

    Args:
        text: The JSON.
        shown: Names the file or the line in messages.
        error: What to raise.

    Raises:
        TrustLLMError: Of class ``error``: it is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, a nest of brackets
        raise error(f"{shown}: not JSON: {one_line(e)}") from None
    # Most lines have too few brackets to be nested deeply: counting them takes no time
    if text.count("[") + text.count("{") > MOST_LEVELS and is_deep(value):
        raise error(f"{shown}: not JSON that can be read: nested more than {MOST_LEVELS} levels deep")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")


def is_deep(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Return whether lists and mappings are inside each other more than some levels deep."""
    layer = [value]
    for _ in range(levels + 1):
        below: list[Any] = []
        for entry in layer:
            if isinstance(entry, dict):
                below += [inner for inner in entry.values() if isinstance(inner, dict | list)]
            elif isinstance(entry, list):
                below += [inner for inner in entry if isinstance(inner, dict | list)]
        if not below:
            return False
        layer = below
    return True


def json_lines(path: Path, shown: object, error: type[TrustLLMError]) -> Iterator[tuple[str, Any]]:
    """Yield where each line of a JSONL file is, for messages, and what it holds; empty lines are mistakes too.

    Raises:
        TrustLLMError: While reading, of class ``error``: the file cannot be read, or a line is not JSON.
    """
    try:
        file = open_regular(path)
    except OSError as e:
        raise error(f"{shown}: cannot be read: {e.strerror or e}") from None
    with file:
        number = 0
        while line := _next_line(file, shown, error):
            number += 1
            where = f"{shown}:{number}"
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as e:
                raise error(f"{where}: is not UTF-8 text (byte {e.start} of the line)") from None
            yield where, parse_json(text, where, error)


def _next_line(file: BinaryIO, shown: object, error: type[TrustLLMError]) -> bytes:
    try:
        line = file.readline(MOST_LINE_BYTES + 1)
    except OSError as e:
        raise error(f"{shown}: cannot be read: {e.strerror or e}") from None
    if len(line) > MOST_LINE_BYTES:
        raise error(f"{shown}: has a line of more than {MOST_LINE_BYTES / 2**20:,.0f} MiB")
    return line
