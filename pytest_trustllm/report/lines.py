"""Text in lines of 80 columns, for terminals that may be limited to ASCII."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from pytest_trustllm.errors import one_line, shortened

WIDTH = 80


def width(text: str) -> int:
    """Return the number of terminal columns that a text occupies."""
    columns = 0
    for char in text:
        if unicodedata.combining(char):
            continue
        columns += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return columns


def cut(line: str, limit: int = WIDTH) -> str:
    """Return a line of at most ``limit`` columns; three dots mark the cut."""
    if width(line) <= limit:
        return line
    kept = ""
    room = limit - len("...")
    for char in line:
        if width(kept + char) > room:
            break
        kept += char
    return kept + "..."


def flat(text: object, limit: int) -> str:
    """Return printable text of at most ``limit`` characters; three dots mark the cut, as ASCII has no ellipsis."""
    printable = one_line(text, limit * 12)  # an escape such as \U0001f600 is longer than its character
    if len(printable) <= limit:
        return printable
    return printable[: limit - 3] + "..."


def fold(parts: Sequence[str], indent: str, gap: str) -> Iterator[str]:
    """Yield as many lines as the parts need, with ``gap`` between parts of one line."""
    line = ""
    for part in parts:
        longer = f"{line}{gap}{part}" if line else f"{indent}{part}"
        if line and width(longer) > WIDTH:
            yield cut(line)
            longer = f"{indent}{part}"
        line = longer
    if line:
        yield cut(line)


def hanging(text: str) -> Iterator[str]:
    """Yield a text on as many lines as it needs, all but the first indented further."""
    first, *others = fold(text.split(" "), "  ", " ")
    yield first
    yield from fold(" ".join(others).split(), "    ", " ")


def paragraph(text: str, most: int, indent: str) -> list[str]:
    """Return a text on at most ``most`` lines; a longer one loses its middle, as its end may matter most."""
    room = most * (WIDTH - len(indent)) - WIDTH // 4  # words do not fill lines
    short = shortened(text, room).replace("…", "...")
    lines = list(fold(short.split(" "), indent, " "))
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], cut(f"{indent}...{lines[-1].strip()}")]


def listed(start: str, names: Sequence[str], noun: str = "") -> str:
    """Return the start, as many names as one line holds, and how many more there are.

    Args:
        start: Of the line.
        names: At least one.
        noun: What they are, such as ``task``; empty: only their number is given.
    """
    for kept in range(len(names), 0, -1):
        line = start + ", ".join(names[:kept])
        if kept < len(names):
            line += f", +{_number_of(len(names) - kept, noun)}"
        if width(line) <= WIDTH:
            return line
    total = _number_of(len(names), noun)
    return cut(start, WIDTH - len(total)) + total


def _number_of(count: int, noun: str) -> str:
    if not noun:
        return str(count)
    plural = "" if count == 1 else "s"
    return f"{count} {noun}{plural}"
