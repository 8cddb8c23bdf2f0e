"""``pytest-trustllm comment``: a saved run as a comment on a pull request."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.arguments import address
from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.suites import add_suites
from pytest_trustllm.formats import Results


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("comment", help="write a saved run as a comment on a pull request", allow_abbrev=False)
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument("--baseline", metavar="B.json", type=Path, help="results of an earlier run to compare with")
    parser.add_argument("-o", "--output", metavar="OUT.md", type=Path, help="the file (default: standard output)")
    parser.add_argument(
        "--marker", metavar="NAME", type=_marker, help="tells several comments on one request apart (default: trust)"
    )
    parser.add_argument("--url", metavar="URL", type=address, help="address of the whole report, such as the CI job's")
    parser.add_argument("--show-content", action="store_true", help="as --trust-show-content")
    add_suites(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the comment, or write it."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report import masking
    from pytest_trustllm.report.comment import MARKER, comment
    from pytest_trustllm.results.document import keep_apart
    from pytest_trustllm.results.files import read_results, run_files

    results = read_results(args.results)
    if args.baseline is not None:
        results = _compared(args, results)
    if not args.show_content:
        results = masking.concealed(results)
    text = comment(results, args.marker or MARKER, args.url)
    if args.output is None:
        say(text.removesuffix("\n"))
        return 0
    inputs = run_files(results, args.results)
    if args.baseline is not None:
        inputs += run_files(read_results(args.baseline), args.baseline, "--baseline")
    keep_apart([("-o", args.output)], inputs)
    write_whole(args.output, [text], "-o")
    say(f"comment: {args.output}")
    return 0


def _compared(args: argparse.Namespace, results: Results) -> Results:
    """Return the results with their comparison with the baseline, in place of the one that the run made."""
    from pytest_trustllm.cli.compare import measure_beside

    _, measured = measure_beside(args, args.baseline, args.results, results)
    return {**results, "baseline": measured.compared(results["run"])}


def _marker(text: str) -> str:
    from pytest_trustllm.report.comment import is_marker

    if not is_marker(text):
        raise argparse.ArgumentTypeError(f"expected a short name without '<', '>' and '--', found {text!r}")
    return text
