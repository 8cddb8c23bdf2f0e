"""What a task's numbers depend on besides the model, as short hashes that are part of the results.

A baseline with another rubric tells nothing about the model. A task's version says so only if its author remembered to
raise it; these hashes say so always.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.formats import DefinitionEntry
from pytest_trustllm.scorers.rubrics import Rubric
from pytest_trustllm.suites.metric_specs import MetricSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import MEAN, digest

PARTS: Mapping[str, str] = {
    "scorer": "the scorer or its parameters",
    "rubric": "the rubric",
    "metrics": "the metrics or their parameters",
    "generation": "the generation settings",
    "prompt": "the prompt template",
    "groups": "the groups or clusters",
}
"""Part of a task's definition -> its name in messages."""
JUDGED_BY = ("scorer", "rubric")
"""Parts that a verdict on a response depends on."""
DRAWN_FROM = (*JUDGED_BY, "prompt")
"""Parts that a verdict on a response of a run depends on."""
_LENGTH = 16
_SHOWN = 3
_PACKAGE = "pytest_trustllm."


def hashes_of(task: Task) -> dict[str, str]:
    """Return part -> hash. A task whose scorer uses no judge has no rubric."""
    parts: dict[str, object] = {
        "scorer": [task.scorer_name, _plain(task.scorer), _own_code(task.scorer)],
        "metrics": [_metric(spec) for spec in task.metrics] + _reducer(task),
        "generation": _plain(task.generation),
        "prompt": [task.prompt, task.messages, *_conversation(task)],
        "groups": [task.group, task.cluster],
    }
    rubrics = _files(task.scorer)
    if rubrics:
        parts["rubric"] = [_content(path) for path in rubrics]
    return {part: digest(_plain(parts[part]))[:_LENGTH] for part in PARTS if part in parts}


def _conversation(task: Task) -> list[object]:
    """Return what makes a task's samples conversations; nothing for others, whose hash stays as it was."""
    parts = []
    for part in (task.talk, task.toolbox):
        if part is not None:
            parts.append(_plain(part))
    return parts


def some_hashes(task: Task, parts: Sequence[str]) -> dict[str, str]:
    """Return the hashes of some parts of a task's definition, as far as it has them."""
    return {part: hash_ for part, hash_ in hashes_of(task).items() if part in parts}


def _reducer(task: Task) -> list[object]:
    """Return what a task makes of epochs, but for the mean: it came later than the hashes."""
    return [] if task.reducer == MEAN else [task.reducer]


def _metric(spec: MetricSpec) -> list[object]:
    return [_plain(spec), _own_code(spec.value.metric), _own_code(spec.parity.metric)]


def definitions_of(tasks: Iterable[Task]) -> dict[str, DefinitionEntry]:
    """Return ``run.tasks`` of the results: task -> ``hashes``."""
    return {task.id: {"hashes": hashes_of(task)} for task in tasks}


def changed(before: Mapping[str, Any], now: Mapping[str, Any], when: str = "since the baseline") -> list[str]:
    """Return one line for every part of definitions that differs between two runs, with the tasks by name.

    Args:
        before: ``run`` of the earlier results.
        now: ``run`` of the later results.
        when: How a line ends.
    """
    lines = []
    for part, words in PARTS.items():
        tasks = [task for task in now.get("task_versions") or () if _differs(before, now, task, part)]
        if tasks:
            lines.append(f"{words} of {_named(tasks)} changed {when}")
    return lines


def _differs(before: Mapping[str, Any], now: Mapping[str, Any], task: str, part: str) -> bool:
    old_hashes = _saved_hashes(before, task)
    new_hashes = _saved_hashes(now, task)
    # Results of an older version have no hashes: nothing is known then.
    if old_hashes and new_hashes and old_hashes.get(part) != new_hashes.get(part):
        return True
    if part != "generation":
        return False
    # Compare what was really used as well: a models file may override the task's settings.
    old_settings = (before.get("generation") or {}).get(task)
    new_settings = (now.get("generation") or {}).get(task)
    if old_settings is None or new_settings is None:
        return False
    return bool(old_settings != new_settings)


def _saved_hashes(run: Mapping[str, Any], task: str) -> Mapping[str, str]:
    """Return part -> hash of a task in saved results, which may be of any version or edited; empty if absent."""
    tasks = run.get("tasks") or {}
    definition = tasks.get(task) or {}
    return definition.get("hashes") or {}


def _named(tasks: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c", or "a, b, c and 2 more tasks"."""
    if len(tasks) == 1:
        return tasks[0]
    if len(tasks) <= _SHOWN:
        return f"{', '.join(tasks[:-1])} and {tasks[-1]}"
    return f"{', '.join(tasks[:_SHOWN])} and {len(tasks) - _SHOWN} more tasks"


def _plain(value: Any) -> Any:
    """Return a value as plain JSON that is the same in every process: without addresses and paths of one machine.

    Names of classes and fields enter the hash: renaming ``Reading`` or a scorer's class makes every earlier baseline
    look changed.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if not _at_default(value, field)]
        return [type(value).__qualname__, {field.name: _plain(getattr(value, field.name)) for field in fields}]
    if isinstance(value, Path):
        return value.name  # the file's content has a hash of its own
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))  # their order differs between processes
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return type(value).__qualname__


def _at_default(value: Any, field: dataclasses.Field[Any]) -> bool:
    """Return whether a parameter has its default: one that a later version adds must not look like a change."""
    default: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return default is not dataclasses.MISSING and getattr(value, field.name) == default


def _files(component: Any) -> list[Path]:
    """Return the files next to the suite that a scorer's parameters name."""
    return [value for value in _values_in(component) if isinstance(value, Path)]


def rubrics_of(tasks: Iterable[Task]) -> dict[str, str]:
    """Return task -> what its scorer tells the judge, as templates that the judge's questions are made of."""
    rubrics = {}
    for task in tasks:
        texts = [_rubric_text(value.rubric) for value in _components(task.scorer) if hasattr(value, "rubric")]
        known = [text for text in texts if text]
        if known:
            rubrics[task.id] = "\n\n".join(dict.fromkeys(known))
    return rubrics


def _components(scorer: Any) -> Iterator[Any]:
    """Yield a scorer, and those inside of it."""
    return (value for value in _values_in(scorer) if dataclasses.is_dataclass(value))


def _rubric_text(rubric: Any) -> str:
    if isinstance(rubric, Rubric):
        if rubric.field is not None:
            return f"(the field {rubric.field!r} of the row)"
        rubric = rubric.file if rubric.text is None else rubric.text
    if not isinstance(rubric, Path):
        return str(rubric or "")
    try:
        return rubric.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""  # the scorer, which needs the file, reports it


def _values_in(value: Any) -> Iterator[Any]:
    """Yield a parameter, and those of scorers inside of it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _values_in(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _values_in(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _values_in(entry)
    else:
        yield value


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""  # the scorer, which needs the file, reports it


def _own_code(component: Any) -> str:
    """Return the project's own code in a scorer or metric; a change of a built-in one raises the task's version."""
    codes = [_code_of(value) for value in _values_in(component) if dataclasses.is_dataclass(value)]
    return "\n".join(code for code in codes if code) or _code_of(component)


def _code_of(component: Any) -> str:
    """Return the code of a project's own class, or of the function that a built-in scorer calls."""
    code = getattr(component, "code", None)
    if not type(component).__module__.startswith(_PACKAGE):
        code = type(component)
    if code is None:
        return ""
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # defined in a notebook or by exec
        return ""
