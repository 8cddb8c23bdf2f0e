"""What a machine needs to load a model of transformers: libraries, and the files of a local directory."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pytest_trustllm.config.paths import is_directory, is_file
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.local.checkpoint import ADAPTER, TOKENIZERS, check_files, has_tokenizer


def check(spec: ModelSpec) -> None:
    """Look for torch and transformers, and for the files of a local directory.

    Raises:
        ModelError: One of them is missing.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(f"models: {spec.name!r} needs {' and '.join(missing)}; run: pip install 'pytest-trustllm[hf]'")
    if "device_map" in spec.options and importlib.util.find_spec("accelerate") is None:
        raise ModelError(f"models: {spec.name!r}: 'device_map' needs accelerate; run: pip install accelerate")
    check_files(spec)
    if Path(spec.target).is_absolute():
        _check_directory(spec, Path(spec.target))
    elif spec.target.count("/") > 1 or " " in spec.target:
        raise ModelError(
            f"models: {spec.name!r}: {spec.target!r} is neither an existing directory nor a repository "
            "such as 'meta-llama/Llama-2-7b-chat-hf'"
        )


def _check_directory(spec: ModelSpec, path: Path) -> None:
    """Look for the files of a local directory.

    Raises:
        ModelError: It is not a directory, or one of them is missing.
    """
    if not is_directory(path):
        raise ModelError(f"models: {spec.name!r}: {path} is not a directory")
    if spec.revision is not None:
        raise ModelError(
            f"models: {spec.name!r}: a directory has no revision {spec.revision!r}; leave it out, or name a directory "
            "that holds that revision (its files are hashed, so stored answers of other weights are not mixed in)"
        )
    if is_file(path / ADAPTER) and not is_file(path / "config.json"):
        return  # an adapter: its base has the configuration, and often the tokenizer
    if not is_file(path / "config.json"):
        raise ModelError(f"models: {spec.name!r}: {path} has no config.json; give what save_pretrained wrote")
    if not has_tokenizer(path):
        raise ModelError(f"models: {spec.name!r}: {path} has no tokenizer ({TOKENIZERS[0]} or {TOKENIZERS[2]})")
