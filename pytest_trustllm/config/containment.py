"""Which files a suite or threshold file may name: those below its own root.

Suites come from other people, and what a suite names is sent to models and judges, or shown in messages. A file of the
project may name what is in the project, one of a package what is in the package; links count as what they lead to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from pytest_trustllm.errors import TrustLLMError

_root: ContextVar[Path | None] = ContextVar("root", default=None)
_named: ContextVar[list[Path] | None] = ContextVar("named", default=None)
_anywhere: ContextVar[bool] = ContextVar("anywhere", default=False)


@contextlib.contextmanager
def files_below(root: Path) -> Iterator[list[Path]]:
    """Refuse files that are not below a directory in the block; yield a list of those that are accepted in it."""
    accepted: list[Path] = []
    root_before, named_before = _root.set(root), _named.set(accepted)
    try:
        yield accepted
    finally:
        _root.reset(root_before)
        _named.reset(named_before)


@contextlib.contextmanager
def files_anywhere(allowed: bool = True) -> Iterator[None]:
    """Accept files wherever they are in the block, for users who mean it (``trust_allow_outside``).

    Args:
        allowed: Whether it is so; else nothing changes.
    """
    token = _anywhere.set(allowed or _anywhere.get())
    try:
        yield
    finally:
        _anywhere.reset(token)


def root_of(file: Path, root: Path | None) -> Path:
    """Return below which directory a file may name others: the project that it is in, else its own directory."""
    if root is not None and _is_below(file, root):
        return root
    return file.parent


def check_below(file: Path, error: TrustLLMError) -> None:
    """Refuse a file that is not below the root of the one that names it.

    Args:
        file: The file.
        error: What to raise; says nothing of the file's content.

    Raises:
        TrustLLMError: ``error``.
    """
    root = _root.get()
    if root is not None and not _anywhere.get() and not _is_below(file, root):
        raise error
    named = _named.get()
    if named is not None:
        named.append(file)


def _is_below(file: Path, root: Path) -> bool:
    try:
        return file.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a link to itself, a NUL
        return False


HOW = "if you mean it, set trust_allow_outside = true (for commands: --allow-outside)"
