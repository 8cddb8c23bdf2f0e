"""Files of labels that people gave to responses of a run: lines that are only ever appended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_trustllm.config.files import write_whole
from pytest_trustllm.config.reading import descriptor_of, parse_json, read_text
from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.errors import ResultsError
from pytest_trustllm.formats import LabelLine

_BEGINNING = '{"label": '
"""Of every line."""
UnitKey = tuple[str, int]
"""Sample and epoch."""


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """A line of the file with its number, from 1."""

    number: int
    line: LabelLine


def read_label_file(path: Path) -> list[NumberedLine]:
    """Read all lines. The last one may be torn, because the process that wrote it was killed; it is left out.

    Raises:
        ResultsError: The file cannot be read, or a line is not one that ``label`` writes.
    """
    *whole, last = read_text(path, path, ResultsError).split("\n")
    if last and not _is_torn(last):
        whole.append(last)
    lines: list[NumberedLine] = []
    for number, text in enumerate(whole, 1):
        if text.strip():
            lines.append(NumberedLine(number, _parsed(text, f"{path}:{number}")))
    return lines


def _is_torn(text: str) -> bool:
    """Return whether a last line is the beginning of a label; anything else is somebody else's and is kept."""
    if not text.startswith(_BEGINNING[: len(text)]):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False


def _parsed(text: str, where: str) -> LabelLine:
    value = parse_json(text, where, ResultsError)
    try:
        return checked(value, LabelLine)
    except Mismatch as e:
        raise ResultsError(f"{where}: not a line that 'pytest-trustllm label' writes: {e}") from None


def last_labels(lines: Sequence[NumberedLine]) -> dict[UnitKey, NumberedLine]:
    """Return sample and epoch -> the line that counts: whoever labels a response again means the last label."""
    return {(line.line["drawn"]["id"], line.line["drawn"]["epoch"]): line for line in lines}


class LabelWriter:
    """Appends labels; once :meth:`append` returns, the label is on the disk.

    Args:
        path: The file; made if it is missing.

    Raises:
        ResultsError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = descriptor_of(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            self._end_whole()
        except OSError as e:
            raise ResultsError(f"{path}: cannot be written: {e.strerror or e}") from None

    def _end_whole(self) -> None:
        """Remove a torn last line; one that only lacks its end gets it.

        :func:`read_label_file` has refused a file with any other line before.
        """
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, size, 0)
        last = content[content.rfind(b"\n") + 1 :]
        if not last:
            return
        if _is_torn(last.decode("utf-8", "replace")):
            os.ftruncate(self._file, size - len(last))
        else:
            os.write(self._file, b"\n")
        os.fsync(self._file)

    def append(self, line: LabelLine) -> None:
        """Write a line and wait until the disk has it.

        Raises:
            ResultsError: The disk is full, or the file cannot be written.
        """
        rest = (json.dumps(line, ensure_ascii=True) + "\n").encode("ascii")
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as e:
            raise ResultsError(f"{self._path}: cannot be written: {e.strerror or e}") from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def write_chances(path: Path, lines: Sequence[NumberedLine], chances: Mapping[UnitKey, float]) -> None:
    """Write a file again after more responses were drawn: each of them was then more likely to be drawn.

    Raises:
        ResultsError: It cannot be written; the file is then as it was.
    """
    texts: list[str] = []
    for numbered in lines:
        line = numbered.line
        drawn = line["drawn"]
        chance = chances.get((drawn["id"], drawn["epoch"]), drawn["chance"])
        again: LabelLine = {**line, "drawn": {**drawn, "chance": chance}}
        texts.append(json.dumps(again, ensure_ascii=True) + "\n")
    write_whole(path, texts, "-o")
