"""``pytest-trustllm verify``: an in-toto statement against the files that it is about."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say

_MARKS = {True: "ok", False: "NO"}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "verify", help="check an in-toto statement against the results that it is about", allow_abbrev=False
    )
    parser.add_argument(
        "statement",
        metavar="STATEMENT.json",
        type=Path,
        help="what export --format in-toto wrote, or its envelope",
    )
    parser.add_argument(
        "results",
        metavar="RESULTS.json",
        type=Path,
        nargs="?",
        help="the results file (default: the one that the statement names, in the same directory)",
    )
    parser.add_argument("--at", metavar="TIME", type=_moment, help="be valid at this time in ISO 8601 (default: now)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was checked; the status is 1 unless everything is as the statement says."""
    from pytest_trustllm.report.export import verifying

    statement = verifying.read_statement(args.statement)
    now = args.at or datetime.now(UTC)
    refused = 0
    for finding in verifying.findings(args.statement, statement, args.results, now):
        say(f"{_MARKS[finding.ok]}  {finding.text}")
        refused += not finding.ok
    if statement.signed:
        say("--  signature: not checked; use 'cosign verify-blob-attestation' or 'gh attestation verify'")
    else:
        say("--  signature: the statement is not signed")
    result = statement.body["predicate"].get("result")
    if refused:
        say(f"refused: {refused} of the checks failed")
        return 1
    say(f"verified: the run's result is {result}")
    return 0


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-01-31T12:00:00+00:00, found {text!r}") from None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment
