"""``pytest-trustllm report``: the HTML report of saved runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.suites import add_suites
from pytest_trustllm.errors import ResultsError, TrustLLMError
from pytest_trustllm.formats import DifferenceEntry, Results


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("report", help="write the HTML report of saved runs", allow_abbrev=False)
    parser.add_argument(
        "results",
        metavar="RESULTS.json",
        type=Path,
        nargs="+",
        help="what --trust-results wrote; of several, the last one is compared with those before it",
    )
    parser.add_argument("-o", "--output", metavar="OUT.html", type=Path, required=True, help="the report")
    parser.add_argument("--show-content", action="store_true", help="do not blur harmful answers and personal data")
    add_suites(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the report."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.page import html
    from pytest_trustllm.results.files import read_results, samples_of

    if args.output.suffix != ".html":
        raise ResultsError(f"-o: expected a file name that ends in .html, found {args.output}")
    runs = [(file, read_results(file)) for file in args.results]
    earlier_runs = runs[:-1]
    path, results = runs[-1]
    differences: Mapping[str, DifferenceEntry] = {}
    notes: list[str] = []
    if earlier_runs:
        first_path, first_results = earlier_runs[0]
        differences, notes = _differences(args, first_path, first_results, path, results)
    page_runs = [html.Run(document, samples_of(document, file)) for file, document in earlier_runs]
    page_runs.append(html.Run(results, samples_of(results, path), differences, notes))
    page = html.render(*page_runs, content=args.show_content)
    write_whole(args.output, [page], "-o")
    say(f"report: {args.output}")
    return 0


def _differences(
    args: argparse.Namespace, first: Path, earlier: Results, last: Path, results: Results
) -> tuple[Mapping[str, DifferenceEntry], list[str]]:
    """Return the differences between two runs over the samples that both have, and notes on why there are none."""
    from pytest_trustllm.cli.compare import measure_beside
    from pytest_trustllm.report.page import html

    saved = html.baseline_differences(results, earlier)
    if saved:
        return saved, []
    try:
        _, measured = measure_beside(args, first, last, results)
        return measured.differences(), []
    except TrustLLMError as e:
        return {}, [f"Differences over the shared samples are missing: {e}"]
