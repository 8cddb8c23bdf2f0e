"""Which commit or files a server serves."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from pytest_trustllm.config.paths import is_directory
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.local.checkpoint import hash_directory, hash_file


def pinned(spec: ModelSpec) -> ModelSpec:
    """Return a model with the revision to serve: the one that was asked for, else the commit in the hub's cache.

    Without it, an engine would serve the newest commit, and answers of several commits would be stored as one model's.
    """
    if spec.revision is not None or Path(spec.target).is_absolute():
        return spec
    cache = os.environ.get("HF_HUB_CACHE")
    if cache is None:
        home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
        cache = str(Path(home) / "hub")
    reference = Path(cache) / f"models--{spec.target.replace('/', '--')}" / "refs" / "main"
    try:
        commit = reference.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return spec
    return dataclasses.replace(spec, revision=commit or None)


def served(spec: ModelSpec) -> str | None:
    """Return the commit that a pinned model's servers serve, or a hash of a local model's files; None: unknown."""
    path = Path(spec.target)
    if spec.revision is not None or not path.is_absolute():
        return spec.revision
    if is_directory(path):
        return hash_directory(path)
    return hash_file(path)
