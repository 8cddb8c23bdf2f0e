"""The process of the model host: its socket, the pipe that keeps it alive, its end.

The process that runs pytest starts it, hands it a configuration on standard input and keeps that pipe open: when the
pipe closes, whatever the reason, the host ends. Nobody else on the machine can connect: the socket is in a directory of
mode 700, and the first frame must hold the run's token.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from typing import NoReturn

from pytest_trustllm.engine.host import Host
from pytest_trustllm.engine.messages import STUCK, HostConfig
from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.models import frames

_PATIENCE = 2.0
"""Seconds that the host takes to shut down cleanly after its parent is gone."""


@contextlib.asynccontextmanager
async def listening(config: HostConfig, *, capture_prints: bool = True) -> AsyncIterator[tuple[Host, str]]:
    """Open a host for clients, and close it in the end.

    Args:
        config: The run's.
        capture_prints: Keep what scorers print for the samples file, instead of letting it through.

    Returns:
        The host, and the address on which it listens.
    """
    host = Host(config, capture_prints=capture_prints)
    if frames.unix_sockets_work(config["directory"]):
        path = f"{config['directory']}/host"
        server: asyncio.Server = await asyncio.start_unix_server(host.connection, path)
        address = f"unix:{path}"
    else:
        server = await asyncio.start_server(host.connection, "127.0.0.1", 0)
        address = f"tcp:{server.sockets[0].getsockname()[1]}"
    try:
        yield host, address
    finally:
        server.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(host.close(), _PATIENCE / 2)


async def _serve(config: HostConfig, ready: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def watch_parent() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(ended.set)
        time.sleep(_PATIENCE)
        _leave(config)  # a model that is being loaded, or a scorer that computes, holds the loop up

    threading.Thread(target=watch_parent, name="trustllm-parent", daemon=True).start()
    async with listening(config) as (host, address):
        if address.startswith("unix:"):
            path = address.removeprefix("unix:") + STUCK
            threading.Thread(target=_report_when_stuck, args=(host, path), name="trustllm-report", daemon=True).start()
        _write_line(ready, {"address": address})
        host.prepare()
        await ended.wait()
    _leave(config)


def _report_when_stuck(host: Host, path: str) -> None:
    """Reply with the run's report even while a scorer of the project computes for ever in the event loop."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            connection, _ = server.accept()
            with contextlib.closing(connection), contextlib.suppress(Exception):  # the run ends without it then
                connection.settimeout(_PATIENCE)
                if host.is_ours(frames.receive(connection)):
                    # Only of a loop that stands still can another thread read the state
                    frames.send(connection, asyncio.run(host.finish(None)))


def _write_line(descriptor: int, message: Mapping[str, str]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the process that runs pytest was killed; standard input ends too
        os.write(descriptor, json.dumps(message).encode() + b"\n")


def _first_line() -> bytes:
    """Return the first line of standard input; the rest of it is left for the thread that waits for its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            shutil.rmtree(sys.argv[2], ignore_errors=True)
            os._exit(0)
        line += byte
    return line


def main() -> None:
    """Run the host until standard input closes."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):  # they reach the whole group; pytest decides their meaning
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    ready = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get into the protocol
    config: HostConfig = json.loads(_first_line())
    sys.path[:] = config["sys_path"]
    importlib.invalidate_caches()
    collect_garbage_seldom()
    try:
        asyncio.run(_serve(config, ready))
    except TrustLLMError as e:
        _write_line(ready, {"error": str(e)})
    except Exception as e:  # noqa: BLE001 - a user's module may raise anything when it is imported here
        _write_line(ready, {"error": f"the model host did not start: {type(e).__name__}: {one_line(e)}"})
    finally:
        _leave(config)


def collect_garbage_seldom() -> None:
    """Let this process look for cycles of objects after 10,000 new ones instead of 700, and not among those so far.

    A request makes some hundred objects, nearly all of which its end frees; looking for cycles among those of open
    requests took 8 % of its CPU time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20)


def stop_servers() -> None:
    """End the servers that this process started, if it started any."""
    process = sys.modules.get("pytest_trustllm.models.server.process")
    if process is not None:
        process.stop_all()


def _leave(config: HostConfig) -> NoReturn:
    """End the process at once: a model's thread may be in the middle of a batch; its answers so far are stored."""
    stop_servers()
    shutil.rmtree(config["directory"], ignore_errors=True)
    sys.stderr.flush()
    os._exit(0)
