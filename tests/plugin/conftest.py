"""Fixtures: a user's project, and the ways to run pytest on it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from user_project import MAYBE_N2, Project


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTEST_ADDOPTS", "PERSPECTIVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    made = Project(pytester)
    yield made
    for pid in made.processes():  # a test that failed may have left some
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=MAYBE_N2, ids=["plain", "n2"])
def mode(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Plain, and among the slow tests with two xdist workers."""
    options: tuple[str, ...] = request.param
    return options


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own for temporary files, so that a test can see what a run leaves there."""
    where = Path(tempfile.mkdtemp(prefix="t", dir=tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("TMPDIR", str(where))
    return where
