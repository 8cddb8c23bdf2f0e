"""JSON Schemas of the YAML files that users write, made of what their readers accept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm import thresholds
from pytest_trustllm.models.catalogue import models_schema
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites import suite_shape

KINDS = ("suite", "thresholds", "models")
_TITLES = {
    "suite": "Suite of pytest-trustllm: suites/<name>.yaml",
    "thresholds": "Threshold file of pytest-trustllm: thresholds/<dimension>.yaml",
    "models": "Models file of pytest-trustllm, which the ini option trust_models names",
}


def schema(kind: str, registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one kind of file.

    Args:
        kind: One of :data:`KINDS`.
        registry: Scorers, metrics and providers that editors propose; other names are accepted too, since a project's
            ``conftest.py`` may register them.

    Raises:
        TrustLLMError: Something registered cannot be imported, or is no dataclass.
    """
    described: Mapping[str, Callable[[], dict[str, Any]]] = {
        "suite": lambda: suite_shape(registry, Path()).schema(),
        "thresholds": thresholds.FILE.schema,
        "models": lambda: models_schema(registry),
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": _TITLES[kind], **described[kind]()}


def text(found: Mapping[str, Any]) -> str:
    """Return a schema as a file holds it."""
    return json.dumps(found, indent=1, ensure_ascii=True) + "\n"


def file_name(kind: str) -> str:
    """Return the name of the file that holds the schema."""
    return f"trustllm-{kind}.schema.json"


def editor_line(kind: str, folder: str) -> str:
    """Return the comment at the top of a YAML file that makes editors use its schema.

    Args:
        kind: One of :data:`KINDS`.
        folder: Where the schema lies, as seen from the YAML file.
    """
    return f"# yaml-language-server: $schema={folder}/{file_name(kind)}"
