"""Shared by all tests of this package."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this package's own tests out of a run that measures a model: they start pytest runs of their own."""
    return True if config.getoption("trust_model") else None
