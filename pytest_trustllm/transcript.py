"""Prompts, responses and verdicts of a run, on disk while it runs: nobody holds all of them in memory.

A line is the sample's key as JSON, a tab, and a JSON object in ASCII. The host appends; when the run is over the
gatherer joins each line with the sample's record, as text: nothing is parsed that only passes through.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

EMPTY = "{}"


def line(key: str, transcript: str) -> bytes:
    """Return the line of one sample; ``transcript`` is a JSON object in ASCII."""
    return f"{json.dumps(key)}\t{transcript}\n".encode("ascii")


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
