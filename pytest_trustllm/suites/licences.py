"""Licences of a task's rows, and which of them a run may use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pytest_trustllm.suites.task import Suite, Task

OWN = "own items"
"""In place of a licence: the rows are those of the project itself."""
NOT_STATED = "not stated"
_SAMPLE = "MIT"
"""Licence of the items that come with this package."""


def licence_of(task: Task, suite: Suite, *, sample: bool) -> str:
    """Return the licence of a task's rows.

    Args:
        task: The task.
        suite: Its suite.
        sample: The run uses the bundled items instead of TrustLLM's data set, for which no licence is stated.
    """
    if task.licence is not None:
        return task.licence
    if suite.builtin:
        return _SAMPLE if sample else NOT_STATED
    return OWN if suite.package is None else NOT_STATED


def permits(patterns: Sequence[str], licence: str) -> bool:
    """Return whether a licence is among those that are allowed; a project's own items always are.

    Args:
        patterns: Such as ``MIT`` or ``CC-BY-*``, in upper or lower case.
        licence: Of several, joined by commas or ``AND``, all must be allowed; joined by ``OR``, one of them.
    """
    if licence == OWN:
        return True
    required = re.split(r"\s*,\s*|\s+AND\s+", licence.strip("()"))
    return all(_any(patterns, part) for part in required)


def _any(patterns: Sequence[str], part: str) -> bool:
    choices = [choice.strip(" ()").lower() for choice in re.split(r"\s+OR\s+", part)]
    return any(fnmatchcase(choice, pattern.lower()) for choice in choices for pattern in patterns)
