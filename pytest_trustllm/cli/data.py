"""``pytest-trustllm data``: download, locate and verify TrustLLM's complete data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import seconds
from pytest_trustllm.cli.output import complain, say, table, wrapped
from pytest_trustllm.errors import SuiteError

if TYPE_CHECKING:
    from pytest_trustllm.suites.full_data import PublishedData


def add(commands: Any) -> None:
    """Declare the commands."""
    parser = commands.add_parser("data", help="download, locate and verify TrustLLM's complete data set")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    fetch = actions.add_parser("fetch", help="download the data set for --trust-data=full", allow_abbrev=False)
    fetch.add_argument(
        "--to", metavar="DIR", type=Path, help="target directory (default: $TRUSTLLM_DATA, else the user's cache)"
    )
    fetch.add_argument("--url", metavar="URL", help="address of a mirror; its file must pass the same checks")
    fetch.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=30.0, help="give up after so long without a byte (30)"
    )
    fetch.set_defaults(run=run_fetch)

    path = actions.add_parser("path", help="print where the downloaded data set is", allow_abbrev=False)
    path.set_defaults(run=run_path)

    verify = actions.add_parser("verify", help="compare a copy with the published files", allow_abbrev=False)
    verify.add_argument(
        "path", metavar="PATH", type=Path, nargs="?", help="directory or zip (default: the downloaded one)"
    )
    verify.set_defaults(run=run_verify)


def run_fetch(args: argparse.Namespace) -> int:
    """Download the data set, and print what upstream states about licences."""
    from pytest_trustllm.suites import full_data

    published = full_data.published_data()
    directory = full_data.home() if args.to is None else args.to
    try:
        is_new = full_data.fetch(directory, args.url, timeout=args.timeout)
    except SuiteError as e:
        complain(str(e))
        return 1
    path = directory / full_data.NAME
    outcome = "fetched" if is_new else "already there"
    # 'full' finds the file in its default place alone
    option = "full" if directory == full_data.home() else path
    say(f"{outcome}: {path}")
    say(f"{published.size} bytes, SHA-256 {published.sha256}")
    say(f"{len(published.files)} files, {published.rows} rows; {published.repository} at {published.commit}")
    say(f"use it with --trust-data={option}")
    say()
    say(_licences(published))
    return 0


def _licences(published: PublishedData) -> str:
    none = "upstream states no licence for this data set; see its source"
    rows = [("data set", "origin", "licence")]
    rows += [(data_set.name, data_set.origin, none) for data_set in published.sets]
    head = (
        f"Licences, as stated by {published.repository}: its code is under the MIT licence; for the data no licence is "
        "stated. Its README lists which sets are prior work:"
    )
    return f"{wrapped(head)}\n\n{table(rows, (22, 14, 62))}"


def run_path(args: argparse.Namespace) -> int:
    """Print the path of the data, or that there is none."""
    from pytest_trustllm.suites import full_data

    try:
        say(str(full_data.downloaded_zip()))
    except SuiteError as e:
        complain(str(e))
        return 1
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Print the differences."""
    from pytest_trustllm.suites import full_data

    published = full_data.published_data()
    path = args.path
    if path is None:
        path = full_data.home() / full_data.NAME
        if not path.exists():
            return run_path(args)
    verification = full_data.verify(path)
    for problem in verification.problems:
        say(problem)
    summary = (
        f"{verification.files} of {len(published.files)} files as published "
        f"({verification.rows} of {published.rows} rows)"
    )
    if verification.problems:
        say(f"{path}: not the published data: {summary}")
        return 1
    exact = "; the very zip that was published" if full_data.is_published(path) else ""
    say(f"{path}: {summary}{exact}")
    return 0
