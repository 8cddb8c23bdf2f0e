"""Suite YAML to tasks: how to ask, how to score, what to report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pytest_trustllm import paths
from pytest_trustllm.documents import Place, read_document
from pytest_trustllm.errors import SuiteError, TrustLLMError, one_line, suggest
from pytest_trustllm.records import Generation
from pytest_trustllm.registry import Names, Registry

_SUITE_KEYS = ("dimension", "source", "tasks")
_TASK_KEYS = (
    "name", "version", "title", "data", "prompt", "messages", "generation", "scorer", "metrics", "group", "cluster",
    "reads",
)  # fmt: skip
_DATA_KEYS = ("trustllm", "where", "pair", "samples")
_METRIC_KEYS = ("name", "kind", "average", "where", "parity")
_PARTS = {"scorer": ("roles", "score"), "metric": ("higher_is_better", "range", "compute")}
_CHECKS: Mapping[Any, Callable[[Place], object]] = {
    "str": lambda place: place.text(blank=True),
    "bool": Place.flag,
    "float": Place.number,
    "int": lambda place: place.integer(-(2**31)),
}
"""How a parameter of a plain type is read; any other type is the component's own affair."""
_PARITY_KEYS = ("kind", "round", "empty", "raises_if_empty")


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which rows only score together.

    Attributes:
        by: Field whose equal values make a pair; None if ``quoted`` is used.
        first: Fields that mark the first row of a pair; every other row of the same ``by`` is a second.
        quoted: Field in which the same two quoted texts, in either order, make a pair.
    """

    by: str | None = None
    first: Mapping[str, Any] | None = None
    quoted: str | None = None


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Where a task's rows come from.

    Attributes:
        trustllm: ``section/file.json`` of the TrustLLM data set.
        where: Field -> accepted values; rows that do not match belong to another task.
        pair: Which rows make one sample.
        samples: JSONL file of sample items.
        inline: Rows written in the suite itself.
    """

    trustllm: str | None = None
    where: Mapping[str, tuple[Any, ...]] | None = None
    pair: Pairing | None = None
    samples: Path | None = None
    inline: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How one reading of a metric is computed.

    Attributes:
        metric: The metric object.
        average: ``pooled``: over all samples; ``macro``: mean over the groups of the task.
        digits: Decimal digits that the value is rounded to (pooled) or that a group's value is rounded to before
            averaging (group value -> digits; ``*`` for any).
        empty: What a group without a usable sample counts as in a macro average; None: it is left out of the mean.
        raises_if_empty: Without any usable sample in a group there is no value at all.
    """

    metric: Any
    average: Literal["pooled", "macro"]
    digits: Mapping[str, int]
    empty: float | None = None
    raises_if_empty: bool = False


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric of a task, in both readings.

    Attributes:
        name: Last part of its id.
        value: The corrected reading.
        parity: The authors' toolkit's reading.
        where: Observation or group fields that a sample must have to count.
    """

    name: str
    value: Reading
    parity: Reading
    where: Mapping[str, Any]

    @property
    def higher_is_better(self) -> bool:
        """Direction of the corrected reading."""
        return bool(self.value.metric.higher_is_better)

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest possible value of the corrected reading."""
        low, high = self.value.metric.range
        return float(low), float(high)


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
    top = read_document(path, shown, SuiteError).mapping(_SUITE_KEYS)
    dimension = top["dimension"].name()
    source = top.get("source")
    tasks: list[Task] = []
    entries = top["tasks"].list()
    if not entries:
        raise top["tasks"].fail("a suite needs at least one task")
    for place in entries:
        task = _task(place, path, dimension, registry)
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
    return Suite(path.stem, path, shown, dimension, source.mapping().value if source else {}, tuple(tasks), builtin)


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


def _task(place: Place, path: Path, dimension: str, registry: Registry) -> Task:
    place.mapping(_TASK_KEYS)
    reads = place.get("reads")
    if reads is not None:
        for key in ("data", "prompt", "messages", "generation", "cluster"):
            if (extra := place.get(key)) is not None:
                raise extra.fail("a task with 'reads' asks nothing itself; remove this key")
    prompt, messages, cluster = place.get("prompt"), place.get("messages"), place.get("cluster")
    if prompt is not None and messages is not None:
        raise messages.fail("give either 'prompt' or 'messages'")
    version, title, group = place.get("version"), place.get("title"), place.get("group")
    groups = _groups(group) if group is not None else {}
    scorer_name, scorer = _component(place["scorer"], registry.scorers, path)
    name = place["name"].name()
    return Task(
        suite=path.stem,
        dimension=dimension,
        name=name,
        version=version.integer(1) if version is not None else 1,
        title=title.text() if title is not None else name,
        data=_data(place["data"], path) if reads is None else DataSpec(),
        prompt=_template(prompt) if prompt is not None else None,
        messages=_messages(messages) if messages is not None else None,
        generation=_generation(place.get("generation")),
        scorer=scorer,
        scorer_name=scorer_name,
        metrics=_metrics(place["metrics"], registry.metrics, groups),
        group=groups,
        reads=reads.text() if reads is not None else None,
        cluster=_field(cluster) if cluster is not None else None,
    )


def _messages(place: Place) -> tuple[tuple[str, str], ...]:
    found = []
    for message in place.list():
        message.mapping(("role", "content"))
        found.append((message["role"].choice(("system", "user", "assistant")), _template(message["content"])))
    if not found or found[-1][0] != "user":
        raise place.fail("the last message must be the user's")
    return tuple(found)


def _generation(place: Place | None) -> Generation:
    if place is None:
        return Generation()
    place.mapping(("temperature", "max_new_tokens", "stop"))
    temperature, tokens, stop = place.get("temperature"), place.get("max_new_tokens"), place.get("stop")
    return Generation(
        temperature=temperature.number(0, 10) if temperature is not None else 0.0,
        max_new_tokens=tokens.integer(1) if tokens is not None else 512,
        stop=stop.texts(blank=True) if stop is not None else (),
    )


def _data(place: Place, path: Path) -> DataSpec:
    place.mapping(_DATA_KEYS)
    trustllm, samples, pair, where = (place.get(k) for k in ("trustllm", "samples", "pair", "where"))
    if trustllm is None and samples is None:
        raise place.fail("expected 'trustllm: section/file.json' or 'samples:'")
    file, inline = None, None
    if samples is not None:
        if isinstance(samples.value, str):
            file = path.parent / samples.text()
            if not file.is_file():
                raise samples.fail(f"no such file beside the suite: {samples.value}")
        else:
            inline = tuple(_row(row) for row in samples.list())
            if not inline:
                raise samples.fail("expected at least one row")
    return DataSpec(
        trustllm=trustllm.text() if trustllm is not None else None,
        where={k: tuple(v.value) if isinstance(v.value, list) else (v.value,) for k, v in where.items()}
        if where
        else None,
        pair=_pairing(pair) if pair is not None else None,
        samples=file,
        inline=inline,
    )


def _row(place: Place) -> Mapping[str, Any]:
    """Return a row after checking that JSON could hold it: YAML also makes dates and bytes."""
    places = [field for _, field in place.items()]
    while places:
        field = places.pop()
        if isinstance(field.value, dict):
            places.extend(inner for _, inner in field.items())
        elif isinstance(field.value, list):
            places.extend(field.list())
        elif not isinstance(field.value, str | int | float | None):
            kind = type(field.value).__name__
            raise field.fail(f"YAML reads this as {kind}; put it in quotes")
    row: Mapping[str, Any] = place.value
    return row


def _template(place: Place) -> str:
    text = place.text()
    if "{" in text:  # else there is nothing to compile, and Jinja2 stays unloaded
        from jinja2 import TemplateError

        try:
            compiled(text)
        except TemplateError as e:
            raise place.fail(f"broken template: {one_line(e)}") from None
    return text


@cache
def compiled(template: str) -> Any:
    """Return a Jinja2 template that can reach nothing but its fields, and in which an unknown field is an error.

    Raises:
        TemplateError: Of Jinja2: it is no template.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # prompts are plain text for a model, not HTML: escaping would change what is asked
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    return environment.from_string(template)


def _pairing(place: Place) -> Pairing:
    place.mapping(("by", "first", "quoted"))
    quoted, by, first = place.get("quoted"), place.get("by"), place.get("first")
    if (quoted is None) == (by is None) or (quoted is not None and first is not None):
        raise place.fail("expected 'quoted: field', or 'by: field' with 'first: {field: value}'")
    if quoted is not None:
        return Pairing(quoted=quoted.text())
    fields = place["first"].mapping()
    if not fields.value:
        raise fields.fail("expected the fields of a pair's first row, such as {type: original}")
    return Pairing(by=place["by"].text(), first=fields.value)


def _groups(place: Place) -> dict[str, str | tuple[str, ...]]:
    if isinstance(place.value, str):
        return {place.name(): place.value}
    found: dict[str, str | tuple[str, ...]] = {}
    for name, field in place.items():
        dataclasses.replace(field, value=name).name()
        found[name] = _field(field)
    return found


def _field(place: Place) -> str | tuple[str, ...]:
    """Return a field, a template over the row, or fields."""
    return _template(place) if isinstance(place.value, str) else place.texts()


def _component(place: Place, names: Names, path: Path) -> tuple[str, Any]:
    """Return name and object of ``name`` or ``{name: ..., parameter: ...}``."""
    named = isinstance(place.value, str)
    name = place.text() if named else place.mapping()["name"].text()
    if name not in names:
        raise (place if named else place["name"]).fail(names.unknown(name))
    parameters = {} if named else {k: v for k, v in place.items() if k != "name"}
    return name, _build(names, name, parameters, place, path)


def _build(names: Names, name: str, parameters: Mapping[str, Place], place: Place, path: Path | None) -> Any:
    try:
        kind = names.get(name)
    except TrustLLMError as e:
        raise place.fail(str(e)) from None
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        shown = one_line(repr(kind), 80)
        raise place.fail(f"{name!r} is registered as {shown}, which is no dataclass; its fields are its parameters")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in parameters.items():
        if key not in fields:
            raise place.fail(f"{name!r} has no parameter {key!r}{suggest(key, fields)}")
        values[key] = value.value
        check = _CHECKS.get(getattr(fields[key].type, "__name__", fields[key].type))
        if check is not None:
            check(value)
        if path is not None and fields[key].type in ("Path", Path):
            values[key] = path.parent / value.text()
            if not values[key].is_file():
                raise value.fail(f"no such file beside the suite: {value.value}")
    for key, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and key not in values:
            raise place.fail(f"{name!r} needs the parameter {key!r}")
    try:
        built = kind(**values)
    except (TrustLLMError, TypeError, ValueError) as e:
        raise place.fail(str(e)) from None
    for part in _PARTS[names.kind]:
        if not hasattr(built, part):
            raise place.fail(f"{name!r} has no {part!r}; a {names.kind} has {', '.join(map(repr, _PARTS[names.kind]))}")
    return built


def _metrics(place: Place, names: Names, groups: Mapping[str, Any]) -> tuple[MetricSpec, ...]:
    found: list[MetricSpec] = []
    for entry in place.list():
        spec = _metric(entry, names, groups)
        if any(m.name == spec.name for m in found):
            raise entry.fail(f"metric {spec.name!r} is given twice")
        found.append(spec)
    if not found:
        raise place.fail("a task needs at least one metric; the first is its headline")
    return tuple(found)


def _metric(place: Place, names: Names, groups: Mapping[str, Any]) -> MetricSpec:
    if isinstance(place.value, str):
        place = dataclasses.replace(place, value={"name": place.value})
    place.mapping()
    average = place.get("average")
    averaging: Literal["pooled", "macro"] = (
        "macro" if average and average.choice(("pooled", "macro")) == "macro" else "pooled"
    )
    if averaging == "macro" and not groups:
        raise place.fail("'average: macro' needs a 'group' on the task")
    where, kind = place.get("where"), place.get("kind") or place["name"]
    parameters = {k: v for k, v in place.items() if k not in _METRIC_KEYS}
    metric = _metric_object(kind, names, parameters, place)
    value = Reading(metric, averaging, {})
    parity = place.get("parity")
    return MetricSpec(
        name=place["name"].name(),
        value=value,
        parity=_parity(parity, value, names, parameters) if parity is not None else value,
        where=where.mapping().value if where is not None else {},
    )


def _metric_object(kind: Place, names: Names, parameters: Mapping[str, Place], place: Place) -> Any:
    name = kind.text()
    if name not in names:
        raise kind.fail(names.unknown(name))
    return _build(names, name, parameters, place, None)


def _parity(place: Place, value: Reading, names: Names, parameters: Mapping[str, Place]) -> Reading:
    place.mapping(_PARITY_KEYS)
    kind, digits, empty, raises = (place.get(k) for k in _PARITY_KEYS)
    rounding: Mapping[str, int] = {}
    if digits is not None:
        plain = isinstance(digits.value, int)
        rounding = {"*": digits.integer(0, 15)} if plain else {k: v.integer(0, 15) for k, v in digits.items()}
    return Reading(
        metric=_metric_object(kind, names, parameters, place) if kind is not None else value.metric,
        average=value.average,
        digits=rounding,
        empty=empty.number() if empty is not None else None,
        raises_if_empty=raises.flag() if raises is not None else False,
    )
