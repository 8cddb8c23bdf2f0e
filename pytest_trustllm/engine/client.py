"""The test process's side of the model host: start it, call it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.engine.host_home import HostHome
from pytest_trustllm.engine.messages import STUCK, FinishReply, HostConfig, NeedReply, ProvideCall, RunConfig
from pytest_trustllm.errors import HostError, TrustLLMError, one_line
from pytest_trustllm.models import frames
from pytest_trustllm.models.python import CallableModel
from pytest_trustllm.types import Request, Tool

_GONE = "the model host ended during the run"
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from pytest_trustllm.engine.host_process import main; main()"
_SECONDS_TO_END = 15.0
"""How long a host may take to end, with the servers that it started."""
_PATIENCE = 2.0
"""Seconds that a thread gets to end."""


class HostProcess(HostHome):
    """The host as a child process.

    Args:
        config: The run's.

    Attributes:
        address: Where it listens.

    Raises:
        HostError: It did not start.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._log = self.directory / "host.log"
        try:
            self._process = self._started()
        except BaseException:  # no descriptors or processes are left, or Ctrl-C
            self.remove()
            raise
        try:
            self._hand_over(self.host_config(config))
            self.address = self._received_address()
        except HostError:
            self.stop()
            raise
        except BaseException:  # Ctrl-C, which the host gets as well, before it can clean up
            self.kill()
            raise

    def _started(self) -> subprocess.Popen[bytes]:
        package = str(Path(__file__).resolve().parents[2])
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-c", _CODE, package, str(self.directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=() if self.lock is None else (self.lock,),
            )

    def _hand_over(self, config: HostConfig) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it ended already; why is in its log
            self._process.stdin.write(json.dumps(config).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def _received_address(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        if line:
            answer = json.loads(line)
        else:
            answer = {"error": f"the model host did not start: {self.last_words()}"}
        if "error" in answer:
            raise HostError(answer["error"])
        address: str = answer["address"]
        return address

    def last_words(self) -> str:
        """Return the last line that the host wrote to its log, for a message."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return "its log is gone"
        if not lines:
            return "its log is empty"
        return one_line(lines[-1])

    def end(self) -> str:
        """Return how the host ended, for a message; empty while it runs."""
        try:
            code = self._process.wait(1)  # its connections break a moment before it is gone
        except subprocess.TimeoutExpired:
            return ""
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit status {code}: {self.last_words()}"

    def wake(self) -> None:
        """Let the host go on if somebody has stopped it (SIGSTOP)."""
        if hasattr(signal, "SIGCONT"):
            with contextlib.suppress(OSError):
                self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the host at once. Servers that it started end by themselves."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self.remove()

    def stop(self, seconds: float = _SECONDS_TO_END) -> None:
        """End the host: it ends when its standard input closes; one that does not in time is killed."""
        self.wake()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.remove()


class HostClient:
    """One connection to the host, made at the first call, so that the first who needs the host reports that it is gone.

    Args:
        address: Where it listens.
        token: The run's token.
    """

    def __init__(self, address: str, token: str) -> None:
        self._address, self._token = address, token
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._provided: Provided | None = None
        self._lock = threading.Lock()

    def _connect(self) -> socket.socket:
        connection = frames.connect(self._address)
        try:
            frames.send(connection, {"token": self._token})
        except BaseException:
            connection.close()
            raise
        return connection

    def call(self, op: str, *, seconds: float | None = None, **message: Any) -> Any:
        """Send one message and return the reply; :mod:`pytest_trustllm.engine.messages` has their types.

        Args:
            op: What the host is to do.
            seconds: How long to wait for the reply; None: for ever.
            message: The other fields.

        Raises:
            HostError: The host is gone, or does not reply in time.
            TrustLLMError: The host reports that the call failed.
        """
        with self._lock:
            try:
                if self._socket is None:
                    self._socket = self._connect()
                self._socket.settimeout(seconds)
                frames.send(self._socket, {"op": op, **message})
                reply = frames.receive(self._socket)
            except TimeoutError:
                self.close()
                raise HostError(f"the model host did not reply within {seconds:g} s") from None
            except OSError:
                reply = None
            except BaseException:  # Ctrl-C while waiting: the next call must not receive this one's reply
                self.close()
                raise
        if reply is None:
            raise HostError(_GONE)
        if "error" in reply:
            raise TrustLLMError(reply["error"])
        return reply

    def last_report(self, seconds: float) -> FinishReply:
        """Return what the host would reply to ``finish``, although something in it holds everything up.

        Raises:
            HostError: It is gone, or does not reply in time.
        """
        try:
            with contextlib.closing(frames.connect(f"{self._address}{STUCK}")) as connection:
                connection.settimeout(seconds)
                frames.send(connection, {"token": self._token})
                reply: FinishReply | None = frames.receive(connection)
        except TimeoutError:
            raise HostError(f"the model host did not reply within {seconds:g} s") from None
        except OSError:
            reply = None
        if reply is None:
            raise HostError(_GONE)
        return reply

    def prepare(self) -> None:
        """Make now the event loop that :meth:`attach` needs: it opens sockets, which pytest-socket forbids in tests."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()

    def attach(self, model: CallableModel, places: int) -> Provided:
        """Answer the host's requests with a model of this process, in a separate thread.

        Args:
            model: The model.
            places: Requests that this process answers at once.

        Raises:
            HostError: The host is gone.
        """
        self.prepare()
        assert self._loop is not None  # noqa: S101 - it was prepared
        call: ProvideCall = {
            "places": places,
            "name": model.info["id"],
            "max_concurrency": model.max_concurrency,
            "revision": model.info["revision"],
        }
        try:
            connection = self._connect()
            frames.send(connection, {"op": "provide", **call})
        except OSError:
            raise HostError(_GONE) from None
        self._provided = Provided(model, connection, self._loop)
        return self._provided

    def close(self) -> None:
        """Close the connection; a later call makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def leave(self) -> None:
        """Close everything, after the host has ended."""
        self.close()
        if self._provided is not None:
            self._provided.stop()
        elif self._loop is not None:
            self._loop.close()


class Provided:
    """Answers the host's requests with a model of this process, in a separate thread.

    Args:
        model: The model.
        connection: To the host.
        loop: Runs in the thread, which closes it.
    """

    def __init__(self, model: CallableModel, connection: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._model = model
        self._socket = connection
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="trustllm-app", daemon=True)
        self._thread.start()

    def replace(self, model: CallableModel) -> None:
        """Answer further requests with another model; calls of the previous one are completed."""
        if model is not self._model:
            previous = self._model
            self._model = model
            asyncio.run_coroutine_threadsafe(previous.close(), self._loop)

    def stop(self) -> None:
        """End the thread; a call of the model that hangs is not waited for."""
        with contextlib.suppress(OSError):  # the host closed it first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._socket)
        running: set[asyncio.Task[None]] = set()

        async def answer(message: Mapping[str, Any]) -> None:
            messages = tuple((role, content) for role, content in message["messages"])
            request = Request(messages, tools=tuple(Tool(**tool) for tool in message["tools"]))
            response = await self._model.answer(request)
            writer.write(frames.encode({"answer": message["ask"], "response": dataclasses.asdict(response)}))

        try:
            while (message := await frames.read_frame(reader)) is not None:
                task = asyncio.ensure_future(answer(message))
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            writer.close()
            await self._model.close()


class Records:
    """Records in the order in which the tests want them, fetched ahead.

    Args:
        client: The connection.
        plan: Keys in the order of the tests.
        ahead: How many records to fetch in one round trip.
    """

    def __init__(self, client: HostClient, plan: Sequence[str], ahead: int = 256) -> None:
        self._client = client
        self._plan = plan
        self._positions = {key: position for position, key in enumerate(plan)}
        self._ahead = ahead
        self._ready: dict[str, list[Any]] = {}

    def get(self, key: str) -> tuple[str, str, bool]:
        """Return (status, record as JSON text, fatal) of a sample; waits for it.

        Raises:
            HostError: The host is gone.
        """
        if key not in self._ready:
            reply: NeedReply = self._client.call("need", keys=self._keys_from(key))
            self._ready.update(reply["records"])
        status, record, fatal = self._ready.pop(key)
        return sys.intern(status), record, fatal  # thousands of items share four strings

    def _keys_from(self, key: str) -> list[str]:
        """Return a key and those that the tests want after it."""
        position = self._positions.get(key)
        if position is None:
            return [key]
        return list(self._plan[position : position + self._ahead])

    def again(self, key: str) -> None:
        """Let a sample that ended in an error run again when it is next wanted.

        Raises:
            HostError: The host is gone.
        """
        self._ready.pop(key, None)
        self._client.call("again", key=key)
