"""Results files of earlier runs, read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm.documents import read_json
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.results import SCHEMA

_TEXTS = ("prompts", "responses", "verdicts")


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ResultsError: It cannot be read, or is none.
    """
    found = read_json(path, path, ResultsError)
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ResultsError(f"{path}: expected a results file with schema {SCHEMA}, found {one_line(repr(schema), 60)}")
    results: dict[str, Any] = found
    return results


def samples_of(results: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """Return the lines of the samples file beside a results file; none if the run wrote none.

    Raises:
        ResultsError: The name is not that of a file beside it. While reading: the file is missing or broken.
    """
    name = results.get("samples")
    if name is None:
        return iter(())
    if not isinstance(name, str) or Path(name).name != name:
        raise ResultsError(f"{path}: samples: expected the name of a file beside it, found {one_line(repr(name), 60)}")
    return _lines(path.with_name(name), path)


def _lines(file: Path, results: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except ValueError as e:
                    raise ResultsError(f"{file}:{number}: not JSON: {one_line(e)}") from None
    except OSError as e:
        raise ResultsError(f"{results}: its samples file {file} cannot be read: {e.strerror or e}") from None


def records_of(results: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return the records of a saved run: the lines of its samples file without the texts.

    Raises:
        ResultsError: The run wrote no samples file, or it is missing or broken.
    """
    if results.get("samples") is None:
        raise ResultsError(f"{path}: names no samples file; write one with --trust-results")
    found = []
    for number, line in enumerate(samples_of(results, path), 1):
        record = {k: v for k, v in line.items() if k not in _TEXTS} if isinstance(line, dict) else {}
        if not {"task", "id", "fingerprint", "group", "status", "value", "observed", "parity", "also"} <= record.keys():
            raise ResultsError(f"{path.with_name(results['samples'])}:{number}: not a line of a samples file")
        found.append(record)
    return found
