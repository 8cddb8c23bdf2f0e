"""``pytest-trustllm card``: a saved run as a section of a model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("card", help="write a saved run as a section of a model card", allow_abbrev=False)
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument("-o", "--output", metavar="OUT.md", type=Path, help="the file (default: standard output)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the section, or write it."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.card import section
    from pytest_trustllm.results.document import keep_apart
    from pytest_trustllm.results.files import read_results

    text = section(read_results(args.results))
    if args.output is None:
        say(text.removesuffix("\n"))
        return 0
    keep_apart([("-o", args.output)], [("the run", args.results)])
    write_whole(args.output, [text], "-o")
    say(f"card: {args.output}")
    return 0
