"""Fixtures: a user's project, and the three ways to run pytest on it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from user_project import MODES, Project


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTEST_ADDOPTS", "PERSPECTIVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    made = Project(pytester)
    yield made
    for pid in made.processes():  # a test that failed may have left some
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Plain, with two xdist workers, and with xdist switched off."""
    return MODES[request.param]


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own for temporary files, so that a test can see what a run leaves there."""
    where = Path(tempfile.mkdtemp(prefix="t", dir=tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("TMPDIR", str(where))
    return where
