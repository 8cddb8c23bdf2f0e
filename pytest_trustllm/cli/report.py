"""``pytest-trustllm report``: the HTML report of a saved run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.errors import ResultsError, one_line


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("report", help="write the HTML report of a saved run", allow_abbrev=False)
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument("-o", "--output", metavar="OUT.html", type=Path, required=True, help="the report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the report."""
    from pytest_trustllm.report import html
    from pytest_trustllm.results import write_whole
    from pytest_trustllm.saved import read_results, samples_of

    if args.output.suffix != ".html":
        raise ResultsError(f"-o: expected a file name that ends in .html, found {args.output}")
    results = read_results(args.results)
    try:
        page = html.render(results, samples_of(results, args.results))
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ResultsError(f"{args.results}: not a complete results file: {type(e).__name__}: {one_line(e)}") from None
    write_whole(args.output, [page], "-o")
    say(f"report: {args.output}")
    return 0
