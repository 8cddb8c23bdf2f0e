"""Which suites and threshold files are nodes of our own tree (``trustllm/...``): pytest does not walk to them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_trustllm.plugin.node_ids import is_packaged

if TYPE_CHECKING:
    from pytest_trustllm.plugin.run_state import RunState
    from pytest_trustllm.suites.task import Suite


def is_on_disk(config: pytest.Config, path: Path) -> bool:
    """Return whether pytest reaches a file by walking the project; it does not enter ``build``, for example."""
    if not path.is_relative_to(config.rootpath):
        return False
    ignored: Sequence[str] = ["site-packages", *config.getini("norecursedirs")]
    for part in path.relative_to(config.rootpath).parts:
        if any(fnmatch(part, pattern) for pattern in ignored):
            return False
    return True


def is_virtual(config: pytest.Config, suite: Suite) -> bool:
    """Return whether a suite is collected in our own tree: one of a package, or one that pytest does not walk to.

    Given as an argument, pytest would collect one outside the rootdir, but without the rootdir's conftest.py.
    """
    return is_packaged(suite) or not is_on_disk(config, suite.path)


def virtual_suites(state: RunState) -> list[Suite]:
    """Return the suites of our own tree that have a collected task."""
    return [suite for suite in state.suites if is_virtual(state.config, suite) and state.chosen(suite)]


def virtual_gates(state: RunState) -> list[str]:
    """Return the node ids of the threshold files of our own tree."""
    return [file.file for file in state.thresholds if not is_on_disk(state.config, file.path)]


def contains(node_id: str, file: str) -> bool:
    """Return whether a node id names a file of our tree, or a directory above it."""
    return file == node_id or file.startswith(f"{node_id}/")


def wanted_names(state: RunState, file: str) -> Sequence[str] | None:
    """Return the names in a file of our tree that the command line asks for; empty: all; None: not this file."""
    if not state.virtual:
        return ()
    names: list[str] = []
    for node_id in state.virtual:
        where, _, name = node_id.partition("::")
        if contains(where, file):
            if not name:
                return ()
            names.append(name)
    return names or None
