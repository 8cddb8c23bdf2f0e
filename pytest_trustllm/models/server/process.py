"""The process of a server: its command, its output in a file, and its end."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_trustllm.errors import one_line
from pytest_trustllm.models.server import watchdog

_WATCHDOG = Path(watchdog.__file__)
_SECONDS_TO_STOP = 12.0
"""The watchdog's own limits, twice, and some time for the machine."""
_LOG_BYTES = 200_000
"""How much of the end of a log is searched for the cause of a failure."""
_LAST_LINES = 3
_LONGEST_CAUSE = 400

_CAUSE = re.compile(
    r"\b(?:[A-Za-z_]\w*\.)*[A-Za-z_]*(?:Error|Exception|Interrupt)\b(?:\([^)]*\))?: *\S.*"
    r"|\b(?:error|fatal)\b: *\S.*"
    r"|\bout of memory\b.*",
    re.IGNORECASE,
)
"""The part of a line that names an error, without the logger's time and process in front of it."""
_CONSEQUENCE = re.compile(
    r"see root cause above|core initialization failed|child process|killing all|shutting down", re.IGNORECASE
)
"""Errors that only report that another one came before them."""
_HARMLESS = re.compile(r"\b(?:DEBUG|INFO|WARNING)\b")
_PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE|couldn't bind|port \d+ is in use", re.IGNORECASE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_running: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


class ServerProcess:
    """A server that runs until it is stopped, or until this process ends.

    Args:
        command: Program and arguments.
        environment: All variables of its environment.
        log: File to which its output is appended.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._process = subprocess.Popen(  # noqa: S603 - the command of the user's models file, or of a preset
            # -I, -S: neither variables nor packages of the project can change what the watchdog does
            [sys.executable, "-I", "-S", str(_WATCHDOG), str(log), *command],
            stdin=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
        _running.add(self)

    @property
    def has_ended(self) -> bool:
        """Whether the server has ended, with everything that it started."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait until the server has ended."""
        self._process.wait()

    def wait_at_most(self, seconds: float) -> None:
        """Wait until the server has ended, but not longer than some time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def request_stop(self) -> None:
        """Tell the watchdog to end the server, without waiting for it."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def stop(self) -> None:
        """End the server and everything that it started."""
        self.request_stop()
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _running.discard(self)

    def how_it_ended(self) -> str:
        """Return the exit status or signal of a server that has ended, and the cause that its output gives."""
        status = self._process.wait()
        ended = f"exit status {status}"
        number = -status if status < 0 else status - 128  # negative: the watchdog itself was killed
        if number > 0:
            with contextlib.suppress(ValueError):
                ended = f"signal {signal.Signals(number).name}"
        # A signal came from outside: an error far above is not its cause
        cause = self.last_lines() if number > 0 else self.cause()
        return f"{ended}: {cause}"

    @property
    def found_its_port_taken(self) -> bool:
        """Whether the output says that another process listens on its port."""
        return _PORT_TAKEN.search(self._output()) is not None

    def cause(self) -> str:
        """Return the last error in the output, on one line; without any, the last lines."""
        for line in reversed(self._lines()):
            error = _CAUSE.search(line)
            if error is not None and not _CONSEQUENCE.search(line) and not _HARMLESS.search(line):
                return one_line(error[0], _LONGEST_CAUSE)
        return self.last_lines()

    def last_lines(self) -> str:
        """Return the last lines of the output, on one line; ``nothing`` if there is none."""
        return one_line(" | ".join(self._lines()[-_LAST_LINES:]), _LONGEST_CAUSE) or "nothing"

    def _lines(self) -> list[str]:
        return [line.strip() for line in _ESCAPES.sub("", self._output()).splitlines() if line.strip()]

    def _output(self) -> str:
        """Return the end of what this process has written; earlier processes may have used the same file."""
        try:
            with self._log.open("rb") as log:
                size = log.seek(0, 2)
                log.seek(max(self._log_start, size - _LOG_BYTES))
                return log.read().decode("utf-8", "replace")
        except OSError:
            return ""


def stop_all() -> None:
    """End every server of this process; called before it ends, so that none outlives the run."""
    processes = list(_running)
    for process in processes:
        process.request_stop()
    for process in processes:
        process.stop()
