"""Shared by all tests of this package."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml  # noqa: F401 - pytester forgets what a test imports first, and one yaml cannot read the nodes of another
from forked import serve_by_forking

pytest_plugins = ["pytester"]


# not `addopts = -m ...`: that would also hold for a run in this checkout that measures a model
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow and live tests, unless -m or a node id asks for some."""
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    left_out = {item for item in items if item.get_closest_marker("slow") or item.get_closest_marker("live")}
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs inside a test must not write into the summary of the job that runs the tests."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pytester(pytester: pytest.Pytester) -> pytest.Pytester:
    """Let ``runpytest_subprocess`` fork a process that has imported everything, instead of starting Python."""
    serve_by_forking(pytester)
    return pytester


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this package's own tests out of a run that measures a model: they start pytest runs of their own."""
    return True if config.getoption("trust_model") else None
