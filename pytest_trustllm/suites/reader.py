"""Suite YAML to tasks: how to prompt, how to score, what to report."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm import extensions
from pytest_trustllm.config import paths
from pytest_trustllm.config.containment import HOW, check_below, files_below, root_of
from pytest_trustllm.config.documents import Place, misnamed, read_document
from pytest_trustllm.config.fields import (
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
from pytest_trustllm.config.paths import is_directory
from pytest_trustllm.config.templates import Template
from pytest_trustllm.errors import ScorerError, SuiteError, suggest
from pytest_trustllm.extensions import SuitePackage
from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.base import sub_scores_of
from pytest_trustllm.scorers.label import LANGUAGE_LIST
from pytest_trustllm.suites.attack_metrics import check_attacked
from pytest_trustllm.suites.construction import ComponentBuilder, ComponentShape
from pytest_trustllm.suites.metric_specs import MetricsShape
from pytest_trustllm.suites.pinned import FILES, PinnedFile, named_files
from pytest_trustllm.suites.rows import SECTIONS
from pytest_trustllm.suites.sources import DataSpec, data_shape
from pytest_trustllm.suites.talks import SCORED_TURNS, SIMULATOR, TURNS, Talk
from pytest_trustllm.suites.task import Suite, Task
from pytest_trustllm.suites.toolbox import MOST_ROUNDS, TOOL_RESULTS, TOOLS, toolbox_of
from pytest_trustllm.suites.transforms import TRANSFORMS
from pytest_trustllm.types import MEAN, REDUCERS, TRANSFORM, Generation


def read_suite(
    path: Path,
    registry: Registry,
    *,
    root: Path | None = None,
    builtin: bool = False,
    package: SuitePackage | None = None,
) -> Suite:
    """Read one suite file.

    Args:
        path: The file.
        registry: The scorers and metrics that it may name.
        root: The project; names are relative to it.
        builtin: It ships with pytest-trustllm.
        package: The installed package of suites that it is part of.

    Raises:
        SuiteError: Any mistake in it, with file and field.
    """
    shown = _shown(path, root, builtin=builtin, package=package)
    inside = path.parent if builtin or package is not None else root_of(path.parent / path.name, root)
    with files_below(inside) as read:
        check_below(path, SuiteError(f"{shown}: a link that leads out of what the suites may read; {HOW}"))
        document = read_document(path, shown, SuiteError)
        values = suite_shape(registry, path.parent)(document)
    tasks: dict[str, Task] = {}
    files = named_files(values["files"])
    fetched_as = path.stem if package is None else package.name
    for place, task_values in zip(document["tasks"].list(), values["tasks"], strict=True):
        task = _task(path.stem, values["dimension"], task_values, values["languages"])
        task = dataclasses.replace(task, tags=tuple(dict.fromkeys((*values["tags"], *task_values["tags"]))))
        task = dataclasses.replace(_pinned(place, task, files), fetched_as=fetched_as)
        task = dataclasses.replace(task, licence=_licence(task, values["source"] or {}))
        if task.name in tasks:
            raise place.fail(f"task {task.name!r} is defined twice")
        if task.reads is not None:
            earlier = tasks.get(task.reads)
            # Only a task with answers of its own can be read, not another one that reads.
            if earlier is None or earlier.reads is not None:
                raise place["reads"].fail(f"no earlier task {task.reads!r}{suggest(task.reads, tasks)}")
            # Both have the same rows, so groups need not be written twice.
            task = dataclasses.replace(task, group=task.group or earlier.group)
            if task.talk is not None and earlier.talk is None:
                raise place["score"].fail(
                    f"task {task.reads!r} has neither 'turns' nor a 'simulator': there is one answer"
                )
        asking = task if task.reads is None else tasks[task.reads]
        _check_scored_tools(place, task, asking)
        check_attacked(place, task, asking)
        tasks[task.name] = task
    return Suite(
        name=path.stem,
        path=path,
        shown=shown,
        dimension=values["dimension"],
        source=values["source"] or {},
        tasks=tuple(tasks.values()),
        builtin=builtin,
        package=package,
        files=files,
        read=tuple(dict.fromkeys(read)),
    )


def _check_scored_tools(place: Place, task: Task, asking: Task) -> None:
    """Look for tools in a task's scorer that the model does not have.

    A task without ``tools`` may be about an app with tools of its own, whose names no suite knows.

    Args:
        place: The task's.
        task: It has the scorer.
        asking: The task whose answers it scores, which may be itself.

    Raises:
        SuiteError: There is one.
    """
    check = getattr(task.scorer, "check_tools", None)
    if check is None or asking.toolbox is None:
        return
    try:
        check(asking.toolbox.tools)
    except ScorerError as e:
        raise place["scorer"].fail(str(e)) from None


def _pinned(place: Place, task: Task, files: Mapping[str, PinnedFile]) -> Task:
    """Return a task with the file of the suite that it names.

    Raises:
        SuiteError: The suite pins no such file.
    """
    name = task.data.file
    if name is None:
        return task
    if name not in files:
        raise place["data"]["file"].fail(f"the suite pins no file {name!r}{suggest(name, files)}")
    return dataclasses.replace(task, data=dataclasses.replace(task.data, pinned=files[name]))


def _licence(task: Task, source: Mapping[str, Any]) -> str | None:
    """Return the licence of a task's rows: that of its pinned file, else the one that the suite states."""
    if task.data.pinned is not None:
        return task.data.pinned.licence
    stated = source.get("licence")
    return stated if isinstance(stated, str) else None


def _shown(path: Path, root: Path | None, *, builtin: bool, package: SuitePackage | None) -> str:
    """Return the name of a suite file in node ids, which must not depend on where a distribution is installed."""
    if package is not None:
        return f"trustllm/{package.name}/{path.name}"
    if builtin:
        return f"trustllm/{path.name}"
    return paths.from_root(path, root)


def _task(suite: str, dimension: str, values: Mapping[str, Any], languages: Sequence[str]) -> Task:
    """Return a task, with the defaults of absent keys.

    Args:
        suite: Name of the suite.
        dimension: Of the suite.
        values: Of the task's keys.
        languages: Of the suite, for a task that lists none.
    """
    scorer_name, scorer = values["scorer"]
    if values["languages"] is not None:
        languages = values["languages"]
    scorer = _in_languages(scorer, languages)
    return Task(
        suite=suite,
        dimension=dimension,
        name=values["name"],
        version=values["version"],
        title=values["title"] or values["name"],
        data=values["data"] or DataSpec(),
        prompt=values["prompt"],
        messages=values["messages"],
        generation=values["generation"] or _DEFAULTS,
        scorer=scorer,
        scorer_name=scorer_name,
        metrics=values["metrics"],
        group=_groups(values),
        reads=values["reads"],
        cluster=values["cluster"],
        talk=values["talk"],
        toolbox=values["toolbox"],
        transforms=values["transforms"] or (),
        reducer=values["epochs"],
    )


def _in_languages(scorer: Any, languages: Sequence[str]) -> Any:
    """Return a scorer that knows its labels in further languages, and so the scorers inside of it.

    A scorer that lists languages itself keeps them.
    """
    if not languages or not dataclasses.is_dataclass(scorer) or isinstance(scorer, type):
        return scorer
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(scorer):
        value = getattr(scorer, field.name)
        if field.name == "languages" and not value:
            changes[field.name] = tuple(languages)
        elif dataclasses.is_dataclass(value):
            changes[field.name] = _in_languages(value, languages)
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            changes[field.name] = tuple(_in_languages(entry, languages) for entry in value)
    return dataclasses.replace(scorer, **changes) if changes else scorer


def _groups(values: Mapping[str, Any]) -> dict[str, str | tuple[str, ...]]:
    """Return the groups of a task; the ways in which its prompts are changed are one of them."""
    groups = dict(values["group"] or {})
    if values["transforms"]:
        groups[TRANSFORM] = TRANSFORM
    return groups


def find_suites(
    directories: Iterable[Path],
    registry: Registry,
    *,
    root: Path,
    builtin: bool = True,
    packages: Iterable[SuitePackage] = (),
    option: str = "trust_suites",
) -> list[Suite]:
    """Read all suites: the user's directories, then installed packages, then the shipped ones.

    A suite file of the user replaces one of the same name in a package, and both replace a shipped one.

    Args:
        directories: Directories of the user's suites.
        registry: The scorers and metrics that they may name.
        root: The project.
        builtin: Whether to read the shipped suites too.
        packages: Installed packages whose suites are read.
        option: Names the setting of the directories in messages.

    Raises:
        SuiteError: A mistake in a file, or two tasks with the same ``dimension/task``.
    """
    suites = _in_directories(directories, registry, root, option)
    # Names, not tasks: a project replaces a suite as a whole.
    replaced = {suite.name for suite in suites}
    suites += _in_packages(packages, registry, replaced)
    if builtin:
        replaced = {suite.name for suite in suites}
        suites += _shipped(registry, replaced)
    _check_unique(suites)
    return suites


def _in_directories(directories: Iterable[Path], registry: Registry, root: Path, option: str) -> list[Suite]:
    """Read the user's suites.

    Raises:
        SuiteError: A directory is missing, a file has another ending, a name is used twice, or a mistake in a file.
    """
    suites: dict[str, Suite] = {}
    for directory in directories:
        if not is_directory(directory):
            nor_package = extensions.no_package_either(directory.name)
            raise SuiteError(f"{option}: {paths.from_root(directory, root)} is not a directory{nor_package}")
        entries = paths.entries(directory, paths.from_root(directory, root), SuiteError)
        for path in entries:
            if misnamed(path):
                raise SuiteError(f"{paths.from_root(path, root)}: a suite file ends in .yaml; rename it")
        for path in entries:
            if path.suffix != ".yaml":
                continue
            if path.stem in suites:
                shown = paths.from_root(path, root)
                raise SuiteError(f"{shown}: another suite file is named {path.name} too; rename one")
            suites[path.stem] = read_suite(path, registry, root=root)
    return list(suites.values())


def _in_packages(packages: Iterable[SuitePackage], registry: Registry, replaced: Collection[str]) -> list[Suite]:
    """Read the suites of installed packages.

    Raises:
        SuiteError: A mistake in a file, or two packages have a file of the same name.
    """
    suites: dict[str, Suite] = {}
    for package in packages:
        for name in package.suite_names():
            if name in replaced:
                continue
            suite = read_suite(package.suites / f"{name}.yaml", registry, package=package)
            if name in suites:
                raise SuiteError(
                    f"{suite.shown}: {suites[name].shown} has the same name; use only one of these packages"
                )
            suites[name] = suite
    return list(suites.values())


def _shipped(registry: Registry, replaced: Collection[str]) -> list[Suite]:
    suites: list[Suite] = []
    for path in sorted(paths.shipped("suites").glob("*.yaml")):
        if path.stem not in replaced:
            suites.append(read_suite(path, registry, builtin=True))
    return suites


def _check_unique(suites: Iterable[Suite]) -> None:
    """Look for two tasks with the same ``dimension/task``; their results could not be told apart.

    Raises:
        SuiteError: There are two.
    """
    files: dict[str, str] = {}
    for suite in suites:
        for task in suite.tasks:
            if task.id in files:
                raise SuiteError(f"{suite.shown}: task {task.id!r} is defined in {files[task.id]} too; rename one")
            files[task.id] = suite.shown


# --- the shape of a suite file ----------------------------------------------------------------------------------------


_DEFAULTS = Generation()
_GENERATION = Made(
    Table(
        {
            "temperature": Key(Number(0, 10), "0 is greedy: the likeliest token.", default=_DEFAULTS.temperature),
            "max_new_tokens": Key(
                Integer(1), "Greatest length of an answer, in tokens.", default=_DEFAULTS.max_new_tokens
            ),
            "stop": Key(Texts(blank=True), "An answer ends before the first of these texts.", default=_DEFAULTS.stop),
        }
    ),
    lambda _, values: Generation(**values),
)
# A chat model answers the user: after its own message it would only continue that.
_LAST = "the last message must be the user's"


def _messages(_: Place, messages: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in messages)


_MESSAGE = Table(
    {
        "role": Key(Choice(("system", "user", "assistant")), "Who speaks.", required=True),
        "content": Key(Template(), "Jinja2 template over the row's fields.", required=True),
    }
)
_MESSAGES = Made(ListOf(_MESSAGE, _LAST), _messages)
_FIELD = Either(str, Template(), Texts())
_GROUP = Made(Name(), lambda _, name: {name: name})
_PROMPTING = (
    *("data", "prompt", "messages", "generation", "cluster", "transforms"),
    *("turns", "simulator", "tools", "tool_results", "tool_rounds"),
)
"""Keys about prompts and their rows; a task that reads another one's answers takes all of them from there."""


_ONE_ANSWER = "has neither 'turns' nor a 'simulator': there is one answer"
_EXCLUSIVE = (("prompt", "messages"), ("prompt", "turns"), ("turns", "simulator"))


@dataclass(frozen=True, slots=True)
class _TaskShape:
    """One entry of ``tasks``.

    Attributes:
        registry: The scorers and metrics that it may name.
        folder: Directory of the suite.
    """

    registry: Registry
    folder: Path

    def __call__(self, place: Place) -> dict[str, Any]:
        table = self._table()
        # Before the values are read: a key too many is the clearer message.
        self._check_keys(place.mapping(table.keys))
        values = table(place)
        if values["reads"] is None and values["data"] is None:
            raise place.fail("key 'data' is missing")
        self._check_groups(place, values)
        self._check_messages(place, values)
        values["talk"] = self._talk(place, values)
        values["toolbox"] = toolbox_of(place, values)
        return values

    def _check_messages(self, place: Place, values: Mapping[str, Any]) -> None:
        """Look at who speaks last before the model answers.

        Raises:
            SuiteError: It is not the user; or it is, and another turn of the user follows.
        """
        messages = values["messages"]
        if messages is None:
            return
        last_is_user = messages[-1][0] == "user"
        if values["turns"] is not None and last_is_user:
            raise place["messages"].fail("the last message is the user's; make it the first of 'turns'")
        if values["turns"] is None and values["simulator"] is None and not last_is_user:
            raise place["messages"].fail(_LAST)

    def _talk(self, place: Place, values: Mapping[str, Any]) -> Talk | None:
        """Return the conversation of a task; None if it ends with the first answer.

        Raises:
            SuiteError: Keys that contradict each other.
        """
        turns, simulator, score = values["turns"], values["simulator"], values["score"]
        if turns is None and simulator is None:
            if score is None:
                return None
            if values["reads"] is None:
                raise place["score"].fail(f"the task {_ONE_ANSWER}")
            return Talk(score=score)
        if values["transforms"]:
            raise place["transforms"].fail(
                "a conversation is not transformed; leave out 'transforms' or the conversation"
            )
        if turns is not None and simulator is not None:
            raise place["simulator"].fail("give either 'turns' or a 'simulator'")
        if turns is not None and values["prompt"] is not None:
            raise place["prompt"].fail("give either 'prompt' or 'turns'")
        data = values["data"]
        if data is not None and data.pair is not None:
            key = "turns" if turns is not None else "simulator"
            raise place[key].fail("a pair has two prompts and no conversation; leave out 'pair' or this key")
        return Talk(turns or (), simulator, score or SCORED_TURNS[0])

    def _check_keys(self, place: Place) -> None:
        """Look for keys that exclude each other.

        Raises:
            SuiteError: There are some.
        """
        if place.get("reads") is not None:
            for key in _PROMPTING:
                extra = place.get(key)
                if extra is not None:
                    raise extra.fail("a task with 'reads' scores another task's answers; remove this key")
        messages = place.get("messages")
        if messages is not None and place.get("prompt") is not None:
            raise messages.fail("give either 'prompt' or 'messages'")

    def _check_groups(self, place: Place, values: Mapping[str, Any]) -> None:
        """Look for metrics about groups that the task does not have.

        Raises:
            SuiteError: There is one.
        """
        groups = values["group"] or {}
        if values["transforms"]:
            if TRANSFORM in groups:
                raise place["group"].fail(f"the task's transforms are the group {TRANSFORM!r}; rename yours")
            if values["data"].pair is not None:
                raise place["transforms"].fail("the prompts of a pair belong together; remove 'transforms' or 'pair'")
            groups = _groups(values)
        _, scorer = values["scorer"]
        sub_scores = sub_scores_of(scorer)
        if sub_scores is not None and sub_scores.group in groups:
            raise place["group"].fail(f"the scorer's parts are the group {sub_scores.group!r}; rename yours")
        for spec, entry in zip(values["metrics"], place["metrics"].list(), strict=True):
            if spec.value.average == "macro" and not groups:
                raise entry.fail("'average: macro' needs a 'group' on the task")
            if values["reads"] is not None:
                continue  # its groups may be those of the task that it reads
            for name in spec.where:
                if name not in groups:
                    hint = suggest(name, groups)
                    raise entry["where"].fail(f"the task has no group {name!r}, so no sample would count{hint}")

    def _table(self) -> Table:
        scorer = ComponentBuilder(self.registry.scorers, self.folder).component
        metrics = MetricsShape(ComponentBuilder(self.registry.metrics, self.folder))
        return Table(
            {
                "name": Key(Name(), "Unique within the dimension.", required=True),
                "version": Key(Integer(1), "Raise it whenever a reported number can change.", default=1),
                "title": Key(Text(), "For people; absent: the name."),
                "tags": Key(Texts(), "What its evidence belongs to, besides the tags of the suite.", default=()),
                "data": Key(data_shape(self.folder), "Where the rows come from."),
                "prompt": Key(Template(), "Jinja2 template over the row's fields; absent: the row's own prompt."),
                "messages": Key(
                    _MESSAGES,
                    "A chat that ends with the user's message; or what comes before 'turns'.",
                ),
                "turns": Key(TURNS, "The user's turns, as templates that see earlier answers as answers[0]."),
                "simulator": Key(SIMULATOR, "A model plays the user (--trust-simulator)."),
                "score": Key(Choice(SCORED_TURNS), "Which answers of a conversation are scored; absent: the last one."),
                "tools": Key(TOOLS, "What the model may call: JSON Schemas."),
                "tool_results": Key(TOOL_RESULTS, "What the tools return, by name and arguments."),
                "tool_rounds": Key(Integer(1, 100), f"How often the model may call tools; absent: {MOST_ROUNDS}."),
                "generation": Key(_GENERATION, "How answers are generated."),
                "scorer": Key(scorer, "What reads an answer, with its parameters.", required=True),
                "metrics": Key(metrics, "What is reported; the first one is the headline.", required=True),
                "group": Key(
                    Either(str, _GROUP, MappingOf(_FIELD, names=True)),
                    "Groups for sub-metrics: a field; or name: field, list of fields, or template.",
                ),
                "cluster": Key(_FIELD, "Field, list of fields or template: equal for samples made of one source item."),
                "transforms": Key(TRANSFORMS, "Attacks and disturbances; every row is asked in each of these ways."),
                "languages": Key(LANGUAGE_LIST, "Languages in which answers may be; absent: those of the suite."),
                "epochs": Key(Choice(REDUCERS), "What the epochs of a sample come to (--trust-epochs).", default=MEAN),
                "reads": Key(Text(), "Earlier task of this suite whose answers this one scores."),
            },
            # What the checks above refuse, for editors.
            also={
                "if": {"required": ["reads"]},
                "then": {"properties": dict.fromkeys(_PROMPTING, False)},
                "else": {"required": ["data"]},
                "allOf": [{"not": {"required": list(pair)}} for pair in _EXCLUSIVE],
            },
        )

    def schema(self) -> dict[str, Any]:
        return self._table().schema()


def suite_shape(registry: Registry, folder: Path) -> Table:
    """Return what a suite file may contain.

    Args:
        registry: The scorers and metrics that it may name.
        folder: Its directory.
    """
    tasks = ListOf(_TaskShape(registry, folder), "a suite needs at least one task")
    return Table(
        {
            "dimension": Key(Name(), "What the tasks are about, such as safety.", required=True, examples=SECTIONS),
            "source": Key(Fields(), "Where the items come from, and their licence; for people."),
            "tags": Key(Texts(), "What the evidence of all tasks belongs to, such as 'OWASP LLM01'.", default=()),
            "files": Key(FILES, "Files that 'pytest-trustllm data fetch' gets: name, and what it must be."),
            "languages": Key(LANGUAGE_LIST, "Languages in which answers may be, besides English.", default=()),
            "tasks": Key(tasks, "Ways of prompting and scoring.", required=True),
        }
    )


def suite_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of a suite file.

    Args:
        registry: The scorers and metrics that editors propose.
    """
    scorers = ComponentBuilder(registry.scorers, Path())
    # Scorers contain scorers, so their schema has a name
    definitions = {scorers.names.kind: ComponentShape(scorers).schema()}
    return {**suite_shape(registry, Path()).schema(), "$defs": definitions}
