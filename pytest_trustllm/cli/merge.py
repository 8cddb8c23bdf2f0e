"""``pytest-trustllm merge``: the results of all shards of a run, joined and judged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.rejudging import add_judging, rejudge
from pytest_trustllm.errors import ResultsError, one_line


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "merge", help="join the results of all shards of a run and judge them", allow_abbrev=False
    )
    parser.add_argument(
        "results", metavar="SHARD.json", type=Path, nargs="+", help="what runs with --trust-shard=I/N wrote"
    )
    parser.add_argument("-o", "--output", metavar="OUT.json", type=Path, required=True, help="the joined results")
    add_judging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Join, judge, write; the exit status is that of the run in one piece."""
    from pytest_trustllm import merging
    from pytest_trustllm.results import write_document, write_whole
    from pytest_trustllm.saved import read_results

    if args.output.suffix != ".json":
        raise ResultsError(f"-o: expected a file name that ends in .json, found {args.output}")
    if args.output.resolve() in {path.resolve() for path in args.results}:
        raise ResultsError(f"-o: {args.output} is one of the shards")
    try:
        parts = [merging.read_part(path, read_results(path)) for path in args.results]
        merging.check(parts)
        samples = args.output.stem + ".samples.jsonl"
        results = merging.joined(parts, samples)
        order = merging.ordered(parts, list(results["coverage"]))
        records = [part.records[number] for part, number in order]
        found, status = rejudge(args, args.output, results, records)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ResultsError(f"merge: a file is not a complete results file: {type(e).__name__}: {one_line(e)}") from None
    write_whole(args.output.with_name(samples), merging.lines(order), "-o")
    write_document(args.output, found)
    say(f"results: {args.output}")
    return status
