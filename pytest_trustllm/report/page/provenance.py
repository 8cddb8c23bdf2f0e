"""The run's card: what could change a number, what it ran on, and what it cost."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import DataEntry, Results, RunEntry, UsageEntry
from pytest_trustllm.report.formatting import counted, duration, moment
from pytest_trustllm.results.identity import generation_of

_LARGE = 1000
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_WORDS = {
    "seconds": "duration",
    "python": "Python",
    "cpus": "processor cores",
    "judge_votes": "votes per verdict",
    "blocked": "a blocked prompt counts as",
    "builtin_suites": "shipped suites",
    "limit": "samples per task at most",
    "dtype": "data type",
    "cost_usd": "cost in USD",
    "cached": "answers from the store",
    "near_ties": "near-ties",
}
"""Key -> what a reader calls it; of others, underscores become blanks."""
Fact = tuple[str, str]
"""What, and which."""
_GROUPED = frozenset(
    {
        *("model", "roles", "data", "packages", "generation", "task_versions", "tasks", "command", "extra", "nodes"),
        *("licences", "task_licences", "unlicensed", "tags", "rubrics", "data_files"),
    }
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
        "Run": [*_worded(general), ("command", _command(run))],
        "Model": _worded(run["model"]),
        "Roles": _worded(run["roles"]) or [("none", "no further model took part")],
        "Usage": _usage(results["usage"]),
        "Data": _data(run["data"]),
        "Packages": _facts(run.get("packages", {})),
        "Tasks": _tasks(run),
        "Task definitions": _facts(definitions),
        "Further facts": _facts(run.get("extra", {})),
    }
    return [(title, facts) for title, facts in groups.items() if facts]


def _tasks(run: RunEntry) -> list[Fact]:
    """Return version and generation settings of every task."""
    facts = []
    for task, version in run["task_versions"].items():
        words = [f"version {version}"]
        generation = generation_of(run, task)
        if generation is not None:
            words.append(f"temperature {generation['temperature']:g}")
            words.append(f"at most {counted(generation['max_new_tokens'], 'new token')}")
            if generation["stop"]:
                words.append(f"stops before {_plain(generation['stop'])}")
        facts.append((one_line(task, 200), ", ".join(words)))
    return facts


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
            amounts[key] = value
    for tokens in ("input_tokens", "output_tokens"):
        if amounts.get(tokens) is None:
            amounts[tokens] = "not known: the model does not report them"
    if amounts.get("cost_usd") is None:
        amounts["cost_usd"] = "not known: the model has no price in a models file"
    return [*_worded(amounts), *_worded(usage.get("roles", {}))]


def _data(data: DataEntry) -> list[Fact]:
    return [*_facts({key: value for key, value in data.items() if key != "files"}), *_facts(data["files"])]


def _worded(values: Mapping[str, object]) -> list[Fact]:
    """Return facts whose keys are words, and whose values have their unit."""
    facts = []
    for key, value in values.items():
        if value in (None, "", [], {}):  # 0 and false are facts
            continue
        if key == "started":
            shown = moment(str(value))
        elif key == "seconds" and isinstance(value, int | float):
            shown = duration(value)
        else:
            shown = _plain(value)
        facts.append((_word(key), shown))
    return facts


def _word(key: str) -> str:
    """Return a key of ours in words; another's is left as it is."""
    if key in _WORDS:
        return _WORDS[key]
    return key.replace("_", " ") if _KEY.fullmatch(key) else one_line(key, 200)


def _facts(values: Mapping[str, object]) -> list[Fact]:
    """Return one fact per key; what is empty is left out, but not 0 and false."""
    return [(one_line(key, 200), _plain(value)) for key, value in values.items() if value not in (None, "", [], {})]


def _plain(value: object) -> str:
    """Return a JSON value in words."""
    if isinstance(value, Mapping):
        known = {key: inner for key, inner in value.items() if inner not in (None, [], {})}
        return ", ".join(f"{_word(one_line(key, 100))}: {_plain(inner)}" for key, inner in known.items()) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "–"
    if isinstance(value, str):
        return one_line(value, 2000)
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= _LARGE else f"{value:.4g}"
    return one_line(json.dumps(value, default=str), 2000)
