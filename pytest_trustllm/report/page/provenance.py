"""The run's card: what could change a number, what it ran on, and what it cost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import DataEntry, Results, RunEntry, UsageEntry

Fact = tuple[str, str]
"""What, and which."""
_GROUPED = frozenset(
    {"model", "roles", "data", "packages", "generation", "task_versions", "tasks", "command", "extra", "nodes"}
)
"""Keys of the run that have a group of their own, or, as ``nodes``, tell a reader nothing."""


def card_of(results: Results) -> list[tuple[str, list[Fact]]]:
    """Return the run's card: titled groups of facts, without those that are empty."""
    run = results["run"]
    general = {key: value for key, value in run.items() if key not in _GROUPED}
    if "bundled" in run:
        general["bundled"] = _bundled(run["bundled"])
    definitions = {task: entry["hashes"] for task, entry in run.get("tasks", {}).items()}
    groups = {
        "Run": [*_facts(general), ("command", _command(run))],
        "Model": _facts(run["model"]),
        "Roles": _facts(run["roles"]) or [("none", "no further model took part")],
        "Usage": _usage(results["usage"]),
        "Data": _data(run["data"]),
        "Packages": _facts(run.get("packages", {})),
        "Task versions": _facts(run["task_versions"]),
        "Task definitions": _facts(definitions),
        "Generation": _facts(run["generation"]),
        "Further facts": _facts(run.get("extra", {})),
    }
    return [(title, facts) for title, facts in groups.items() if facts]


def _bundled(bundled: Mapping[str, bool]) -> str:
    """Return which tasks used the items that come with the package."""
    tasks = [task for task, is_bundled in bundled.items() if is_bundled]
    if not tasks:
        return ""
    if len(tasks) == len(bundled):
        return "the items of all tasks"
    return f"the items of {', '.join(tasks)}"


def _command(run: RunEntry) -> str:
    return one_line(shlex.join(["pytest", *run.get("command", ())]), 2000)


def _usage(usage: UsageEntry) -> list[Fact]:
    amounts: dict[str, object] = {}
    for key, value in usage.items():
        if key != "roles":
            amounts[key] = f"{value:,}" if isinstance(value, int) else value
    for tokens in ("input_tokens", "output_tokens"):
        if amounts.get(tokens) is None:
            amounts[tokens] = "not known: the model does not report them"
    if amounts.get("cost_usd") is None:
        amounts["cost_usd"] = "not known: the model has no price in a models file"
    return [*_facts(amounts), *_facts(usage.get("roles", {}))]


def _data(data: DataEntry) -> list[Fact]:
    return [*_facts({key: value for key, value in data.items() if key != "files"}), *_facts(data["files"])]


def _facts(values: Mapping[str, object]) -> list[Fact]:
    """Return one fact per key; what is empty is left out, but not 0 and false."""
    return [(one_line(key, 200), _plain(value)) for key, value in values.items() if value not in (None, "", [], {})]


def _plain(value: object) -> str:
    """Return a JSON value in words."""
    if isinstance(value, Mapping):
        known = {key: inner for key, inner in value.items() if inner not in (None, [], {})}
        return ", ".join(f"{one_line(key, 100)}: {_plain(inner)}" for key, inner in known.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "–"
    if isinstance(value, str):
        return one_line(value, 2000)
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(json.dumps(value, default=str), 2000)
