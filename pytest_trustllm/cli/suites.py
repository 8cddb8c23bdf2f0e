"""Arguments that name the suites of a saved run, and the suites themselves."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import warn
from pytest_trustllm.config.paths import is_directory, is_file
from pytest_trustllm.errors import SuiteError, one_line
from pytest_trustllm.formats import Results

if TYPE_CHECKING:
    from pytest_trustllm.extensions import RegisterFunction, SuitePackage
    from pytest_trustllm.registry import Registry
    from pytest_trustllm.suites.task import Suite


def add_suites(parser: argparse.ArgumentParser) -> None:
    """Add ``--suites`` and ``--conftest``; the suite packages that a run used are recorded in its results."""
    parser.add_argument(
        "--suites",
        metavar="DIR|NAME",
        action="append",
        help="directory with your suite files, or an installed suite package by name; may be repeated "
        "(default: suites/ if it exists)",
    )
    parser.add_argument(
        "--allow-outside", action="store_true", help="suites and thresholds may name files outside the project"
    )
    add_conftest(parser)


def add_conftest(parser: argparse.ArgumentParser) -> None:
    """Add ``--conftest``, the file that registers what suites may name."""
    parser.add_argument(
        "--conftest",
        metavar="FILE",
        type=Path,
        help="the conftest.py that registers your scorers, metrics and providers (default: conftest.py, if it does)",
    )


def places(given: Sequence[str] | None, also: Iterable[str] = ()) -> tuple[list[Path], list[SuitePackage]]:
    """Return the directories with suites and the installed suite packages that a command reads.

    Args:
        given: The values of ``--suites``.
        also: Further packages; those that are not installed are left out.

    Raises:
        SuiteError: A package contains no suite.
    """
    from pytest_trustllm import extensions

    root = Path.cwd()
    if not given:
        given = ["suites"] if is_directory(root / "suites") else []
    directories: list[Path] = []
    package_names: list[str] = []
    for value in given:
        if extensions.names_package(value, root):
            package_names.append(value)
        else:
            directories.append(Path(os.path.normpath(root / value)))
    package_names += [name for name in also if extensions.is_suite_package(name)]
    packages = [extensions.suite_package(name) for name in dict.fromkeys(package_names)]
    return directories, packages


def suites_of(args: argparse.Namespace, saved: Sequence[tuple[Path, Results]]) -> list[Suite]:
    """Return the suites, after checking that they are those of saved runs.

    Args:
        args: What :func:`add_suites` declares.
        saved: Results file and document of every run.

    Raises:
        SuiteError: A suite cannot be read, lacks a task of a run, or has another version of it.
    """
    from pytest_trustllm.results.recomputation import check_tasks
    from pytest_trustllm.suites.reader import find_suites

    builtin = any(results["run"].get("builtin_suites", True) for _, results in saved)
    recorded: list[str] = []
    for _, results in saved:
        recorded += results["run"].get("installed_suites", ())
    directories, packages = places(args.suites, recorded)
    registry = registry_of(args.conftest)
    suites = find_suites(directories, registry, root=Path.cwd(), builtin=builtin, packages=packages, option="--suites")
    remedy = _remedy(recorded, packages)
    for path, results in saved:
        check_tasks(path, results, suites, remedy)
    return suites


def _remedy(recorded: Sequence[str], packages: Sequence[SuitePackage]) -> str:
    """Return what to do about a task that no suite defines."""
    missing = sorted(set(recorded) - {package.name for package in packages})
    if not missing:
        return "name its directory with --suites"
    names = ", ".join(repr(one_line(name, 60)) for name in missing)
    return f"install the suite package {names} that the run used, or name a directory with --suites"


def registry_of(conftest: Path | None) -> Registry:
    """Return the registry, with what installed modules and a ``conftest.py`` add.

    Args:
        conftest: The value of ``--conftest``; None: the one in the current directory, if it registers something.

    Raises:
        TrustLLMError: A module or the named file cannot be imported, or registers nothing.
    """
    from pytest_trustllm import extensions

    hooks = list(extensions.register_functions())
    if conftest is None:
        own = _own_hook()
        if own is not None:
            hooks.append(own)
    else:
        hooks.append(getattr(_load(conftest), extensions.HOOK))
    return extensions.build_registry(hooks)


def _own_hook() -> RegisterFunction | None:
    """Return the hook of the ``conftest.py`` in the current directory, as pytest would find it; None if it has none.

    A file that cannot be imported is left out with a warning: a job that only judges saved results need not have
    everything installed that the tests need.
    """
    from pytest_trustllm import extensions

    path = Path("conftest.py")
    if not is_file(path) or extensions.HOOK not in path.read_text(encoding="utf-8", errors="replace"):
        return None
    try:
        return getattr(_load(path), extensions.HOOK, None)
    except SuiteError as e:
        warn(f"{str(e).removeprefix('--conftest: ')}; what it registers is unknown here")
        return None


def _load(path: Path) -> Any:
    """Import a ``conftest.py`` that has the hook.

    Raises:
        SuiteError: It is not a Python file, cannot be imported, or lacks the hook.
    """
    import importlib.util
    import sys

    from pytest_trustllm import extensions

    spec = importlib.util.spec_from_file_location("conftest", path) if is_file(path) else None
    if spec is None or spec.loader is None:
        raise SuiteError(f"--conftest: {path} is not a Python file")
    # as pytest does: the file finds the modules that are next to it, and others can import it
    sys.path.insert(0, str(path.resolve().parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules["conftest"] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:  # noqa: BLE001 - it is the user's own code
        raise SuiteError(f"--conftest: {path} cannot be imported: {type(e).__name__}: {one_line(e)}") from None
    if not hasattr(module, extensions.HOOK):
        raise SuiteError(f"--conftest: {path} has no {extensions.HOOK}")
    return module
