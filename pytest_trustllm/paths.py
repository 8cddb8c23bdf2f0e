"""Where shipped suites, thresholds and models lie."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Return the shipped directory ``suites`` or ``thresholds``.

    A wheel carries them inside the package; a checkout (editable install) beside it.
    """
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def packaged(*parts: str) -> Path:
    """Return a file or directory inside the package itself."""
    return _PACKAGE.joinpath(*parts)


def shown(path: Path, root: Path | None = None) -> str:
    """Return ``path`` as a user would write it, with forward slashes: relative to ``root`` or to the package.

    The nearer of the two counts, so that a shipped file is named alike wherever the package is installed.
    """
    bases = [b for b in (root, _PACKAGE / "_data", _PACKAGE.parent) if b is not None and path.is_relative_to(b)]
    return min((path.relative_to(b) for b in bases), key=lambda p: len(p.parts), default=path).as_posix()
