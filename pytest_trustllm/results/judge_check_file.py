"""Files of ``judge-check``: read, and refused if they are not about the verdicts of this run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.reading import read_json
from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import DataEntry, DefinitionEntry, EstimateEntry, JudgeCheckEntry, RunEntry
from pytest_trustllm.suites.definitions import PARTS, definitions_of
from pytest_trustllm.suites.samples import data_file
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.verdict_rates import counted_label, why_combined
from pytest_trustllm.types import JUDGE_CHECK_SCHEMA

_MACHINE = frozenset(
    {"name", "label", "about", "device", "torch", "transformers", "openai", "base_url", "server", "headers"}
)
"""What a results file records of a model that says where it ran, and not which model it is."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a check must agree with.

    Attributes:
        roles: Role -> what is known of its model, at least the ``name``.
        tasks: All tasks.
        definitions: Task -> its hashes.
        data: Its data files.
        root: Data files of the project are named relative to it.
        votes: How often the judge is asked for every verdict.
    """

    roles: Mapping[str, Mapping[str, Any]]
    tasks: Sequence[Task]
    definitions: Mapping[str, DefinitionEntry]
    data: DataEntry
    root: Path | None = None
    votes: int = 1

    @classmethod
    def before(
        cls, roles: Mapping[str, str], tasks: Sequence[Task], data: DataEntry, root: Path, votes: int
    ) -> RunFacts:
        """Return what is known before the first prompt: of models their names alone."""
        models = {role: {"name": name} for role, name in roles.items()}
        return cls(models, tasks, definitions_of(tasks), data, root, votes)

    @classmethod
    def after(cls, run: RunEntry, tasks: Sequence[Task], root: Path) -> RunFacts:
        """Return what the results record of a run."""
        return cls(run["roles"], tasks, run.get("tasks", {}), run["data"], root, run.get("judge_votes", 1))


def read_judge_check(path: Path, facts: RunFacts, flag: str) -> JudgeCheckEntry:
    """Read a file of ``judge-check`` and check that it is about this run.

    Args:
        path: The file.
        facts: Of the run.
        flag: How messages name the option.

    Returns:
        What the results keep of it.

    Raises:
        ResultsError: It cannot be read, is not such a file, or is about another judge, task or data.
    """
    where = f"{flag}: {path}"
    judge_check = _read(path, where)
    if not concerned_tasks(judge_check, facts.tasks):
        reasons = _why_combined(judge_check, facts.tasks)
        named = named_subject(judge_check)
        raise ResultsError(f"{where}: no rate of this run is a plain share of verdicts about {named}{reasons}")
    problem = why_stale(judge_check, facts)
    if problem is not None:
        raise ResultsError(f"{where}: {problem}")
    return judge_check


def read_judge_checks(paths: Iterable[Path], facts: RunFacts, flag: str) -> list[JudgeCheckEntry]:
    """Read all files of ``judge-check`` that a run is given.

    Args:
        paths: The files.
        facts: Of the run.
        flag: How messages name the option.

    Returns:
        What the results keep of them: first those about all tasks, since one about a single task says more about it.

    Raises:
        ResultsError: As :func:`read_judge_check`; or two are about the same task, and nothing says which counts.
    """
    judge_checks: list[JudgeCheckEntry] = []
    path_of: dict[tuple[str, str | None], Path] = {}
    for path in paths:
        judge_check = read_judge_check(path, facts, flag)
        about = judge_check["task"]
        subject = judge_check["role"], None if about is None else about["id"]
        if subject in path_of:
            named = named_subject(judge_check)
            raise ResultsError(f"{flag}: {path_of[subject]} and {path} are both about {named}; give one of them")
        path_of[subject] = path
        judge_checks.append(judge_check)
    return sorted(judge_checks, key=lambda judge_check: judge_check["task"] is not None)


def named_subject(judge_check: JudgeCheckEntry) -> str:
    """Return in words what a check is about: a task, or the refusals of all tasks."""
    about = judge_check["task"]
    return "refusals" if about is None else one_line(about["id"], 60)


def _why_combined(judge_check: JudgeCheckEntry, tasks: Iterable[Task]) -> str:
    """Return why the task of a check has no plain share, to be appended to a message; empty if nothing is to say."""
    for task in tasks:
        if judge_check["task"] is not None and judge_check["task"]["id"] == task.id:
            why = why_combined(task)
            return "" if why is None else f": {why}"
    return ""


def _read(path: Path, where: str) -> JudgeCheckEntry:
    document = read_json(path, where, ResultsError)
    wrong_file = f"{where}: is not what 'pytest-trustllm judge-check --json' writes"
    if not isinstance(document, dict) or document.get("schema") != JUDGE_CHECK_SCHEMA:
        raise ResultsError(wrong_file)
    try:
        judge_check = kept_part(checked(document, JudgeCheckEntry))
    except Mismatch as e:
        raise ResultsError(f"{wrong_file}: {e}") from None
    confidence = judge_check["confidence"]
    if not 0 < confidence < 1:
        raise ResultsError(f"{wrong_file}: confidence: expected a number between 0 and 1, found {confidence}")
    for name, estimate in (("sensitivity", judge_check["sensitivity"]), ("specificity", judge_check["specificity"])):
        _check_share(estimate, f"{wrong_file}: {name}")
    drawn = judge_check.get("drawn")
    if drawn is not None and any(label["label"] not in (0, 1) for label in drawn["labels"]):
        raise ResultsError(f"{wrong_file}: drawn.labels: expected labels of 0 and 1")
    return judge_check


def _check_share(estimate: EstimateEntry, where: str) -> None:
    """See that a share and its limits are shares: a file can be edited."""
    value = estimate["value"]
    if value is not None and not 0 <= value <= 1:
        raise ResultsError(f"{where}.value: expected a number from 0 to 1, found {value}")
    for limit in estimate["ci"] or ():
        if not 0 <= limit <= 1:
            raise ResultsError(f"{where}.ci: expected numbers from 0 to 1, found {limit}")


def kept_part(judge_check: Mapping[str, Any]) -> JudgeCheckEntry:
    """Return what the results keep of a check: not the table of labels, nor the lines that differ."""
    # keys are copied by name here: the document was checked, so what remains is an entry
    kept: Any = {key: judge_check[key] for key in JudgeCheckEntry.__annotations__ if key in judge_check}
    entry: JudgeCheckEntry = kept
    return entry


def concerned_tasks(judge_check: JudgeCheckEntry, tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks with a rate that the check can correct."""
    about = judge_check["task"]
    concerned: list[Task] = []
    for task in tasks:
        if counted_label(task) is None or judge_check["role"] not in task.scorer.roles:
            continue
        if about is None or task.id == about["id"]:
            concerned.append(task)
    return concerned


# --- is it about this run? --------------------------------------------------------------------------------------------


def why_stale(judge_check: JudgeCheckEntry, facts: RunFacts) -> str | None:
    """Return in one line why a check says nothing about the verdicts of a run; None if it does."""
    problem = _other_model(judge_check, facts) or _other_votes(judge_check, facts)
    if problem is not None:
        return problem
    for task in concerned_tasks(judge_check, facts.tasks):
        problem = _other_task(judge_check, task, facts)
        if problem is not None:
            return problem
    return None


def _other_model(judge_check: JudgeCheckEntry, facts: RunFacts) -> str | None:
    role = judge_check["role"]
    then: Mapping[str, Any] = judge_check["model"]
    now = facts.roles.get(role, {})
    if now.get("name") != then["name"]:
        name = one_line(now.get("name") or "no model", 60)
        return f"checks {one_line(then['name'], 60)} as {one_line(role, 20)}, and this run has {name}"
    for key in then:
        if key in now and key not in _MACHINE and now[key] != then[key]:
            before, after = one_line(repr(then[key]), 60), one_line(repr(now[key]), 60)
            name = one_line(then["name"], 60)
            return f"checks {name} with {one_line(key, 30)} {before}, and this run has {after}; check again"
    return None


def _other_votes(judge_check: JudgeCheckEntry, facts: RunFacts) -> str | None:
    """Return that a majority errs at other rates than a single verdict; classifiers are never put to a vote."""
    then = judge_check.get("votes", 1)
    if judge_check["role"] != "judge" or then == facts.votes:
        return None
    words = f"checks {_named_votes(then)} of the judge, and this run has {_named_votes(facts.votes)}"
    return f"{words}; label responses of a run with as many votes, or change --trust-judge-votes"


def _named_votes(votes: int) -> str:
    return "single verdicts" if votes == 1 else f"majorities of {votes} votes"


def _other_task(judge_check: JudgeCheckEntry, task: Task, facts: RunFacts) -> str | None:
    about = judge_check["task"]
    if about is not None and about["version"] != task.version:
        return f"checks version {about['version']} of {task.id}, and the suite has version {task.version}; check again"
    now = facts.definitions.get(task.id, {"hashes": {}})["hashes"]
    for part, hash_ in judge_check.get("definition", {}).items():
        if part in now and now[part] != hash_:
            return f"{PARTS.get(part, one_line(part, 30))} of {task.id} changed since the check; check again"
    counted = counted_label(task)
    if judge_check["positive"] != counted:
        positive = one_line(judge_check["positive"], 40)
        return f"is about {positive}, and {task.id} counts {counted}; check again with --positive {counted!r}"
    return _other_data(judge_check, task, facts)


def _other_data(judge_check: JudgeCheckEntry, task: Task, facts: RunFacts) -> str | None:
    drawn = judge_check.get("drawn")
    if drawn is None:
        return None
    for file, hash_ in drawn["data"].items():
        now = data_of(task, facts.data, facts.root)
        if now and now != {file: hash_}:
            name = one_line(next(iter(now)), 60)
            then = one_line(file, 60)
            what = f"{then} changed" if name == then else f"{task.id} has the data {name} in this run, not {then}"
            return f"{what} since the responses were drawn; label responses of this run"
    return None


def data_of(task: Task, data: DataEntry, root: Path | None) -> dict[str, str]:
    """Return the data file of a task in a run, with its SHA-256; empty if the run does not record it.

    Args:
        task: The task.
        data: What the run records.
        root: Data files of the project are named relative to it.
    """
    file = data_file(task, root, bundled=data["source"] == "sample")
    if file is None or file not in data["files"]:
        return {}
    return {file: data["files"][file]}
