"""How far the run is, while tests wait for answers: a line that is redrawn on a terminal, or occasional ones in a log.

A thread of the process that the user started asks the host, over its own connection. It writes to a copy of standard
output that was made before capturing began, because pytest captures while a test waits. On a terminal the line is
below the one that pytest writes, and the cursor moves back; it is erased before pytest continues its line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from pytest_trustllm.engine.client import HostClient
from pytest_trustllm.engine.messages import StatusReply
from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.report.terminal import estimate, usd

REDRAW = 0.5
"""Seconds between two states of the live line."""
PATIENCE = 3.0
"""Seconds of waiting before anything is shown."""
LOG_EVERY = 30.0
"""Seconds between two lines of a log."""
_LOOK_BACK = 30.0
"""Seconds over which speed is measured."""
_SETTLE = 0.05
"""Seconds that pytest gets to write what a hook announced."""

_DRAW = "\x1bD\x1b[A\x1b7\x1b[J\r\n{}\x1b8"  # make room below without leaving the column, write there, return
_ERASE = "\x1b[J"


class Meter:
    """Turns states of the host into a line; its speed is that of the last half minute."""

    def __init__(self) -> None:
        self._states: deque[tuple[float, StatusReply]] = deque()
        self._began: float | None = None

    def line(self, now: float, status: StatusReply) -> str:
        """Return the line for a state.

        Args:
            now: Seconds on any clock.
            status: What the host's operation ``status`` returns.
        """
        if self._began is None:
            self._began = now
        self._states.append((now, status))
        while len(self._states) > 2 and now - self._states[1][0] >= _LOOK_BACK:
            self._states.popleft()
        then, earlier = self._states[0]
        seconds = now - then
        if status["loading"] is not None:
            return f"trust: {one_line(status['loading'], 120)}, {_duration(now - self._began)}"
        parts = [f"{status['done']:,} of {status['planned']:,} items"]
        if seconds > 0:
            parts.append(f"{_speed((status['tokens'] - earlier['tokens']) / seconds)} tokens/s")
            parts.append(f"{_speed((status['requests'] - earlier['requests']) / seconds)} requests/s")
        open_batches, answered, batched = status["batches"]
        if open_batches:
            noun = "batch" if open_batches == 1 else "batches"
            parts.append(f"{open_batches} {noun}: {answered:,} of {batched:,} requests")
        if status["cached"]:
            parts.append(f"{status['cached']:,} cached")
        if status["cost_usd"] is not None:
            parts.append(usd(status["cost_usd"]))
        done = status["done"] - earlier["done"]
        if seconds > 0 and done > 0:
            remaining = (status["planned"] - status["done"]) * seconds / done
            parts.append(f"{_duration(remaining)} left")
        return "trust: " + ", ".join(parts)


def _speed(per_second: float) -> str:
    if per_second >= 10:
        return f"{per_second:,.0f}"
    return f"{per_second:,.1f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class Progress:
    """The thread that watches the host, and the hooks that make room for pytest.

    Args:
        connect: Opens a connection to the host.
        output: Descriptor to write to; closed at the end.
        live: It is a terminal that understands cursor movements.
        column: Returns how many columns pytest has written on its current line.
    """

    def __init__(
        self, connect: Callable[[], HostClient], output: int, *, live: bool, column: Callable[[], int]
    ) -> None:
        self._connect = connect
        self._output = output
        self._live = live
        self._column = column
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._drawn = False
        self._erased_at = 0.0
        self._due: deque[str] = deque()  # lines for the next moment at which pytest is not within one
        self._thread = threading.Thread(target=self._watch, name="trustllm-progress", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _watch(self) -> None:
        with contextlib.suppress(TrustLLMError, OSError):  # the run itself reports that its host is gone
            client = self._connect()
            try:
                self._follow(client)
            finally:
                client.close()

    def _follow(self, client: HostClient) -> None:
        meter = Meter()
        estimate_shown = False
        began: float | None = None
        logged = 0.0
        while not self._over.wait(REDRAW):
            status: StatusReply = client.call("status")
            now = time.monotonic()
            if status["done"] >= status["planned"]:
                self.erase()
                continue
            if began is None:
                began = now
            line = meter.line(now, status)
            if now - began < PATIENCE:
                continue
            if not estimate_shown and status["estimate"] is not None:
                estimate_shown = True
                self._due.append(f"trust: estimate: {estimate(status['estimate'])}")
            if self._live:
                self._draw(line)
            elif now - max(began, logged) >= LOG_EVERY or (status["loading"] and not logged):
                logged = now
                self._due.append(line)
            if self._settled():
                self._write_due()

    def _settled(self) -> bool:
        """Return whether pytest has finished what it writes; while tests pass quickly, hooks write the due lines."""
        return time.monotonic() - self._erased_at >= _SETTLE

    def _draw(self, line: str) -> None:
        if not self._settled():
            return
        width = shutil.get_terminal_size().columns
        self._write(_DRAW.format(line[: width - 1]), drawn=True)

    def _write_due(self) -> None:
        with contextlib.suppress(IndexError):  # the other thread may have taken the last one
            while True:
                self._write_line(self._due.popleft())

    def _write_line(self, line: str) -> None:
        """Write a whole line, and let pytest continue in its column."""
        column = self._column()
        erase = _ERASE if self._live else ""
        line_break = "\n" if column else ""
        self._write(f"{erase}{line_break}{line}\n{' ' * column}", drawn=False)

    def _write(self, text: str, *, drawn: bool) -> None:
        with self._lock:
            if not self._over.is_set():
                self._drawn = drawn
                os.write(self._output, text.encode("ascii", "replace"))

    def erase(self) -> None:
        """Erase the live line."""
        with self._lock:
            self._erased_at = time.monotonic()
            if self._drawn:
                self._drawn = False
                os.write(self._output, _ERASE.encode("ascii"))

    def stop(self) -> None:
        """End the thread; nothing is written after this returns."""
        self.erase()
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
            os.close(self._output)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Make room: with -v pytest writes the test's name."""
        self.erase()
        self._write_due()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Make room: pytest writes a letter."""
        self.erase()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self) -> None:
        """Make room: pytest writes its own progress."""
        self.erase()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """End: pytest writes what interrupted it."""
        self.stop()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """End: pytest writes what went wrong."""
        self.stop()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End: the summary follows."""
        self.stop()

    def pytest_unconfigure(self) -> None:
        """End, whatever came before."""
        self.stop()


def of(config: pytest.Config, connect: Callable[[], HostClient]) -> Progress | None:
    """Return the run's progress; None if it cannot be shown, or with ``-q``."""
    if config.getoption("verbose", 0) < 0 or not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    try:
        output = os.dup(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # standard output was replaced by something that is not a file
        return None
    writer = config.get_terminal_writer()
    understands_moves = os.isatty(output) and os.environ.get("TERM", "dumb") != "dumb"
    captures = config.getoption("capture", "no") != "no"  # else tests write in the middle of the live line
    return Progress(connect, output, live=understands_moves and captures, column=lambda: writer.width_of_current_line)
