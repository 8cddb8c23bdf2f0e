"""``--trust-audit``: what is known of a saved run, as the rows of the suites that are about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_trustllm.config import paths
from pytest_trustllm.errors import ResultsError, TrustLLMError, one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report import claims
from pytest_trustllm.report.export import verifying
from pytest_trustllm.report.export.digests import sha256_of_file
from pytest_trustllm.report.export.signatures import PublicKey
from pytest_trustllm.report.export.verifying import Statement
from pytest_trustllm.results.accountability import traces_of
from pytest_trustllm.results.files import is_results, read_results
from pytest_trustllm.results.recomputation import check_tasks, recomputed
from pytest_trustllm.results.repetition import repetitions
from pytest_trustllm.suites.audited import AuditedRun, AuditKind
from pytest_trustllm.suites.model_card import ModelCard
from pytest_trustllm.suites.task import Suite

_FLAG = "--trust-audit"
_UNCHECKED = "was not checked; give its public key with --trust-audit-key"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Saved:
    """A saved run.

    Attributes:
        path: The results file.
        results: What it says.
        statement: The statement about it, and its file; None: the results file itself was given.
        key: Who is to have signed the statement; None: that is not known.
    """

    path: Path
    results: Results
    statement: tuple[Path, Statement] | None
    key: PublicKey | None


def audited_run(
    given: Path,
    suites: Sequence[Suite],
    *,
    root: Path,
    models: Sequence[str],
    key: Path | None,
    repeat: int,
    seed: int,
    card: ModelCard | None,
) -> AuditedRun:
    """Find out what is known of a saved run.

    Args:
        given: Results file, or statement about one.
        suites: All suites that are there now.
        root: The project.
        models: The models under test, by the names that the user gave.
        key: Public key of who is to have signed the statement.
        repeat: How many of its samples are to be asked again.
        seed: Draws them.
        card: The model's card, whose claims are compared.

    Raises:
        ResultsError: A file cannot be read, or the run is of another model.
    """
    saved = _read(given, None if key is None else PublicKey(key, "--trust-audit-key"))
    _check_model(saved, models)
    rows: dict[AuditKind, list[Row]] = {
        "provenance": [_row(trace.name, trace.ok, trace.text) for trace in traces_of(saved.results)],
        "recomputation": list(_recomputation_rows(saved, suites, root)),
        "signature": list(_signature_rows(saved)),
        "replay": _repetition_rows(saved, repeat, seed),
        "claims": [] if card is None else list(_claim_rows(card, saved.results)),
    }
    return {
        "file": paths.shown(saved.path, root),
        "sha256": sha256_of_file(saved.path),
        "run": saved.results["run"]["id"],
        "rows": rows,
    }


def _read(given: Path, key: PublicKey | None) -> _Saved:
    try:
        if is_results(given):
            return _Saved(given, read_results(given), None, key)
        statement = verifying.read_statement(given)
    except ResultsError as e:
        raise ResultsError(f"{_FLAG}: {e}") from None
    path = verifying.results_of(given, statement)
    if path is None:
        raise ResultsError(f"{_FLAG}: {given} names no results file that is beside it")
    try:
        return _Saved(path, read_results(path), (given, statement), key)
    except ResultsError as e:
        raise ResultsError(f"{_FLAG}: {given}: {e}") from None


def _check_model(saved: _Saved, models: Sequence[str]) -> None:
    """Refuse to ask another model than that of the run."""
    model = saved.results["run"]["model"]
    names = [model["name"], model.get("label", model["name"])]
    for name in models:
        if name not in names:
            raise ResultsError(
                f"{_FLAG}: {saved.path} is a run of {one_line(names[0], 60)!r}; give it as --trust-model, not {name!r}"
            )


def _row(title: str, holds: bool | None, found: str, **more: object) -> Row:
    # names of roles, tasks and metrics are those of a file that anybody may have written
    return {"title": one_line(title, 100), "holds": holds, "found": one_line(found, 1000), **more}


def _recomputation_rows(saved: _Saved, suites: Sequence[Suite], root: Path) -> Iterator[Row]:
    """Yield a row for every task of the run, one for its trust scores and one for its gates.

    One row if nothing can be computed.
    """
    results = saved.results
    try:
        check_tasks(saved.path, results, suites, "name its directory or package in the ini key trust_suites")
        again = recomputed(results, saved.path, suites, root)
    except TrustLLMError as e:
        yield _row("metrics", None, f"not possible: {e}")
        return
    for task, (ids, differing) in again.metrics.items():
        if differing:
            shown = one_line(", ".join(differing), 300)
            yield _row(task, False, f"{len(differing)} of {len(ids)} metrics differ: {shown}")
        else:
            yield _row(task, True, f"{len(ids)} metrics are the same to the last digit")
    if again.scores:
        yield _row("trust scores", False, f"differ: {one_line(', '.join(again.scores), 300)}")
    elif results["scores"]:
        yield _row("trust scores", True, f"{len(results['scores'])} are the same to the last digit")
    yield _row("scores", not again.scoring.wrong, f"scores {again.scoring.text()}")
    if again.gates.ids:
        yield _row("gates", not again.gates.wrong, again.gates.text())


def _signature_rows(saved: _Saved) -> Iterator[Row]:
    """Yield a row for everything that a statement says, and one for its signature."""
    if saved.statement is None:  # nothing is known, so the gate says 'no data'
        return
    path, statement = saved.statement
    try:
        for finding in verifying.findings(path, statement, None, datetime.now(UTC)):
            # files are beside the statement: their directory says nothing, and differs from machine to machine
            yield _row("statement", finding.ok, finding.text.replace(f"{path.parent}{os.sep}", ""))
    except ResultsError as e:
        yield _row("statement", False, str(e))
    signature = statement.signature(saved.key)
    if signature is None:
        yield _row("signature", None, f"signature: {_UNCHECKED}")
    else:
        yield _row("signature", signature.ok, signature.text)


def _repetition_rows(saved: _Saved, repeat: int, seed: int) -> list[Row]:
    try:
        return repetitions(saved.results, saved.path, repeat, seed)
    except ResultsError:  # without samples there is nothing to ask; what is wrong stands among the recomputations
        return []


_HOLDS: Mapping[claims.Outcome, bool | None] = {"confirmed": True, "contradicted": False}


def _claim_rows(card: ModelCard, results: Results) -> Iterator[Row]:
    """Yield a row for every number on the card, and for every headline metric that it is silent about."""
    for verdict in claims.verdicts(card, results):
        found = f"{verdict.outcome}: {verdict.text}"
        applies = verdict.outcome != "not claimed"
        yield _row(verdict.metric, _HOLDS.get(verdict.outcome), found, applies=applies)
