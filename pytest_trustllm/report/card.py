"""The run's card: what could change a number, what it ran on, and what it cost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.report.pack import Packed


def card_of(results: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the run's card: titled groups of (what, which)."""
    run, usage = results["run"], results["usage"]
    known = {"model", "roles", "data", "packages", "generation", "task_versions", "command", "extra", "nodes"}
    groups = [
        ("Run", [*_lines({k: v for k, v in run.items() if k not in known}), ("command", _command(run))]),
        ("Model", _lines(run.get("model", {}))),
        ("Roles", _lines(run.get("roles", {})) or [("none", "no further model took part")]),
        ("Usage", _usage(usage)),
        ("Data", list(_data(run.get("data", {})))),
        ("Packages", _lines(run.get("packages", {}))),
        ("Task versions", _lines(run.get("task_versions", {}))),
        ("Generation", _lines(run.get("generation", {}))),
        ("Further facts", _lines(run.get("extra", {}))),
    ]
    return [(title, lines) for title, lines in groups if lines]


def facts_of(results: Mapping[str, Any], packed: Packed) -> list[str]:
    """Return the few facts that stand under the title."""
    run = results["run"]
    seconds = run.get("seconds")
    cost = results["usage"].get("cost_usd")
    revision = run.get("model", {}).get("revision")
    facts = [
        f"{packed.total:,} {'sample' if packed.total == 1 else 'samples'}",
        f"data: {one_line(run.get('data', {}).get('source', 'unknown'), 80)}",
        f"revision {one_line(revision, 16)}" if revision else "",
        f"seed {one_line(run.get('seed'), 20)}",
        one_line(run.get("started", ""), 40).replace("T", " ").replace("+00:00", " UTC"),
        f"{seconds:.0f} s" if isinstance(seconds, int | float) else "",
        f"{cost:,.2f} USD" if isinstance(cost, int | float) else "",
    ]
    return [fact for fact in facts if fact]


def _command(run: Mapping[str, Any]) -> str:
    return one_line(shlex.join(["pytest", *(str(a) for a in run.get("command", ()))]), 2000)


def _usage(usage: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = {k: f"{v:,}" if isinstance(v, int) else v for k, v in usage.items() if k != "roles"}
    if known.get("cost_usd") is None:
        known["cost_usd"] = "not known: the model has no price in a models file"
    return _lines(known) + _lines(usage.get("roles", {}))


def _data(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _lines({k: v for k, v in data.items() if k != "files"})
    files = data.get("files")
    yield from _lines(files) if isinstance(files, Mapping) else ()


def _lines(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one_line(key, 200), _plain(value)) for key, value in values.items() if value not in (None, "", [], {})]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{one_line(k, 100)}: {_plain(v)}" for k, v in value.items() if v not in (None, [], {})) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "–"
    if isinstance(value, str):
        return one_line(value, 2000)
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(json.dumps(value, default=str), 2000)
