"""Digests of what a run is about: its files, and the model."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.formats import ModelInfo
from pytest_trustllm.results.identity import identity_of

DigestSet = dict[str, str]
"""Algorithm -> digest in lower-case hexadecimal, as in-toto has it."""
_GIT_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ResultsError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise ResultsError(f"{path}: cannot be read: {e.strerror or e}") from None


def model_digest(model: ModelInfo) -> DigestSet:
    """Return the digests that identify a model.

    ``sha256`` is that of everything that the run records about the model and that can change an answer (provider, id,
    revision or hash of the weights, chat template, data type, settings), as JSON with sorted keys and without spaces.
    A model of the Hugging Face Hub has its commit there as ``gitCommit`` too.
    """
    text = json.dumps(identity_of(model), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digests: DigestSet = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    revision = model.get("revision")
    if model.get("provider") == "hf" and revision is not None and _GIT_COMMIT.fullmatch(revision):
        digests["gitCommit"] = revision
    return digests
