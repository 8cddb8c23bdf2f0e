"""Provider ``server`` and its presets: engines that a run starts, asks through an OpenAI-compatible API, and ends."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Choice, Either, Flag, Integer, Key, ListOf, Made, MappingOf, Reader, Text
from pytest_trustllm.config.paths import exists
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.api.openai import CHAT_KEYS
from pytest_trustllm.models.base import AsyncModel, BaseProvider, LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.models.cluster import places
from pytest_trustllm.models.options import SECONDS, Plain, request_keys
from pytest_trustllm.models.server import launching, presets, replica, revisions
from pytest_trustllm.models.server.presets import Preset

_CONCURRENCY = 256
"""Requests in flight to each server; engines queue what they cannot compute at once."""
_TIMEOUT = 600.0
_DEADLINE = 86_400.0
"""A request waits as long as its server is started again, which may take most of an hour."""


def _arguments_of_mapping(place: Place, value: Mapping[str, Any]) -> tuple[str, ...]:
    for name, setting in value.items():
        if setting is False:
            raise place[name].fail(f"leave it out, or write the engine's own option, such as {{no_{name}: true}}")
    return tuple(launching.engine_arguments(value))


_LIST_OF_TEXTS = ListOf(Made(Plain(), lambda _, value: str(value)))


class ServerProvider(BaseProvider):
    """Starts servers of one engine.

    Args:
        preset: The engine; None: the entry's ``command`` says how to start it.
    """

    kinds: ClassVar[frozenset[ModelKind]] = frozenset({"chat", "embedder", "classifier"})
    options: ClassVar[Mapping[str, Reader]] = {
        "command": Key(
            Either(str, Text(), ListOf(Text(), "expected at least the program")),
            "Program and arguments; {model}, {port}, {device}, {revision} and {tensor_parallel} are filled in.",
        ),
        "executable": Key(Text(), "The engine's program, if it is not on the path."),
        "engine_args": Key(
            Either(list, _LIST_OF_TEXTS, Made(MappingOf(Plain()), _arguments_of_mapping)),
            "Further arguments, as a list, or as a mapping such as {max_model_len: 4096}.",
            default=(),
        ),
        "environment": Key(MappingOf(Text()), "Variables of the server; {key} stands for the key the run chooses."),
        "replicas": Key(
            Either(str, Choice(("auto",)), Integer(1, 1024)),
            "Independent servers; auto: as many as the visible GPUs allow, one without GPUs.",
            default="auto",
        ),
        "tensor_parallel": Key(Integer(1, 1024), "GPUs that one server uses together.", default=1),
        "batch_invariant": Key(
            Flag(), "Ask vLLM for answers that do not depend on the batch (GPUs only).", default=False
        ),
        "ready": Key(Text(), "Path that answers once the server is up.", default=replica.READY),
        "startup_timeout": Key(SECONDS, "Seconds until a server must answer.", default=replica.STARTUP_TIMEOUT),
        **request_keys(_CONCURRENCY, _TIMEOUT, _DEADLINE),
        **CHAT_KEYS,
    }

    loads_on_cluster: ClassVar[bool] = True

    def __init__(self, preset: Preset | None, form: str) -> None:
        self._preset = preset
        self.form = form  # type: ignore[misc]  # each engine has its own

    def locate(self, target: str, base: Path) -> str:
        """Return the path of a file or directory made absolute; anything else is a name that the engine knows."""
        path = base / Path(target).expanduser()
        if exists(path) or target.startswith((".", "/", "~")):
            return str(path.resolve())
        return target

    def check(self, spec: ModelSpec) -> None:
        """Look for the client library, the engine's program, and the files of a local model.

        Raises:
            ModelError: One of them is missing.
        """
        _check_client(spec)
        launching.check(spec, self._preset)

    def keeps_answers(self, spec: ModelSpec) -> bool:
        """Return True."""
        return True

    def must_start(self, spec: ModelSpec, settings: LoadSettings) -> bool:
        """Return True: its servers are started before the first test."""
        return True

    def load(self, spec: ModelSpec, settings: LoadSettings) -> AsyncModel:
        """Return the model; its servers start when it is first needed.

        Raises:
            ModelError: As ``check``, or there are too few GPUs.
        """
        from pytest_trustllm.models.server.served_model import ServedModel, Servers

        defaults = {"max_concurrency": _CONCURRENCY, "timeout": _TIMEOUT, "deadline": _DEADLINE}
        spec = dataclasses.replace(spec, options={**defaults, **spec.options})
        batch_effects = _has_batch_effects(spec)
        if settings.cluster is not None:
            _check_client(spec)
            places.check(spec.name, settings.cluster)
            from pytest_trustllm.models.cluster import servers as on_nodes

            preset_name = None if self._preset is None else self._preset.engine
            return ServedModel(spec, settings, on_nodes.load(spec, preset_name, settings), frozenset(), batch_effects)
        self.check(spec)
        spec = revisions.pinned(spec)
        launch = launching.launch_of(spec, self._preset, settings)
        replicas = replica.new_replicas(launch, spec, settings)
        servers = Servers(launch.described(), revisions.served(spec), replicas)
        return ServedModel(spec, settings, servers, launch.gpus, batch_effects)


def _has_batch_effects(spec: ModelSpec) -> bool:
    """Return whether a model's answers may depend on the batch: not in float32, and not if the engine prevents it."""
    arguments = " ".join(spec.options.get("engine_args", ()))
    is_exact = re.search(r"--dtype[ =]float(?:32)?\b", arguments) is not None
    return spec.kind == "chat" and not is_exact and not spec.options.get("batch_invariant", False)


def _check_client(spec: ModelSpec) -> None:
    """Look for what this machine needs, wherever the servers run.

    Raises:
        ModelError: It is missing.
    """
    if os.name != "posix":
        raise ModelError(f"models: {spec.name!r}: servers are started on Linux and macOS only; use 'openai:<model>'")
    if importlib.util.find_spec("openai") is None:
        raise ModelError(f"models: {spec.name!r} needs openai; run: pip install 'pytest-trustllm[openai]'")


SERVER = ServerProvider(None, "<model>")
VLLM = ServerProvider(presets.VLLM, "<repo or directory>[@revision]")
SGLANG = ServerProvider(presets.SGLANG, "<repo or directory>[@revision]")
LLAMACPP = ServerProvider(presets.LLAMACPP, "<path of a GGUF file>")
