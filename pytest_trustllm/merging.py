"""Results of all shards of a run, joined to what the run would have been in one piece."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.saved import records_of

_SAME = (
    *("model", "seed", "epochs", "judge_votes", "judge_checks"),
    *("plugin_version", "suites", "builtin_suites", "roles"),
)
"""What all shards share as a whole."""
_SAME_BY_KEY = ("generation", "task_versions", "licences")
"""Tables of which a shard has the lines that concern it."""


@dataclass(frozen=True, slots=True)
class Part:
    """The results of one shard.

    Attributes:
        path: Results file.
        results: The document.
        records: Its samples, without texts.
    """

    path: Path
    results: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]

    @property
    def run(self) -> Mapping[str, Any]:
        """What the document says about the run."""
        found: Mapping[str, Any] = self.results["run"]
        return found

    @property
    def shard(self) -> Mapping[str, Any]:
        """``index``, ``count``, and ``of``: task -> samples of all shards."""
        found: Mapping[str, Any] = self.run["shard"]
        return found


def read_part(path: Path, results: Mapping[str, Any]) -> Part:
    """Return a shard's results.

    Raises:
        ResultsError: They are of a whole run, or their samples file cannot be read.
    """
    if "shard" not in results["run"]:
        raise ResultsError(f"{path}: is no shard; only runs with --trust-shard=I/N can be merged")
    return Part(path, results, records_of(results, path))


def check(parts: Sequence[Part]) -> None:
    """Look for what cannot be joined.

    Raises:
        ResultsError: A shard is missing or twice, settings differ, or samples are in two shards or in none.
    """
    first = parts[0]
    count = first.shard["count"]
    seen: dict[int, Part] = {}
    for part in parts:
        index = part.shard["index"]
        if part.shard["count"] != count:
            raise ResultsError(
                f"{part.path}: is shard {index}/{part.shard['count']}, and {first.path} is one of {count}"
            )
        if index in seen:
            raise ResultsError(f"{part.path}: is shard {index}/{count}, as {seen[index].path} is")
        seen[index] = part
    missing = [f"{i}/{count}" for i in range(1, count + 1) if i not in seen]
    if missing:
        raise ResultsError(f"merge: shard {', '.join(missing)} is missing")
    for part in parts[1:]:
        _check_settings(first, part)
    _check_samples(parts)


def _check_settings(first: Part, part: Part) -> None:
    for key in _SAME:
        _compare(first, part, f"run.{key}", _telling(first.run.get(key)), _telling(part.run.get(key)))
    for key in _SAME_BY_KEY:
        mine, theirs = part.run.get(key, {}), first.run.get(key, {})
        for name in sorted(mine.keys() & theirs.keys()):
            _compare(first, part, f"run.{key}.{name}", theirs[name], mine[name])
    mine, theirs = part.run["data"], first.run["data"]
    if "sample" in (mine["source"], theirs["source"]):  # where a data set lies may differ: its files' hashes tell
        _compare(first, part, "run.data.source", theirs["source"], mine["source"])
    _compare(first, part, "run.data.files", theirs["files"], mine["files"])
    _compare(first, part, "run.shard.of", first.shard["of"], part.shard["of"])


def _telling(value: Any) -> Any:
    """Return a setting without what changes no answer, such as the number of parameters."""
    if not isinstance(value, Mapping):
        return value
    return {k: _telling(v) for k, v in value.items() if k != "about"}


def _compare(first: Part, part: Part, name: str, theirs: Any, mine: Any) -> None:
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        # a role that no sample of a shard needed was not loaded there and has less to say
        for key in sorted(theirs.keys() & mine.keys()):
            _compare(first, part, f"{name}.{key}", theirs[key], mine[key])
    elif theirs != mine:
        found, other = one_line(repr(mine), 60), one_line(repr(theirs), 60)
        raise ResultsError(f"{part.path}: {name} is {found}, and in {first.path} it is {other}: not shards of one run")


def _check_samples(parts: Sequence[Part]) -> None:
    where: dict[tuple[str, str], Part] = {}
    for part in parts:
        for record in part.records:
            key = record["task"], record["id"]
            if key in where:
                raise ResultsError(f"{part.path}: sample {key[0]}[{key[1]}] is in {where[key].path} too")
            where[key] = part
    for task, whole in parts[0].shard["of"].items():
        collected = sum(p.results["coverage"].get(task, {}).get("collected", 0) for p in parts)
        if 0 < collected != whole:
            raise ResultsError(
                f"merge: the shards selected {collected} of {whole} samples of {task}; "
                "run every shard with the same selection"
            )


def joined(parts: Sequence[Part], samples: str) -> dict[str, Any]:
    """Return the results document of the whole, with metrics, scores and gates still to be made.

    Args:
        parts: All shards, as :func:`check` wants them.
        samples: Name of the samples file beside it.
    """
    run = {k: v for k, v in parts[0].run.items() if k not in ("shard", "budget")}
    for key in (*_SAME_BY_KEY, "nodes", "roles"):
        run[key] = {name: value for part in reversed(parts) for name, value in part.run.get(key, {}).items()}
    coverage = _coverage(parts)
    whole = all(c["collected"] == c["expected"] for c in coverage.values())
    cut = any(p.run["budget"]["cut"] for p in parts if "budget" in p.run)
    run |= {
        "id": uuid.uuid4().hex,
        "started": min(p.run["started"] for p in parts),
        "seconds": round(sum(p.run["seconds"] for p in parts), 3),
        "selection": "full" if whole and not cut else "partial",
        "stopped": any(p.run.get("stopped") for p in parts),
        "merged": [{"id": p.run["id"], "shard": f"{p.shard['index']}/{p.shard['count']}"} for p in parts],
    }
    return {
        "schema": parts[0].results["schema"],
        "run": run,
        "gates": [],
        "coverage": coverage,
        "usage": _sum([p.results["usage"] for p in parts]),
        "samples": samples,
    }


def _coverage(parts: Sequence[Part]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for task in dict.fromkeys(task for p in parts for task in p.results["coverage"]):
        counts = [p.results["coverage"][task] for p in parts if task in p.results["coverage"]]
        total = {name: sum(c[name] for c in counts) for name in counts[0]}
        total["expected"] = counts[0]["expected"]
        total["deselected"] = total["expected"] - total["collected"]
        found[task] = total
    return found


def _sum(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums; something unknown in one shard, such as a cost, is unknown in all."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for usage in usages for name in usage):
        values = [usage[name] for usage in usages if name in usage]
        if isinstance(values[0], Mapping):
            found[name] = _sum(values)
        else:
            found[name] = None if None in values else sum(values)
    return found


def ordered(parts: Sequence[Part], tasks: Sequence[str]) -> list[tuple[Part, int]]:
    """Return (shard, number of its record) in the order of one run: by task, then by sample."""
    place = {task: i for i, task in enumerate(tasks)}
    every = [(place.get(r["task"], len(place)), r["id"], p, n) for p in parts for n, r in enumerate(p.records)]
    return [(part, number) for _, _, part, number in sorted(every, key=lambda e: e[:2])]


def lines(order: Sequence[tuple[Part, int]]) -> Iterator[str]:
    """Yield the lines of the joined samples file; only where they begin is held in memory."""
    starts: dict[int, list[int]] = {}
    files = {}
    try:
        for part, number in order:
            key = id(part)
            if key not in files:
                path = part.path.with_name(part.results["samples"])
                files[key] = path.open("rb")
                starts[key] = [0, *_ends(files[key])]
            files[key].seek(starts[key][number])
            yield files[key].readline().decode("utf-8")
    finally:
        for file in files.values():
            file.close()


def _ends(file: Any) -> Iterator[int]:
    end = 0
    for line in file:
        end += len(line)
        yield end
