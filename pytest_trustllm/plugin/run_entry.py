"""The entries ``run`` and ``usage`` of the results file: what was run, with which settings, and what it cost."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from pytest_trustllm.config.commit import commit_of
from pytest_trustllm.config.secrets import shown_command
from pytest_trustllm.engine.engine import Usage
from pytest_trustllm.engine.messages import FIXTURE, FinishReply, StopReport, UnansweredReport
from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import (
    BatchesEntry,
    GenerationEntry,
    ModelInfo,
    PendingBatch,
    RunEntry,
    StopEntry,
    UnansweredBatch,
    UsageEntry,
)
from pytest_trustllm.gates.selection import digests
from pytest_trustllm.plugin.node_ids import gate_key, sample_ids
from pytest_trustllm.plugin.run_state import RunState
from pytest_trustllm.results import document as resulting
from pytest_trustllm.results.measurement import MeasuredRun
from pytest_trustllm.suites.definitions import definitions_of, rubrics_of
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Selection

_PACKAGES = ("pytest", "pytest-xdist", "transformers", "torch", "openai", "jinja2", "scipy")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What is known about a model's run at its end, apart from its settings.

    Attributes:
        model: Name of the model, as ``--trust-model`` has it.
        finish: What the model host reported.
        selection: What was selected to run.
        measured: The numbers.
        started: When pytest started.
        seconds: How long it has run.
        stopped: The run was cut short.
    """

    model: str
    finish: FinishReply
    selection: Selection
    measured: MeasuredRun
    started: datetime
    seconds: float
    stopped: bool


def run_entry(state: RunState, run: FinishedRun) -> RunEntry:
    """Return the entry ``run``; hooks fill its ``extra`` later."""
    settings = state.settings
    planned = run.selection.planned
    tasks = [task for task in resulting.tasks_of(state.suites) if task.answers_from in planned]
    prompted = [task for task in tasks if task.reads is None]
    entry: RunEntry = {
        "id": uuid.uuid4().hex,
        "started": run.started.isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 3),
        "model": _tested_model(state, run),
        "seed": settings.seed,
        "epochs": settings.epochs,
        "judge_votes": settings.judge_votes,
        "blocked": settings.blocked,
        "judge_checks": list(state.checks),
        "plugin_version": importlib.metadata.version("pytest-trustllm"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": _versions(),
        "data": {"source": state.data.name, "files": run.finish["data"]},
        "roles": role_entries(state, run.finish),
        "generation": {task.id: _generation(task) for task in prompted},
        "task_versions": {task.id: task.version for task in tasks},
        "tasks": definitions_of(tasks),
        "nodes": sample_ids(state, tasks, run.model),
        "bundled": _bundled(state, prompted),
        "data_files": _data_files(state, tasks),
        "licences": _licences(state),
        "task_licences": {task: licence for task, licence in state.licences().items() if task in planned},
        "selection": "partial" if _left_something_out(state, run) else "full",
        "limit": settings.limit,
        "stopped": run.stopped,
        "suites": list(settings.suites),
        "builtin_suites": settings.builtin_suites,
        "installed_suites": [package.name for package in settings.suite_packages],
        "command": [one_line(argument) for argument in shown_command(state.config.invocation_params.args)],
        "thresholds": digests(state.thresholds),
        "extra": {},
    }
    requested = state.requested()
    left_out = {task: licence for task, licence in state.unlicensed.items() if task in requested}
    if left_out:
        entry["unlicensed"] = left_out
    if "judge" in state.roles:
        entry["rubrics"] = rubrics_of(tasks)
    tags = {task.id: list(task.tags) for task in tasks if task.tags}
    if tags:
        entry["tags"] = tags
    commit = commit_of(state.config.rootpath)
    if commit is not None:
        entry["commit"] = commit
    budget = run.finish["budget"]
    if budget is not None:
        entry["budget"] = {**budget, "cut": run.measured.cut}
    batches = _batches(state, run)
    if batches is not None:
        entry["batches"] = batches
    audited = state.data.audited
    if audited is not None:
        entry["audit"] = {
            "run": audited["run"],
            "file": audited["file"],
            "sha256": audited["sha256"],
            "replayed": len(audited["rows"]["replay"]),
        }
    shard = settings.shard
    if shard is not None:
        entry["shard"] = {"index": shard.index, "count": shard.count, "of": state.whole()}
    return entry


def stop_entry(state: RunState, run: FinishedRun, report: StopReport) -> StopEntry | None:
    """Return the entry ``run.stop``; None if every sample was asked because no gate could be decided early."""
    plan = run.finish["plan"]
    if plan is None or plan["stop"] is None or run.stopped:
        return None
    planned = sum(run.selection.planned.values())
    unneeded = sum(task["unneeded"] for task in report["tasks"].values())
    gates = {gate_key(gate, run.model): gate for gate in state.chosen_gates(run.model)}
    early = [gate for key, gate in gates.items() if key in report["decisions"]]
    alphas = [fields["stop"] for fields in plan["stop"]["gates"].get(run.model, {}).values()]
    numbers = [alpha for alpha in alphas if isinstance(alpha, float)]
    return {
        "rule": "alpha" if numbers else "exact",
        "alpha": max(numbers, default=None),
        "ungated": plan["stop"]["ungated"],
        "asked": planned - unneeded,
        "planned": planned,
        "decided": sum(not report["tasks"].keys().isdisjoint(gate.tasks) for gate in early),
        "gates": len(alphas),
        "shares": {gates[key].id: share for key, share in report["shares"].items() if key in gates},
        "whole": {gates[key].id: reason for key, reason in report["whole"].items() if key in gates},
        "tasks": report["tasks"],
    }


def _batches(state: RunState, run: FinishedRun) -> BatchesEntry | None:
    """Return what the model and the roles left in batches; None if they left nothing and were not asked to use any."""
    reports = run.finish["batches"]
    pending: list[PendingBatch] = []
    asked_directly: list[PendingBatch] = []
    unanswered: list[UnansweredBatch] = []
    for name in (run.model, *state.roles):
        role = None if name == run.model else name
        if name in reports:
            pending += _pending_batches(role, reports[name]["pending"])
            asked_directly += _pending_batches(role, reports[name]["asked_directly"])
            unanswered += [_unanswered_batch(role, report) for report in reports[name]["unanswered"]]
    if state.settings.batch is None and not pending and not asked_directly and not unanswered:
        return None
    samples = run.measured.pending.total()
    entry: BatchesEntry = {
        "mode": state.settings.batch,
        "samples": samples,
        "pending": pending,
        "asked_directly": asked_directly,
    }
    if unanswered:
        entry["unanswered"] = unanswered
    return entry


def _unanswered_batch(role: str | None, report: UnansweredReport) -> UnansweredBatch:
    return {
        "role": role,
        "id": report["batch"],
        "requests": report["requests"],
        "answered": report["answered"],
        "reason": report["reason"],
        "again": report["again"],
        "attempt": report["attempt"],
    }


def _pending_batches(role: str | None, requests: Mapping[str, int]) -> list[PendingBatch]:
    return [{"role": role, "id": batch or None, "requests": count} for batch, count in requests.items()]


def usage_entry(state: RunState, finish: FinishReply, model: str) -> UsageEntry:
    """Return the entry ``usage``: what the model under test and the models of the roles spent."""
    usage = finish["usage"]
    entry = usage.get(model) or usage.get(FIXTURE)
    if not entry:  # a model that was never loaded spent nothing
        entry = Usage().entry()
    roles = {role: usage[role] for role in state.roles if role in usage}
    return {**entry, "roles": roles}


def _tested_model(state: RunState, run: FinishedRun) -> ModelInfo:
    """Return what was tested: the app of a fixture under its own name, whatever ``--trust-model`` calls it."""
    models = run.finish["models"]
    if run.model == state.base_label:
        return base_entry(state, run.finish)
    if not state.fixture:
        return _model_entry(run.model, models.get(run.model, {}))
    app = models.get(FIXTURE, {"id": "trust_model (it was not made)"})
    entry = _model_entry(app["id"], app)
    if app["id"] != run.model:
        entry["label"] = run.model
    return entry


def base_entry(state: RunState, finish: FinishReply) -> ModelInfo:
    """Return the bare model behind the app."""
    return _model_entry(state.settings.base_model or "", finish["models"].get(state.base_label or "", {}))


def role_entries(state: RunState, finish: FinishReply) -> dict[str, ModelInfo]:
    """Return role -> what is known of its model."""
    models = finish["models"]
    # A role that nothing needed was not loaded: its name is all that is known
    entries = {role: _model_entry(spec.name, models.get(role, {})) for role, spec in state.roles.items()}
    if "guard" in entries:
        entries["guard"]["guard_template"] = state.roles["guard"].options["guard"]
    return entries


def _model_entry(name: str, info: Mapping[str, Any]) -> ModelInfo:
    """Return a model under its name, with whatever its provider records about it."""
    return cast(ModelInfo, {"name": name, **info})


def _generation(task: Task) -> GenerationEntry:
    generation = task.generation
    return {
        "temperature": generation.temperature,
        "max_new_tokens": generation.max_new_tokens,
        "stop": list(generation.stop),
    }


def _bundled(state: RunState, prompted: Sequence[Task]) -> dict[str, bool]:
    """Return for every task with samples whether they are those that come with the package."""
    shipped: set[str] = set()
    for suite in state.suites:
        if suite.is_shipped:
            shipped.update(task.id for task in suite.tasks)
    is_sample = state.data.name == "sample"
    return {task.id: is_sample and task.id in shipped for task in prompted}


def _data_files(state: RunState, tasks: Sequence[Task]) -> dict[str, str]:
    """Return task -> file of its rows; a task that reads the responses of another one has the rows of that one."""
    files = {task.id: state.data.file(task) for task in tasks if task.reads is None}
    named = {task.id: files.get(task.answers_from) for task in tasks}
    return {task: file for task, file in named.items() if file is not None}


def _licences(state: RunState) -> dict[str, dict[str, str]]:
    licences = {}
    for suite in state.suites:
        if suite.source.get("licences"):
            licences[suite.dimension] = suite.source["licences"]
    return licences


def _left_something_out(state: RunState, run: FinishedRun) -> bool:
    """Return whether samples of any task were left out, or whole tasks that the data has rows for."""
    planned = run.selection.planned
    requested = state.requested()
    for task in resulting.tasks_of(state.suites):
        if state.settings.audit_only and task.id not in requested:
            continue  # the saved run asked it
        has_rows = task.reads is None and state.data.file(task) is not None
        if has_rows and task.id not in planned:
            return True
    return run.measured.ran.partial(planned)


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
