"""A Ray cluster as a set of places: each can hold one replica of a model."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from pytest_trustllm.errors import ModelError, one_line

T = TypeVar("T")

_ROOM_SECONDS = 600.0
"""How long a replica waits for a node with room for it, such as one that an autoscaler starts."""
_AVOIDED_SECONDS = 15.0
_POLL = 1.0
_CONNECT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Room for one replica.

    Attributes:
        node: Id of the node.
        host: Its name, for people.
        slot: Number among the node's places.
        gpus: GPUs of the replica.
        cpus: CPUs of the node.
    """

    node: str
    host: str
    slot: int
    gpus: int
    cpus: int

    def options(self, calls: int) -> dict[str, Any]:
        """Return how Ray puts an actor there and nowhere else.

        Args:
            calls: Calls of its methods at a time; an actor that is not asynchronous has a thread for each.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {
            "num_gpus": self.gpus,
            "num_cpus": 0,
            "max_concurrency": calls,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(self.node, soft=False),
        }
        if not self.gpus:
            # Ray limits every actor to one thread otherwise
            options["runtime_env"] = {"env_vars": {"OMP_NUM_THREADS": str(self.cpus)}}
        return options


def own_version() -> str:
    """Return the version of this package, which must be the same on all nodes."""
    return importlib.metadata.version("pytest-trustllm")


def on_this_node(error: Exception) -> str:
    """Return an error's text with the name of the machine on which it occurred."""
    return f"{error} (on node {socket.gethostname()})"


def check(name: str, address: str) -> None:
    """Look for Ray's client library.

    Raises:
        ModelError: It is missing.
    """
    if importlib.util.find_spec("ray") is None:
        raise ModelError(
            f"models: {name!r}: --trust-cluster={one_line(address, 80)} needs ray; "
            "run: pip install 'pytest-trustllm[ray]'"
        )


def connect(address: str) -> None:
    """Connect this process to a cluster, once.

    Args:
        address: ``auto``: the cluster that this machine belongs to; else ``host:port`` or ``ray://host:port``.

    Raises:
        ModelError: It cannot be reached.
    """
    import ray

    if ray.is_initialized():
        return
    outcome: list[BaseException | None] = []

    def work() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
            outcome.append(None)
        except BaseException as e:  # noqa: BLE001 - Ray raises many types, SystemExit among them
            outcome.append(e)

    # Ray waits for minutes for an address where nobody listens
    thread = threading.Thread(target=work, name="trustllm-ray", daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    if not outcome:
        raise ModelError(f"--trust-cluster: no Ray cluster answered at {address!r} within {_CONNECT_SECONDS:g} s")
    if outcome[0] is not None:
        raise ModelError(f"--trust-cluster: no Ray cluster at {address!r}: {one_line(outcome[0], 300)}") from None


def gpus_of_each(asked: int | None) -> int:
    """Return the GPUs of each replica: as many as the entry asks for, else one if the cluster has any."""
    has_gpus = any(node["Resources"].get("GPU", 0) for node in _nodes())
    if asked is None or asked == 1:
        return int(has_gpus)
    return asked


def _nodes() -> list[dict[str, Any]]:
    """Return what Ray says about the nodes that are alive."""
    import ray

    return [node for node in cast(Any, ray).nodes() if node["Alive"]]


_lock = threading.Lock()
_gpus_taken: Counter[str] = Counter()
"""Node -> GPUs that replicas of all models of the run have."""

_avoided_until: dict[str, float] = {}
"""Node on which a replica ended -> when it may have another one."""


class Places:
    """The places of one model.

    Args:
        name: The model's name, for messages.
        gpus: GPUs of each replica; 0: one replica on each node, on its CPUs.
        wanted: Replicas that the model's entry asks for, or ``auto``.
        sharing: Models of the run that share the cluster's GPUs.
    """

    def __init__(self, name: str, gpus: int, wanted: int | Literal["auto"], sharing: int) -> None:
        self._name = name
        self._gpus = gpus
        self._wanted = wanted
        self._sharing = sharing if gpus else 1
        self._taken: set[tuple[str, int]] = set()
        self._waiting = 0

    def all(self) -> list[Place]:
        """Return every place of the nodes that are alive."""
        places: list[Place] = []
        for node in _nodes():
            resources = node["Resources"]
            cpus = int(resources.get("CPU", 0))
            count = int(resources.get("GPU", 0)) // self._gpus if self._gpus else min(cpus, 1)
            host = node.get("NodeManagerHostname") or node["NodeManagerAddress"]
            for slot in range(count):
                places.append(Place(node["NodeID"], str(host), slot, self._gpus, max(cpus, 1)))
        return places

    def to_begin(self) -> int:
        """Return how many replicas to begin with.

        Raises:
            ModelError: There is no room for one, or not for as many as the entry asks for.
        """
        room = len(self.all())
        wanted = max(1, self._share())
        if room < wanted:
            each = f"{self._gpus} GPUs" if self._gpus else "a node"
            raise ModelError(
                f"models: {self._name!r}: it needs room for {wanted} x {each}, and the cluster has room for {room}; "
                "use fewer replicas, or fewer GPUs for each, or add nodes"
            )
        return wanted

    def _share(self) -> int:
        """Return how many replicas the model may have."""
        if self._wanted == "auto":
            return len(self.all()) // self._sharing
        return self._wanted

    def spare(self, count: int) -> int:
        """Return how many replicas could be added to ``count``: nodes have joined."""
        with _lock:
            free = len(self._free()) - self._waiting
        return max(0, min(free, self._share() - count))

    def _free(self) -> list[Place]:
        """Return the places that nobody has; their node has the GPUs that they need."""
        resources = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in _nodes()}
        free = []
        now = time.monotonic()
        for place in self.all():
            if _avoided_until.get(place.node, now) > now:
                continue
            left = resources.get(place.node, 0) - _gpus_taken[place.node]
            if (place.node, place.slot) not in self._taken and left >= place.gpus:
                free.append(place)
        return free

    def take(self, stopped: threading.Event, *, patiently: bool) -> Place:
        """Wait for a place that no other replica has.

        Args:
            stopped: Set when the replica is not wanted any more.
            patiently: Wait as long as it takes: the others answer in the meantime.

        Raises:
            ModelError: None became free, or the replica is not wanted any more.
        """
        end = time.monotonic() + (math.inf if patiently else _ROOM_SECONDS)
        with _lock:
            self._waiting += 1
        try:
            while time.monotonic() < end and not stopped.is_set():
                with _lock:
                    free = self._free()
                    if free:
                        self._taken.add((free[0].node, free[0].slot))
                        _gpus_taken[free[0].node] += free[0].gpus
                        return free[0]
                stopped.wait(_POLL)
        finally:
            with _lock:
                self._waiting -= 1
        raise ModelError(f"models: {self._name!r}: no node of the cluster had room for a replica")

    def give_back(self, place: Place) -> None:
        """Let another replica have a place, but not at once: its node may be dying, and Ray may not know that yet."""
        with _lock:
            _avoided_until[place.node] = time.monotonic() + _AVOIDED_SECONDS
            self._taken.discard((place.node, place.slot))
            _gpus_taken[place.node] -= place.gpus


def grower(room: Places, another: Callable[[], T]) -> Callable[[int], list[T]]:
    """Return a function from the number of a model's replicas to those that can be added, because nodes have joined.

    Args:
        room: The model's places.
        another: Returns a replica.
    """

    def grow(count: int) -> list[T]:
        try:
            return [another() for _ in range(room.spare(count))]
        except Exception:  # noqa: BLE001 - the cluster does not answer now; it is asked again
            return []

    return grow


def actor_error(error: BaseException) -> str | None:
    """Return how an actor ended, if that is what an exception of Ray tells; None otherwise."""
    import ray

    if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.ObjectLostError):
        text = str(error)
        for line in text.splitlines():
            if "node" in line and ("died" in line or "dead" in line or "terminated" in line):
                return one_line(line.strip(), 200)
        return one_line(text, 200)
    return None


def kill(actor: Any) -> None:
    """End an actor, if it is not dead already."""
    import ray

    with contextlib.suppress(Exception):
        ray.kill(actor)
