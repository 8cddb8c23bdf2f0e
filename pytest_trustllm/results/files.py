"""Results files of earlier runs, read back and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_trustllm.config.documents import read_json
from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import Record, Results, SampleLine, Transcript
from pytest_trustllm.results.document import SCHEMA


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        ResultsError: It cannot be read, or is not a complete results file.
    """
    document = read_json(path, path, ResultsError)
    expected = f"expected a results file with schema {SCHEMA}"
    if not isinstance(document, dict):
        raise ResultsError(f"{path}: {expected}, found {one_line(repr(document), 60)}")
    if "schema" not in document:
        raise ResultsError(f"{path}: {expected}, but key 'schema' is missing")
    if document["schema"] != SCHEMA:
        raise ResultsError(f"{path}: {expected}, found {one_line(repr(document['schema']), 60)}")
    try:
        results = checked(document, Results)
    except Mismatch as e:
        raise ResultsError(f"{path}: not a complete results file: {e}") from None
    samples = results["samples"]
    # a file from elsewhere must not make a command read, or even overwrite, any file of the machine
    if samples is not None and Path(samples).name != samples:
        expected = "expected the name of a file in the same directory"
        raise ResultsError(f"{path}: samples: {expected}, found {one_line(repr(samples), 60)}")
    return results


def is_results(path: Path) -> bool:
    """Return whether a file says that it is a results file, of whatever version; it may still be broken.

    Raises:
        ResultsError: It cannot be read, or is not JSON.
    """
    document = read_json(path, path, ResultsError)
    schema = document.get("schema") if isinstance(document, dict) else None
    return isinstance(schema, str) and schema.startswith(SCHEMA.rpartition("/")[0])


def samples_of(results: Results, path: Path) -> Iterator[SampleLine]:
    """Return the lines of the samples file that belongs to a results file; none if the run wrote none.

    Args:
        results: The results file.
        path: Where it was read from.

    Raises:
        ResultsError: While reading: the file is missing, or a line is not one of a samples file.
    """
    name = results["samples"]
    if name is None:
        return iter(())
    return _lines(path.with_name(name), path)


def _lines(file: Path, results: Path) -> Iterator[SampleLine]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                yield _line(text, f"{file}:{number}")
    except UnicodeDecodeError as e:
        raise ResultsError(f"{file}: is not UTF-8 text (byte {e.start})") from None
    except OSError as e:
        raise ResultsError(f"{results}: its samples file {file} cannot be read: {e.strerror or e}") from None


def _line(text: str, where: str) -> SampleLine:
    try:
        return checked(json.loads(text), SampleLine)
    except Mismatch as e:
        raise ResultsError(f"{where}: not a line of a samples file: {e}") from None
    except (ValueError, RecursionError) as e:  # not JSON, or brackets nested too deeply
        raise ResultsError(f"{where}: not JSON: {one_line(e)}") from None


def records_of(results: Results, path: Path) -> list[Record]:
    """Return the records of a saved run: the lines of its samples file without the texts.

    Raises:
        ResultsError: The run wrote no samples file, or it is missing or broken.
    """
    if results["samples"] is None:
        raise ResultsError(f"{path}: names no samples file; write one with --trust-results")
    return [_record(line) for line in samples_of(results, path)]


def _record(line: SampleLine) -> Record:
    # keys are copied by name here: the line was checked, so what remains is a record
    without_texts: Any = {key: value for key, value in line.items() if key not in Transcript.__annotations__}
    record: Record = without_texts
    return record
