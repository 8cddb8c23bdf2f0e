"""Where the lines of a long file begin, kept beside it, so that it need not be read whole each time it is opened.

An index is only a copy of what the file says: it may be deleted at any time, and one that does not fit the file is not
used. It covers the file up to a place; what was appended after it is read as always.

Layout, all numbers big-endian: ``_HEAD`` (magic, end of the covered part, its fingerprint, number of keys, number of
other lines, CRC-32 of all but itself), then keys in ascending order, each of 32 bytes with the place of its last line,
then the places of lines without a key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pytest_trustllm.config.files import replacing
from pytest_trustllm.config.reading import descriptor_of, open_regular
from pytest_trustllm.errors import GenerationError

WORTH_INDEXING = 50_000
"""Lines that are not covered, from which on an index is written: reading them takes a tenth of a second."""

_MAGIC = b"trustllm-lines-2"
_HEAD = struct.Struct(">16sQ32sQQI")
_CHECKED = _HEAD.size - 4
KEY_BYTES = 32
_PLACE = struct.Struct(">Q")
_ENTRY_BYTES = KEY_BYTES + _PLACE.size
_BLOCK_BYTES = 4096
_BLOCKS = 64
"""Read of the covered part for its fingerprint; a line that became longer or shorter moves all blocks after it."""


class LineIndex:
    """Places of lines in the covered part of a file.

    Attributes:
        covered: Where the covered part ends, in bytes.
        others: Where its lines without a key begin.
    """

    def __init__(self, covered: int, entries: bytes, others: Sequence[int]) -> None:
        self.covered = covered
        self.others = others
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries) // _ENTRY_BYTES

    def __getitem__(self, number: int) -> bytes:
        """Return a key, as its place in ascending order says."""
        begin = number * _ENTRY_BYTES
        return self._entries[begin : begin + KEY_BYTES]

    def place(self, key: str) -> int | None:
        """Return where the last line of a key begins; None if the covered part has none.

        Args:
            key: 64 hexadecimal digits.
        """
        wanted = bytes.fromhex(key)
        number = bisect_left(self, wanted)
        if number == len(self) or self[number] != wanted:
            return None
        (place,) = _PLACE.unpack_from(self._entries, number * _ENTRY_BYTES + KEY_BYTES)
        return int(place)

    def places(self) -> dict[bytes, int]:
        """Return key -> place, of all keys."""
        return {
            self._entries[begin : begin + KEY_BYTES]: _PLACE.unpack_from(self._entries, begin + KEY_BYTES)[0]
            for begin in range(0, len(self._entries), _ENTRY_BYTES)
        }


def path_of_index(path: Path) -> Path:
    """Return where the index of a file lies."""
    return path.with_suffix(".index")


def read_index(path: Path) -> LineIndex | None:
    """Return the index of a file; None if there is none that fits it."""
    try:
        with open_regular(path_of_index(path)) as file:
            head, body = file.read(_HEAD.size), file.read()
        magic, covered, fingerprint, keys, others, checksum = _HEAD.unpack(head)
        if magic != _MAGIC or len(body) != keys * _ENTRY_BYTES + others * _PLACE.size:
            return None
        if zlib.crc32(body, zlib.crc32(head[:_CHECKED])) != checksum:
            return None
        if _fingerprint(path, covered) != fingerprint:
            return None
    except (OSError, struct.error):
        return None
    end = keys * _ENTRY_BYTES
    return LineIndex(covered, body[:end], [place for (place,) in _PLACE.iter_unpack(body[end:])])


def write_index(path: Path, covered: int, places: Mapping[bytes, int], others: Iterable[int]) -> None:
    """Write the index of a file; where that is not possible, the file is read whole the next time.

    Args:
        path: The file.
        covered: The places are of all lines before this one, in bytes.
        places: Key, 32 bytes -> where its last line begins.
        others: Where lines without a key begin.
    """
    pack = _PLACE.pack
    lone = [pack(place) for place in others]
    body = b"".join([*sorted(key + pack(place) for key, place in places.items()), *lone])
    with (
        contextlib.suppress(GenerationError, OSError),
        replacing(path_of_index(path), "--trust-store", GenerationError) as temporary,
    ):
        head = _HEAD.pack(_MAGIC, covered, _fingerprint(path, covered), len(places), len(lone), 0)[:_CHECKED]
        checksum = zlib.crc32(body, zlib.crc32(head))
        temporary.write_bytes(head + checksum.to_bytes(4, "big") + body)


def _fingerprint(path: Path, covered: int) -> bytes:
    """Return a digest of blocks of the first ``covered`` bytes; the last bytes are always among them."""
    found = hashlib.sha256(covered.to_bytes(8, "big"))
    descriptor = descriptor_of(path, os.O_RDONLY)
    try:
        last = max(0, covered - _BLOCK_BYTES)
        for number in range(_BLOCKS + 1):
            begin = last * number // _BLOCKS
            found.update(os.pread(descriptor, min(_BLOCK_BYTES, covered - begin), begin))
    finally:
        os.close(descriptor)
    return found.digest()
