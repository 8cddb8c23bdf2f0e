"""What a model is, and how a provider makes one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

from pytest_trustllm.documents import Place
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import NOTHING, Request, Response

Kind = Literal["chat", "classifier", "embedder", "rater"]
"""chat: text in, text out. classifier: text in, ``refusal`` or ``compliance`` out. embedder: text in, vector out.
rater: text in, toxicity in [0, 1] out."""
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the user named it, before it is loaded.

    Attributes:
        name: What the user wrote, an alias or an inline name; reports use it.
        provider: Registered provider, such as ``hf``.
        target: What the provider understands: hub id or directory, API model, path, ``module:callable``.
        revision: Hub revision (``@revision`` of an inline name).
        kind: What it is asked for.
        options: The other keys of its entry in a models file.
    """

    name: str
    provider: str
    target: str
    revision: str | None = None
    kind: Kind = "chat"
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What the command line says about every model of the run.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0`` or ``mps``; several, separated by commas, compute a copy of the
            model each. ``auto``: all visible GPUs, else mps, else cpu.
        batch_size: Sequences computed at once by a local model; None: the provider decides.
        max_concurrency: Requests in flight to an API or a callable; None: the models file or the provider decides.
    """

    device: str = "auto"
    batch_size: int | None = None
    max_concurrency: int | None = None


class BatchModel(Protocol):
    """A model that computes many requests at once and blocks while it does.

    Attributes:
        info: What the results file records, plain JSON: ``provider``, ``id``, ``revision``, and all settings that can
            change an answer; under ``about`` what cannot (licence, parameter count, batch size). No secret is in it.
        stored: Answers may be kept in the store. A replay says False: its answers are a file already.
            A model whose greedy answers are the same every time may add ``repeats_itself = True``: epochs and votes ask
            it once then.
        free: May be left out; True: answers cost nothing (a replay, a list of phrases), so no budget counts them.
    """

    info: Mapping[str, Any]
    stored: bool

    def generate(self, waiting: Waiting) -> Iterator[tuple[int, Response]]:
        """Take requests as there is room, and yield (number of the request, response), in any order.

        It runs once, in a thread of its own, and returns when ``waiting.take`` says that the run is over. In its
        simplest form::

            while batch := waiting.take(16):
                for number, request in batch:
                    yield number, Response(text=...)

        A model that can let requests join while others run takes more with ``wait=False`` meanwhile. A request that
        cannot be answered yields a response with ``error``; only what makes every further request pointless is raised,
        as ModelError or GenerationError.
        """
        ...


class AsyncModel(Protocol):
    """A model that answers one request per call, many calls at a time.

    Attributes:
        info: As for a batch model.
        stored: As for a batch model.
        max_concurrency: Requests in flight at most, over the whole run.
    """

    info: Mapping[str, Any]
    stored: bool
    max_concurrency: int

    async def answer(self, request: Request) -> Response:
        """Return the response; one with ``error`` if there is none after all retries."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


Model = BatchModel | AsyncModel


class Provider(Protocol):
    """Makes models of one kind of source; :class:`BaseProvider` has the defaults.

    The module that holds a provider is light; torch, transformers and openai are imported by ``load`` alone.
    """

    @property
    def form(self) -> str:
        """What stands after ``name:`` of an inline model, for messages; empty: the name alone is a model."""
        ...

    @property
    def kinds(self) -> frozenset[Kind]:
        """What its models can be asked for."""
        ...

    @property
    def options(self) -> Mapping[str, Callable[[Place], Any]]:
        """Keys of a models file's entry that it understands besides those of every entry, and how to read them."""
        ...

    def locate(self, target: str, base: Path) -> str:
        """Return the target with a path made absolute; relative paths are meant from ``base``."""
        ...

    def check(self, spec: ModelSpec) -> None:
        """Look for mistakes that can be found without loading anything: extra, key, path, files.

        Raises:
            ModelError: One line that says what is wrong and what to do.
        """
        ...

    def load(self, spec: ModelSpec, settings: LoadSettings) -> Model:
        """Load the model, in the process that will run it.

        Raises:
            ModelError: It cannot be loaded.
        """
        ...


class BaseProvider:
    """What most providers have in common: chat models by name, no options, nothing to check."""

    form: ClassVar[str] = "<model>"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"chat"})
    options: ClassVar[Mapping[str, Callable[[Place], Any]]] = NOTHING

    def locate(self, target: str, base: Path) -> str:
        """Return the target as it is."""
        return target

    def check(self, spec: ModelSpec) -> None:
        """Accept it."""


def ends_the_task(error: BaseException) -> bool:
    """Tell whether an exception asks the current asyncio task to end, and does not come from what the task called."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def encodable(text: str) -> str:
    """Return text with ``?`` for lone surrogates: half an emoji out of a JSON file cannot be sent anywhere."""
    return text.encode("utf-8", "replace").decode("utf-8")
