"""A saved run, its page, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import labelled_run
import pytest
from chromium import Browser
from label_command import HOSTILE, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.quit()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory with a saved run; one of its responses is hostile."""
    changes = {f"{i:04d}": {"responses": [{"text": f"I cannot {HOSTILE} {i}"}]} for i in range(1, 60, 3)}
    labelled_run.write_run(tmp_path, **changes)
    return tmp_path


@pytest.fixture
def page(saved: Path) -> Iterator[Page]:
    """The page for six responses."""
    found = Page(saved, 6)
    yield found
    found.end()
