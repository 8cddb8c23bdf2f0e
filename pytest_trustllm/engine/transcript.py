"""Prompts, responses and verdicts of a run, on disk while it runs: nobody holds all of them in memory.

A line is the sample's key as JSON, a tab, and a JSON object in ASCII. The host appends; when the run is over, the
gatherer joins each line with the sample's record as text, so that nothing is parsed on its way to the samples file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_trustllm.formats import Transcript

EMPTY = "{}"
_BUFFER = 1 << 18
"""Bytes of lines that wait for the disk at most."""


class TranscriptFile:
    """The file as it is written.

    Args:
        path: Made if it is missing; nobody else may read it.

    Attributes:
        lost: Why lines could not be written; None: all that were flushed are there.
    """

    def __init__(self, path: Path) -> None:
        self.lost: str | None = None
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._waiting = bytearray()
        self._written = 0

    def add(self, key: str, transcript: str) -> tuple[int, int]:
        """Take the texts of one sample and return where they begin in the file, and their length.

        Args:
            key: Of the sample.
            transcript: A JSON object in ASCII.
        """
        head = json.dumps(key) + "\t"
        place = self._written + len(self._waiting) + len(head)
        self._waiting += f"{head}{transcript}\n".encode("ascii")
        if len(self._waiting) > _BUFFER:
            self.flush()
        return place, len(transcript)

    def flush(self) -> None:
        """Write the lines that wait. After one was lost none follows: a reader ignores half a line only at the end."""
        try:
            while self._waiting and self.lost is None:
                count = os.write(self._file, self._waiting)
                self._written += count
                del self._waiting[:count]
        except OSError as e:
            self.lost = e.strerror or str(e)
        if self.lost is not None:
            self._waiting.clear()

    def read(self, place: int, length: int) -> Transcript | None:
        """Return the transcript at a place; None if it was lost."""
        self.flush()
        text = os.pread(self._file, length, place)
        if len(text) < length:
            return None
        transcript: Transcript = json.loads(text)
        return transcript


def sample_lines(records: Mapping[str, str], path: Path) -> Iterator[str]:
    """Yield one line of the samples file per record, in the order of the records.

    Args:
        records: Key -> record, a JSON object in ASCII that is not empty.
        path: What the host wrote; lines of other keys are ignored.
    """
    places: dict[bytes, tuple[int, int]] = {}
    with path.open("rb") as file:
        line_start = 0
        for line in file:
            if not line.endswith(b"\n"):
                break  # a full disk leaves half a line
            encoded_key = line[: line.index(b"\t")]
            separators = len(b"\t") + len(b"\n")
            places[encoded_key] = (line_start + len(encoded_key) + 1, len(line) - len(encoded_key) - separators)
            line_start += len(line)
        for key, record in records.items():
            place, length = places.get(json.dumps(key).encode("ascii"), (0, 0))
            file.seek(place)
            transcript = file.read(length).decode("ascii") or EMPTY
            if transcript == EMPTY:
                yield f"{record}\n"
            else:
                # Both are JSON objects: joining them as text costs nothing, and changes no character of either.
                yield f"{record[:-1]},{transcript[1:]}\n"
