"""``pytest-trustllm data``: get, find and check TrustLLM's whole data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import seconds
from pytest_trustllm.cli.output import complain, say, table, wrapped
from pytest_trustllm.errors import SuiteError

if TYPE_CHECKING:
    from pytest_trustllm.fulldata import Published


def add(commands: Any) -> None:
    """Declare the commands."""
    parser = commands.add_parser("data", help="get, find and check TrustLLM's whole data set")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    fetch = actions.add_parser("fetch", help="download the data set for --trust-data=full", allow_abbrev=False)
    fetch.add_argument(
        "--to", metavar="DIR", type=Path, help="where to (default: $TRUSTLLM_DATA, else the user's cache directory)"
    )
    fetch.add_argument("--url", metavar="URL", help="address of a mirror; the same checks hold")
    fetch.add_argument("--timeout", metavar="SECONDS", type=seconds, default=30.0, help="without a byte (default: 30)")
    fetch.set_defaults(run=run_fetch)

    path = actions.add_parser("path", help="print where the downloaded data set lies", allow_abbrev=False)
    path.set_defaults(run=run_path)

    verify = actions.add_parser("verify", help="hold a copy against the published files", allow_abbrev=False)
    verify.add_argument(
        "path", metavar="PATH", type=Path, nargs="?", help="directory or zip (default: the downloaded one)"
    )
    verify.set_defaults(run=run_verify)


def run_fetch(args: argparse.Namespace) -> int:
    """Download, and say what upstream says about licences."""
    from pytest_trustllm import fulldata

    published = fulldata.published()
    directory = fulldata.home() if args.to is None else args.to
    try:
        new = fulldata.fetch(directory, args.url, timeout=args.timeout)
    except SuiteError as e:
        complain(str(e))
        return 1
    path = directory / fulldata.NAME
    say(f"{'fetched' if new else 'already there'}: {path}")
    say(f"{published.size} bytes, SHA-256 {published.sha256}")
    say(f"{len(published.files)} files, {published.rows} rows; {published.repository} at {published.commit}")
    say(f"use it with --trust-data={'full' if directory == fulldata.home() else path}")
    say()
    say(_licences(published))
    return 0


def _licences(published: Published) -> str:
    none = "upstream states no licence for this data set; see its source"
    rows = [("data set", "origin", "licence"), *((s.name, s.origin, none) for s in published.sets)]
    head = (
        f"Licences, as {published.repository} states them: its code is under the MIT licence; about the data it says "
        "nothing. Its README tells which sets are prior work:"
    )
    return f"{wrapped(head)}\n\n{table(rows, (22, 14, 62))}"


def run_path(args: argparse.Namespace) -> int:
    """Print the path of the data, or say that there is none."""
    from pytest_trustllm import fulldata

    try:
        say(str(fulldata.located()))
    except SuiteError as e:
        complain(str(e))
        return 1
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Print what differs."""
    from pytest_trustllm import fulldata

    published = fulldata.published()
    path = fulldata.home() / fulldata.NAME if args.path is None else args.path
    if args.path is None and not path.exists():
        return run_path(args)
    check = fulldata.verify(path)
    for problem in check.problems:
        say(problem)
    good = f"{check.files} of {len(published.files)} files as published ({check.rows} of {published.rows} rows)"
    if check.problems:
        say(f"{path}: not the published data: {good}")
        return 1
    exact = "; the very zip that was published" if fulldata.is_published(path) else ""
    say(f"{path}: {good}{exact}")
    return 0
