"""``pytest-trustllm verify``: an in-toto statement against its files, or a results file against its samples."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.suites import add_suites, suites_of
from pytest_trustllm.errors import ResultsError, TrustLLMError, one_line
from pytest_trustllm.formats import Results

if TYPE_CHECKING:
    from pytest_trustllm.results.accountability import Trace

_MARKS = {True: "ok", False: "NO"}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "verify", help="check an in-toto statement, or that the numbers of a run can be traced", allow_abbrev=False
    )
    parser.add_argument(
        "statement",
        metavar="STATEMENT.json|RESULTS.json",
        type=Path,
        help="what export --format in-toto wrote, or its envelope; or what --trust-results wrote",
    )
    parser.add_argument(
        "results",
        metavar="RESULTS.json",
        type=Path,
        nargs="?",
        help="the results file (default: the one that the statement names, in the same directory)",
    )
    parser.add_argument("--at", metavar="TIME", type=_moment, help="be valid at this time in ISO 8601 (default: now)")
    parser.add_argument("--key", metavar="PEM", type=Path, help="the statement must be signed by this public key")
    parser.add_argument(
        "--thresholds",
        metavar="PATH",
        type=Path,
        help="threshold file or directory of the run (default: where the run found them)",
    )
    add_suites(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was checked; the status is 1 unless everything is as the statement says."""
    from pytest_trustllm.report.export import verifying
    from pytest_trustllm.report.export.signatures import PublicKey
    from pytest_trustllm.results.files import is_results

    if args.results is None and is_results(args.statement):
        if args.key is not None:
            raise ResultsError(f"--key: {args.statement} is a results file; give the signed statement about it")
        return _verify_run(args)
    key = None if args.key is None else PublicKey(args.key, "--key")
    statement = verifying.read_statement(args.statement)
    now = args.at or datetime.now(UTC)
    refused = 0
    for finding in verifying.findings(args.statement, statement, args.results, now):
        say(f"{_MARKS[finding.ok]}  {finding.text}")
        refused += not finding.ok
    verdicts = verifying.verdicts(args.statement, statement, args.results)
    if verdicts is not None:
        say(f"{_MARKS[verdicts.ok]}  {verdicts.text}")
        refused += not verdicts.ok
    signature = statement.signature(key)
    if signature is None:
        say(
            "--  signature: not checked; give --key, or use 'cosign verify-blob-attestation' or 'gh attestation verify'"
        )
    else:
        say(f"{'--' if key is None else _MARKS[signature.ok]}  {signature.text}")
        refused += key is not None and not signature.ok
    result = statement.body["predicate"].get("result")
    if refused:
        say(f"refused: {refused} of the checks failed")
        return 1
    say(f"verified: the run's result is {result}")
    return 0


def _verify_run(args: argparse.Namespace) -> int:
    """Print whether the numbers of a run can be traced and computed again; the status is 1 unless all can."""
    from pytest_trustllm.results.accountability import traces_of
    from pytest_trustllm.results.files import read_results

    results = read_results(args.statement)
    missing = 0
    for trace in [*traces_of(results), *_recomputed(args, results)]:
        say(f"{_MARKS[trace.ok]}  {trace.name}: {trace.text}")
        missing += not trace.ok
    if missing:
        say(f"not accountable: {missing} of the checks failed")
        return 1
    say("accountable: every number can be traced and computed again")
    return 0


def _recomputed(args: argparse.Namespace, results: Results) -> Iterator[Trace]:
    """Compute all metrics from the samples file, judge the gates, and compare both with the results file."""
    from pytest_trustllm.results.accountability import Trace
    from pytest_trustllm.results.recomputation import recomputed

    name = "computed again"
    thresholds = None if args.thresholds is None else Path.cwd() / args.thresholds
    try:
        suites = suites_of(args, [(args.statement, results)])
        again = recomputed(results, args.statement, suites, Path.cwd(), thresholds=thresholds)
    except TrustLLMError as e:
        yield Trace(name, False, f"not possible: {e}")
        return
    differing = again.differing
    if differing:
        yield Trace(name, False, f"{len(differing)} metrics differ: {one_line(', '.join(differing), 300)}")
    else:
        yield Trace(name, True, f"{again.count} metrics from {again.samples} samples, to the last digit")
    yield Trace("scores", not again.scoring.wrong, again.scoring.text())
    yield Trace("gates", not again.gates.wrong, again.gates.text())


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-01-31T12:00:00+00:00, found {text!r}") from None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment
