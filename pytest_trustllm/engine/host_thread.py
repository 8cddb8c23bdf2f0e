"""The model host in a thread of the test process, for debuggers."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from concurrent.futures import Future

from pytest_trustllm.engine.host_home import HostHome
from pytest_trustllm.engine.host_process import listening, stop_servers
from pytest_trustllm.engine.messages import HostConfig, RunConfig
from pytest_trustllm.errors import HostError, TrustLLMError, one_line

_PATIENCE = 2.0
"""Seconds that the thread gets to close its models."""


class HostThread(HostHome):
    """The host as a thread: a breakpoint in a scorer or in a callable stops in the terminal of pytest.

    Clients connect to it as to a process, and get the same records. A model that hangs or ends its process takes
    pytest along, which is why this is not the default.

    Args:
        config: The run's.

    Attributes:
        address: Where it listens.

    Raises:
        HostError: It did not start.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._address: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        # a model or scorer of the project may be importable only from the directory in which pytest was called
        sys.path[:0] = [entry for entry in config["sys_path"] if entry not in sys.path]
        own_config = self.host_config(config)
        self._thread = threading.Thread(target=self._run, args=(own_config,), name="trustllm-host", daemon=True)
        self._thread.start()
        try:
            self.address = self._address.result()
        except TrustLLMError as e:
            self.stop()
            raise HostError(str(e)) from None
        except Exception as e:  # noqa: BLE001 - a user's module may raise anything when it is imported here
            self.stop()
            raise HostError(f"the model host did not start: {type(e).__name__}: {one_line(e)}") from None

    def _run(self, config: HostConfig) -> None:
        try:
            asyncio.run(self._serve(config))
        except BaseException as e:
            if self._address.done():
                raise
            self._address.set_exception(e)

    async def _serve(self, config: HostConfig) -> None:
        self._loop = asyncio.get_running_loop()
        # without capturing: what a debugger prints inside a scorer has to reach the terminal
        async with listening(config, capture_prints=False) as (host, address):
            self._address.set_result(address)
            host.prepare()
            await self._ended.wait()

    def end(self) -> str:
        """Return how the host ended, for a message; empty while it runs."""
        return "" if self._thread.is_alive() else "its thread ended"

    def wake(self) -> None:
        """Do nothing: a thread cannot be stopped alone."""

    def kill(self) -> None:
        """Let the host end with the process."""
        stop_servers()
        self.remove()

    def stop(self, seconds: float = _PATIENCE) -> None:
        """End the host; a thread that computes or waits in a debugger is left to end with the process."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(min(seconds, _PATIENCE))
        stop_servers()
        self.remove()
