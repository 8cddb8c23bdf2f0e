"""Which room may know which: every import of the package against the table in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pytest_trustllm.registry import METRICS, PROVIDERS, SCORERS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pytest_trustllm"
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "openai", "aiohttp", "jinja2", "scipy", "numpy"}
FLOORS = {
    room.removesuffix("/"): int(floor)
    for rooms, floor in re.findall(
        r"^\|([^|]+)\|[^|]+\| (\d) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    for room in re.findall(r"`([^`]+)`", rooms)
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str, *, top_level: bool = False) -> Iterator[str]:
    """Yield the modules that a module imports: all of them, or those that come along when it is imported."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in _outside_functions(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not typing and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _outside_functions(node)


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def ours(name: str) -> list[str]:
    return [found for found in imports(name) if found in MODULES]


INNER = [name for name in MODULES if name != "pytest_trustllm"]  # the package itself only lends its names


def test_every_room_has_its_row_and_every_row_its_room() -> None:
    assert sorted(FLOORS) == sorted({room_of(name) for name in INNER}), "a room needs its row in CONTRIBUTING.md"


@pytest.mark.parametrize("name", INNER)
def test_a_module_imports_from_its_own_room_or_from_a_lower_floor(name: str) -> None:
    others = [found for found in ours(name) if "." in found and room_of(found) != room_of(name)]
    assert [found for found in others if FLOORS[room_of(found)] >= FLOORS[room_of(name)]] == []


def test_modules_import_each_other_in_no_circle() -> None:
    """Imports inside functions count: they hide a circle from Python, not from readers."""
    graph = {name: {found for found in ours(name) if not name.startswith(f"{found}.")} for name in INNER}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        pytest.fail(f"a circle: {' -> '.join(e.args[1])}")


def test_nobody_imports_the_plugin() -> None:
    assert [n for n in MODULES if room_of(n) != "plugin" and any(room_of(f) == "plugin" for f in ours(n))] == []


def test_pytest_is_known_in_the_plugin_alone() -> None:
    knows = {n for n in MODULES for found in imports(n) if found.split(".")[0] in ("pytest", "_pytest", "xdist")}
    assert {room_of(name) for name in knows} == {"plugin"}


def test_what_is_heavy_stays_in_few_rooms() -> None:
    heavy = {n for n in MODULES if any(f.split(".")[0] in HEAVY for f in imports(n, top_level=True))}
    assert heavy  # else this test looks at nothing
    while more := {n for n in set(MODULES) - heavy if heavy.intersection(imports(n, top_level=True))}:
        heavy |= more
    models = ("local", "api", "server", "cluster")
    homes = (*(f"pytest_trustllm.models.{name}." for name in models), "pytest_trustllm.report.page.")
    assert [n for n in heavy if not n.startswith(homes)] == []
    named = {target.partition(":")[0] for target in PROVIDERS.values()}
    assert heavy & named == set(), "naming a provider must not import its library"


def test_the_plugins_entry_reads_no_yaml() -> None:
    """What pytest imports in every run of everybody's tests."""
    seen: set[str] = set()
    waiting = ["pytest_trustllm.plugin"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports(name, top_level=True) if name in MODULES else ()
    assert not seen & {*HEAVY, "yaml", "asyncio"}
    assert {room_of(name) for name in seen if name in MODULES} <= {"", "plugin"}


@pytest.mark.parametrize("target", sorted({*SCORERS.values(), *METRICS.values(), *PROVIDERS.values()}))
def test_a_registered_name_leads_to_a_definition(target: str) -> None:
    module, _, attribute = target.partition(":")
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    defined = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
    defined |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    defined |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    assert attribute in defined


def test_no_scorer_or_metric_is_written_and_not_registered() -> None:
    for folder, method, names in (("scorers", "score", SCORERS), ("metrics", "compute", METRICS)):
        written = {
            f"{name}:{node.name}"
            for name in MODULES
            if name.startswith(f"pytest_trustllm.{folder}.") and not name.endswith(".base")
            for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body
            if isinstance(node, ast.ClassDef) and method in {getattr(m, "name", "") for m in node.body}
        }
        assert written - set(names.values()) == set()


BROUGHT_ALONG = {"httpx", "httpx2"}
"""Imported as whichever of them openai itself uses: to name one would be to name the wrong one."""


def declared() -> set[str]:
    """Return the distributions that pyproject.toml names for users, as packaging writes names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    users = [line for name, lines in extras.items() if name not in ("test", "docs", "bench") for line in lines]
    lines = [*project["dependencies"], *users]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_every_distribution_that_is_imported_is_named() -> None:
    """What another package happens to bring along may be gone with its next version."""
    known = declared()
    distributions = packages_distributions()
    unnamed: dict[str, str] = {}
    for name in MODULES:
        for module in imports(name):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in ("pytest_trustllm", "_pytest", *BROUGHT_ALONG):
                continue
            brought_by = {canonicalize_name(found) for found in distributions.get(top, ())}
            if not brought_by & known:
                unnamed[top] = name
    assert unnamed == {}
