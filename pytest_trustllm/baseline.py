"""An earlier run beside this one: which samples both have, which flipped, how much worse a number became."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm import paths
from pytest_trustllm.errors import GateError, ResultsError, one_line
from pytest_trustllm.evidence import Record
from pytest_trustllm.gates import Gate
from pytest_trustllm.records import ROLES
from pytest_trustllm.saved import read_results, records_of
from pytest_trustllm.suites import Task


@dataclass(frozen=True, slots=True)
class Baseline:
    """A saved run that others are compared with.

    Attributes:
        file: How messages name its results file.
        results: The results document.
        records: Its samples, without texts.
    """

    file: str
    results: Mapping[str, Any]
    records: Sequence[Record]

    @property
    def run(self) -> Mapping[str, Any]:
        """What the results say about the run."""
        found: Mapping[str, Any] = self.results["run"]
        return found

    @property
    def model(self) -> str:
        """Name of its model."""
        return str(self.run["model"]["name"])


@dataclass(frozen=True, slots=True)
class Pairs:
    """Samples of one task in two runs.

    Attributes:
        task: The task that asked.
        before: Records of the shared samples in the baseline.
        now: Records of the same samples in this run, in the same order.
        changed: Ids that both runs have, with another prompt, row or task version.
        added: Ids that only this run has.
        removed: Ids that only the baseline has.
    """

    task: str
    before: tuple[Record, ...]
    now: tuple[Record, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def flips(self) -> tuple[list[str], list[str]]:
        """Return the ids that met their target before and miss it now, and those the other way round."""
        both = [(n["id"], b["status"], n["status"]) for b, n in zip(self.before, self.now, strict=True)]
        worse = [id_ for id_, before, now in both if (before, now) == ("passed", "missed")]
        return worse, [id_ for id_, before, now in both if (before, now) == ("missed", "passed")]


def read_baseline(path: Path, flag: str = "--trust-baseline", root: Path | None = None) -> Baseline:
    """Read a results file and the samples file beside it.

    Args:
        path: The results file.
        flag: How messages name the option.
        root: The file is named relative to it.

    Raises:
        ResultsError: One of them is missing or is not what it should be.
    """
    try:
        results = read_results(path)
        baseline = Baseline(paths.shown(path, root), results, records_of(results, path))
        if not isinstance(results["metrics"], dict) or not isinstance(baseline.run["task_versions"], dict):
            raise TypeError("metrics or task versions are no mapping")
        run = baseline.run
        for found in (run["roles"], run["generation"], run["data"]["files"], results["scores"], *run["roles"].values()):
            if not isinstance(found, dict):
                raise TypeError("a mapping is something else")
        str(run["started"] + baseline.model + str(run["seed"]))
    except ResultsError as e:
        raise ResultsError(f"{flag}: {e}") from None
    except (KeyError, TypeError, AttributeError) as e:
        raise ResultsError(f"{flag}: {path}: not a complete results file: {type(e).__name__}: {one_line(e)}") from None
    return baseline


@dataclass(frozen=True, slots=True)
class Setting:
    """What of a run must be alike for a comparison; known before the first prompt.

    Attributes:
        model: Name of the model under test.
        roles: Role -> name of its model.
    """

    model: str
    roles: Mapping[str, str]


def check(
    baseline: Baseline, setting: Setting, gates: Iterable[Gate], tasks: Iterable[Task], *, any_model: str | None
) -> None:
    """Refuse a baseline that cannot be compared with this run.

    Args:
        baseline: The earlier run.
        setting: This run.
        gates: This run's gates.
        tasks: All tasks.
        any_model: How the user allows another model; None: it is allowed.

    Raises:
        ResultsError: It is a run of another model.
        GateError: It lacks what a ``max_drop`` gate compares, or measured it in another way.
    """
    if any_model is not None and baseline.model != setting.model:
        names = f"it is a run of {one_line(baseline.model, 60)!r}, this one of {one_line(setting.model, 60)!r}"
        raise ResultsError(
            f"{baseline.file}: {names}; give a baseline of the same model, or {any_model} to compare models"
        )
    known = list(tasks)
    for gate in (g for g in gates if g.kind == "max_drop"):
        for task in _tasks_of(gate, known):
            _check_task(baseline, setting, gate, task)
        _check_number(baseline, gate)


def _tasks_of(gate: Gate, tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks whose scores decide a gate."""
    if gate.metric_id is None:
        return [t for t in tasks if t.dimension == gate.dimension]
    name = gate.metric_id.partition("{")[0].rpartition(".")[0]
    return [t for t in tasks if t.id == name]


def _check_task(baseline: Baseline, setting: Setting, gate: Gate, task: Task) -> None:
    version = baseline.run["task_versions"].get(task.id)
    if version is not None and version != task.version:
        raise GateError(
            f"{gate.id}: {baseline.file} has version {version} of {task.id}, the suite version {task.version}: "
            "their scores cannot be compared; record a new baseline"
        )
    for role in ROLES:
        before, now = _role(baseline, role), setting.roles.get(role)
        if role in task.scorer.roles and version is not None and before != now:
            words = f"{_named(before)} in {baseline.file} and {_named(now)} in this run"
            raise GateError(
                f"{gate.id}: {task.id} is scored by the {role} model {words}; give the same, or record a new baseline"
            )


def _role(baseline: Baseline, role: str) -> str | None:
    found = baseline.run["roles"].get(role)
    return None if found is None else str(found["name"])


def _named(name: str | None) -> str:
    return "none" if name is None else repr(one_line(name, 60))


def _check_number(baseline: Baseline, gate: Gate) -> None:
    kind, name = ("scores", gate.dimension) if gate.metric_id is None else ("metrics", gate.metric_id)
    found = baseline.results[kind].get(name)
    if found is None or found.get(gate.scoring) is None:
        what = f"trust score of {name!r}" if kind == "scores" else f"{gate.scoring} of {name}"
        raise GateError(f"{gate.id}: {baseline.file} has no {what}; record a baseline that has, or remove the gate")


def warnings(baseline: Baseline, run: Mapping[str, Any]) -> list[str]:
    """Return in words what else differs and may move a number.

    Args:
        baseline: The earlier run.
        run: What this run's results say about it.
    """
    before, found = baseline.run, []
    if before["seed"] != run["seed"]:
        found.append(f"the baseline's seed is {before['seed']}, this run's {run['seed']}")
    for name, settings in run["generation"].items():
        if name in before["generation"] and before["generation"][name] != settings:
            found.append(f"{name}: the generation settings are not the baseline's")
    for file, hash_ in run["data"]["files"].items():
        if before["data"]["files"].get(file, hash_) != hash_:
            found.append(f"{file} is not the baseline's")
    for name, version in run["task_versions"].items():
        if before["task_versions"].get(name, version) != version:
            found.append(f"{name} is version {version}, in the baseline {before['task_versions'][name]}")
    for role in ROLES:
        old, new = before["roles"].get(role), run["roles"].get(role)
        if old != new:
            found.append(f"the {role} model is not the baseline's")
    return [one_line(line, 200) for line in found]


def pair(before: Iterable[Record], now: Iterable[Record]) -> dict[str, Pairs]:
    """Return task -> its samples in two runs, matched by fingerprint.

    A row that was moved keeps its fingerprint and its partner. Equal rows of a task are matched in file order.
    """
    old, new = _by_task(before), _by_task(now)
    return {task: _pair(task, old.get(task, []), new.get(task, [])) for task in sorted({*old, *new})}


def _by_task(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record["task"], []).append(record)
    return {task: sorted(mine, key=lambda r: r["id"]) for task, mine in found.items()}


def _pair(task: str, before: Sequence[Record], now: Sequence[Record]) -> Pairs:
    waiting: dict[str, list[Record]] = {}
    for record in before:
        waiting.setdefault(record["fingerprint"], []).append(record)
    shared: list[tuple[Record, Record]] = []
    alone: list[str] = []
    for record in now:
        partners = waiting.get(record["fingerprint"])
        if partners:
            shared.append((partners.pop(0), record))
        else:
            alone.append(record["id"])
    left = {r["id"] for records in waiting.values() for r in records}
    changed = [id_ for id_ in alone if id_ in left]
    return Pairs(
        task=task,
        before=tuple(b for b, _ in shared),
        now=tuple(n for _, n in shared),
        changed=tuple(changed),
        added=tuple(id_ for id_ in alone if id_ not in left),
        removed=tuple(sorted(left.difference(changed))),
    )


def changes(pairs: Iterable[Pairs]) -> str:
    """Return in words how many samples are not shared, with the first of them by name; empty if all are."""
    kinds: dict[str, list[str]] = {"changed": [], "added": [], "removed": []}
    for found in pairs:
        name = found.task.partition("/")[2]
        for kind, ids in kinds.items():
            ids += [f"{name}[{id_}]" for id_ in getattr(found, kind)]
    return "; ".join(f"{len(ids)} {kind}: {named(ids, 3)}" for kind, ids in kinds.items() if ids)


def named(ids: Sequence[str], most: int) -> str:
    """Return the first ids and how many more there are."""
    more = f", +{len(ids) - most}" if len(ids) > most else ""
    return ", ".join(one_line(id_, 60) for id_ in ids[:most]) + more


def entry(baseline: Baseline, pairs: Mapping[str, Pairs], notes: Sequence[str]) -> dict[str, Any]:
    """Return what the results say about the comparison.

    ``flipped`` lists the samples whose target was met in one run and missed in the other: ``worse`` and ``better``.
    """
    flips = {task: found.flips() for task, found in pairs.items()}
    return {
        "file": baseline.file,
        "run": baseline.run.get("id"),
        "model": baseline.model,
        "started": baseline.run["started"],
        "warnings": list(notes),
        "tasks": {
            task: {
                "shared": len(found.now),
                "changed": list(found.changed),
                "added": list(found.added),
                "removed": list(found.removed),
            }
            for task, found in pairs.items()
        },
        "flipped": {
            side: [f"{task}[{id_}]" for task, found in flips.items() for id_ in found[at]]
            for at, side in enumerate(("worse", "better"))
        },
    }
