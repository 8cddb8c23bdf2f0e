"""Which commit of its repository a project is at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pytest_trustllm.formats import CommitEntry

_BRANCH_VARIABLES = (
    "GITHUB_HEAD_REF",  # of the branch of a pull request; empty otherwise
    "GITHUB_REF_NAME",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
    "CI_COMMIT_REF_NAME",
    "BUILDKITE_BRANCH",
    "CIRCLE_BRANCH",
)
"""Variables of CI services, which check out a commit without its branch."""
_SECONDS = 10
"""How long git may take; it normally takes milliseconds."""


def commit_of(directory: Path) -> CommitEntry | None:
    """Return the commit that is checked out in a directory; None outside a repository, or without git."""
    id_ = _git(directory, "rev-parse", "--verify", "HEAD")
    if not id_:
        return None
    branch = _git(directory, "symbolic-ref", "--quiet", "--short", "HEAD") or _branch_of_job()
    # untracked files are results and caches of runs more often than code
    status = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return {"id": id_, "branch": branch, "changed": None if status is None else bool(status)}


def _branch_of_job() -> str | None:
    for name in _BRANCH_VARIABLES:
        if os.environ.get(name):
            return os.environ[name]
    return None


def _git(directory: Path, *arguments: str) -> str | None:
    """Return what git prints; None if it is missing, fails or takes too long."""
    command = ["git", "-C", str(directory), "--no-optional-locks", *arguments]
    try:
        result = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    if result.returncode:
        return None
    return result.stdout.decode("utf-8", "replace").strip()
