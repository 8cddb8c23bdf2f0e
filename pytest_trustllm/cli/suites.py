"""Arguments that say which suites a saved run belongs to, and the suites themselves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.errors import ResultsError, SuiteError, one_line

if TYPE_CHECKING:
    from pytest_trustllm.registry import Registry
    from pytest_trustllm.suites import Suite


def add_suites(parser: argparse.ArgumentParser) -> None:
    """Let the user name suites and what they are made of."""
    parser.add_argument(
        "--suites",
        metavar="DIR",
        type=Path,
        action="append",
        help="directory with your suite files; may be repeated (default: suites/ if it exists)",
    )
    add_conftest(parser)


def add_conftest(parser: argparse.ArgumentParser) -> None:
    """Let the user name the file that registers what suites may name."""
    parser.add_argument(
        "--conftest", metavar="FILE", type=Path, help="your conftest.py, if it registers scorers, metrics or providers"
    )


def suites_of(args: argparse.Namespace, saved: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[Suite]:
    """Return the suites, after checking that they are those of saved runs.

    Args:
        args: What the user named.
        saved: Results file and document of every run.

    Raises:
        SuiteError: A suite cannot be read, or lacks a task of a run or has another version of it.
        ResultsError: A run does not say what it was about.
    """
    from pytest_trustllm.suites import find_suites

    root = Path.cwd()
    directories = args.suites or [d for d in (root / "suites",) if d.is_dir()]
    builtin = any(results["run"].get("builtin_suites", True) for _, results in saved)
    suites = find_suites([root / d for d in directories], registry_of(args.conftest), root=root, builtin=builtin)
    versions = {t.id: (t.version, s.shown) for s in suites for t in s.tasks}
    for path, results in saved:
        found = results["run"].get("task_versions")
        if not isinstance(found, dict) or not isinstance(results.get("coverage"), dict):
            raise ResultsError(f"{path}: does not say what the run was about; write it again with --trust-results")
        for task, version in found.items():
            if task not in versions:
                where = "name its directory with --suites"
                raise SuiteError(f"{path}: no suite defines {one_line(task, 60)}, which the run asked; {where}")
            if versions[task][0] != version:
                now, shown = versions[task]
                raise SuiteError(
                    f"{path}: the run has version {one_line(version, 20)} of {task}, {shown} version {now}: "
                    "take the suites of the run, or run again"
                )
    return suites


def registry_of(conftest: Path | None) -> Registry:
    """Return the registry, with what a ``conftest.py`` adds.

    Raises:
        SuiteError: It cannot be imported, or registers nothing.
    """
    from pytest_trustllm.registry import Registry

    registry = Registry()
    if conftest is not None:
        _load(conftest).pytest_trustllm_register(registry=registry)
    return registry


def _load(path: Path) -> Any:
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("conftest", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise SuiteError(f"--conftest: {path} is no Python file")
    sys.path.insert(0, str(path.resolve().parent))
    module = sys.modules["conftest"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:  # noqa: BLE001 - it is the user's own code
        raise SuiteError(f"--conftest: {path} cannot be imported: {type(e).__name__}: {one_line(e)}") from None
    if not hasattr(module, "pytest_trustllm_register"):
        raise SuiteError(f"--conftest: {path} has no pytest_trustllm_register")
    return module
