"""``pytest-trustllm merge``: the results of all shards of a run, joined and judged."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.rejudging import add_judging, rejudge
from pytest_trustllm.errors import ResultsError

if TYPE_CHECKING:
    from pytest_trustllm.results.document import NamedFile
    from pytest_trustllm.results.merge import ShardResults


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "merge", help="join the results of all shards of a run and judge them", allow_abbrev=False
    )
    parser.add_argument(
        "results", metavar="SHARD.json", type=Path, nargs="+", help="what runs with --trust-shard=I/N wrote"
    )
    parser.add_argument("-o", "--output", metavar="OUT.json", type=Path, required=True, help="the joined results")
    parser.add_argument("--history", metavar="DIR|FILE.sqlite", type=Path, help="add the joined run to a history")
    add_judging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Join, judge and write the shards; the exit status is that of the run in one piece."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report import masking
    from pytest_trustllm.results import history, merge
    from pytest_trustllm.results.document import keep_apart, write_document
    from pytest_trustllm.results.files import read_results, samples_of

    if args.output.suffix != ".json":
        raise ResultsError(f"-o: expected a file name that ends in .json, found {args.output}")
    samples = args.output.with_name(f"{args.output.stem}.samples.jsonl")
    if args.history is not None:
        history.check_writable(args.history, "--history")
    shards = [merge.read_shard(path, read_results(path)) for path in args.results]
    keep_apart([("-o", args.output), ("-o", samples)], _inputs(args, shards))
    merge.check_shards(shards)
    results = merge.join_shards(shards, samples.name)
    order = merge.order_samples(shards, list(results["coverage"]))
    records = [shard.records[number] for shard, number in order]
    texts = chain.from_iterable(samples_of(shard.results, shard.path) for shard in shards)
    rejudged, status = rejudge(args, args.output, results, records, texts)
    write_whole(samples, merge.joined_lines(order), "-o")
    write_document(args.output, rejudged)
    if args.history is not None:
        history.append(args.history, history.entry_of(masking.concealed(rejudged), records), "--history")
    say(f"results: {args.output}")
    return status


def _inputs(args: argparse.Namespace, shards: Sequence[ShardResults]) -> list[NamedFile]:
    """Return the files that a merge reads and must not overwrite."""
    inputs: list[NamedFile] = []
    for shard in shards:
        inputs.append(("a shard", shard.path))
    for shard in shards:
        inputs.append(("a shard", shard.samples))
    if args.baseline is not None:
        inputs.append(("--baseline", args.baseline))
    return inputs
