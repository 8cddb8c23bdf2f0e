"""``pytest-trustllm export`` and ``badge``: a saved run for other programs and for a README."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say

FORMATS = ("csv", "parquet", "inspect")


def add(commands: Any) -> None:
    """Declare the commands."""
    export = commands.add_parser(
        "export", help="write the samples of a saved run for other programs", allow_abbrev=False
    )
    export.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    export.add_argument("--format", choices=FORMATS, default="csv", help="default: csv")
    export.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="the file to write; for 'inspect', a directory"
    )
    export.set_defaults(run=run_export)

    badge = commands.add_parser("badge", help="write SVG badges of a saved run", allow_abbrev=False)
    badge.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    badge.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="the directory to write to")
    badge.set_defaults(run=run_badge)


def run_export(args: argparse.Namespace) -> int:
    """Write the table."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.export import inspect_log, table
    from pytest_trustllm.results.document import keep_apart
    from pytest_trustllm.results.files import read_results, samples_of

    results = read_results(args.results)
    inputs = [("the run", args.results)]
    if results["samples"] is not None:
        inputs.append(("the run", args.results.with_name(results["samples"])))
    keep_apart([("-o", args.output)], inputs)
    samples = samples_of(results, args.results)
    if args.format == "parquet":
        table.write_parquet(args.output, samples)
    elif args.format == "inspect":
        for name, log in inspect_log.logs(results, samples):
            write_whole(args.output / name, [log], "-o")
    else:
        write_whole(args.output, table.csv_lines(samples), "-o")
    say(f"{args.format}: {args.output}")
    return 0


def run_badge(args: argparse.Namespace) -> int:
    """Write the badges."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.export.badge import badges
    from pytest_trustllm.results.files import read_results

    results = read_results(args.results)
    for name, svg in badges(results).items():
        write_whole(args.output / name, [svg], "-o", public=True)
        say(f"badge: {args.output / name}")
    return 0
