"""Prompts, responses and verdicts of a run, on disk while it runs: nobody holds all of them in memory.

A line is the sample's key as JSON, a tab, and a JSON object in ASCII. The host appends; when the run is over the
gatherer joins each line with the sample's record, as text: nothing is parsed that only passes through.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

EMPTY = "{}"
_MUCH = 1 << 18
"""Bytes of lines that wait for the disk at most."""


class Transcript:
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
        """Take the line of one sample and return where its transcript begins, and its length.

        Args:
            key: Of the sample.
            transcript: A JSON object in ASCII.
        """
        head = json.dumps(key) + "\t"
        place = self._written + len(self._waiting) + len(head)
        self._waiting += f"{head}{transcript}\n".encode("ascii")
        if len(self._waiting) > _MUCH:
            self.flush()
        return place, len(transcript)

    def flush(self) -> None:
        """Write what waits; after a line was lost nothing follows it: whoever reads the file leaves half a line out."""
        try:
            while self._waiting and self.lost is None:
                count = os.write(self._file, self._waiting)
                self._written += count
                del self._waiting[:count]
        except OSError as e:
            self.lost = e.strerror or str(e)
        if self.lost is not None:
            self._waiting.clear()

    def read(self, place: int, length: int) -> Any:
        """Return the transcript at a place; None if it was lost."""
        self.flush()
        found = os.pread(self._file, length, place)
        return json.loads(found) if len(found) == length else None


def sample_lines(records: Mapping[str, str], path: Path) -> Iterator[str]:
    """Yield one line of the samples file per record, in the order of the records.

    Args:
        records: Key -> record, a JSON object in ASCII that is not empty.
        path: What the host wrote; lines of other keys are ignored.
    """
    places: dict[bytes, tuple[int, int]] = {}
    with path.open("rb") as file:
        start = 0
        for found in file:
            if not found.endswith(b"\n"):
                break  # a full disk leaves half a line
            key = found[: found.index(b"\t")]
            places[key] = (start + len(key) + 1, len(found) - len(key) - 2)
            start += len(found)
        for name, record in records.items():
            place, length = places.get(json.dumps(name).encode("ascii"), (0, 0))
            file.seek(place)
            transcript = file.read(length).decode("ascii") or EMPTY
            yield (record if transcript == EMPTY else f"{record[:-1]},{transcript[1:]}") + "\n"
