"""Whether every number of a run can be traced to a model, data, a judge and settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import JudgeCheckEntry, ModelInfo, Results, RunEntry
from pytest_trustllm.results.identity import identity_of
from pytest_trustllm.suites.licences import NOT_STATED

_CHECKED_ROLES = ("judge", "refusal")
"""Roles whose verdicts people can label, so that ``judge-check`` can check them."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Trace:
    """One thing that a number must be traced to.

    Attributes:
        name: Such as ``model revision``.
        ok: It is known.
        text: What it is, or what is missing.
    """

    name: str
    ok: bool
    text: str


def traces_of(results: Results) -> Iterator[Trace]:
    """Yield everything that a results file must record, and whether it does."""
    run = results["run"]
    yield from _model_traces(run["model"])
    yield from _data_traces(results)
    for role, model in run["roles"].items():
        if role not in results["usage"].get("roles", {}) and "revision" not in model:
            continue  # no number needed it, so it was never started
        yield _known(f"{role} revision", model.get("revision"))
        if role in _CHECKED_ROLES:
            yield _check_of(role, model, run.get("judge_checks", ()))
    yield from _task_traces(results)
    yield from _setting_traces(results)


def _known(name: str, value: object) -> Trace:
    if value in (None, "", {}, []):
        return Trace(name, False, "is not recorded")
    return Trace(name, True, one_line(value, 80))


def _all_known(name: str, missing: list[str], count: int) -> Trace:
    """Return a trace for many things of one kind."""
    if missing:
        shown = ", ".join(one_line(each, 60) for each in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return Trace(name, False, f"is not recorded for {shown}{more}")
    if not count:
        return Trace(name, False, "there is none")
    return Trace(name, True, f"recorded for {count}")


def _model_traces(model: ModelInfo) -> Iterator[Trace]:
    yield _known("model revision", model.get("revision"))
    yield _known("model licence", model.get("about", {}).get("licence"))


def _data_traces(results: Results) -> Iterator[Trace]:
    run = results["run"]
    files = run["data"]["files"]
    yield _all_known("data hashes", [file for file, sha256 in files.items() if not sha256], len(files))
    dimensions = list(results["scores"])
    yield _all_known("data licences", [name for name in dimensions if not _is_licensed(run, name)], len(dimensions))


def _is_licensed(run: RunEntry, dimension: str) -> bool:
    """Return whether the licences of a dimension's rows are recorded, for its data sets or for each of its tasks."""
    if run.get("licences", {}).get(dimension):
        return True
    licences = [text for task, text in run.get("task_licences", {}).items() if task.startswith(f"{dimension}/")]
    return bool(licences) and NOT_STATED not in licences


def _check_of(role: str, model: ModelInfo, checks: list[JudgeCheckEntry] | tuple[()]) -> Trace:
    """Return whether people checked a judge, and whether it is still the one that they checked."""
    name = f"{role} check"
    mine = [check for check in checks if check["role"] == role]
    if not mine:
        return Trace(name, False, "there is none; run judge-check, and give its result with --trust-judge-check")
    stale = [check for check in mine if identity_of(check["model"]) != identity_of(model)]
    if stale:
        return Trace(name, False, f"is stale: {one_line(stale[0]['model']['name'], 60)} was checked in another version")
    rows = sum(check["compared"] for check in mine)
    return Trace(name, True, f"{rows:,} verdicts compared with labels by people")


def _task_traces(results: Results) -> Iterator[Trace]:
    run = results["run"]
    tasks = list(results["coverage"])
    yield _all_known("task versions", [task for task in tasks if task not in run["task_versions"]], len(tasks))
    definitions = run.get("tasks", {})
    yield _all_known("task definitions", [task for task in tasks if task not in definitions], len(tasks))


def _setting_traces(results: Results) -> Iterator[Trace]:
    run = results["run"]
    yield Trace("seed", True, str(run["seed"]))
    yield _known("command", " ".join(run.get("command", ())))
    yield _known("versions", f"pytest-trustllm {run['plugin_version']}" if run.get("packages") else None)
    yield _commit(run)
    thresholds = run.get("thresholds", {})
    files = list(dict.fromkeys(gate["id"].partition("::")[0] for gate in results["gates"]))
    if files:
        yield _all_known("threshold hashes", [file for file in files if file not in thresholds], len(files))


def _commit(run: RunEntry) -> Trace:
    commit = run.get("commit")
    if commit is None:
        return Trace("commit", False, "is not recorded: the project was in no Git repository")
    if commit["changed"]:
        return Trace("commit", False, f"{one_line(commit['id'], 40)}, but files had changed since")
    return Trace("commit", True, one_line(commit["id"], 40))
