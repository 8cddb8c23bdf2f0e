"""``pytest-trustllm suites``: which suites there are, with their size, the roles that they need, and their licences."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import say, table, wrapped
from pytest_trustllm.cli.suites import add_suites, places, registry_of
from pytest_trustllm.config.paths import entries, shipped
from pytest_trustllm.errors import SuiteError

if TYPE_CHECKING:
    from pytest_trustllm.suites.task import Suite


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("suites", help="list suites: size, roles, licence", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="every task, as JSON")
    add_suites(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    suites = all_suites(args)
    entries = [_entry(suite) for suite in suites]
    if args.json:
        say(json.dumps(entries, indent=1, ensure_ascii=True))
        return 0
    rows = [("suite", "from", "tasks", "items", "roles", "licence")]
    for entry in entries:
        items = "not fetched" if entry["items"] is None else f"{entry['items']:,}"
        tasks, roles = str(len(entry["tasks"])), ", ".join(entry["roles"])
        rows.append((entry["suite"], entry["from"], tasks, items, roles, entry["licence"]))
    say(table(rows, (20, 12, 5, 11, 24, 20), right=(2, 3)))
    packages = [entry["from"] for entry in entries if entry["items"] is None]
    say()
    say(wrapped("Run one with pytest --trust-suite=SUITE, an installed package with --trust-suite=PACKAGE."))
    for name in dict.fromkeys(packages):
        say(f"Get its files with: pytest-trustllm data fetch {name}")
    return 0


def all_suites(args: argparse.Namespace) -> list[Suite]:
    """Return the suites of the project, of all installed packages, and those that come with this package.

    Raises:
        SuiteError: One of them cannot be read.
    """
    from importlib.metadata import entry_points

    from pytest_trustllm.extensions import SUITES
    from pytest_trustllm.suites.reader import read_suite

    names = sorted({entry.name for entry in entry_points(group=SUITES)})
    directories, packages = places(args.suites, names)
    registry = registry_of(args.conftest)
    suites: list[Suite] = []
    for directory in directories:
        files = [path for path in entries(directory, str(directory), SuiteError) if path.suffix == ".yaml"]
        suites += [read_suite(path, registry, root=Path.cwd()) for path in files]
    for package in packages:
        for name in package.suite_names():
            suites.append(read_suite(package.suites / f"{name}.yaml", registry, package=package))
    for path in sorted(shipped("suites").glob("*.yaml")):
        suites.append(read_suite(path, registry, builtin=True))
    return suites


def _entry(suite: Suite) -> dict[str, Any]:
    from pytest_trustllm.suites.licences import licence_of

    roles: set[str] = set()
    licences: dict[str, None] = {}
    for task in suite.tasks:
        roles |= task.roles
        licences[licence_of(task, suite, sample=True)] = None
    origin = "shipped" if suite.builtin else "project"
    if suite.package is not None:
        origin = suite.package.name
    return {
        "suite": suite.name,
        "from": origin,
        "dimension": suite.dimension,
        "tasks": [task.name for task in suite.tasks],
        "items": _items(suite),
        "roles": sorted(roles),
        "licence": ", ".join(licences),
        "files": {name: {"url": file.url, "here": file.is_here} for name, file in suite.files.items()},
    }


def _items(suite: Suite) -> int | None:
    """Return how many samples a suite has; None if its files are not on this machine."""
    from pytest_trustllm.suites.samples import DataSource

    if any(not file.is_here for file in suite.files.values()):
        return None
    data = DataSource(None, Path.cwd())
    count = 0
    for task in suite.tasks:
        if task.reads is None:
            try:
                count += len(data.entries(task))
            except SuiteError:
                return None
    return count
