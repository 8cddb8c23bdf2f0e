"""Runs a server and ends it, with everything that it started, when standard input closes.

The model host starts this file as a process of its own and keeps the other end of its standard input. The pipe closes
when the host ends, whatever ends it: then the server gets SIGTERM, and some seconds later SIGKILL. It lives in a
process group of its own, so that Ctrl-C does not reach it. On Linux, processes that the server leaves behind, such as
vLLM's engine after its API server was killed, become children of this process, which kills them as well.

It is run by path, without site-packages, and so imports nothing but the standard library.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_SECONDS_TO_END = 5.0
"""How long a server may take to end after SIGTERM; it may have memory to free that its processes share."""
_POLL = 0.05
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CANNOT_START = 127
"""Exit status if the command cannot be run; the log has the reason."""


def _set_process_option(option: int, value: int) -> None:
    """Call prctl(2), where there is one."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _prepare_server() -> None:
    """Let the kernel kill the server if this process is killed; called in the server's process before it begins."""
    for signal_ in _SIGNALS:  # the model host ignores them, and what is ignored stays ignored in a new program
        signal.signal(signal_, signal.SIG_DFL)
    _set_process_option(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal_group(group: int, signal_: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal_)


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server's process group, gently at first."""
    _signal_group(server.pid, signal.SIGTERM)
    end = time.monotonic() + _SECONDS_TO_END
    while server.poll() is None and time.monotonic() < end:
        time.sleep(_POLL)
    _signal_group(server.pid, signal.SIGKILL)


def _children() -> list[int]:
    """Return the ids of this process's children, on Linux."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return [int(pid) for pid in children.read_text(encoding="ascii").split()]
    except OSError:
        return []


def _kill_orphans() -> None:
    """Kill what the server left behind; each orphan's own children become children of this process in turn."""
    end = time.monotonic() + _SECONDS_TO_END
    while time.monotonic() < end:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not reaped:
            time.sleep(_POLL)


def main() -> int:
    """Run ``sys.argv[2:]`` with its output appended to the file ``sys.argv[1]``; return how it ended, as a shell."""
    log, *command = sys.argv[1:]
    _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)
    with Path(log).open("ab") as output:
        try:
            server = subprocess.Popen(  # noqa: S603 - what the model host was told to run
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_prepare_server,
            )
        except OSError as e:
            output.write(f"error: {command[0]} cannot be run: {e.strerror}\n".encode())
            return CANNOT_START

    def watch_host() -> None:
        while os.read(0, 4096):
            pass
        _end(server)

    threading.Thread(target=watch_host, daemon=True).start()
    for signal_ in _SIGNALS:
        signal.signal(signal_, lambda *_: _end(server))
    status = server.wait()
    _signal_group(server.pid, signal.SIGKILL)
    _kill_orphans()
    if status < 0:
        return 128 - status
    return status


if __name__ == "__main__":
    sys.exit(main())
