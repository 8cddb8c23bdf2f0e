"""What the arguments on the command line ask to collect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_trustllm.config.paths import exists
from pytest_trustllm.errors import one_line, suggest
from pytest_trustllm.plugin.node_ids import VIRTUAL, gate_name, is_packaged, node_id, sample_name
from pytest_trustllm.plugin.virtual_tree import contains, is_on_disk, virtual_gates, virtual_suites

if TYPE_CHECKING:
    from pytest_trustllm.plugin.run_state import RunState
    from pytest_trustllm.suites.task import Suite


def take_arguments(config: pytest.Config, state: RunState) -> None:
    """Decide what is collected: without paths everything, with paths just what they name.

    Arguments that name nodes of our own tree are taken out of ``config.args``: ``trustllm/...`` is not a path.

    Raises:
        pytest.UsageError: An argument names a node that does not exist.
    """
    wanted: list[Path] = []
    paths_given = config.args_source is pytest.Config.ArgsSource.ARGS
    if paths_given:
        _take_virtual(config, state)
        state.builtin_asked = bool(state.virtual)
        _check_virtual(config, state)
    else:
        wanted += state.settings.suite_directories
    if not paths_given or config.getoption("trust_thresholds"):
        wanted += [file.path for file in state.thresholds]
    reached = [_argument_path(config, argument) for argument in config.args]
    gate_files = [file.path for file in state.thresholds if is_on_disk(config, file.path)]
    gate_files_named = any(_is_within(path, reached) for path in gate_files)
    state.gates_asked = bool(wanted) or bool(state.virtual) or gate_files_named
    if paths_given:
        state.part_named = not _names_all(config, state, gate_files)
    for path in wanted:
        if is_on_disk(config, path) and not _is_within(path, reached) and not _is_ignored(config, path):
            config.args.append(str(path))


def _names_all(config: pytest.Config, state: RunState, gate_files: Sequence[Path]) -> bool:
    """Return whether the arguments name all suites and threshold files of the project, each as a whole."""
    named_whole = [_argument_path(config, argument) for argument in config.args if "::" not in argument]
    own_suites = [suite.path for suite in state.suites if not suite.builtin and state.chosen(suite)]
    return all(_is_within(path, named_whole) for path in [*own_suites, *gate_files])


def _argument_path(config: pytest.Config, argument: str) -> Path:
    """Return the file or directory that an argument names, without the ids behind it."""
    return (config.invocation_params.dir / argument.split("::")[0]).resolve()


def _is_ignored(config: pytest.Config, path: Path) -> bool:
    """Return whether pytest would pass over a file or directory of the project, or one above it, on its way there."""
    above = [directory for directory in path.parents if directory != config.rootpath and is_on_disk(config, directory)]
    return any(_ignores(config, each) for each in [path, *above])


def _ignores(config: pytest.Config, path: Path) -> bool:
    """Ask the plugins, and of the conftest.py files only those of directories above the path, as pytest does."""
    files = {plugin: Path(getattr(plugin, "__file__", None) or "") for plugin in config.pluginmanager.get_plugins()}
    elsewhere = [
        plugin
        for plugin, file in files.items()
        if file.name == "conftest.py" and not path.parent.is_relative_to(file.parent)
    ]
    ignores = config.pluginmanager.subset_hook_caller("pytest_ignore_collect", elsewhere)
    return bool(ignores(collection_path=path, config=config))


def _is_within(path: Path, others: Sequence[Path]) -> bool:
    """Return whether a path is one of the others, or below one."""
    resolved = path.resolve()
    return any(resolved.is_relative_to(other) for other in others)


# --- arguments that name nodes of our own tree ------------------------------------------------------------------------


def _take_virtual(config: pytest.Config, state: RunState) -> None:
    """Take the ids of our own tree out of the arguments; directories stay, as other tests may be in them too."""
    virtual: list[str] = []
    remaining: list[str] = []
    for argument in config.args:
        id_ = _virtual_id(config, argument) or _unwalked_id(config, state, argument)
        if id_ is None:
            remaining.append(argument)
            virtual += _unwalked_below(config, state, argument)
        else:
            virtual.append(id_)
    state.virtual = virtual
    config.args[:] = remaining


def _virtual_id(config: pytest.Config, argument: str) -> str | None:
    """Return the node id if an argument names a node of our tree: relative, absolute, or as an IDE writes it."""
    file, colons, name = argument.partition("::")
    path = Path(os.path.normpath(config.invocation_params.dir / file))
    if exists(path):  # a directory of the user's may be called trustllm
        return None
    for base in (config.invocation_params.dir, config.rootpath):
        if path.is_relative_to(base):
            relative = path.relative_to(base).as_posix()
            if contains(VIRTUAL, relative):
                return relative + colons + name
    return None


def _unwalked(state: RunState) -> dict[Path, Suite]:
    """Return the project's own suites that pytest does not walk to, by path."""
    return {suite.path: suite for suite in virtual_suites(state) if not is_packaged(suite)}


def _unwalked_id(config: pytest.Config, state: RunState, argument: str) -> str | None:
    """Return the node id if an argument names the file of such a suite, or an item of it."""
    file, colons, name = argument.partition("::")
    unwalked = _unwalked(state)
    for base in (config.invocation_params.dir, config.rootpath):
        suite = unwalked.get(Path(os.path.normpath(base / file)))
        if suite is not None:
            return node_id(config, suite) + colons + name
    return None


def _unwalked_below(config: pytest.Config, state: RunState, argument: str) -> list[str]:
    """Return the node ids of such suites in the directory that an argument names."""
    directory = Path(os.path.normpath(config.invocation_params.dir / argument))
    return [node_id(config, suite) for path, suite in _unwalked(state).items() if path.is_relative_to(directory)]


def _check_virtual(config: pytest.Config, state: RunState) -> None:
    """Look for ids on the command line that name nothing: pytest itself does so only for paths that exist.

    Raises:
        pytest.UsageError: The first of them.
    """
    suites = {node_id(config, suite): suite for suite in virtual_suites(state)}
    files = [*suites, *virtual_gates(state)]
    for id_ in state.virtual:
        where, _, name = id_.partition("::")
        if not any(contains(where, file) for file in files):
            raise pytest.UsageError(f"not found: {one_line(id_)}{suggest(where, files)}")
        if not name:
            continue
        names = _suite_names(state, suites[where]) if where in suites else _gate_names(state, where)
        if name not in names:
            likely, _, _ = suggest(name, names).partition(";")  # without the list: it may have thousands of names
            raise pytest.UsageError(f"not found: {one_line(id_)}{likely}")


def _suite_names(state: RunState, suite: Suite) -> set[str]:
    """Return what may follow a suite in an id: tasks and samples."""
    names: set[str] = set()
    for task in state.chosen(suite):
        names.add(task.name)
        for model in state.models:
            names.update(sample_name(state, task, model, entry.id) for entry in state.selected(task))
    return names


def _gate_names(state: RunState, file: str) -> set[str]:
    names: set[str] = set()
    for model in state.models:
        names.update(gate_name(state, gate, model) for gate in state.chosen_gates(model) if gate.file == file)
    return names
