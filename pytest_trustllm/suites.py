"""Suite YAML to tasks: how to ask, how to score, what to report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm import paths
from pytest_trustllm.components import Component, Components
from pytest_trustllm.dataset import SECTIONS
from pytest_trustllm.dataspec import DataSpec, data_shape
from pytest_trustllm.documents import Place, read_document
from pytest_trustllm.errors import SuiteError, suggest
from pytest_trustllm.metricspec import Metrics, MetricSpec
from pytest_trustllm.records import Generation
from pytest_trustllm.registry import Registry
from pytest_trustllm.shapes import (
    Choice,
    Either,
    Fields,
    Integer,
    Key,
    ListOf,
    Made,
    MappingOf,
    Name,
    Number,
    Table,
    Text,
    Texts,
)
from pytest_trustllm.templates import Template


@dataclass(frozen=True, slots=True)
class Task:
    """One way of asking and scoring.

    Attributes:
        suite: Name of the suite file without ``.yaml``.
        dimension: Such as ``safety``.
        name: Unique within the dimension.
        version: Raised whenever a reported number can change.
        title: For people.
        data: Where the rows come from.
        prompt: Jinja2 template over the row's fields; None: the row's own ``prompt``.
        messages: (role, template) pairs instead of a single prompt.
        generation: How answers are generated.
        scorer: The scorer object.
        scorer_name: Its registered name.
        metrics: The first one is the headline.
        group: Group name -> field, fields (joined by a dot) or template over the row.
        reads: Name of the task of the same suite whose answers this one scores; it asks nothing itself.
        cluster: Field, fields or template over the row (of a pair: its first row); samples for which it is the same
            were made of one source item and depend on each other. None: every sample stands for itself.
    """

    suite: str
    dimension: str
    name: str
    version: int
    title: str
    data: DataSpec
    prompt: str | None
    messages: tuple[tuple[str, str], ...] | None
    generation: Generation
    scorer: Any
    scorer_name: str
    metrics: tuple[MetricSpec, ...]
    group: Mapping[str, str | tuple[str, ...]]
    reads: str | None = None
    cluster: str | tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        """``dimension/task``."""
        return f"{self.dimension}/{self.name}"

    @property
    def asked(self) -> str:
        """Id of the task whose samples this one scores: itself, or the one that it reads."""
        return self.id if self.reads is None else f"{self.dimension}/{self.reads}"

    def metric_id(self, metric: str) -> str:
        """``dimension/task.metric``."""
        return f"{self.id}.{metric}"


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite file.

    Attributes:
        name: File name without ``.yaml``.
        path: The file.
        shown: How messages and node ids name it.
        dimension: Such as ``safety``.
        source: Where it comes from: paper, licence.
        tasks: In file order.
        builtin: It ships with the package.
    """

    name: str
    path: Path
    shown: str
    dimension: str
    source: Mapping[str, Any]
    tasks: tuple[Task, ...]
    builtin: bool


def read_suite(path: Path, registry: Registry, *, root: Path | None = None, builtin: bool = False) -> Suite:
    """Read one suite file.

    Raises:
        SuiteError: Any mistake in it, with file and field.
    """
    shown = f"trustllm/{path.name}" if builtin else paths.shown(path, root)
    document = read_document(path, shown, SuiteError)
    top = suite_shape(registry, path.parent)(document)
    dimension = top["dimension"]
    tasks: list[Task] = []
    for place, values in zip(document["tasks"].list(), top["tasks"], strict=True):
        task = _task(path.stem, dimension, values)
        if any(t.name == task.name for t in tasks):
            raise place.fail(f"task {task.name!r} is defined twice")
        if task.reads is not None:
            read = next((t for t in tasks if t.name == task.reads and t.reads is None), None)
            if read is None:
                raise place["reads"].fail(
                    f"no earlier task {task.reads!r}{suggest(task.reads, [t.name for t in tasks])}"
                )
            task = dataclasses.replace(task, group=task.group or read.group)
        tasks.append(task)
    return Suite(path.stem, path, shown, dimension, top["source"] or {}, tuple(tasks), builtin)


def find_suites(directories: Iterable[Path], registry: Registry, *, root: Path, builtin: bool = True) -> list[Suite]:
    """Read all suites: the user's directories first, then the shipped ones whose name is not taken.

    Raises:
        SuiteError: A mistake in a file, or two tasks with the same ``dimension/task``.
    """
    suites: list[Suite] = []
    for directory in directories:
        if not directory.is_dir():
            raise SuiteError(f"trust_suites: {paths.shown(directory, root)} is not a directory")
        for path in sorted(directory.glob("*.yml")):
            raise SuiteError(f"{paths.shown(path, root)}: a suite file ends in .yaml; rename it")
        for path in sorted(directory.glob("*.yaml")):
            if any(s.name == path.stem for s in suites):
                raise SuiteError(f"{paths.shown(path, root)}: another suite file is named {path.name} too; rename one")
            suites.append(read_suite(path, registry, root=root))
    if builtin:
        taken = {s.path.name for s in suites}
        for path in sorted(paths.shipped("suites").glob("*.yaml")):
            if path.name not in taken:
                suites.append(read_suite(path, registry, builtin=True))
    where: dict[str, str] = {}
    for suite in suites:
        for task in suite.tasks:
            if task.id in where:
                raise SuiteError(f"{suite.shown}: task {task.id!r} is defined in {where[task.id]} too; rename one")
            where[task.id] = suite.shown
    return suites


def _task(suite: str, dimension: str, values: Mapping[str, Any]) -> Task:
    scorer_name, scorer = values["scorer"]
    absent = {"title": values["name"], "data": DataSpec(), "generation": _PLAIN, "group": {}}
    given = {key: absent.get(key) if value is None else value for key, value in values.items()}
    return Task(**{**given, "suite": suite, "dimension": dimension, "scorer": scorer, "scorer_name": scorer_name})


_PLAIN = Generation()
_GENERATION = Made(
    Table(
        {
            "temperature": Key(Number(0, 10), "0 is greedy: the likeliest token.", default=_PLAIN.temperature),
            "max_new_tokens": Key(
                Integer(1), "Greatest length of an answer, in tokens.", default=_PLAIN.max_new_tokens
            ),
            "stop": Key(Texts(blank=True), "An answer ends before the first of these texts.", default=_PLAIN.stop),
        }
    ),
    lambda _, values: Generation(**values),
)
_LAST = "the last message must be the user's"


def _messages(place: Place, messages: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    if messages[-1]["role"] != "user":
        raise place.fail(_LAST)
    return tuple((m["role"], m["content"]) for m in messages)


_MESSAGE = Table(
    {
        "role": Key(Choice(("system", "user", "assistant")), "Who speaks.", required=True),
        "content": Key(Template(), "Jinja2 template over the row's fields.", required=True),
    }
)
_MESSAGES = Made(ListOf(_MESSAGE, _LAST), _messages)


_FIELD = Either(str, Template(), Texts())
_GROUP = Made(Name(), lambda _, name: {name: name})
_ASKING = ("data", "prompt", "messages", "generation", "cluster")


@dataclass(frozen=True, slots=True)
class _TaskShape:
    """One entry of ``tasks``.

    Attributes:
        registry: What it may name.
        folder: Where the suite lies.
    """

    registry: Registry
    folder: Path

    def __call__(self, place: Place) -> dict[str, Any]:
        table = self._table()
        reads, messages = place.mapping(table.keys).get("reads"), place.get("messages")
        for key in _ASKING if reads is not None else ():
            if (extra := place.get(key)) is not None:
                raise extra.fail("a task with 'reads' asks nothing itself; remove this key")
        if place.get("prompt") is not None and messages is not None:
            raise messages.fail("give either 'prompt' or 'messages'")
        values = table(place)
        if reads is None and values["data"] is None:
            raise place.fail("key 'data' is missing")
        for spec, entry in zip(values["metrics"], place["metrics"].list(), strict=True):
            if spec.value.average == "macro" and not values["group"]:
                raise entry.fail("'average: macro' needs a 'group' on the task")
            for name in spec.where if reads is None else ():
                if name not in (values["group"] or {}):
                    accepted = suggest(name, values["group"] or {})
                    raise entry["where"].fail(f"the task has no group {name!r}, so no sample would count{accepted}")
        return values

    def _table(self) -> Table:
        scorer = Component(Components(self.registry.scorers, self.folder))
        metrics = Metrics(Components(self.registry.metrics, self.folder))
        return Table(
            {
                "name": Key(Name(), "Unique within the dimension.", required=True),
                "version": Key(Integer(1), "Raise it whenever a reported number can change.", default=1),
                "title": Key(Text(), "For people; absent: the name."),
                "data": Key(data_shape(self.folder), "Where the rows come from."),
                "prompt": Key(Template(), "Jinja2 template over the row's fields; absent: the row's own prompt."),
                "messages": Key(_MESSAGES, "A chat instead of a single prompt; the last message is the user's."),
                "generation": Key(_GENERATION, "How answers are generated."),
                "scorer": Key(scorer, "What reads an answer, with its parameters.", required=True),
                "metrics": Key(metrics, "What is reported; the first one is the headline.", required=True),
                "group": Key(
                    Either(str, _GROUP, MappingOf(_FIELD, names=True)),
                    "Groups for sub-metrics: a field; or name: field, list of fields, or template.",
                ),
                "cluster": Key(_FIELD, "Field, list of fields or template: equal for samples made of one source item."),
                "reads": Key(Text(), "Earlier task of this suite whose answers this one scores."),
            },
            also={
                "if": {"required": ["reads"]},
                "then": {"properties": dict.fromkeys(_ASKING, False)},
                "else": {"required": ["data"]},
                "not": {"required": ["prompt", "messages"]},
            },
        )

    def schema(self) -> dict[str, Any]:
        return self._table().schema()


def suite_shape(registry: Registry, folder: Path) -> Table:
    """Return what a suite file may hold.

    Args:
        registry: The scorers and metrics that it may name.
        folder: Where it lies.
    """
    tasks = ListOf(_TaskShape(registry, folder), "a suite needs at least one task")
    return Table(
        {
            "dimension": Key(Name(), "What the tasks are about, such as safety.", required=True, examples=SECTIONS),
            "source": Key(Fields(), "Where the items come from, and their licence; for people."),
            "tasks": Key(tasks, "Ways of asking and scoring.", required=True),
        }
    )
