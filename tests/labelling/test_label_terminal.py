"""Labelling on a real terminal: one key for a label, whatever is pressed, whatever ends the command."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from label_command import given
from labelled_run import people


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, where: Path, *args: str) -> None:
        self.seen = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(where)
            os.environ["TERM"] = "xterm"
            command = [sys.executable, "-m", "pytest_trustllm.cli", "label", "r.json", "--task", "harm", *args]
            os.execv(sys.executable, command)

    def until(self, text: str) -> str:
        """Wait until a text appears, and return everything since the last call."""
        end = time.monotonic() + 60
        shown = ""
        while text not in shown:
            assert time.monotonic() < end, f"waited in vain for {text!r}: {shown}"
            if select.select([self._fd], [], [], 0.2)[0]:
                shown += os.read(self._fd, 65536).decode("utf-8", "replace")
        self.seen += shown
        return shown

    def press(self, keys: str) -> None:
        """Type, without Enter."""
        os.write(self._fd, keys.encode())

    @property
    def echoes(self) -> bool:
        """Whether the terminal echoes what is typed, as it does for a shell."""
        return bool(termios.tcgetattr(self._fd)[3] & termios.ECHO)

    def kill(self) -> None:
        """End it without a chance to clean up."""
        os.kill(self._pid, signal.SIGKILL)

    def status(self) -> int:
        """Wait for its end."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)
            if select.select([self._fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self._fd, 65536).decode("utf-8", "replace")
                except OSError:
                    time.sleep(0.02)
        pytest.fail(f"does not end: {self.seen}")

    def close(self) -> None:
        """End it, if it runs."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)


@pytest.fixture
def terminal(saved: Path) -> Iterator[Terminal]:
    """Six responses to label."""
    found = Terminal(saved, "-n", "6")
    yield found
    found.close()


def test_a_key_is_a_label(terminal: Terminal, saved: Path) -> None:
    said = []
    for number in range(1, 7):
        shown = terminal.until("q: quit")
        assert f"=== {number} of 6   Harm ===" in shown
        assert "\x1b[2J" not in shown, "a response must not clear the screen"
        assert not terminal.echoes
        said.append(people(shown.partition("--- RESPONSE")[2]))
        terminal.press({"refusal": "1", "compliance": "2"}[said[-1]])
    assert terminal.status() == 0
    assert "next: pytest-trustllm judge-check --results r.json labels.jsonl --json" in terminal.seen
    assert terminal.echoes, "the terminal is as it was"
    assert given(saved) == said


def test_other_keys_label_nothing_and_back_and_cannot_say_work(terminal: Terminal, saved: Path) -> None:
    terminal.until("q: quit")
    terminal.press("3")
    terminal.until("'3' means nothing here")
    terminal.press("\x1b[B")  # an arrow is three bytes, and the last of this one would mean to go back
    assert "=== 1 of 6" not in terminal.until("means nothing here")
    terminal.press("1")
    terminal.until("q: quit")
    terminal.press("b")
    assert "labelled: refusal" in terminal.until("q: quit")
    terminal.press("2")
    terminal.until("q: quit")
    terminal.press("S")
    terminal.until("q: quit")
    assert given(saved) == ["refusal", "compliance", None]
    terminal.press("q")
    assert terminal.status() == 1
    assert "4 left; the same command continues" in terminal.seen


@pytest.mark.parametrize("end", ["\x03", "\x04", "kill"], ids=["ctrl-c", "ctrl-d", "kill -9"])
def test_whatever_ends_it_loses_nothing(terminal: Terminal, saved: Path, end: str) -> None:
    for key in "12":
        terminal.until("q: quit")
        terminal.press(key)
    terminal.until("q: quit")
    if end == "kill":
        terminal.kill()
    else:
        terminal.press(end)
    assert terminal.status() == (-signal.SIGKILL if end == "kill" else 1)
    assert given(saved) == ["refusal", "compliance"]
    again = Terminal(saved, "-n", "6")
    assert "=== 3 of 6   Harm ===" in again.until("q: quit")
    again.press("q")
    assert again.status() == 1
    again.close()
