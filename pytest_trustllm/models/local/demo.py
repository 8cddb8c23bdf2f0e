"""Provider ``demo``: the tiny model inside the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pytest_trustllm.config import paths
from pytest_trustllm.config.fields import Reader
from pytest_trustllm.models.base import ModelKind
from pytest_trustllm.models.local.huggingface import HuggingFaceProvider


class DemoProvider(HuggingFaceProvider):
    """The hf loader pointed at the packaged weights."""

    form = ""
    kinds: ClassVar[frozenset[ModelKind]] = frozenset({"chat"})
    options: ClassVar[Mapping[str, Reader]] = {}

    def locate(self, target: str, base: Path) -> str:
        """Return the packaged directory."""
        return str(paths.packaged("models", "demo_weights"))


PROVIDER = DemoProvider()
