"""``pytest-trustllm data``: download, locate and verify TrustLLM's complete data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import seconds
from pytest_trustllm.cli.output import complain, say, table, wrapped
from pytest_trustllm.config.paths import exists, is_file
from pytest_trustllm.errors import SuiteError

if TYPE_CHECKING:
    from pytest_trustllm.suites.full_data import PublishedData
    from pytest_trustllm.suites.task import Suite


def add(commands: Any) -> None:
    """Declare the commands."""
    parser = commands.add_parser("data", help="download, locate and verify TrustLLM's complete data set")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    fetch = actions.add_parser(
        "fetch", help="download the data set for --trust-data=full, or the files of a suite", allow_abbrev=False
    )
    fetch.add_argument(
        "name", metavar="NAME", nargs="?", help="an installed package of suites, or a suite, whose files to get"
    )
    fetch.add_argument("--from", dest="mirror", metavar="DIR", type=Path, help="take the suite's files from there")
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
    if args.name is not None:
        return _fetch_files(args)
    if args.mirror is not None:
        raise SuiteError("data fetch: --from needs the NAME of a suite")
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


def _fetch_files(args: argparse.Namespace) -> int:
    """Bring the pinned files of a suite, or of all suites of a package, to this machine."""
    from pytest_trustllm.suites import pinned

    if args.to is not None or args.url is not None:
        raise SuiteError("data fetch: --to and --url are for TrustLLM's data set; a suite's files have --from")
    files = {}
    for suite in _suites_named(args.name):
        files.update({file.sha256: file for file in suite.files.values()})
    if not files:
        say(f"{args.name}: the suite pins no files")
        return 0
    failed = 0
    for file in files.values():
        try:
            is_new = pinned.fetch(file, mirror=args.mirror, timeout=args.timeout)
        except SuiteError as e:
            complain(str(e))
            failed += 1
            continue
        say(f"{'fetched' if is_new else 'already there'}: {file.path}")
        say(f"  licence {file.licence}; {file.url}")
    return 1 if failed else 0


def _suites_named(name: str) -> list[Suite]:
    """Return the suites of an installed package, or the project's suite of that name.

    Raises:
        SuiteError: There is neither.
    """
    from pytest_trustllm import extensions
    from pytest_trustllm.cli.suites import registry_of
    from pytest_trustllm.suites.reader import read_suite

    registry = registry_of(None)
    own = Path.cwd() / "suites" / f"{name}.yaml"
    if is_file(own):
        return [read_suite(own, registry, root=Path.cwd())]
    package = extensions.suite_package(name)
    paths = [package.suites / f"{suite}.yaml" for suite in package.suite_names()]
    return [read_suite(path, registry, package=package) for path in paths]


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
        if not exists(path):
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
