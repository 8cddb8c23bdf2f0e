"""Many cases in one test: a failure names its case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(*names: object) -> Iterator[None]:
    """Add the names of the case to whatever fails inside.

    A test with a parameter costs pytest some milliseconds, a case in a loop nothing: use this where a table is long
    and the order of its cases says nothing.
    """
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {', '.join(map(repr, names))}")
        raise
