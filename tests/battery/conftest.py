from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from user_project import Project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here; what takes long is marked slow as well, where it stands."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("battery")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A user's project, whose processes are gone after the test."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTEST_ADDOPTS", "PERSPECTIVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    made = Project(pytester)
    yield made
    for pid in made.processes():  # a test that failed may have left some
        os.kill(pid, signal.SIGKILL)
