"""How far the run is, while tests wait for answers: a line that is redrawn on a terminal, now and then one in a log.

A thread of the process that was started asks the host over a connection of its own. It writes to a copy of standard
output that was made before capturing began, because pytest captures while a test waits. On a terminal the line stands
below the one that pytest writes and the cursor goes back; it is erased before pytest writes on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_trustllm.client import HostClient
from pytest_trustllm.errors import TrustLLMError
from pytest_trustllm.report.text import estimate, usd

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

_DRAW = "\x1bD\x1b[A\x1b7\x1b[J\r\n{}\x1b8"  # make room below without leaving the column, write there, come back
_ERASE = "\x1b[J"


class Meter:
    """Turns states of the host into a line: speed is that of the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[str, Any]]] = deque()

    def line(self, now: float, status: Mapping[str, Any]) -> str:
        """Return the line for a state.

        Args:
            now: Seconds on any clock.
            status: What the host's operation ``status`` returns.
        """
        self._seen.append((now, status))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _LOOK_BACK:
            self._seen.popleft()
        then, before = self._seen[0]
        passed = now - then
        parts = [f"{status['done']:,} of {status['planned']:,} items"]
        if passed > 0:
            speed = {name: (status[name] - before[name]) / passed for name in ("done", "tokens", "requests")}
            parts += [f"{speed[name]:,.{0 if speed[name] >= 10 else 1}f} {name}/s" for name in ("tokens", "requests")]
        if status["cached"]:
            parts.append(f"{status['cached']:,} cached")
        if status["cost_usd"] is not None:
            parts.append(usd(status["cost_usd"]))
        if passed > 0 and speed["done"] > 0:
            parts.append(f"{_short((status['planned'] - status['done']) / speed['done'])} left")
        return "trust: " + ", ".join(parts)


def _short(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """The thread that watches the host, and the hooks that make room for pytest.

    Args:
        connect: Opens a connection to the host.
        output: Descriptor to write to; closed at the end.
        live: It is a terminal that understands cursor movements.
        column: Tells how much pytest has written on its current line.
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
        self._erased = 0.0
        self._due: deque[str] = deque()
        self._thread = threading.Thread(target=self._watch, name="trustllm-progress", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def _watch(self) -> None:
        with contextlib.suppress(TrustLLMError, OSError):  # the run says itself that its host is gone
            client = self._connect()
            try:
                self._follow(client)
            finally:
                client.close()

    def _follow(self, client: HostClient) -> None:
        meter, foreseen = Meter(), False
        begin: float | None = None
        shown = 0.0
        while not self._over.wait(REDRAW):
            status, now = client.call("status"), time.monotonic()
            if status["done"] >= status["planned"]:
                self.erase()
                continue
            begin = now if begin is None else begin
            line = meter.line(now, status)
            if now - begin < PATIENCE:
                continue
            if not foreseen and status["estimate"] is not None:
                foreseen = True
                self._due.append(f"trust: estimate: {estimate(status['estimate'])}")
            if self._live:
                self._draw(line)
            elif now - max(begin, shown) >= LOG_EVERY:
                shown = now
                self._due.append(line)
            if self._settled():
                self._say_due()

    def _settled(self) -> bool:
        """Tell whether pytest is not in the middle of a line; where tests fly by, their hooks say what is due."""
        return time.monotonic() - self._erased >= _SETTLE

    def _draw(self, line: str) -> None:
        if not self._settled():
            return
        width = shutil.get_terminal_size().columns
        self._write(_DRAW.format(line[: width - 1]), drawn=True)

    def _say_due(self) -> None:
        with contextlib.suppress(IndexError):  # the other thread may be quicker
            while True:
                self._say(self._due.popleft())

    def _say(self, line: str) -> None:
        """Write a line of its own, and let pytest go on in its column."""
        column = self._column()
        begin = (_ERASE if self._live else "") + ("\n" if column else "")
        self._write(f"{begin}{line}\n{' ' * column}", drawn=False)

    def _write(self, text: str, *, drawn: bool) -> None:
        with self._lock:
            if not self._over.is_set():
                self._drawn = drawn
                os.write(self._output, text.encode("ascii", "replace"))

    def erase(self) -> None:
        """Take the live line away."""
        with self._lock:
            self._erased = time.monotonic()
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
        self._say_due()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Make room: pytest writes a letter."""
        self.erase()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self) -> None:
        """Make room: pytest writes how far it is."""
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
    """Return the run's progress; None where nobody wants to see it (``-q``, no standard output of its own)."""
    if config.option.verbose < 0 or not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    try:
        output = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # somebody replaced standard output by something that is no file
        return None
    writer = config.get_terminal_writer()
    moves = os.isatty(output) and os.environ.get("TERM", "dumb") != "dumb"
    terminal = moves and config.option.capture != "no"  # without capturing, the tests write where they like
    return Progress(connect, output, live=terminal, column=lambda: writer.width_of_current_line)
