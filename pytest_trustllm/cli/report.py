"""``pytest-trustllm report``: the HTML report of a saved run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
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


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ResultsError: It cannot be read, or is none.
    """
    from pytest_trustllm.results import SCHEMA

    try:
        found = json.loads(path.read_bytes())
    except OSError as e:
        raise ResultsError(f"{path}: cannot be read: {e.strerror or e}") from None
    except (ValueError, RecursionError) as e:
        raise ResultsError(f"{path}: not JSON: {one_line(e)}") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ResultsError(f"{path}: expected a results file with schema {SCHEMA}, found {one_line(repr(schema), 60)}")
    results: dict[str, Any] = found
    return results


def samples_of(results: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """Return the lines of the samples file beside a results file; none if the run wrote none.

    Raises:
        ResultsError: The name is not that of a file beside it. While reading: the file is missing or broken.
    """
    name = results.get("samples")
    if name is None:
        return iter(())
    if not isinstance(name, str) or Path(name).name != name:
        raise ResultsError(f"{path}: samples: expected the name of a file beside it, found {one_line(repr(name), 60)}")
    return _lines(path.with_name(name), path)


def _lines(file: Path, results: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except ValueError as e:
                    raise ResultsError(f"{file}:{number}: not JSON: {one_line(e)}") from None
    except OSError as e:
        raise ResultsError(f"{results}: its samples file {file} cannot be read: {e.strerror or e}") from None
