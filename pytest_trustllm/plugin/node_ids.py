"""Node ids of suites, samples and gates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from pytest_trustllm.config import paths
from pytest_trustllm.gates.verdict import Gate

if TYPE_CHECKING:
    from pytest_trustllm.plugin.run_state import RunState
    from pytest_trustllm.suites.task import Suite, Task

VIRTUAL = "trustllm"
"""First part of the node ids of our own tree: they do not depend on where the package is installed."""


def node_id(config: pytest.Config, suite: Suite) -> str:
    """Return the node id of a suite.

    One outside the rootdir is named without the way up (``trustllm/elsewhere/suites/shared.yaml``): of an argument
    that exists outside, pytest takes the directory for the rootdir, and finds no ini file there.
    """
    if is_packaged(suite) or suite.path.is_relative_to(config.rootpath):
        return suite.shown
    relative = PurePosixPath(paths.relative(suite.path, config.rootpath))
    parts = [part for part in relative.parts if part not in ("..", "/")]
    return "/".join([VIRTUAL, *parts]).replace(":", "")  # a drive letter has a colon


def is_packaged(suite: Suite) -> bool:
    """Return whether a suite ships with this or another package."""
    return suite.builtin or suite.package is not None


def sample_name(state: RunState, task: Task, model: str, sample: str) -> str:
    """Return the part of a sample's node id after its file."""
    return f"{task.name}[{_prefix(state, model)}{sample}]"


def sample_ids(state: RunState, tasks: Iterable[Task], model: str) -> dict[str, str]:
    """Return task -> node id of its samples, with ``{}`` for the sample's id."""
    files: dict[str, str] = {}
    for suite in state.suites:
        file = node_id(state.config, suite)
        files.update((task.id, file) for task in suite.tasks)
    ids = {}
    for task in tasks:
        if task.reads is None:
            ids[task.id] = f"{files[task.id]}::{sample_name(state, task, model, '{}')}"
    return ids


def gate_name(state: RunState, gate: Gate, model: str) -> str:
    """Return the part of a gate's node id after its file."""
    return f"{gate.metric}[{_prefix(state, model)}{gate.shown_kind}]"


def _prefix(state: RunState, model: str) -> str:
    if not state.several:
        return ""
    return model.replace("::", "-") + "-"  # pytest splits node ids at "::"


def gate_key(gate: Gate, model: str) -> str:
    """Return what distinguishes a gate of one model from all others of the run."""
    return f"{model}|{gate.id}"


def line_of(gate: Gate) -> int:
    """Return the line of a gate in its file, counted from 0 as pytest does; 0 if another file defines it."""
    if gate.line is None:
        return 0
    return gate.line - 1


def gate_id(state: RunState, gate: Gate, model: str) -> str:
    """Return the node id of a gate for one model."""
    return f"{gate.file}::{gate_name(state, gate, model)}"
