"""Copies of a model of transformers on the nodes of a Ray cluster, each loaded once."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import socket
import threading
from collections.abc import Mapping
from typing import Any

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.cluster import places
from pytest_trustllm.models.cluster.places import Place, Places, own_version
from pytest_trustllm.models.local import requirements
from pytest_trustllm.models.local.replica_process import answer_requests, request_of
from pytest_trustllm.models.local.replicas import AnswerQueue, PooledRequest, Replicas, message_of
from pytest_trustllm.models.queue import RequestQueue

_TAKE_SECONDS = 5.0
_MESSAGES_AT_ONCE = 256
_CALLS = 4
"""Calls of an actor at a time: one waits for messages, and another takes a request at once."""


class CopyActor:
    """Runs in a process of Ray, on a node: loads the model, and answers until it is killed.

    Args:
        spec: The fields of a :class:`~pytest_trustllm.models.base.ModelSpec`.
        settings: Those of a :class:`~pytest_trustllm.models.base.LoadSettings`.
        version: The version of this package that the run has.
    """

    def __init__(self, spec: Mapping[str, Any], settings: Mapping[str, Any], version: str) -> None:
        self._waiting = RequestQueue()
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        if version != own_version():
            self._messages.put(
                {
                    "failed": f"models: {spec['name']!r}: the node {socket.gethostname()} has pytest-trustllm "
                    f"{own_version()}, the run has {version}; install the same version on all nodes"
                }
            )
            return
        threading.Thread(target=self._run, args=(spec, settings), name="trustllm-model", daemon=True).start()

    def _run(self, fields: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        spec = ModelSpec(**fields)
        try:
            requirements.check(spec)
        except ModelError as e:
            self._messages.put({"failed": places.on_this_node(e)})
            return
        answer_requests(spec, LoadSettings(**settings), self._waiting, self._messages.put)

    def give(self, message: Mapping[str, Any]) -> None:
        """Take a request."""
        self._waiting.put(message["number"], request_of(message))

    def take(self) -> list[dict[str, Any]]:
        """Return the messages since the last call; wait for one, but not for long."""
        messages: list[dict[str, Any]] = []
        with contextlib.suppress(queue.Empty):
            messages.append(self._messages.get(timeout=_TAKE_SECONDS))
            while len(messages) < _MESSAGES_AT_ONCE:
                messages.append(self._messages.get_nowait())
        return messages


class ClusterCopy:
    """A copy on a node of the cluster; see :class:`~pytest_trustllm.models.local.replicas.Copy`.

    Args:
        spec: Which model.
        settings: Those of every copy.
        room: The model's places.
    """

    loads_elsewhere = True

    def __init__(self, spec: ModelSpec, settings: LoadSettings, room: Places) -> None:
        self.place = "the cluster"
        self.given: dict[int, PooledRequest] = {}
        self.load = 0.0
        self.most = 0
        self._spec = spec
        self._settings = dataclasses.replace(settings, cluster=None, device="auto")
        self._room = room
        self._stopped = threading.Event()
        self._actor: Any = None
        self._how = ""
        self._was_loaded = False

    def begin(self, answers: AnswerQueue) -> None:
        """Start an actor where there is room, and a thread that reads its messages."""
        threading.Thread(target=self._follow, args=(answers,), name="trustllm-ray-copy", daemon=True).start()

    def _follow(self, answers: AnswerQueue) -> None:
        try:
            place = self._room.take(self._stopped, patiently=self._was_loaded)
        except ModelError as e:
            self._how = str(e)
            answers.put((self, None))
            return
        self.place = f"node {place.host}"
        try:
            self._read(place, answers)
        except Exception as e:  # noqa: BLE001 - whatever Ray raises: the actor, its node or the cluster is gone
            self._how = places.actor_error(e) or f"{type(e).__name__}: {one_line(e, 200)}"
        finally:
            self._room.give_back(place)
        answers.put((self, None))

    def _read(self, place: Place, answers: AnswerQueue) -> None:
        import ray

        actor_class: Any = ray.remote(CopyActor)
        self._actor = actor_class.options(**place.options(_CALLS)).remote(
            fields_of(self._spec), dataclasses.asdict(self._settings), own_version()
        )
        while not self._stopped.is_set():
            for message in ray.get(self._actor.take.remote()):
                self._was_loaded = True
                answers.put((self, message))

    def give(self, pooled: PooledRequest) -> None:
        """Send a request; if the actor is gone, the reading thread reports it."""
        with contextlib.suppress(Exception):
            self._actor.give.remote(message_of(pooled))

    def end(self) -> str:
        """Return how the actor ended."""
        return self._how

    def stop(self) -> None:
        """End the actor."""
        self._stopped.set()
        if self._actor is not None:
            places.kill(self._actor)


def load(spec: ModelSpec, settings: LoadSettings) -> Replicas:
    """Load a model's copies on a cluster.

    Raises:
        ModelError: The cluster cannot be reached, has no room, or a copy cannot be loaded.
    """
    assert settings.cluster is not None  # noqa: S101 - the caller checked it
    places.connect(settings.cluster)
    room = places_of(spec, settings, spec.options.get("gpus"))
    count = room.to_begin()

    def another() -> ClusterCopy:
        return ClusterCopy(spec, settings, room)

    copies = [another() for _ in range(count)]
    return Replicas(spec, copies, grow=places.grower(room, another))


def places_of(spec: ModelSpec, settings: LoadSettings, gpus: int | None) -> Places:
    """Return the places of a model; a role's model has one replica unless its entry says otherwise."""
    wanted = spec.options.get("replicas", "auto")
    if wanted == "auto" and spec.kind != "chat":
        wanted = 1
    return Places(spec.name, places.gpus_of_each(gpus), wanted, settings.sharing)


def fields_of(spec: ModelSpec) -> dict[str, Any]:
    """Return the fields of a spec, as another process reads them."""
    return {**dataclasses.asdict(dataclasses.replace(spec, options={})), "options": dict(spec.options)}
