"""JSON Schemas of the files that users write, and of those that a run writes, from what their readers accept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pytest_trustllm.config.typed import document_schema
from pytest_trustllm.formats import Results, SampleLine
from pytest_trustllm.gates import thresholds
from pytest_trustllm.models.catalogue import models_schema
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import suite_schema

KINDS = ("suite", "thresholds", "models")
"""YAML files, which editors check and complete."""
WRITTEN = ("results", "samples")
"""What a run writes; a line of the samples file is one document."""
_TITLES = {
    "suite": "Suite of pytest-trustllm: suites/<name>.yaml",
    "thresholds": "Threshold file of pytest-trustllm: thresholds/<dimension>.yaml",
    "models": "Models file of pytest-trustllm, which the ini option trust_models names",
    "results": "Results file of pytest-trustllm (--trust-results)",
    "samples": "One line of a samples file of pytest-trustllm (--trust-results)",
}


def schema(kind: str, registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one kind of file.

    Args:
        kind: One of :data:`KINDS` or :data:`WRITTEN`.
        registry: Scorers, metrics and providers that editors propose; other names are accepted too, since a project's
            ``conftest.py`` may register them.

    Raises:
        TrustLLMError: Something registered cannot be imported, or is not a dataclass.
    """
    builders: Mapping[str, Callable[[], dict[str, Any]]] = {
        "suite": lambda: suite_schema(registry),
        "thresholds": thresholds.FILE.schema,
        "models": lambda: models_schema(registry),
        "results": lambda: document_schema(Results),
        "samples": lambda: document_schema(SampleLine),
    }
    described = builders[kind]()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": _TITLES[kind], **described}


def text(schema: Mapping[str, Any]) -> str:
    """Return a schema as the text of a file."""
    return json.dumps(schema, indent=1, ensure_ascii=True) + "\n"


def file_name(kind: str) -> str:
    """Return the name of the file that holds the schema."""
    return f"trustllm-{kind}.schema.json"


def editor_line(kind: str, folder: str) -> str:
    """Return the comment at the top of a YAML file that makes editors use its schema.

    Args:
        kind: One of :data:`KINDS`.
        folder: Path from the YAML file to the folder with the schema.
    """
    return f"# yaml-language-server: $schema={folder}/{file_name(kind)}"
