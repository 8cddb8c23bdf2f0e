"""An earlier run to compare with: whether it can be compared, which samples both have, and which of them flipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config import paths
from pytest_trustllm.errors import GateError, ResultsError, one_line
from pytest_trustllm.formats import BaselineEntry, DifferenceEntry, PairingEntry, Record, Results, RunEntry
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.results.files import read_results, records_of
from pytest_trustllm.suites import definitions
from pytest_trustllm.suites.pairing import Pairing
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import ROLES

_VERDICTS = ("passed", "missed")
"""Statuses of samples that have a score."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A saved run that others are compared with.

    Attributes:
        file: How messages name its results file.
        results: The results document.
        records: Of its samples, without texts.
    """

    file: str
    results: Results
    records: Sequence[Record]

    @property
    def run(self) -> RunEntry:
        """What the results record about the run."""
        return self.results["run"]

    @property
    def model(self) -> str:
        """Name of its model."""
        return self.run["model"]["name"]

    @property
    def label(self) -> str:
        """The name that ``--trust-model`` gave its model: the app of a fixture may call itself something else."""
        return self.run["model"].get("label", self.model)


def read_baseline(path: Path, flag: str = "--trust-baseline", root: Path | None = None) -> Baseline:
    """Read a results file and its samples file.

    Args:
        path: The results file.
        flag: How messages name the option.
        root: Messages name the file relative to it.

    Raises:
        ResultsError: One of them is missing or invalid.
    """
    try:
        results = read_results(path)
        return Baseline(paths.shown(path, root), results, records_of(results, path))
    except ResultsError as e:
        raise ResultsError(f"{flag}: {e}") from None


@dataclass(frozen=True, slots=True)
class RunModels:
    """The models of a run, which must be the same for a comparison; known before the first prompt.

    Attributes:
        model: Name of the model under test.
        roles: Role -> name of its model.
    """

    model: str
    roles: Mapping[str, str]


def check_baseline(
    baseline: Baseline, models: RunModels, gates: Iterable[Gate], tasks: Sequence[Task], *, any_model: str | None
) -> None:
    """Refuse a baseline that cannot be compared with this run.

    Args:
        baseline: The earlier run.
        models: This run's models.
        gates: This run's gates.
        tasks: All tasks.
        any_model: Option by which the user can allow another model; None: another model is allowed.

    Raises:
        ResultsError: It is a run of another model.
        GateError: It lacks what a ``max_drop`` gate compares, or measured it differently.
    """
    # by either name: the app of a fixture may call itself something else than the option does
    if any_model is not None and models.model not in (baseline.model, baseline.label):
        names = f"it is a run of {one_line(baseline.model, 60)!r}, this one of {one_line(models.model, 60)!r}"
        raise ResultsError(
            f"{baseline.file}: {names}; give a baseline of the same model, or {any_model} to compare models"
        )
    for gate in gates:
        if gate.kind != "max_drop" or gate.against == "base":
            continue
        for task in _tasks_of(gate, tasks):
            _check_task(baseline, models, gate, task)
        _check_number(baseline, gate)


def _tasks_of(gate: Gate, tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks whose scores decide a gate."""
    if gate.metric_id is None:
        return [task for task in tasks if task.dimension == gate.dimension]
    task_id = gate.metric_id.partition("{")[0].rpartition(".")[0]
    return [task for task in tasks if task.id == task_id]


def _check_task(baseline: Baseline, models: RunModels, gate: Gate, task: Task) -> None:
    version = baseline.run["task_versions"].get(task.id)
    if version is None:  # the baseline did not run the task: _check_number() reports what it lacks
        return
    if version != task.version:
        raise GateError(
            f"{gate.id}: {baseline.file} has version {version} of {task.id}, the suite version {task.version}: "
            "their scores cannot be compared; record a new baseline"
        )
    for role in ROLES:
        if role not in task.roles:
            continue
        before = _role_model(baseline, role)
        now = models.roles.get(role)
        if before != now:
            raise GateError(
                f"{gate.id}: {task.id} is scored by the {role} model {_quoted(before)} in {baseline.file} and "
                f"{_quoted(now)} in this run; give the same, or record a new baseline"
            )


def _role_model(baseline: Baseline, role: str) -> str | None:
    model = baseline.run["roles"].get(role)
    return None if model is None else model["name"]


def _quoted(name: str | None) -> str:
    return "none" if name is None else repr(one_line(name, 60))


def _check_number(baseline: Baseline, gate: Gate) -> None:
    if _has_number(baseline.results, gate):
        return
    if gate.metric_id is None:
        what = f"trust score of {gate.dimension!r}"
    else:
        what = f"{gate.reading} of {gate.metric_id}"
    raise GateError(f"{gate.id}: {baseline.file} has no {what}; record a baseline that has, or remove the gate")


def _has_number(results: Results, gate: Gate) -> bool:
    if gate.metric_id is None:
        score = results["scores"].get(gate.dimension)
        return score is not None and score["value"] is not None
    metric = results["metrics"].get(gate.metric_id)
    return metric is not None and metric[gate.reading] is not None


def other_differences(before: RunEntry, now: RunEntry) -> list[str]:
    """Return in words what else than the model differs between two runs and may change a number.

    Args:
        before: The part of the earlier run's results about the run.
        now: The same part of the later run's.
    """
    lines = _setting_differences(before, now)
    stop = before.get("stop")
    if stop is not None and stop["asked"] < stop["planned"]:
        asked = f"{stop['asked']:,} of {stop['planned']:,} samples"
        lines.append(f"the baseline stopped early and asked {asked}; record one without --trust-stop")
    lines += _data_differences(before, now)
    lines += definitions.changed(before, now)
    if before.get("judge_checks", []) != now.get("judge_checks", []):
        lines.append("the checks of judges are not the baseline's; corrected rates differ for that reason too")
    for role in ROLES:
        if before["roles"].get(role) != now["roles"].get(role):
            lines.append(f"the {role} model is not the baseline's")
    return [one_line(line, 200) for line in lines]


def _setting_differences(before: RunEntry, now: RunEntry) -> list[str]:
    lines: list[str] = []
    if before["seed"] != now["seed"]:
        lines.append(f"the baseline's seed is {before['seed']}, this run's {now['seed']}")
    if before["epochs"] != now["epochs"]:
        lines.append(f"the number of epochs is {now['epochs']}, in the baseline {before['epochs']}")
    votes_before = before.get("judge_votes", 1)
    votes_now = now.get("judge_votes", 1)
    if votes_before != votes_now:
        lines.append(f"the number of the judge's votes is {votes_now}, in the baseline {votes_before}")
    return lines


def _data_differences(before: RunEntry, now: RunEntry) -> list[str]:
    """Return in words which data files and task versions differ; those that only one run has are ignored."""
    lines: list[str] = []
    files_before = before["data"]["files"]
    for file, hash_ in now["data"]["files"].items():
        if files_before.get(file, hash_) != hash_:
            lines.append(f"{file} is not the baseline's")
    versions_before = before["task_versions"]
    for task, version in now["task_versions"].items():
        if versions_before.get(task, version) != version:
            lines.append(f"{task} is version {version}, in the baseline {versions_before[task]}")
    return lines


def flips(pairing: Pairing[Record]) -> tuple[list[str], list[str]]:
    """Return the ids of samples that met their target before and miss it now, and of those that did the reverse."""
    worse: list[str] = []
    better: list[str] = []
    for before, now in pairing.shared:
        statuses = before["status"], now["status"]
        if statuses == ("passed", "missed"):
            worse.append(now["id"])
        elif statuses == ("missed", "passed"):
            better.append(now["id"])
    return worse, better


def scored_once(pairing: Pairing[Record]) -> tuple[list[str], list[str]]:
    """Return the ids of samples that had a verdict before and have none now, and of those that did the reverse."""
    lost: list[str] = []
    gained: list[str] = []
    for before, now in pairing.shared:
        was_scored, is_scored = (record["status"] in _VERDICTS for record in (before, now))
        if was_scored and not is_scored:
            lost.append(now["id"])
        elif is_scored and not was_scored:
            gained.append(now["id"])
    return lost, gained


def sample_changes(pairings: Mapping[str, Pairing[Any]]) -> str:
    """Return in words how many samples are not shared, and the first of them; empty if all are shared.

    Args:
        pairings: Task -> its samples.
    """
    changed: list[str] = []
    added: list[str] = []
    removed: list[str] = []
    for task, pairing in pairings.items():
        name = task.partition("/")[2]
        changed += _with_task(name, pairing.changed)
        added += _with_task(name, pairing.added)
        removed += _with_task(name, pairing.removed)
    words: list[str] = []
    for change, ids in (("changed", changed), ("added", added), ("removed", removed)):
        if ids:
            words.append(f"{len(ids)} {change}: {_first_of(ids, 3)}")
    return "; ".join(words)


def _with_task(task: str, ids: Iterable[str]) -> list[str]:
    return [f"{task}[{id_}]" for id_ in ids]


def _first_of(ids: Sequence[str], most: int) -> str:
    """Return the first ids, and how many more there are."""
    first = ", ".join(one_line(id_, 60) for id_ in ids[:most])
    if len(ids) > most:
        return f"{first}, +{len(ids) - most}"
    return first


def baseline_entry(
    baseline: Baseline,
    pairings: Mapping[str, Pairing[Record]],
    notes: Sequence[str],
    differences: Mapping[str, DifferenceEntry],
) -> BaselineEntry:
    """Return the part of the results about the comparison.

    ``flipped`` lists the samples whose target was met in one run and missed in the other: ``worse`` and ``better``.

    Args:
        baseline: The earlier run.
        pairings: Task -> its samples in both runs.
        notes: What else differs and may change a number.
        differences: Metric, or ``dimension/score`` -> its numbers over the shared samples.
    """
    worse: list[str] = []
    better: list[str] = []
    lost: list[str] = []
    gained: list[str] = []
    for task, pairing in pairings.items():
        worse_ids, better_ids = flips(pairing)
        worse += _with_task(task, worse_ids)
        better += _with_task(task, better_ids)
        lost_ids, gained_ids = scored_once(pairing)
        lost += _with_task(task, lost_ids)
        gained += _with_task(task, gained_ids)
    entry: BaselineEntry = {
        "file": baseline.file,
        "run": baseline.run["id"],
        "model": baseline.model,
        "started": baseline.run["started"],
        "warnings": list(notes),
        "tasks": {task: _pairing_entry(pairing) for task, pairing in pairings.items()},
        "flipped": {"worse": worse, "better": better},
        "differences": dict(differences),
    }
    if lost or gained:
        entry["scored_once"] = {"lost": lost, "gained": gained}
    return entry


def _pairing_entry(pairing: Pairing[Record]) -> PairingEntry:
    return {
        "shared": len(pairing.shared),
        "changed": list(pairing.changed),
        "added": list(pairing.added),
        "removed": list(pairing.removed),
    }
