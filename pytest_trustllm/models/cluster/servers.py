"""Servers of a model on the nodes of a Ray cluster: an actor starts and watches each, and passes requests to it."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Mapping
from typing import Any

from pytest_trustllm.errors import ModelError, TrustLLMError, one_line
from pytest_trustllm.models.api.connection import Server
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.cluster import places
from pytest_trustllm.models.cluster.copies import fields_of, places_of
from pytest_trustllm.models.cluster.places import Place, Places, own_version
from pytest_trustllm.models.server import launching, presets, revisions
from pytest_trustllm.models.server.replica import Replica, new_replicas
from pytest_trustllm.models.server.served_model import Servers

try:
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[import-not-found,no-redef,unused-ignore]

_CALLS = 1000
"""Calls of an actor at a time, each a request that is under way."""
_HOP_BY_HOP = frozenset({b"content-encoding", b"content-length", b"transfer-encoding", b"connection"})
"""Headers about the bytes between actor and server, which are not the bytes that the actor returns."""


class ServerActor:
    """Runs in a process of Ray, on a node: starts a server there, watches it, and passes requests to it.

    The server listens on the node's loopback interface, and ends with this process.

    Args:
        spec: The fields of a :class:`~pytest_trustllm.models.base.ModelSpec`.
        preset: Name of the engine's preset; None: the entry's command.
        settings: The fields of a :class:`~pytest_trustllm.models.base.LoadSettings`.
    """

    def __init__(self, spec: Mapping[str, Any], preset: str | None, settings: Mapping[str, Any]) -> None:
        self._spec = ModelSpec(**spec)
        self._preset = None if preset is None else presets.BY_ENGINE[preset]
        self._settings = LoadSettings(**settings)
        self._replica: Replica | None = None
        self._client: Any = None

    async def described(self, version: str) -> dict[str, Any]:
        """Return what the server would be, or ``failed``: why it cannot be started here."""
        if version != own_version():
            return {
                "failed": f"models: {self._spec.name!r}: the node {socket.gethostname()} has pytest-trustllm "
                f"{own_version()}, the run has {version}; install the same version on all nodes"
            }
        try:
            return await asyncio.to_thread(self._describe)
        except TrustLLMError as e:
            return {"failed": places.on_this_node(e)}

    def _describe(self) -> dict[str, Any]:
        launching.check(self._spec, self._preset)
        spec = revisions.pinned(self._spec)
        launch = launching.launch_of(spec, self._preset, self._settings)
        (self._replica,) = new_replicas(launch, spec, self._settings)
        return {"described": launch.described(), "revision": revisions.served(spec)}

    async def start(self) -> dict[str, Any]:
        """Start the server; return the name under which it serves the model, or ``failed``."""
        assert self._replica is not None  # noqa: S101 - the run calls ``described`` first
        try:
            await asyncio.to_thread(self._replica.start)
        except TrustLLMError as e:
            return {"failed": places.on_this_node(e)}
        address = self._replica.server
        limits = httpx.Limits(max_connections=_CALLS, max_keepalive_connections=_CALLS)
        self._client = httpx.AsyncClient(base_url=address.url, timeout=None, trust_env=False, limits=limits)  # noqa: S113 - the run's
        return {"model": self._replica.model}

    async def wait(self) -> str:
        """Wait until the server has ended; return how."""
        assert self._replica is not None  # noqa: S101 - it was started
        return await asyncio.to_thread(self._replica.wait)

    async def answers(self, seconds: float) -> bool:
        """Return whether the server returns a token within some time."""
        assert self._replica is not None  # noqa: S101 - it was started
        return await asyncio.to_thread(self._replica.answers, seconds)

    async def end(self) -> None:
        """End the server, so that it can be started again."""
        if self._replica is not None:
            await asyncio.to_thread(self._replica.end)

    async def stop(self) -> None:
        """End the server for good."""
        if self._replica is not None:
            await asyncio.to_thread(self._replica.stop)

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Pass a request to the server; return status, headers and body of its reply.

        Raises:
            ConnectionError: The server did not reply.
        """
        assert self._replica is not None  # noqa: S101 - it was started
        own = {**headers, "authorization": f"Bearer {self._replica.server.key}"}
        own.pop("host", None)
        try:
            reply = await self._client.request(method, path, headers=own, content=body)
        except httpx.HTTPError as e:
            raise ConnectionError(f"{type(e).__name__}: {one_line(e, 200)}") from None
        # As bytes: a header need not be text
        kept = [(name, value) for name, value in reply.headers.raw if name.lower() not in _HOP_BY_HOP]
        return reply.status_code, kept, reply.content


class ActorTransport(httpx.AsyncBaseTransport):
    """Sends the HTTP requests of a client to a server through its actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the reply."""
        body = await request.aread()
        path = request.url.raw_path.decode("ascii").removeprefix("/v1")
        try:
            status, headers, content = await self._actor.request.remote(
                request.method, path, dict(request.headers), body
            )
        except asyncio.CancelledError:
            raise
        except Exception as e:  # noqa: BLE001 - whatever Ray raises: the actor, its node or the cluster is gone
            raise httpx.ConnectError(places.actor_error(e) or one_line(e, 200), request=request) from None
        return httpx.Response(status, headers=headers, content=content, request=request)


class ClusterServer:
    """A server on a node of the cluster, with the methods of a :class:`Replica`.

    Args:
        spec: The model, with defaults among its options.
        preset: Name of the engine's preset.
        settings: Those of the command line.
        room: The model's places.
        described: What the servers of the other nodes are, and the revision; this one must be the same.
    """

    def __init__(
        self, spec: ModelSpec, preset: str | None, settings: LoadSettings, room: Places, described: Mapping[str, Any]
    ) -> None:
        self.model = spec.target
        self._name = spec.name
        self._arguments = (fields_of(spec), preset, dataclasses.asdict(_on_node(settings)))
        self._room = room
        self._described = described
        self._stopped = threading.Event()
        self._was_started = False
        self._place: Place | None = None
        self._actor: Any = None

    @property
    def server(self) -> Server:
        """Where requests go."""
        return Server("http://127.0.0.1/v1", "-", transport=ActorTransport(self._actor))

    def start(self) -> None:
        """Start the server on a node with room.

        Raises:
            ModelError: It does not come up.
        """
        if self._actor is None:
            self._place = self._room.take(self._stopped, patiently=self._was_started)
            self._actor = new_actor(self._place, *self._arguments)
        described = self._call("described", own_version())
        if described != self._described:
            raise ModelError(
                f"models: {self._name!r}: {self._where} would serve the model in another way than the other nodes "
                f"({one_line(_difference(described, self._described), 200)}); install the same engine on all nodes"
            )
        self.model = self._call("start")["model"]
        self._was_started = True

    @property
    def _where(self) -> str:
        return "the cluster" if self._place is None else f"node {self._place.host}"

    def _call(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the actor returns.

        Raises:
            ModelError: It reports a failure, or is gone.
        """
        import ray

        try:
            reply = ray.get(getattr(self._actor, method).remote(*arguments))
        except Exception as e:  # noqa: BLE001 - whatever Ray raises: the actor, its node or the cluster is gone
            where = self._where
            self._leave()
            reason = places.actor_error(e) or f"{type(e).__name__}: {one_line(e, 200)}"
            raise ModelError(f"models: {self._name!r}: its actor on {where} ended: {reason}") from None
        if isinstance(reply, dict) and "failed" in reply:
            raise ModelError(reply["failed"])
        return reply

    def _leave(self) -> None:
        """Give the place back: the next start looks for one anew."""
        if self._actor is not None:
            places.kill(self._actor)
            self._actor = None
        if self._place is not None:
            self._room.give_back(self._place)
            self._place = None

    def wait(self) -> str:
        """Wait until the server has ended; return how."""
        try:
            return str(self._call("wait"))
        except ModelError as e:
            return str(e)

    def answers(self, seconds: float) -> bool:
        """Return whether the server returns a token within some time."""
        try:
            return bool(self._call("answers", seconds))
        except ModelError:
            return False

    def end(self) -> None:
        """End the server, so that it can be started again."""
        if self._actor is not None:
            places.kill(self._actor)

    def request_stop(self) -> None:
        """End the server for good, without waiting for it."""
        self._stopped.set()
        if self._actor is not None:
            self._actor.stop.remote()

    def stop(self) -> None:
        """End the server for good."""
        self._stopped.set()
        self._leave()


def _on_node(settings: LoadSettings) -> LoadSettings:
    # A node's own devices, as Ray grants them; its logs stay on the node
    return dataclasses.replace(settings, cluster=None, device="auto", logs=None)


def new_actor(place: Place, spec: Mapping[str, Any], preset: str | None, settings: Mapping[str, Any]) -> Any:
    """Create an actor at a place."""
    import ray

    actor_class: Any = ray.remote(ServerActor)
    return actor_class.options(**place.options(_CALLS)).remote(spec, preset, settings)


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if one["revision"] != other["revision"]:
        return f"revision: {one['revision']} instead of {other['revision']}"
    for name, value in one["described"].items():
        if value != other["described"].get(name):
            return f"{name}: {value} instead of {other['described'].get(name)}"
    return "nothing that can be named"


def load(spec: ModelSpec, preset: str | None, settings: LoadSettings) -> Servers:
    """Return the servers of a model on a cluster's nodes, which are not started yet.

    Raises:
        ModelError: The cluster cannot be reached, has no room, or a node cannot start the engine.
    """
    import ray

    assert settings.cluster is not None  # noqa: S101 - the caller checked it
    places.connect(settings.cluster)
    room = places_of(spec, settings, spec.options.get("tensor_parallel"))
    count = room.to_begin()
    actor = new_actor(room.all()[0], fields_of(spec), preset, dataclasses.asdict(_on_node(settings)))
    try:
        reply = ray.get(actor.described.remote(own_version()))
    except Exception as e:  # noqa: BLE001 - whatever Ray raises
        raise ModelError(f"models: {spec.name!r}: the cluster failed: {one_line(e, 200)}") from None
    finally:
        places.kill(actor)
    if "failed" in reply:
        raise ModelError(reply["failed"])

    def another() -> ClusterServer:
        return ClusterServer(spec, preset, settings, room, reply)

    servers = [another() for _ in range(count)]
    return Servers(reply["described"], reply["revision"], servers, places.grower(room, another))
