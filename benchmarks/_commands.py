"""Whole pytest commands for the benchmarks: what a run costs in time and memory, and the line about the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

OTHERS = (
    "html",
    "metadata",
    "hypothesispytest",
    "rerunfailures",
    "timeout",
    "socket",
    "pytest-retry",
    "pytest-split",
    "anyio",
)
"""Plugins that a comparison is not about; one that is not installed is no error."""
PYTEST = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"]
PYTEST += [word for name in OTHERS for word in ("-p", f"no:{name}")]
"""Without those plugins."""

PLAIN = ("-p", "no:trustllm")
"""What turns this plugin off."""

_POLL = 0.02
"""Seconds between looks at the memory."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command cost.

    Attributes:
        wall: Seconds until it ended.
        cpu: Seconds of CPU of the process and all that it waited for, user and system.
        memory: Peak of the process's own resident memory in MB; None where there is no ``/proc`` or nobody asked.
        largest: The peak of the process among it and its descendants that had the most, in MB.
        tree: The sum of the peaks of all of them, in MB.
    """

    wall: float
    cpu: float
    memory: float | None = None
    largest: float | None = None
    tree: float | None = None


def run(command: Sequence[str], cwd: Path, *, memory: bool = True) -> Cost:
    """Run a pytest command to its end.

    Args:
        command: What to run; tests may fail, nothing else may.
        cwd: Where; what it prints goes to ``output.txt`` there.
        memory: Look at its memory while it runs, which makes ``wall`` 20 ms coarse.

    Raises:
        SystemExit: pytest did not get through; with the end of what it said.
    """
    peaks: dict[int, int] = {}
    with (cwd / "output.txt").open("w") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, env=_environment())
        ended, status, used = os.wait4(process.pid, os.WNOHANG if memory else 0)
        while not ended:
            # The peak only grows, so that the last look misses no more than the last 20 ms.
            for pid in _tree(process.pid):
                peaks[pid] = max(_peak(pid), peaks.get(pid, 0))
            time.sleep(_POLL)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit((cwd / "output.txt").read_text()[-2000:])
    own = peaks.get(process.pid, 0) / 1024
    largest = max(peaks.values(), default=0) / 1024
    total = sum(peaks.values()) / 1024
    return Cost(wall, used.ru_utime + used.ru_stime, own or None, largest or None, total or None)


def _environment() -> dict[str, str]:
    """Return the environment of a user: with it set, pytest would rewrite every plugin's modules at every start."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended
        return
    for child in " ".join(lists).split():
        yield from _tree(int(child))


def _peak(pid: int) -> int:
    """Return the most resident memory that a process has had, in KiB; 0 if it is no more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def machine(device: str, packages: Sequence[str]) -> str:
    """Return a line about machine and versions."""
    versions = [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in packages)]
    return f"{platform.machine()}, {device}; {', '.join(versions)}."


def busy() -> str:
    """Return how many CPUs there are and how much else they do."""
    return f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return "absent"
