"""Results files of earlier runs, read back and checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_trustllm.config.reading import json_lines, read_json
from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import Record, Results, SampleLine, Transcript
from pytest_trustllm.results.document import SCHEMA, NamedFile

_FILE_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+")
_FATES = ("scored", "unscored", "errored", "not_applicable", "lost")


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
    _check_samples_name(results["samples"], path)
    _check_counts(results, path)
    _check_references(results, path)
    return results


def run_files(results: Results, path: Path, name: str = "the run") -> list[NamedFile]:
    """Return the files of a saved run, which no command may overwrite: the results, and the samples if it has them.

    Args:
        results: What the file holds.
        path: The results file.
        name: What messages call the files.
    """
    files: list[NamedFile] = [(name, path)]
    if results["samples"] is not None:
        files.append((name, path.with_name(results["samples"])))
    return files


def is_results(path: Path) -> bool:
    """Return whether a file says that it is a results file, of whatever version; it may still be broken.

    Raises:
        ResultsError: It cannot be read, or is not JSON.
    """
    document = read_json(path, path, ResultsError)
    schema = document.get("schema") if isinstance(document, dict) else None
    return isinstance(schema, str) and schema.startswith(SCHEMA.rpartition("/")[0])


def _check_samples_name(name: str | None, path: Path) -> None:
    # a file from elsewhere must not make a command read, or even overwrite, any file of the machine
    if name is None or (_FILE_NAME.fullmatch(name) and name not in (".", "..")):
        return
    expected = "expected the name of a file in the same directory"
    raise ResultsError(f"{path}: samples: {expected}, found {one_line(repr(name), 60)}")


def _check_counts(results: Results, path: Path) -> None:
    """Refuse counts that cannot be: every sample of a task has exactly one fate."""
    for task, counts in results["coverage"].items():
        where = f"{path}: coverage of {one_line(task, 100)}"
        fates = sum(counts[fate] for fate in _FATES) + counts.get("unneeded", 0)  # type: ignore[literal-required]
        if fates != counts["collected"]:
            raise ResultsError(f"{where}: {counts['collected']} samples were collected, but {fates} are accounted for")
        if counts["collected"] + counts["deselected"] != counts["expected"]:
            raise ResultsError(f"{where}: collected and deselected do not add up to expected")
    for id_, metric in results["metrics"].items():
        if metric["scored"] + metric["unscored"] != metric["expected"]:
            raise ResultsError(f"{path}: {one_line(id_, 100)}: scored and unscored do not add up to expected")


def _check_references(results: Results, path: Path) -> None:
    """Refuse a trust score of metrics that the file does not have."""
    for dimension, score in results["scores"].items():
        for id_ in score["of"]:
            if id_ not in results["metrics"]:
                where = f"{path}: scores.{one_line(dimension, 60)}.of"
                raise ResultsError(f"{where}: there is no metric {one_line(repr(id_), 100)} in the file")


def samples_of(results: Results, path: Path) -> Iterator[SampleLine]:
    """Return the lines of the samples file that belongs to a results file; none if the run wrote none.

    Args:
        results: The results file.
        path: Where it was read from.

    Raises:
        ResultsError: While reading: the file is missing, a line is not one of a samples file, a sample is there twice,
            or a task has more samples than the run had.
    """
    name = results["samples"]
    if name is None:
        return iter(())
    return _lines(path.with_name(name), path, results)


def _lines(file: Path, path: Path, results: Results) -> Iterator[SampleLine]:
    seen: dict[tuple[str, str], str] = {}
    counts: Counter[str] = Counter()
    for where, value in json_lines(file, file, _unreadable(path)):
        try:
            line = checked(value, SampleLine)
        except Mismatch as e:
            raise ResultsError(f"{where}: not a line of a samples file: {e}") from None
        task = line["task"]
        first = seen.setdefault((task, line["id"]), where)
        if first is not where:
            name = one_line(f"{task}[{line['id']}]", 100)
            raise ResultsError(f"{where}: sample {name} is in the file twice; the first time in {first}")
        counts[task] += 1
        entry = results["coverage"].get(task)
        if entry is not None and counts[task] > entry["collected"]:
            collected = f"the run collected {entry['collected']}"
            raise ResultsError(f"{where}: {file.name} has more samples of {one_line(task, 100)} than {collected}")
        yield line


def _unreadable(path: Path) -> type[ResultsError]:
    """Return the class of errors about the samples file of a results file, whose messages name that one too."""

    class SamplesError(ResultsError):
        def __init__(self, message: str) -> None:
            file, _, problem = message.partition(": cannot be read: ")
            if problem:
                message = f"{path}: its samples file {file} cannot be read: {problem}"
            super().__init__(message)

    return SamplesError


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
