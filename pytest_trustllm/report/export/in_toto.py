"""A run as an in-toto statement about a test result.

Statement v1 (https://in-toto.io/Statement/v1) with the predicate test-result v0.1
(https://in-toto.io/attestation/test-result/v0.1). The tests of the predicate are the gates. What the predicate has no
field for stands under two names of our own, as the framework's rules for extension fields ask.

A statement is not signed: ``cosign`` or a CI service signs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report import gate_verdicts
from pytest_trustllm.report.export.digests import DigestSet, model_digest, sha256_of_file

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
VALIDITY = "urn:pytest-trustllm:validity:1"
"""Extension field: from when until when the statement may be relied on."""
RUN = "urn:pytest-trustllm:run:1"
"""Extension field: which run it was, and what no gate judged."""
MODEL_PREFIX = "model:"
"""Begins the name of the subject that is the model; the other subjects are files."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """When a statement is valid.

    Attributes:
        not_before: With time zone.
        not_after: Likewise.
    """

    not_before: datetime
    not_after: datetime

    def entry(self) -> Json:
        """Return it as the statement holds it."""
        return {"notBefore": _time(self.not_before), "notAfter": _time(self.not_after)}


def started(results: Results) -> datetime:
    """Return when a run started: what it found is older than any statement about it.

    Raises:
        ResultsError: The results do not say it.
    """
    text = results["run"]["started"]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ResultsError(f"run.started: expected a time in ISO 8601, found {one_line(repr(text), 60)}") from None
    whole = moment.replace(microsecond=0)  # as a statement has it
    return whole.replace(tzinfo=UTC) if moment.tzinfo is None else whole


def window_of(results: Results, days: int) -> Window:
    """Return when a statement about a run is valid: for some days from the start of the run on, whenever it is written.

    Raises:
        ResultsError: The results do not say when the run started.
    """
    not_before = started(results)
    try:
        return Window(not_before, not_before + timedelta(days=days))
    except OverflowError:
        raise ResultsError(f"run.started: {days} days after {not_before.isoformat()} are beyond all dates") from None


def statement(results: Results, path: Path, window: Window, url: str | None = None) -> Json:
    """Return the statement about a run.

    Args:
        results: The results document.
        path: Its file; digests are those of this file and of the samples file beside it.
        window: When the statement is valid.
        url: Where the run can be looked at.

    Raises:
        ResultsError: A file cannot be read.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": _subjects(results, path),
        "predicateType": PREDICATE_TYPE,
        "predicate": _predicate(results, window, url),
    }


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _subjects(results: Results, path: Path) -> list[Json]:
    model = results["run"]["model"]
    subjects = [
        _resource(f"{MODEL_PREFIX}{model['name']}", model_digest(model)),
        _resource(path.name, {"sha256": sha256_of_file(path)}),
    ]
    if results["samples"] is not None:
        samples = path.with_name(results["samples"])
        subjects.append(_resource(samples.name, {"sha256": sha256_of_file(samples)}))
    return subjects


def _resource(name: str, digest: DigestSet, **annotations: str) -> Json:
    """Return a ResourceDescriptor."""
    descriptor: Json = {"name": name, "digest": digest}
    if annotations:
        descriptor["annotations"] = annotations
    return descriptor


def _predicate(results: Results, window: Window, url: str | None) -> Json:
    names = _names_by_tone(results)
    broken = _broken_tasks(results)
    failed = [*names["bad"], *broken]
    predicate: Json = {
        "result": _result(names, failed),
        "configuration": _configuration(results),
        "passedTests": names["good"],
        "warnedTests": names["warn"],
        "failedTests": failed,
        VALIDITY: window.entry(),
        RUN: _run(results, names["quiet"]),
    }
    if url is not None:
        predicate["url"] = url
    return predicate


def _names_by_tone(results: Results) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {"good": [], "warn": [], "bad": [], "quiet": []}
    for gate in results["gates"]:
        names[gate_verdicts.tone_of(gate)].append(gate["id"])
    return names


def _result(names: Mapping[str, Sequence[str]], failed: Sequence[str]) -> str:
    """Return the result of the run. It passes only if every gate was judged and met: what was not judged is no pass."""
    if failed:
        return "FAILED"
    if names["warn"] or names["quiet"] or not names["good"]:
        return "WARNED"
    return "PASSED"


def _broken_tasks(results: Results) -> list[str]:
    """Return the tasks with samples that raised an error or never ran: the run itself failed, whatever its gates."""
    return [task for task, entry in results["coverage"].items() if entry["errored"] or entry["lost"]]


def _configuration(results: Results) -> list[Json]:
    run = results["run"]
    descriptors = []
    for file, sha256 in run["data"]["files"].items():
        descriptors.append(_resource(file, {"sha256": sha256}, role="data"))
    for file, sha256 in run.get("thresholds", {}).items():
        descriptors.append(_resource(file, {"sha256": sha256}, role="thresholds"))
    for role, model in run["roles"].items():
        descriptors.append(_resource(model["name"], model_digest(model), role=role))
    return descriptors


def _run(results: Results, skipped: Sequence[str]) -> Json:
    run = results["run"]
    unjudged = results.get("unjudged")
    return {
        "id": run["id"],
        "started": run["started"],
        "selection": run["selection"],
        "data": run["data"]["source"],
        "seed": run["seed"],
        "epochs": run["epochs"],
        "pluginVersion": run["plugin_version"],
        "commit": run.get("commit"),
        "skippedTests": list(skipped),
        "tasksWithoutGate": [] if unjudged is None else unjudged["tasks"],
    }
