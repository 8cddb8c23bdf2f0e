"""The results of all shards of a run, joined into the results of one run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import CoverageEntry, MergedEntry, Record, Results, RunEntry, ShardEntry
from pytest_trustllm.results.files import records_of

_SAME = (
    "model",
    "seed",
    "limit",
    "epochs",
    "judge_votes",
    "blocked",
    "judge_checks",
    "plugin_version",
    "suites",
    "builtin_suites",
    "installed_suites",
    "roles",
)
"""What all shards have in common as a whole."""
_SAME_BY_KEY = ("generation", "task_versions", "tasks", "licences", "task_licences", "tags", "rubrics")
"""Tables of which a shard has only the lines that concern it."""


@dataclass(frozen=True, slots=True)
class ShardResults:
    """The results of one shard.

    Attributes:
        path: Results file.
        results: The document.
        samples: Samples file.
        records: Its samples, without texts.
    """

    path: Path
    results: Results
    samples: Path
    records: Sequence[Record]

    @property
    def run(self) -> RunEntry:
        """What the document records about the run."""
        return self.results["run"]

    @property
    def shard(self) -> ShardEntry:
        """Which shard it is; :func:`read_shard` has checked that it is one."""
        return self.run["shard"]

    @property
    def number(self) -> str:
        """Its number as users write it, such as ``1/3``."""
        return f"{self.shard['index']}/{self.shard['count']}"


def read_shard(path: Path, results: Results) -> ShardResults:
    """Return a shard's results.

    Raises:
        ResultsError: They are of a whole run, or their samples file cannot be read.
    """
    if "shard" not in results["run"]:
        raise ResultsError(f"{path}: is not a shard; only runs with --trust-shard=I/N can be merged")
    records = records_of(results, path)
    assert results["samples"] is not None  # noqa: S101 - records_of() read it
    return ShardResults(path, results, path.with_name(results["samples"]), records)


# --- can they be joined? ----------------------------------------------------------------------------------------------


def check_shards(shards: Sequence[ShardResults]) -> None:
    """Check that shards are all parts of one run.

    Raises:
        ResultsError: A shard is missing or given twice, settings differ, or samples are in two shards or in none.
    """
    _check_numbers(shards)
    for number, shard in enumerate(shards):
        for earlier in shards[:number]:  # any two: the first shard may lack what two others have
            _check_settings(earlier, shard)
    _check_samples(shards)
    _check_selection(shards)


def _check_numbers(shards: Sequence[ShardResults]) -> None:
    first = shards[0]
    count = first.shard["count"]
    by_index: dict[int, ShardResults] = {}
    for shard in shards:
        index = shard.shard["index"]
        if shard.shard["count"] != count:
            raise ResultsError(f"{shard.path}: is shard {shard.number}, and {first.path} is one of {count}")
        if index in by_index:
            raise ResultsError(f"{shard.path}: is shard {shard.number}, and so is {by_index[index].path}")
        by_index[index] = shard
    missing = [f"{index}/{count}" for index in range(1, count + 1) if index not in by_index]
    if missing:
        raise ResultsError(f"merge: shard {', '.join(missing)} is missing")


def _check_settings(first: ShardResults, second: ShardResults) -> None:
    for key in _SAME:
        _check_same(
            first, second, f"run.{key}", _without_about(first.run.get(key)), _without_about(second.run.get(key))
        )
    for key in _SAME_BY_KEY:
        _check_same(first, second, f"run.{key}", first.run.get(key, {}), second.run.get(key, {}))
    first_data = first.run["data"]
    second_data = second.run["data"]
    # the path of a data set may differ between machines: the hashes of its files decide
    if "sample" in (first_data["source"], second_data["source"]):
        _check_same(first, second, "run.data.source", first_data["source"], second_data["source"])
    _check_same(first, second, "run.data.files", first_data["files"], second_data["files"])
    _check_same(first, second, "run.shard.of", first.shard["of"], second.shard["of"])


def _without_about(value: Any) -> Any:
    """Return a setting without what changes no answer, such as the number of parameters."""
    if not isinstance(value, Mapping):
        return value
    return {key: _without_about(entry) for key, entry in value.items() if key != "about"}


def _check_same(first: ShardResults, second: ShardResults, name: str, first_value: Any, second_value: Any) -> None:
    if isinstance(first_value, Mapping) and isinstance(second_value, Mapping):
        # only keys of both: a role that no sample of a shard needed was not loaded there, so less is recorded about it
        for key in sorted(first_value.keys() & second_value.keys()):
            _check_same(first, second, f"{name}.{key}", first_value[key], second_value[key])
    elif first_value != second_value:
        here = one_line(repr(second_value), 60)
        there = one_line(repr(first_value), 60)
        raise ResultsError(f"{second.path}: {name} is {here}, and in {first.path} it is {there}: not shards of one run")


def _check_samples(shards: Sequence[ShardResults]) -> None:
    holders: dict[tuple[str, str], ShardResults] = {}
    for shard in shards:
        for record in shard.records:
            key = (record["task"], record["id"])
            if key in holders:
                task, id_ = key
                raise ResultsError(f"{shard.path}: sample {task}[{id_}] is in {holders[key].path} too")
            holders[key] = shard


def _check_selection(shards: Sequence[ShardResults]) -> None:
    for task, whole in shards[0].shard["of"].items():
        collected = 0
        for shard in shards:
            coverage = shard.results["coverage"].get(task)
            if coverage is not None:
                collected += coverage["collected"]
        # a task that no shard selected was left out on purpose
        if 0 < collected != whole:
            raise ResultsError(
                f"merge: the shards selected {collected} of {whole} samples of {task}; "
                "run every shard with the same selection"
            )


# --- the joined document ----------------------------------------------------------------------------------------------


def join_shards(shards: Sequence[ShardResults], samples: str) -> Results:
    """Return the results document of the whole run; its metrics, scores and gates are still empty.

    Args:
        shards: All shards, as :func:`check_shards` accepts them.
        samples: Name of the samples file in the same directory.
    """
    coverage = _coverage(shards)
    return {
        "schema": shards[0].results["schema"],
        "run": _joined_run(shards, coverage),
        "metrics": {},
        "scores": {},
        "gates": [],
        "coverage": coverage,
        "usage": _sum([shard.results["usage"] for shard in shards]),
        "samples": samples,
    }


def _joined_run(shards: Sequence[ShardResults], coverage: Mapping[str, CoverageEntry]) -> RunEntry:
    runs = [shard.run for shard in shards]
    whole = all(entry["collected"] == entry["expected"] for entry in coverage.values())
    cut = any(run["budget"]["cut"] for run in runs if "budget" in run)
    pending = any(run["batches"]["samples"] for run in runs if "batches" in run)
    merged: list[MergedEntry] = [{"id": shard.run["id"], "shard": shard.number} for shard in shards]
    # keys are copied by name here, so the result is typed when it is complete
    joined: Any = {key: value for key, value in runs[0].items() if key not in ("shard", "budget", "batches")}
    for key in (*_SAME_BY_KEY, "nodes", "bundled", "data_files", "roles"):
        joined[key] = _union([run.get(key, {}) for run in runs])
    joined["data"] = {**runs[0]["data"], "files": _union([run["data"]["files"] for run in runs])}
    joined["model"] = _joined_model(runs)
    joined["id"] = uuid.uuid4().hex
    joined["started"] = min(run["started"] for run in runs)
    joined["seconds"] = round(sum(run["seconds"] for run in runs), 3)
    joined["selection"] = "full" if whole and not cut and not pending else "partial"
    joined["stopped"] = any(run.get("stopped", False) for run in runs)
    joined["merged"] = merged
    joined_run: RunEntry = joined
    return joined_run


def _joined_model(runs: Sequence[RunEntry]) -> dict[str, Any]:
    """Return what the shards record about the model, with what any of them learned about its API."""
    model = _union([run["model"] for run in runs])
    abouts = [run["model"].get("about", {}) for run in runs]
    answered = _sum([about["answered_by"] for about in abouts if "answered_by" in about])
    adapted: list[str] = []
    for about in abouts:
        for line in about.get("adapted", ()):
            if line not in adapted:
                adapted.append(line)
    if answered:
        model.setdefault("about", {})["answered_by"] = answered
    if adapted:
        model.setdefault("about", {})["adapted"] = adapted
    return model


def _coverage(shards: Sequence[ShardResults]) -> dict[str, CoverageEntry]:
    entries: dict[str, list[CoverageEntry]] = {}
    for shard in shards:
        for task, entry in shard.results["coverage"].items():
            entries.setdefault(task, []).append(entry)
    totals: dict[str, CoverageEntry] = {}
    for task, parts in entries.items():
        total: CoverageEntry = _sum(parts)
        total["expected"] = parts[0]["expected"]  # every shard counts the samples of the whole run
        total["deselected"] = total["expected"] - total["collected"]
        totals[task] = total
    return totals


def _union(tables: Sequence[Any]) -> dict[str, Any]:
    """Return the lines that any shard has; what several have is the same in all, as :func:`check_shards` checked."""
    union: dict[str, Any] = {}
    for table in tables:
        for name, value in table.items():
            if isinstance(value, Mapping):
                union[name] = _union([union.get(name, {}), value])
            else:
                union.setdefault(name, value)
    return union


def _sum(tables: Sequence[Any]) -> Any:
    """Return the sums by name; something unknown in one shard, such as a cost, is unknown in the whole."""
    columns: dict[str, list[Any]] = {}
    for table in tables:
        for name, value in table.items():
            columns.setdefault(name, []).append(value)
    sums: dict[str, Any] = {}
    for name, values in columns.items():
        if isinstance(values[0], Mapping):
            sums[name] = _sum(values)
        elif None in values:
            sums[name] = None
        else:
            sums[name] = sum(values)
    return sums


# --- the joined samples file ------------------------------------------------------------------------------------------


def order_samples(shards: Sequence[ShardResults], tasks: Sequence[str]) -> list[tuple[ShardResults, int]]:
    """Return (shard, number of its record) in the order of a run in one piece: by task, then by sample."""
    places = {task: place for place, task in enumerate(tasks)}
    keyed: list[tuple[int, str, ShardResults, int]] = []
    for shard in shards:
        for number, record in enumerate(shard.records):
            place = places.get(record["task"], len(places))
            keyed.append((place, record["id"], shard, number))
    keyed.sort(key=lambda entry: entry[:2])
    return [(shard, number) for _, _, shard, number in keyed]


def joined_lines(order: Sequence[tuple[ShardResults, int]]) -> Iterator[str]:
    """Yield the lines of the joined samples file.

    Only the offsets of the lines are held in memory, not the texts.

    Args:
        order: What :func:`order_samples` returned.
    """
    offsets: dict[Path, list[int]] = {}
    files: dict[Path, BinaryIO] = {}
    try:
        for shard, number in order:
            path = shard.samples
            if path not in files:
                files[path] = path.open("rb")
                offsets[path] = _line_offsets(files[path])
            files[path].seek(offsets[path][number])
            yield files[path].readline().decode("utf-8")
    finally:
        for file in files.values():
            file.close()


def _line_offsets(file: BinaryIO) -> list[int]:
    """Return where the lines of a file start; the last offset is the end of the file."""
    offsets = [0]
    for line in file:
        offsets.append(offsets[-1] + len(line))
    return offsets
