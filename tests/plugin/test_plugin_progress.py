"""The progress line: seen while a test waits, gone afterwards, and pytest's own output is as it would be without."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios

import pytest
from user_project import Project, wait_for

from pytest_trustllm.plugin.progress import Meter

pyte = pytest.importorskip("pyte")

WAITS = """
import pathlib, time
def answer(prompt):
    while "3" in prompt and not pathlib.Path(__file__).with_name("go").exists():
        time.sleep(0.01)
    return "good"
"""
AT_ONCE = """
from pytest_trustllm.plugin import progress
progress.REDRAW = progress.PATIENCE = progress.LOG_EVERY = 0.01
"""
WIDTH, HEIGHT = 90, 24
LINE = r"trust: 3 of 30 items, [\d.,]+ tokens/s, [\d.,]+ requests/s"


@pytest.fixture
def waiting(project: Project) -> Project:
    """Thirty samples; the fourth is answered when the file ``go`` exists."""
    project.samples(30)
    project.write("app.py", WAITS)
    project.write("conftest.py", AT_ONCE)
    project.write("tests/test_own.py", "def test_own(): pass\n")
    project.gates("metric: many.accuracy, at_least: 0.9")
    return project


class Terminal:
    """pytest on a terminal, and what a person sees there."""

    def __init__(self, project: Project, *args: str) -> None:
        self._screen = pyte.HistoryScreen(WIDTH, HEIGHT, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--trust-model=python:app:answer",
            "-p",
            "no:hypothesispytest",
            *args,
        ]
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs, such as these tests, ignore it
            os.chdir(project.path)
            os.environ.pop("COLUMNS", None)
            os.environ["TERM"] = "xterm"
            os.execv(sys.executable, command)

    def read(self) -> bool:
        """Take what was written; return whether there may be more."""
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self._stream.feed(data)
        return bool(data)

    def until(self, pattern: str) -> list[str]:
        """Read until a line on the screen matches, and return the screen."""
        while self.read():
            if any(re.search(pattern, line) for line in self._screen.display):
                return list(self._screen.display)
        raise AssertionError("\n".join(self.lines()))

    def end(self) -> int:
        """Read to the end and return the exit status."""
        while self.read():
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def lines(self) -> list[str]:
        """Return all lines, also those that scrolled away, without what differs from run to run."""
        gone = ["".join(line[x].data for x in range(WIDTH)) for line in self._screen.history.top]
        lines = [re.sub(r"in [\d.]+s|=", "", line).rstrip() for line in (*gone, *self._screen.display)]
        return [line for line in lines if line]


@pytest.mark.parametrize(
    "args", [(), ("-v",), pytest.param(("-n", "2"), marks=pytest.mark.slow), ("-p", "no:xdist")], ids=" ".join
)
def test_a_terminal_shows_a_line_below_and_keeps_nothing_of_it(waiting: Project, args: tuple[str, ...]) -> None:
    terminal = Terminal(waiting, *args)
    screen = terminal.until(LINE)
    at = next(i for i, line in enumerate(screen) if re.search(LINE, line))
    assert screen[at].startswith("trust: ")
    assert not "".join(screen[at + 1 :]).strip()
    if args != ("-n", "2"):
        assert screen[at - 1].startswith("suites/mine.yaml")
    waiting.write("go", "")
    assert terminal.end() == pytest.ExitCode.OK
    seen = terminal.lines()
    assert not any("trust: 3" in line or "tokens/s" in line for line in seen)

    waiting.write("conftest.py", "")
    plain = Terminal(waiting, *args)
    assert plain.end() == pytest.ExitCode.OK
    if args == ("-n", "2"):
        assert len(seen) == len(plain.lines())
    else:
        assert seen == plain.lines()


def test_ctrl_c_leaves_no_half_line(waiting: Project) -> None:
    terminal = Terminal(waiting)
    terminal.until(LINE)
    os.write(terminal._fd, b"\x03")
    assert terminal.end() == pytest.ExitCode.INTERRUPTED
    assert not any("tokens/s" in line for line in terminal.lines())
    assert any("KeyboardInterrupt" in line for line in terminal.lines())
    assert wait_for(lambda: not waiting.processes(), 5)


def test_a_log_gets_lines_of_its_own(waiting: Project, mode: tuple[str, ...]) -> None:
    run = waiting.start("-vv" if mode == () else "-v", *mode, "--trust-budget=1M tokens")
    assert wait_for(lambda: len(re.findall(f"^{LINE}", waiting.output, re.MULTILINE)) >= 2)
    waiting.write("go", "")
    assert run.wait(60) == pytest.ExitCode.OK
    lines = waiting.output.splitlines()
    assert sum(line.startswith("trust: estimate: 30 requests, ") for line in lines) == 1
    assert all(line.startswith("trust: ") for line in lines if " items, " in line and "tokens/s" in line)
    assert "\x1b" not in waiting.output
    assert any("passed in" in line for line in lines)


def test_quiet_runs_and_short_ones_show_none(waiting: Project) -> None:
    waiting.write("go", "")
    waiting.write("app.py", WAITS.replace("return", "time.sleep(0.02)\n    return"))
    assert "tokens/s" not in waiting.run("-q").stdout.str()
    assert "tokens/s" in waiting.run("--trust-fresh").stdout.str()
    waiting.write("conftest.py", "")
    assert "tokens/s" not in waiting.run("--trust-fresh").stdout.str()


def test_output_that_is_no_file_is_no_trouble(waiting: Project, pytester: pytest.Pytester) -> None:
    waiting.write("go", "")
    waiting.write(
        "quiet.py", "import io, sys, pytest\nsys.stdout = io.StringIO()\nsys.exit(pytest.main(sys.argv[1:]))\n"
    )
    result = pytester.run(sys.executable, "quiet.py", "--trust-model=python:app:answer", "-s")
    assert result.ret == pytest.ExitCode.OK


def status(**changes: object) -> dict[str, object]:
    nothing = {"planned": 1000, "done": 0, "requests": 0, "cached": 0, "tokens": 0, "cost_usd": None}
    return {**nothing, "batches": [0, 0, 0], "loading": None, **changes}


def test_speed_and_time_left_are_those_of_the_last_half_minute() -> None:
    meter = Meter()
    assert meter.line(0.0, status()) == "trust: 0 of 1,000 items"
    assert meter.line(1.0, status(done=500, cached=500)) == (
        "trust: 500 of 1,000 items, 0.0 tokens/s, 0.0 requests/s, 500 cached, 1 s left"
    )
    for second in range(2, 100):
        line = meter.line(float(second), status(done=500 + second, requests=second, tokens=50 * second, cached=500))
    assert line == "trust: 599 of 1,000 items, 50 tokens/s, 1.0 requests/s, 500 cached, 7 min left"


def test_money_is_shown_where_a_price_is_known() -> None:
    meter = Meter()
    meter.line(0.0, status())
    line = meter.line(10.0, status(done=1, requests=1, tokens=9, cost_usd=1.5))
    assert line == "trust: 1 of 1,000 items, 0.9 tokens/s, 0.1 requests/s, 1.50 USD, 2.8 h left"
