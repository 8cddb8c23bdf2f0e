"""What installed distributions add: scorers, metrics and providers, and whole packages of suites.

Plugin and command read the same entry points, so that a saved run is judged with the parts that pytest used.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import SuiteError, TrustLLMError, describe_exception, one_line, suggest
from pytest_trustllm.registry import Registry

MODULES = "pytest_trustllm"
"""Entry point group of modules that register scorers, metrics and providers."""
SUITES = "pytest_trustllm.suites"
"""Entry point group of packages of suites."""
ASSURANCE = "assurance"
"""Name of the suites about a model's documentation: a part of this package, in the run only with ``--trust-card``."""
_ASSURANCE = Path(__file__).parent / "assurance"
PACKS_DISTRIBUTION = "pytest-trustllm-packs"
PACKS = ("bbq", "harmbench", "jailbreakbench", "or_bench", "strongreject", "xstest")
"""Names of the packs of open test sets that this distribution has (``packs/`` of the repository)."""
HOOK = "pytest_trustllm_register"
"""Function of a module that registers something; also a hook of pytest."""

RegisterFunction = Callable[..., object]
"""A function that takes ``registry=`` and adds names to it."""


@dataclass(frozen=True, slots=True)
class SuitePackage:
    """Suites that an installed distribution provides.

    Attributes:
        name: Name of the entry point.
        suites: Directory of the suite files.
        thresholds: Directory of their threshold files; None if there are none.
    """

    name: str
    suites: Path
    thresholds: Path | None = None

    def suite_names(self) -> list[str]:
        """Return the names of its suites, sorted."""
        return sorted(path.stem for path in self.suites.glob("*.yaml"))


def module_entries() -> list[EntryPoint]:
    """Return the entry points of modules that register something, in an order that is the same everywhere."""
    return sorted(entry_points(group=MODULES), key=lambda entry: (entry.name, entry.value))


def module_of(entry: EntryPoint) -> Any:
    """Import the module that an entry point names.

    Raises:
        TrustLLMError: It cannot be imported, or does not define the function.
    """
    module = _loaded(entry)
    if not callable(getattr(module, HOOK, None)):
        raise TrustLLMError(
            f"{_where(entry)}: {entry.value} has no function {HOOK}; "
            "the entry point must name the module that defines it"
        )
    return module


def register_functions() -> list[RegisterFunction]:
    """Return the ``pytest_trustllm_register`` of every installed module.

    Raises:
        TrustLLMError: A module cannot be imported, or does not define it.
    """
    return [getattr(module_of(entry), HOOK) for entry in module_entries()]


def build_registry(functions: Sequence[RegisterFunction]) -> Registry:
    """Return the built-in names and those that the functions add.

    Args:
        functions: A function that is given twice is called once: a conftest.py may import that of a package.

    Raises:
        TrustLLMError: A function raised something.
    """
    registry = Registry()
    for function in dict.fromkeys(functions):
        try:
            function(registry=registry)
        except TrustLLMError:
            raise
        except Exception as e:  # noqa: BLE001 - somebody else's code may raise anything
            raise TrustLLMError(f"{function.__module__}.{HOOK} raised {describe_exception(e)}") from None
    return registry


def is_suite_package(name: str) -> bool:
    """Return whether an installed package of suites has this name."""
    return name == ASSURANCE or any(entry.name == name for entry in entry_points(group=SUITES))


def names_package(text: str, root: Path) -> bool:
    """Return whether a text names an installed package of suites, and not a directory.

    Args:
        text: A path, or the name of a package. A directory that exists takes precedence.
        root: Paths are relative to it.
    """
    return not os.path.exists(root / text) and is_suite_package(text)  # noqa: PTH110 - Path raises for a long name


def no_package_either(name: str) -> str:
    """Return the end of a message about a directory that is missing; empty where no suite package is installed."""
    names = {entry.name for entry in entry_points(group=SUITES)}
    if not names:
        return ""
    return f", nor is it an installed suite package{suggest(name, names)}"


def how_to_install(name: str) -> str:
    """Return the end of a message about a suite that is missing: nothing, unless it is a pack that is not installed.

    Args:
        name: Of the suite, or of a task in it.
    """
    suite = name.partition("/")[0]
    if suite not in PACKS or is_suite_package(suite):
        return ""
    return f"; it is in {PACKS_DISTRIBUTION}: pip install {PACKS_DISTRIBUTION}"


def suite_package(name: str) -> SuitePackage:
    """Return an installed package of suites. A package is located without running its code.

    Raises:
        SuiteError: No package has this name, or several have, or it holds no suite file.
    """
    if name == ASSURANCE:
        return SuitePackage(name, _ASSURANCE / "suites", _ASSURANCE / "thresholds")
    entry = _suite_entry(name)
    top = _directory(entry)
    suites = top / "suites"
    if not suites.is_dir():
        suites = top
    if not any(suites.glob("*.yaml")):
        raise SuiteError(f"{_where(entry)}: {suites} holds no suite file; it needs NAME.yaml or suites/NAME.yaml")
    thresholds = top / "thresholds"
    if not thresholds.is_dir():
        return SuitePackage(name, suites)
    return SuitePackage(name, suites, thresholds)


def _suite_entry(name: str) -> EntryPoint:
    installed = entry_points(group=SUITES)
    # By value: two entries that name the same package do not conflict.
    named = {entry.value: entry for entry in installed if entry.name == name}
    if not named:
        names = {entry.name for entry in installed}
        hint = how_to_install(name) or suggest(name, names)
        raise SuiteError(f"no suite package named {name!r} is installed{hint}")
    entries = [named[value] for value in sorted(named)]
    if len(entries) > 1:
        places = " and ".join(map(_where, entries))
        raise SuiteError(f"suite package {name!r} is installed twice: by {places}; uninstall one of them")
    return entries[0]


def _directory(entry: EntryPoint) -> Path:
    """Return the directory that an entry point names: that of a package, or a path that is in a module.

    Raises:
        TrustLLMError: It names neither, or the module cannot be imported.
    """
    directory: Path | None = None
    if not entry.attr:
        directory = _package_directory(entry)
    else:
        named = _loaded(entry)
        if isinstance(named, str | os.PathLike):
            directory = Path(named)
    if directory is None or not directory.is_dir():
        raise SuiteError(
            f"{_where(entry)}: {entry.value} is not a directory; name a package, or 'module:NAME' that holds a path"
        )
    return directory


def _package_directory(entry: EntryPoint) -> Path | None:
    try:
        spec = importlib.util.find_spec(entry.module)
    except (ImportError, ValueError):  # a parent is missing, or is not a package
        return None
    if spec is None:
        return None
    locations = list(spec.submodule_search_locations or ())  # none for a module that is not a package
    return Path(locations[0]) if locations else None


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as e:  # noqa: BLE001 - somebody else's module may raise anything when it is imported
        raise TrustLLMError(f"{_where(entry)}: {entry.value} cannot be imported: {describe_exception(e)}") from None


def _where(entry: EntryPoint) -> str:
    """Return how messages name an entry point: with the distribution that has it, if that is known."""
    owner = ""
    if entry.dist is not None:
        owner = f" of {one_line(entry.dist.name, 60)}"
    return f"entry point {one_line(entry.name, 60)!r}{owner} (group {entry.group})"
