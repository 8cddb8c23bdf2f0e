"""One server of a model: started on a port of its own, ready when it answers, and started again when it ends."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.config.secrets import Scrubber, environment_secrets
from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.api.connection import Server
from pytest_trustllm.models.base import LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.models.server import readiness
from pytest_trustllm.models.server.launching import Launch
from pytest_trustllm.models.server.process import ServerProcess
from pytest_trustllm.models.server.readiness import Address, NotReady

STARTUP_TIMEOUT = 1800.0
"""Seconds until a server must answer; it may have to fetch hundreds of gigabytes from a disk first."""
READY = "/v1/models"
_POLL = 0.25
_PORTS_TRIED = 3
_PROBE_SECONDS = 120.0


class Replica:
    """One server of a model. Its methods block; a model runs them in threads.

    Args:
        launch: How it is started.
        kind: What the model is used as.
        options: The model's entry.
        devices: Where it computes.
        logs: Directory for its output.
        number: Its number among the model's replicas, from 0.

    Attributes:
        model: The name under which it serves the model.
    """

    def __init__(
        self,
        launch: Launch,
        kind: ModelKind,
        options: Mapping[str, Any],
        devices: Sequence[str],
        logs: Path,
        number: int,
    ) -> None:
        self._launch = launch
        self._kind: ModelKind = kind
        self._ready_path = str(options.get("ready", READY))
        self._timeout = float(options.get("startup_timeout", STARTUP_TIMEOUT))
        self._devices = devices
        self._key = secrets.token_urlsafe(32)
        self._log = _new_log(logs, launch.name, number)
        self._process: ServerProcess | None = None
        self._stopped = threading.Event()
        self._has_failed = False
        self._address: Address | None = None
        self.model = launch.model

    @property
    def server(self) -> Server:
        """Where requests go, once it was started."""
        assert self._address is not None  # noqa: S101 - it was started
        return Server(self._address.url, self._address.key, direct=True)

    def start(self) -> None:
        """Start the server and wait until it answers, on another port if another process took the first one.

        Raises:
            ModelError: It does not come up; the reason is the engine's own.
        """
        end = time.monotonic() + self._timeout
        for tried in range(_PORTS_TRIED):
            process = self._started()
            try:
                self._await_token(process, end)
                return
            except ModelError:
                self._has_failed = not self._stopped.is_set()
                port_was_taken = process.has_ended and process.found_its_port_taken
                process.stop()
                if not port_was_taken or tried == _PORTS_TRIED - 1:
                    raise

    def _started(self) -> ServerProcess:
        address = Address(_free_port(), self._key)
        settings = self._written_settings()
        command = self._launch.command_for(address.port, settings, self._devices)
        environment = self._launch.environment_for(address.port, self._key, self._devices)
        process = ServerProcess(command, environment, self._log)
        self._address, self._process = address, process
        if self._stopped.is_set():  # by another thread, in the meantime
            process.stop()
        return process

    def _written_settings(self) -> Path | None:
        """Write the engine's private file, if it needs one."""
        content = self._launch.settings_for(self._key)
        if not content:
            return None
        path = self._log.with_suffix(".yaml")
        path.touch(mode=0o600)
        path.write_text(content, encoding="utf-8")
        return path

    def _await_token(self, process: ServerProcess, end: float) -> None:
        """Return once the server has answered with a token of the right model.

        Raises:
            ModelError: It ended, refuses, serves another model, or is not ready in time.
        """
        assert self._address is not None  # noqa: S101 - the process was started with it
        reason = "it does not answer"
        while time.monotonic() < end:
            if process.has_ended:
                if self._stopped.is_set():
                    raise ModelError(f"models: {self._launch.name!r}: its server was stopped while it started")
                raise ModelError(
                    f"models: {self._launch.name!r}: {self._launch.engine} did not start: "
                    f"{self._clean(process.how_it_ended())} (its output: {self._log})"
                )
            try:
                readiness.opened(self._address, self._ready_path)
                self.model = readiness.served_name(self._address, self._launch.model)
                readiness.answer_one_token(self._address, self.model, self._kind, max(1.0, end - time.monotonic()))
                return
            except NotReady as e:
                reason = str(e)
            except ModelError as e:
                raise ModelError(
                    f"models: {self._launch.name!r}: {self._launch.engine} cannot be used: {self._clean(e)}"
                ) from None
            process.wait_at_most(_POLL)
        raise ModelError(
            f"models: {self._launch.name!r}: {self._launch.engine} was not ready within {self._timeout:g} s: "
            f"{self._clean(reason)}; its output ends with: {self._clean(process.last_lines())} ({self._log}); "
            "to wait longer, set 'startup_timeout'"
        )

    def wait(self) -> str:
        """Wait until the server has ended; return how."""
        assert self._process is not None  # noqa: S101 - it was started
        self._process.wait()
        self._has_failed = not self._stopped.is_set()
        return self._clean(self._process.how_it_ended())

    def answers(self, seconds: float) -> bool:
        """Return whether the server returns a token within some time; it may have to answer others first."""
        assert self._address is not None  # noqa: S101 - it was started
        try:
            readiness.answer_one_token(self._address, self.model, self._kind, min(seconds, _PROBE_SECONDS))
        except NotReady:
            return False
        except ModelError:
            pass  # it refused this request, so it is alive
        return True

    def end(self) -> None:
        """End the server, so that it can be started again."""
        if self._process is not None:
            self._process.stop()

    def request_stop(self) -> None:
        """End the server for good, without waiting for it."""
        self._stopped.set()
        if self._process is not None:
            self._process.request_stop()
        self._remove_files()

    def stop(self) -> None:
        """End the server for good."""
        self.request_stop()
        self.end()

    def _remove_files(self) -> None:
        """Remove what the server wrote; a log that a message refers to is kept."""
        files = [self._log.with_suffix(".yaml")]
        if not self._has_failed:
            files.append(self._log)
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()

    def _clean(self, text: object) -> str:
        """Return an engine's words on one line, without its key and the secrets of its environment."""
        return one_line(Scrubber([self._key, *environment_secrets()])(str(text)), 600)


def new_replicas(launch: Launch, spec: ModelSpec, settings: LoadSettings) -> list[Replica]:
    """Return the replicas of a model on this machine, which are not started yet."""
    logs = Path(settings.logs or tempfile.gettempdir())
    replicas = []
    for number, devices in enumerate(launch.replicas):
        replicas.append(Replica(launch, spec.kind, spec.options, devices, logs, number))
    return replicas


def _new_log(directory: Path, name: str, number: int) -> Path:
    """Return a new file for a server's output."""
    directory.mkdir(parents=True, exist_ok=True)
    label = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[-40:]
    descriptor, path = tempfile.mkstemp(".log", f"{label}-{number}-", directory)
    with contextlib.closing(open(descriptor, "wb")):  # noqa: PTH123 - it is open already
        return Path(path)


def _free_port() -> int:
    """Return a port of the loopback interface that is free now; the server may still find it taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
