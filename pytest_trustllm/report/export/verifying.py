"""Check an in-toto statement about a run against the files that it is about."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_trustllm.config.paths import is_file
from pytest_trustllm.config.reading import parse_json, read_json
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.report.export import in_toto
from pytest_trustllm.report.export.digests import sha256_of_file
from pytest_trustllm.report.export.signatures import PublicKey
from pytest_trustllm.results.files import read_results
from pytest_trustllm.results.gate_entries import contradiction, unchecked_because

_ENVELOPE = "application/vnd.in-toto+json"
"""Payload type of a signed statement (DSSE)."""
_RESULTS_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        ok: Whether it is as the statement says.
        text: One line.
    """

    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as read.

    Attributes:
        body: The statement.
        envelope: What it came in, with signatures; None: it came alone, and nobody signed it.
    """

    body: dict[str, Any]
    envelope: dict[str, Any] | None

    @property
    def signed(self) -> bool:
        """Whether somebody signed it, or claims to have."""
        return self.envelope is not None and bool(self.envelope.get("signatures"))

    def signature(self, key: PublicKey | None) -> Finding | None:
        """Return whether it is signed by a key; None if that cannot be told without one."""
        if self.envelope is None or not self.signed:
            return Finding(False, "signature: the statement is not signed")
        if key is None:
            return None
        if key.signed(self.envelope):
            return Finding(True, f"signature: by the key with SHA-256 {key.sha256}")
        return Finding(False, f"signature: none is by the key with SHA-256 {key.sha256}")


def read_statement(path: Path) -> Statement:
    """Read a statement, or a signed envelope around one.

    Raises:
        ResultsError: It cannot be read, or is of another type.
    """
    document = read_json(path, path, ResultsError)
    envelope = document if isinstance(document, dict) and "payload" in document else None
    if envelope is not None:
        document = _payload(path, envelope)
    if not isinstance(document, dict):
        raise ResultsError(f"{path}: expected an in-toto statement, found {one_line(repr(document), 60)}")
    for key, expected in (("_type", in_toto.STATEMENT_TYPE), ("predicateType", in_toto.PREDICATE_TYPE)):
        if document.get(key) != expected:
            raise ResultsError(f"{path}: {key}: expected {expected}, found {one_line(repr(document.get(key)), 80)}")
    problem = _shape_problem(document)
    if problem is not None:
        raise ResultsError(f"{path}: not a statement of 'pytest-trustllm export --format in-toto': {problem}")
    return Statement(document, envelope)


def _payload(path: Path, envelope: dict[str, Any]) -> Any:
    if envelope.get("payloadType") != _ENVELOPE:
        found = one_line(repr(envelope.get("payloadType")), 80)
        raise ResultsError(f"{path}: payloadType: expected {_ENVELOPE}, found {found}")
    try:
        text = base64.b64decode(str(envelope["payload"]), validate=True).decode()
    except ValueError as e:  # no base64, or no UTF-8
        raise ResultsError(f"{path}: payload: not JSON in base64: {one_line(e, 100)}") from None
    return parse_json(text, f"{path}: payload", ResultsError)


def _shape_problem(document: dict[str, Any]) -> str | None:
    """Return what is missing of the parts that are read here; None if nothing is."""
    subjects = document.get("subject")
    if not isinstance(subjects, list) or not subjects:
        return "'subject' is missing or empty"
    for subject in subjects:
        if not isinstance(subject, dict) or not isinstance(subject.get("name"), str):
            return "a subject has no name"
        digest = subject.get("digest")
        if not isinstance(digest, dict) or not isinstance(digest.get("sha256"), str):
            return f"subject {one_line(subject['name'], 80)!r} has no SHA-256"
    predicate = document.get("predicate")
    if not isinstance(predicate, dict):
        return "'predicate' is missing"
    window = predicate.get(in_toto.VALIDITY)
    if not isinstance(window, dict) or not {"notBefore", "notAfter"} <= window.keys():
        return f"the validity window ({in_toto.VALIDITY}) is missing"
    if not isinstance(predicate.get("configuration", []), list):
        return "'configuration' is not a list"
    return None


def results_of(path: Path, statement: Statement) -> Path | None:
    """Return the results file that a statement names, beside it; None if it names none."""
    for subject in statement.body["subject"]:
        name = subject["name"]
        if name.endswith(_RESULTS_SUFFIX) and Path(name).name == name and not name.startswith(in_toto.MODEL_PREFIX):
            return path.with_name(name)
    return None


def findings(path: Path, statement: Statement, results: Path | None, now: datetime) -> Iterator[Finding]:
    """Yield everything that is checked about a statement.

    Args:
        path: The statement's file.
        statement: What :func:`read_statement` returned.
        results: The results file; None: the one that the statement names, beside it. Other files are beside it too.
        now: The moment at which it should be valid; with time zone.

    Raises:
        ResultsError: A window that is not two moments, or a file that cannot be read.
    """
    yield _in_window(path, statement.body, now)
    directory = path.parent if results is None else results.parent
    results_file: Path | None = None
    are_there = True
    for subject in statement.body["subject"]:
        name = subject["name"]
        if name.startswith(in_toto.MODEL_PREFIX):
            continue
        is_results = name.endswith(_RESULTS_SUFFIX)
        finding = _file(subject, directory, results if is_results else None)
        yield finding
        are_there = are_there and finding.ok
        if is_results:
            results_file = results or directory / name
    if results_file is None or not are_there:
        yield Finding(False, "predicate: not compared with results: the files of the statement are not all there")
    else:
        yield from _contents(statement.body, results_file)
    yield from _configuration(statement.body)


def verdicts(path: Path, statement: Statement, results: Path | None) -> Finding | None:
    """Return whether the verdicts of the results file follow from its own numbers; None if it is not there.

    Whether the numbers follow from the samples, ``verify`` of the results file says.
    """
    file = results or results_of(path, statement)
    if file is None or not is_file(file):
        return None
    document = read_results(file)
    wrong = {}
    for entry in document["gates"]:
        why = contradiction(entry, document)
        if why is not None:
            wrong[entry["id"]] = why
    if wrong:
        id_, why = next(iter(wrong.items()))
        count = f"{len(wrong)} of {len(document['gates'])} verdicts"
        return Finding(False, f"gates: {count} contradict the numbers, such as {one_line(id_, 100)}: {why}")
    # what a drop is compared with is in another file
    unchecked = sum(
        entry["kind"] == "max_drop" or unchecked_because(entry, document) is not None for entry in document["gates"]
    )
    text = f"gates: {len(document['gates']) - unchecked} verdicts follow from the numbers of the results file"
    return Finding(True, text + (f", {unchecked} not checked" if unchecked else ""))


def _in_window(path: Path, body: dict[str, Any], now: datetime) -> Finding:
    window = _window(path, body)
    shown = f"{window.not_before.isoformat()} to {window.not_after.isoformat()}"
    if now < window.not_before:
        return Finding(False, f"validity: {shown}; it is not valid yet")
    if now > window.not_after:
        return Finding(False, f"validity: {shown}; it has expired")
    return Finding(True, f"validity: {shown}")


def _window(path: Path, body: dict[str, Any]) -> in_toto.Window:
    entry = body["predicate"][in_toto.VALIDITY]
    moments = []
    for key in ("notBefore", "notAfter"):
        try:
            moment = datetime.fromisoformat(entry[key])
        except (TypeError, ValueError):
            moment = None
        if moment is None or moment.tzinfo is None:
            found = one_line(repr(entry[key]), 60)
            raise ResultsError(f"{path}: {key}: expected a time with its zone, as in ISO 8601, found {found}")
        moments.append(moment)
    return in_toto.Window(*moments)


def _file(subject: dict[str, Any], directory: Path, path: Path | None) -> Finding:
    """Check the digest of a file.

    Args:
        subject: The statement's entry about it.
        directory: Where it is if ``path`` is None; its name must not lead out of there.
        path: The file.
    """
    name = one_line(subject["name"], 200)
    if path is None:
        if Path(subject["name"]).name != subject["name"]:
            return Finding(False, f"{name}: expected the name of a file in {directory}")
        path = directory / subject["name"]
    if not is_file(path):
        return Finding(False, f"{path}: there is no such file")
    found = sha256_of_file(path)
    expected = subject["digest"]["sha256"]
    if found != expected:
        return Finding(False, f"{path}: SHA-256 {found}, but the statement is about {one_line(expected, 64)}")
    return Finding(True, f"{path}: SHA-256 {found}")


def _contents(body: dict[str, Any], results_file: Path) -> Iterator[Finding]:
    """Check that the statement says what the results say: it is made again from them and compared."""
    predicate = body["predicate"]
    results = read_results(results_file)
    window = _window(results_file, body)
    again = in_toto.statement(results, results_file, window, predicate.get("url"))
    if window.not_before == in_toto.started(results):
        yield Finding(True, "validity: from the start of the run on")
    else:
        began = in_toto.started(results).isoformat()
        yield Finding(False, f"validity: it does not begin with the run, which started at {began}")
    if _digests(body) == _digests(again):
        yield Finding(True, "subject: the model and the files of the results")
    else:
        yield Finding(False, "subject: other digests than those of the model and the files of the results")
    expected = again["predicate"]
    differing = [key for key in {**expected, **predicate} if predicate.get(key) != expected.get(key)]
    if differing:
        yield Finding(False, f"predicate: differs from the results: {one_line(', '.join(differing))}")
    else:
        yield Finding(True, "predicate: what the results say")


def _digests(body: dict[str, Any]) -> list[str]:
    """Return the digests of the subjects; files may have been renamed since."""
    return sorted(json.dumps(subject["digest"], sort_keys=True) for subject in body["subject"])


def _configuration(body: dict[str, Any]) -> Iterator[Finding]:
    """Check threshold files and data that lie here under the names that the statement has."""
    elsewhere = 0
    for entry in body["predicate"].get("configuration", ()):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            yield Finding(False, "configuration: an entry has no name")
            continue
        digest = entry.get("digest")
        path = Path(entry["name"])
        is_here = not path.is_absolute() and ".." not in path.parts and is_file(path)
        if not is_here or not isinstance(digest, dict):
            elsewhere += 1
            continue
        name = one_line(entry["name"], 200)
        if sha256_of_file(path) == digest.get("sha256"):
            yield Finding(True, f"{name}: as at the time of the run")
        else:
            yield Finding(False, f"{name}: has changed since the run")
    if elsewhere:
        yield Finding(
            True, f"{elsewhere} further digests of data, thresholds and models: compared with the results only"
        )
