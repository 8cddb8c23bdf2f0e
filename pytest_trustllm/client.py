"""The test process's side of the model host: start it, ask it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm import wire
from pytest_trustllm.errors import HostError, TrustLLMError, one_line
from pytest_trustllm.models.callable import CallableModel
from pytest_trustllm.records import Request

_GONE = "the model host ended during the run"
_START = "import sys; sys.path.insert(0, sys.argv[1]); from pytest_trustllm.host import main; main()"


class HostProcess:
    """The host as a child process.

    Args:
        config: What the host needs to know; address and token are added here.

    Raises:
        HostError: It did not start.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.token = secrets.token_hex(16)
        self.directory = Path(tempfile.mkdtemp(prefix="trustllm-"))
        self.transcript = self.directory / "transcript"
        self._log = self.directory / "host.log"
        package = str(Path(__file__).resolve().parent.parent)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-c", _START, package],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        full = {**config, "token": self.token, "directory": str(self.directory), "transcript": str(self.transcript)}
        assert self._process.stdin is not None  # noqa: S101 - PIPE was asked for
        assert self._process.stdout is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(full).encode("ascii") + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"the model host did not start: {self.last_words()}"}
        if "error" in answer:
            self.stop()
            raise HostError(answer["error"])
        self.address: str = answer["address"]

    def last_words(self) -> str:
        """Return the last line that the host wrote to its log, for a message."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return one_line(lines[-1]) if lines else "it said nothing"
        return "its log is gone"

    def end(self) -> str:
        """Return how the host ended, for a message; empty while it runs."""
        try:
            code = self._process.wait(1)  # its connections break a moment before it is gone
        except subprocess.TimeoutExpired:
            return ""
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}: {self.last_words()}"

    def stop(self) -> None:
        """End the host: it leaves when its standard input closes; after three seconds it is killed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)  # a host that was killed could not


class HostClient:
    """One connection to the host, made at the first call: whoever needs the host says that it is gone.

    Args:
        address: Where it listens.
        token: The run's token.
    """

    def __init__(self, address: str, token: str) -> None:
        self._address, self._token = address, token
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def _connect(self) -> socket.socket:
        found = wire.connect(self._address)
        try:
            wire.send(found, {"token": self._token})
        except BaseException:
            found.close()
            raise
        return found

    def call(self, op: str, **message: Any) -> dict[str, Any]:
        """Send one message and return the reply.

        Raises:
            HostError: The host is gone.
            TrustLLMError: The host says that the call failed.
        """
        with self._lock:
            try:
                if self._socket is None:
                    self._socket = self._connect()
                wire.send(self._socket, {"op": op, **message})
                reply = wire.receive(self._socket)
            except OSError:
                reply = None
            except BaseException:  # Ctrl-C while waiting: the reply that is under way belongs to no later call
                self.close()
                raise
        if reply is None:
            raise HostError(_GONE)
        if "error" in reply:
            raise TrustLLMError(reply["error"])
        return dict(reply)

    def attach(self, model: CallableModel, places: int) -> None:
        """Answer the host's requests with a model of this process, from a thread of its own.

        Raises:
            HostError: The host is gone.
        """
        hello = {"name": model.info["id"], "max_concurrency": model.max_concurrency, "revision": model.info["revision"]}
        try:
            sock = self._connect()
            wire.send(sock, {"op": "provide", "places": places, **hello})
        except OSError:
            raise HostError(_GONE) from None
        threading.Thread(target=lambda: asyncio.run(_provide(sock, model)), name="trustllm-app", daemon=True).start()

    def close(self) -> None:
        """Close the connection; a later call makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def _provide(sock: socket.socket, model: CallableModel) -> None:
    reader, writer = await asyncio.open_connection(sock=sock)
    running: set[asyncio.Task[None]] = set()

    async def answer(message: Mapping[str, Any]) -> None:
        response = await model.answer(Request(tuple((role, text) for role, text in message["messages"])))
        fields = {
            "text": response.text,
            "error": response.error,
            "raised": response.raised,
            "seconds": response.seconds,
        }
        writer.write(wire.encode({"answer": message["ask"], **fields}))

    while (message := await wire.read_frame(reader)) is not None:
        task = asyncio.ensure_future(answer(message))
        running.add(task)
        task.add_done_callback(running.discard)


def key_of(model: str, task: str, sample: str) -> str:
    """Return the key of one sample of one model."""
    return "|".join((model, task, sample))


class Records:
    """Records as the tests want them, fetched ahead.

    Args:
        client: The connection.
        plan: Keys in the order of the tests.
        ahead: How many further records to ask for in one round trip.
    """

    def __init__(self, client: HostClient, plan: Sequence[str], ahead: int = 256) -> None:
        self._client = client
        self._plan = plan
        self._index = {key: i for i, key in enumerate(plan)}
        self._ahead = ahead
        self._ready: dict[str, list[Any]] = {}

    def get(self, key: str) -> tuple[str, str, bool]:
        """Return (status, record as JSON text, fatal) of a sample; waits for it.

        Raises:
            HostError: The host is gone.
        """
        if key not in self._ready:
            at = self._index.get(key)
            keys = [key] if at is None else list(self._plan[at : at + self._ahead])
            self._ready.update(self._client.call("need", keys=keys)["records"])
        status, record, fatal = self._ready.pop(key)
        return sys.intern(status), record, fatal

    def again(self, key: str) -> None:
        """Have a sample that ended in an error asked once more when it is next wanted.

        Raises:
            HostError: The host is gone.
        """
        self._ready.pop(key, None)
        self._client.call("again", key=key)
