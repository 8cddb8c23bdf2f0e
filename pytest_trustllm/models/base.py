"""The protocols of models and of the providers that load them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

from pytest_trustllm.config.documents import Place
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import NOTHING, Request, Response

ModelKind = Literal["chat", "classifier", "embedder", "rater"]
"""chat: text in, text out. classifier: text in, ``refusal``, ``compliance`` or ``partial`` out. embedder: text in,
vector out. rater: text in, toxicity in [0, 1] out."""
MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the user named it, before it is loaded.

    Attributes:
        name: What the user wrote, the name of an entry or an inline name; reports show it.
        provider: Registered provider, such as ``hf``.
        target: What the provider understands: hub id or directory, API model, path, ``module:callable``.
        revision: Hub revision (``@revision`` of an inline name).
        kind: What the model is used as.
        options: The other keys of its entry in a models file.
    """

    name: str
    provider: str
    target: str
    revision: str | None = None
    kind: ModelKind = "chat"
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Settings of the command line, which apply to every model of the run.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0`` or ``mps``; of several, separated by commas, each runs a copy of
            the model. ``auto``: all visible GPUs, else mps, else cpu.
        batch_size: Sequences computed at once by a local model; None: the provider decides.
        max_concurrency: Requests in flight to an API or a callable; None: the models file or the provider decides.
        cluster: Address of the Ray cluster on whose nodes models run, or ``auto``; None: on this machine.
        sharing: Models of the run that share the cluster.
        logs: Directory for the output of servers that the run starts; None: the system's for temporary files.
    """

    device: str = "auto"
    batch_size: int | None = None
    max_concurrency: int | None = None
    logs: str | None = None
    cluster: str | None = None
    sharing: int = 1


class BatchModel(Protocol):
    """A model that computes many requests at once and blocks meanwhile.

    Attributes:
        info: What the results file records, plain JSON without secrets: ``provider``, ``id``, ``revision`` and all
            settings that can change an answer; under ``about`` what cannot (licence, parameter count, batch size).
        stored: Answers may be kept in the store; False for a replay, whose answers are in a file already.

    Two attributes are optional. ``repeats_itself = True``: greedy answers are the same every time, so epochs and votes
    send a request once. ``free = True``: answers cost nothing (a replay, a list of phrases), so budgets ignore them.
    """

    info: Mapping[str, Any]
    stored: bool

    def generate(self, waiting: RequestQueue) -> Iterator[tuple[int, Response]]:
        """Take requests as there is room, and yield (number of the request, response), in any order.

        It is called once, in its own thread, and returns when ``waiting.take`` returns an empty list: the run is over.
        In its simplest form::

            while batch := waiting.take(16):
                for number, request in batch:
                    yield number, Response(text=...)

        A model that can start requests while others run takes them with ``wait=False``. A request that cannot be
        answered yields a response with ``error``.

        Raises:
            ModelError, GenerationError: Every further request would fail as well.
        """
        ...


class AsyncModel(Protocol):
    """A model that answers one request per call, many calls at a time.

    Attributes:
        info: As for a batch model.
        stored: As for a batch model.
        max_concurrency: Requests in flight at most, over the whole run.

    Further methods are optional. ``async start()`` is called once before the first request that the store does not
    answer, if possible before the first test; a ModelError that it raises ends the run. ``loading()`` returns a few
    words for the progress line while it starts, and None otherwise. A model with ``gpus``, the ids of the GPUs that it
    holds alone, takes turns with others that hold one of them: ``async unload()`` frees them, and ``start`` follows.
    """

    info: Mapping[str, Any]
    stored: bool
    max_concurrency: int

    async def answer(self, request: Request) -> Response:
        """Return the response, or one with ``error`` after the last retry failed."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


Model = BatchModel | AsyncModel


class Provider(Protocol):
    """Loads models from one kind of source; :class:`BaseProvider` has the defaults.

    Importing a provider's module must be cheap: torch, transformers and openai are only imported by ``load``.
    """

    @property
    def form(self) -> str:
        """What follows ``name:`` in an inline name, for messages; empty: the provider's name alone is a model."""
        ...

    @property
    def kinds(self) -> frozenset[ModelKind]:
        """What its models can be used as."""
        ...

    @property
    def options(self) -> Mapping[str, Callable[[Place], Any]]:
        """Keys that a models file's entry may have besides those of every entry, and how to read them."""
        ...

    def locate(self, target: str, base: Path) -> str:
        """Return the target; a relative path in it is made absolute, starting from ``base``."""
        ...

    def check(self, spec: ModelSpec) -> None:
        """Look for problems that show without loading the model: a missing library, key, path or file.

        Raises:
            ModelError: What is wrong and what to do, in one line.
        """
        ...

    def load(self, spec: ModelSpec, settings: LoadSettings) -> Model:
        """Load the model, in the process that will run it.

        Raises:
            ModelError: It cannot be loaded.
        """
        ...


class BaseProvider:
    """The defaults of a provider: chat models by name, no options, nothing to check."""

    form: ClassVar[str] = "<model>"
    kinds: ClassVar[frozenset[ModelKind]] = frozenset({"chat"})
    options: ClassVar[Mapping[str, Callable[[Place], Any]]] = NOTHING
    loads_on_cluster: ClassVar[bool] = False
    """With ``--trust-cluster``, the nodes hold programs and files, and check them; this machine needs neither."""

    def locate(self, target: str, base: Path) -> str:
        """Return the target unchanged."""
        return target

    def check(self, spec: ModelSpec) -> None:
        """Accept every model."""

    def keeps_answers(self, spec: ModelSpec) -> bool:
        """Return whether the answers of a model are kept for sure; where only the loaded model could tell, False."""
        return False

    def must_start(self, spec: ModelSpec, settings: LoadSettings) -> bool:
        """Return whether a model must be started, or looked at, before the first test; most need not."""
        return False


def ends_the_task(error: BaseException) -> bool:
    """Return whether an exception cancels the current asyncio task, and was not raised by code that the task called."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def encodable(text: str) -> str:
    """Return text with ``?`` for lone surrogates: JSON files may contain half an emoji, which no API accepts."""
    return text.encode("utf-8", "replace").decode("utf-8")
