"""What commands print: text on standard output, errors and warnings on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TextIO

from pytest_trustllm.errors import TrustLLMError, one_line

WIDTH = 100


def say(text: str = "") -> None:
    """Write one line, or several, to standard output.

    Raises:
        TrustLLMError: The disk is full.
        BrokenPipeError: Nobody reads it.
    """
    with _printing():
        _write(sys.stdout, text)


def flush() -> None:
    """Write out what was said so far; errors as for :func:`say`."""
    with _printing():
        sys.stdout.flush()


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would be tried again at exit
        raise TrustLLMError(f"standard output cannot be written: {e.strerror or e}") from None


def complain(text: str) -> None:
    """Write an error to standard error, in one line."""
    _write(sys.stderr, f"ERROR: {one_line(text, 2000)}")


def warn(text: str) -> None:
    """Write a warning to standard error, in one line."""
    _write(sys.stderr, f"WARNING: {one_line(text, 2000)}")


def _write(stream: TextIO, text: str) -> None:
    # a terminal whose encoding lacks a character, such as an arrow, gets a question mark and no traceback
    encoding = stream.encoding or "utf-8"
    if not text.isprintable():
        # what comes from a file's name or its content must not steer the terminal
        text = "".join(c if c.isprintable() or c in "\n\t" else one_line(c) for c in text)
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def wrapped(text: str, indent: str = "") -> str:
    """Return text wrapped at the width, its later lines indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def table(rows: Sequence[Sequence[str]], widths: Sequence[int], *, right: Iterable[int] = ()) -> str:
    """Return a table whose first row is its head.

    Args:
        rows: Cells; a long cell is wrapped inside its column.
        widths: Greatest width per column.
        right: Columns that are aligned to the right.
    """
    right_columns = set(right)
    wrapped_rows = [_wrapped_cells(row, widths) for row in rows]
    used_widths = [max(_width(row[column]) for row in wrapped_rows) for column in range(len(widths))]
    lines: list[str] = []
    for number, row in enumerate(wrapped_rows):
        for line in range(max(len(cell) for cell in row)):
            lines.append(_table_line(row, line, used_widths, right_columns))
        if number == 0:
            lines.append("  ".join("-" * width for width in used_widths))
    return "\n".join(lines)


def _wrapped_cells(row: Sequence[str], widths: Sequence[int]) -> list[list[str]]:
    """Return the lines of every cell; an empty cell has one empty line."""
    cells: list[list[str]] = []
    for text, width in zip(row, widths, strict=True):
        cells.append(textwrap.wrap(text, width, break_on_hyphens=False) or [""])
    return cells


def _width(cell: Sequence[str]) -> int:
    return max(len(line) for line in cell)


def _table_line(row: Sequence[Sequence[str]], line: int, widths: Sequence[int], right_columns: Collection[int]) -> str:
    """Return one line of a row, without spaces at its end."""
    texts: list[str] = []
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        text = cell[line] if line < len(cell) else ""
        texts.append(text.rjust(width) if column in right_columns else text.ljust(width))
    return "  ".join(texts).rstrip()
