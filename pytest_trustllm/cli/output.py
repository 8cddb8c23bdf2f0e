"""How commands talk: text on standard output, complaints on standard error."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

from pytest_trustllm.errors import one_line

WIDTH = 100


def say(text: str = "") -> None:
    """Write one line, or several, to standard output."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Write one line to standard error."""
    _write(sys.stderr, f"ERROR: {one_line(text, 2000)}")


def _write(stream: TextIO, text: str) -> None:
    # a terminal that knows no arrows gets question marks, not a traceback
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def wrapped(text: str, indent: str = "") -> str:
    """Return text in lines of the width, later ones indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def table(rows: Sequence[Sequence[str]], widths: Sequence[int], *, right: Iterable[int] = ()) -> str:
    """Return a table whose first row is its head.

    Args:
        rows: Cells; a long one goes on in the next line of its column.
        widths: Greatest width per column.
        right: Columns that stand at the right.
    """
    numbers = set(right)
    cells = [[_lines(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    used = [max(len(line) for row in cells for line in row[at]) for at in range(len(widths))]
    out = []
    for number, row in enumerate(cells):
        height = max(map(len, row))
        for line in range(height):
            shown = [cell[line] if line < len(cell) else "" for cell in row]
            aligned = [
                s.rjust(w) if at in numbers else s.ljust(w) for at, (s, w) in enumerate(zip(shown, used, strict=True))
            ]
            out.append("  ".join(aligned).rstrip())
        if number == 0:
            out.append("  ".join("-" * w for w in used))
    return "\n".join(out)


def _lines(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
