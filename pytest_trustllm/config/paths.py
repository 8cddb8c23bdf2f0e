"""Where shipped suites, thresholds and models are, and what files are called in messages and ids."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_trustllm.errors import TrustLLMError, one_line

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Return the shipped directory ``suites`` or ``thresholds``.

    A wheel has them inside the package; a checkout (editable install) next to it.
    """
    inside = _PACKAGE / "_data" / name
    if inside.is_dir():
        return inside
    return _PACKAGE.parent / name


def packaged(*parts: str) -> Path:
    """Return a file or directory inside the package itself."""
    return _PACKAGE.joinpath(*parts)


def shown(path: Path, root: Path | None = None) -> str:
    """Return ``path`` as a user would write it, with forward slashes: relative to ``root`` or to the package.

    Of several ways the shortest is taken. A virtual environment often is inside the project: then a shipped file still
    has the same name as in any other installation.
    """
    bases = [_PACKAGE / "_data", _PACKAGE.parent]
    if root is not None:
        bases.insert(0, root)
    ways = [path.relative_to(base) for base in bases if path.is_relative_to(base)]
    shortest = min(ways, key=lambda way: len(way.parts), default=path)
    return shortest.as_posix()


def from_root(path: Path, root: Path | None = None) -> str:
    """Return ``path`` as :func:`shown` does, but one outside the project as ``../there/x.yaml`` if that is shorter."""
    inside = shown(path, root)
    if root is None or not Path(inside).is_absolute():
        return inside
    return min(relative(path, root), inside, key=len)


def relative(path: Path, root: Path) -> str:
    """Return the way from ``root`` to ``path``, with forward slashes; the path itself if there is none."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # on Windows: a path on another drive
        return path.as_posix()


def is_file(path: Path) -> bool:
    """Return whether there is a file at a path that somebody gave.

    ``Path.is_file`` raises for a name that no file can have because it is too long.
    """
    return os.path.isfile(path)  # noqa: PTH113


def is_directory(path: Path) -> bool:
    """Return whether there is a directory at a path that somebody gave; see :func:`is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def entries(directory: Path, shown: str, error: type[TrustLLMError]) -> list[Path]:
    """Return what is in a directory that somebody gave, sorted.

    Args:
        directory: It is there.
        shown: Its name in the message.
        error: What is raised if it cannot be listed.
    """
    try:
        return sorted(directory.iterdir())
    except OSError as e:
        raise error(f"{shown}: cannot be read: {e.strerror or e}") from None


def files_below(directory: Path, ending: str, shown: str, error: type[TrustLLMError]) -> list[Path]:
    """Return the files of a kind in a directory that somebody gave and in those below it, sorted.

    ``Path.glob`` passes over directories that it cannot read, and with them over what is in them. A directory with the
    name of such a file is returned too: whoever reads it says what is wrong.

    Args:
        directory: It is there.
        ending: How the names end.
        shown: The directory's name in the message.
        error: What is raised if one of the directories cannot be listed.
    """

    def refuse(problem: OSError) -> None:
        place = Path(problem.filename).relative_to(directory)
        named = shown if place == Path() else f"{shown}: {one_line(place.as_posix(), 200)}"
        raise error(f"{named}: cannot be read: {problem.strerror or problem}") from None

    found: list[Path] = []
    for where, directories, files in os.walk(directory, onerror=refuse):
        found += [Path(where, name) for name in (*directories, *files) if name.endswith(ending)]
    return sorted(found)


def exists(path: Path) -> bool:
    """Return whether there is anything at a path that somebody gave; see :func:`is_file`."""
    return os.path.exists(path)  # noqa: PTH110
