"""``pytest-trustllm card``: a saved run as a section of a model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.errors import ResultsError, one_line


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("card", help="write a saved run as a section of a model card", allow_abbrev=False)
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument("-o", "--output", metavar="OUT.md", type=Path, help="the file (default: standard output)")
    parser.add_argument(
        "--check", metavar="CARD.md", type=Path, help="compare the numbers of a model card with the run instead"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the section, or write it; or check a card."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.card import section
    from pytest_trustllm.results.document import keep_apart
    from pytest_trustllm.results.files import read_results, run_files

    if args.check is not None:
        return _check(args)
    results = read_results(args.results)
    text = section(results)
    if args.output is None:
        say(text.removesuffix("\n"))
        return 0
    keep_apart([("-o", args.output)], run_files(results, args.results))
    write_whole(args.output, [text], "-o")
    say(f"card: {args.output}")
    return 0


def _check(args: argparse.Namespace) -> int:
    """Print what becomes of every claim; the status is 0 only if there are some and all of them are confirmed."""
    from pytest_trustllm.report.claims import verdicts
    from pytest_trustllm.results.files import read_results
    from pytest_trustllm.suites.model_card import read_card

    if args.output is not None:
        raise ResultsError("-o: --check prints and writes nothing; leave it out")
    found = verdicts(read_card(args.check, "--check"), read_results(args.results))
    outcomes = [verdict.outcome for verdict in found if verdict.outcome != "not claimed"]
    for verdict in found:
        say(f"{verdict.outcome:12}  {one_line(verdict.metric, 100)}: {verdict.text}")
    if not outcomes:
        say("nothing was checked: the card has no number of a metric")
    confirmed = outcomes.count("confirmed")
    return int(not outcomes or confirmed < len(outcomes))
