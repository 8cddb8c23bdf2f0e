"""``pytest-trustllm gate``: the gates of a saved run, judged again without a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.rejudging import add_judging, rejudge
from pytest_trustllm.errors import ResultsError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "gate", help="judge a saved run by threshold files, or propose some", allow_abbrev=False
    )
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument(
        "--propose", action="store_true", help="judge nothing, but write threshold files that this run passes"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="the directory that --propose writes to (default: thresholds/)"
    )
    add_judging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge, or propose."""
    from pytest_trustllm.results.files import read_results, records_of, samples_of

    if args.output is not None and not args.propose:
        raise ResultsError("-o: only --propose writes files")
    results = read_results(args.results)
    if args.propose:
        from pytest_trustllm.cli.propose import propose

        return propose(results, args.output or Path("thresholds"), args.results)
    records = records_of(results, args.results)
    rejudged, status = rejudge(args, args.results, results, records, samples_of(results, args.results))
    if not rejudged["gates"]:
        raise ResultsError("gate: no gate is about this run; name its threshold files with --thresholds")
    return status
