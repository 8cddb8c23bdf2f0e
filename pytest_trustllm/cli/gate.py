"""``pytest-trustllm gate``: the gates of a saved run, judged again without a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.rejudging import add_judging, rejudge
from pytest_trustllm.errors import ResultsError, one_line


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "gate", help="judge a saved run by threshold files, or propose some", allow_abbrev=False
    )
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument(
        "--propose", action="store_true", help="judge nothing; write threshold files that this run passes"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="where --propose writes (default: thresholds/)"
    )
    add_judging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge, or propose."""
    from pytest_trustllm.saved import read_results, records_of

    if args.output is not None and not args.propose:
        raise ResultsError("-o: only --propose writes files")
    results = read_results(args.results)
    try:
        if args.propose:
            from pytest_trustllm.cli.propose import propose

            return propose(results, args.output or Path("thresholds"), args.results)
        return rejudge(args, args.results, results, records_of(results, args.results))[1]
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ResultsError(f"{args.results}: not a complete results file: {type(e).__name__}: {one_line(e)}") from None
