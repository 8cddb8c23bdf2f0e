"""Files that many tests read and one run makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class Kept:
    """Keeps what the first test made, for the directories of the later ones.

    Args:
        names: The files, relative to the directory of a test.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._files: dict[str, bytes] = {}

    def put_into(self, directory: Path, make: Callable[[], None]) -> None:
        """Let ``make`` write the files if it never did; else write them again."""
        if not self._files:
            make()
            self._files = {name: (directory / name).read_bytes() for name in self._names}
        for name, content in self._files.items():
            (directory / name).write_bytes(content)
