"""``python -m pytest`` in a process forked from one that has already imported pytest and the plugin.

A run of a few samples takes a second, more than half of which are imports, and the tests start hundreds of such runs.
So ``runpytest_subprocess`` is served from here. Every run still is a process of its own, with its own directory,
environment and output, and starts its model host and its xdist workers as always. Tests about imports, or about the
start of a process, run ``sys.executable`` instead.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.popen_forkserver  # else imported in the first test, and forgotten by pytester after it
import multiprocessing.resource_tracker
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

_SERVER = multiprocessing.get_context("forkserver")
_PYTEST = (sys.executable, "-mpytest")
NOT_OURS = ("-p", "no:hypothesispytest", "-p", "no:anyio")
"""Plugins of this environment that take a second to import."""


class Forked:
    """A running pytest, with what :class:`pytest.Pytester` uses of :class:`subprocess.Popen`."""

    stdin = None

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        self.pid = process.pid

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired("pytest", timeout or 0)
        return status

    def kill(self) -> None:
        self._process.kill()


def serve_by_forking(pytester: pytest.Pytester) -> None:
    """Let this pytester's ``runpytest_subprocess`` fork; all other commands start as before."""
    start = pytester.popen

    def popen(command: Sequence[str], stdout: Any, stderr: Any, stdin: Any, **more: Any) -> Any:
        if tuple(command[:2]) != _PYTEST or stdin is not pytester.CLOSE_STDIN or more:
            return start(command, stdout=stdout, stderr=stderr, stdin=stdin, **more)
        return fork_pytest(command[2:], stdout.name, stderr.name)

    pytester.popen = popen  # type: ignore[method-assign]


def fork_pytest(arguments: Sequence[str], stdout: str, stderr: str) -> Forked:
    """Start pytest in the current directory, with the current environment, writing to two files."""
    _ensure_server()
    arguments = [*NOT_OURS, *arguments]
    directory = str(Path.cwd())
    searched = os.pathsep.join(filter(None, [directory, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": searched}
    process = _SERVER.Process(target=_run, args=(arguments, directory, environment, stdout, stderr))
    process.start()
    return Forked(process)


def _ensure_server() -> None:
    """Start the process that is forked, once for each test process."""
    here = Path(__file__).parent
    _SERVER.set_forkserver_preload(["forked_imports"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(here), prepend=os.pathsep)
        patch.chdir(here)  # tests end what is left in their project's directory
        forkserver.ensure_running()


def _run(arguments: list[str], directory: str, environment: Mapping[str, str], stdout: str, stderr: str) -> None:
    """Be ``python -m pytest``, in a process just forked."""
    import forked_imports
    from xdist import workermanage

    for descriptor, name in ((1, stdout), (2, stderr)):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # may be cached from another environment
    sys.argv = [str(Path(pytest.__file__).with_name("__main__.py")), *arguments]
    sys.path[:] = [directory, *environment["PYTHONPATH"].split(os.pathsep), *forked_imports.SEARCHED]
    workermanage._sys_path[:] = sys.path  # for workers, xdist keeps the one that it found when it was imported
    sys.exit(pytest.console_main())
