"""``pytest-trustllm report``: the HTML report of saved runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.errors import ResultsError, one_line


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("report", help="write the HTML report of saved runs", allow_abbrev=False)
    parser.add_argument(
        "results",
        metavar="RESULTS.json",
        type=Path,
        nargs="+",
        help="what --trust-results wrote; of several, the last one is laid beside those before it",
    )
    parser.add_argument("-o", "--output", metavar="OUT.html", type=Path, required=True, help="the report")
    parser.add_argument("--show-content", action="store_true", help="do not blur harmful answers and personal data")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the report."""
    from pytest_trustllm.report import html
    from pytest_trustllm.results import write_whole
    from pytest_trustllm.saved import read_results, samples_of

    if args.output.suffix != ".html":
        raise ResultsError(f"-o: expected a file name that ends in .html, found {args.output}")
    runs = [(path, read_results(path)) for path in args.results]
    sides = [html.Run(results, samples_of(results, path)) for path, results in runs]
    with readable(", ".join(str(path) for path, _ in runs)):
        page = html.render(*sides, content=args.show_content)
    write_whole(args.output, [page], "-o")
    say(f"report: {args.output}")
    return 0


@contextmanager
def readable(name: object) -> Iterator[None]:
    """Tell in one line that a file with the right schema is not what it should be."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as e:
        raise ResultsError(f"{name}: not a complete results file: {type(e).__name__}: {one_line(e)}") from None
