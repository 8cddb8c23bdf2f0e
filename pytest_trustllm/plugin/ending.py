"""Signals that end a run: the first one ends it with results of what is there, a second one at once.

Ctrl-C (SIGINT) is pytest's own; SIGTERM, and SIGHUP of a terminal that is closed, are made to mean the same. The model
host takes no signal: it ends when the process that runs pytest does, and removes what it wrote.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

import pytest

from pytest_trustllm.plugin.run_state import RunState

ENDING = "trustllm-ending"
"""Name of the plugin."""
_ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Ending:
    """Handles the signals of one run, in the process that the user started.

    Args:
        state: The run.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._replaced: dict[int, object] = {}
        self._hung_up = False

    def install(self) -> None:
        """Handle signals that nobody else handles."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python sets signal handlers in the main thread only
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:  # another handler has its reasons
                self._replace(number, self._interrupt)

    def uninstall(self) -> None:
        """Restore the handlers."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # signal.getsignal returned it
        self._replaced.clear()

    def _replace(self, number: int, handler: object) -> None:
        self._replaced.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)  # type: ignore[arg-type]  # a function, or one of signal's constants

    def _interrupt(self, number: int, _: FrameType | None) -> NoReturn:
        self._hung_up = number != signal.SIGTERM
        self._expect_another()
        raise pytest.Session.Interrupted(f"ended by {signal.Signals(number).name}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """From now on, a signal ends the run at once."""
        self._state.interrupted = True
        if self._hung_up:
            _stop_printing()
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._replace(signal.SIGINT, self._end_at_once)
        self._expect_another()

    def _expect_another(self) -> None:
        for number in self._replaced:
            # A terminal that is closed sends SIGHUP, and so does the shell in it
            is_hang_up = self._hung_up and number != signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if is_hang_up else self._end_at_once)

    def _end_at_once(self, number: int, _: FrameType | None) -> NoReturn:
        if self._state.host is not None:
            self._state.host.kill()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # if the signal is blocked


def _stop_printing() -> None:
    """Let what is printed from now on vanish: the terminal is gone, and writing to it is an error."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = stream.fileno()  # type: ignore[union-attr]  # there may be no stream
            if os.isatty(descriptor) or not _can_be_written(descriptor):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def _can_be_written(descriptor: int) -> bool:
    try:
        os.write(descriptor, b"")
    except OSError:
        return False
    return True
