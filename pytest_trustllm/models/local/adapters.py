"""Adapters of peft, such as LoRA: alone with the name of their base, or in one directory with the base's weights."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.hub import extract_commit_hash
from transformers.utils.peft_utils import find_adapter_config_file

from pytest_trustllm.config.paths import is_directory, is_file
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.local.checkpoint import ADAPTER

_PROMPTS = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT")
"""Kinds that put vectors before the prompt instead of changing layers; only peft's own model class runs them."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What changes some layers of a base model.

    Attributes:
        target: Directory or repository that holds it.
        base: Directory or repository of the model that it changes; the target itself if that holds the weights too.
        kind: Such as ``LORA``.
        supplied: Names of parts of the model that it brings whole, such as a classifier's head.
        commit: Commit of the hub, None of a directory.
    """

    target: str
    base: str
    kind: str
    supplied: tuple[str, ...]
    commit: str | None

    @property
    def has_base_files(self) -> bool:
        """Whether the base's weights are in the same directory."""
        return self.base == self.target

    @contextlib.contextmanager
    def base_directory(self) -> Iterator[str]:
        """Yield a directory or repository from which the base can be loaded without its adapter.

        Transformers loads an adapter by itself if it finds one in the directory of the weights, and then reports on the
        adapter's weights alone; a directory of links keeps the two apart.
        """
        if not self.has_base_files:
            yield self.base
            return
        with tempfile.TemporaryDirectory(prefix="trustllm-base-") as links:
            for file in Path(self.target).iterdir():
                if not file.name.startswith("adapter_"):
                    (Path(links) / file.name).symlink_to(file)
            yield links

    def join(self, spec: ModelSpec, model: Any) -> None:
        """Put the adapter into its base.

        Raises:
            ModelError: Weights of the adapter are missing or fit nowhere.
        """
        options = {} if spec.revision is None else {"revision": spec.revision}
        report = model.load_adapter(self.target, adapter_kwargs=options)
        mismatched = [name for name, *_ in report.mismatched_keys]
        # The first that is wrong is enough, and a missing weight says most about the cause.
        for names in (report.missing_keys, report.unexpected_keys, mismatched):
            if names:
                raise ModelError(
                    f"models: {spec.name!r} cannot be loaded: its adapter does not fit {type(model).__name__}: "
                    f"{min(names)} is missing, has another shape, or belongs to no layer; "
                    "give the base that it was trained on"
                )


def find_adapter(spec: ModelSpec, base: Path) -> Adapter | None:
    """Return the adapter that a directory or repository holds, None if it holds none.

    Args:
        spec: Which model.
        base: What a relative path of the adapter's base is relative to, if there is nothing in the current directory.

    Raises:
        ModelError: It holds one that cannot be used.
    """
    local = Path(spec.target).is_absolute()
    file = find_adapter_config_file(spec.target, revision=spec.revision, local_files_only=local)
    if file is None:
        return None
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            f"models: {spec.name!r} holds an adapter ({ADAPTER}), which needs peft; run: pip install "
            "'pytest-trustllm[peft]', or take the file away if the weights are meant without it"
        )
    config = json.loads(Path(file).read_text(encoding="utf-8"))
    return _adapter_of(spec, config, base, commit=None if local else extract_commit_hash(file, None))


def _adapter_of(spec: ModelSpec, config: Mapping[str, Any], base: Path, commit: str | None) -> Adapter:
    """Return the adapter that a configuration file describes.

    Raises:
        ModelError: It is of a kind that cannot be used, or its base is not named.
    """
    kind = str(config.get("peft_type"))
    if kind in _PROMPTS:
        raise ModelError(
            f"models: {spec.name!r} cannot be loaded: its adapter is of the kind {kind}, which is not run here; "
            "serve it and use 'openai:<model>'"
        )
    supplied = tuple(config.get("modules_to_save") or ())
    if commit is None and is_file(Path(spec.target) / "config.json"):
        # The weights in the same directory are meant, not the base that the configuration names.
        return Adapter(spec.target, spec.target, kind, supplied, commit)
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ModelError(f"models: {spec.name!r} cannot be loaded: its {ADAPTER} names no base_model_name_or_path")
    for path in (Path(named), base / named):
        if is_directory(path):
            return Adapter(spec.target, str(path.resolve()), kind, supplied, commit)
    return Adapter(spec.target, named, kind, supplied, commit)
