"""Threshold YAML to gates: inheritance, models of their own rules, tags."""

from __future__ import annotations

import dataclasses
import os.path
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm import paths
from pytest_trustllm.dataset import SECTIONS
from pytest_trustllm.documents import Place, lines_of, read_document
from pytest_trustllm.errors import GateError, suggest
from pytest_trustllm.gates import KINDS, Gate, Kind, Policy
from pytest_trustllm.shapes import Choice, Flag, Key, ListOf, MappingOf, Name, Number, Table, Text
from pytest_trustllm.suites import Suite, Task

_METRIC = re.compile(r"(?P<task>[A-Za-z0-9_-]+)\.(?P<name>[A-Za-z0-9_-]+)(\{(?P<group>[^=}]+)=(?P<value>[^}]*)\})?")
_SHIPPED = "builtin:"
_SHARE = Number(0, 1)
_FAIL_OR_WARN = Choice(("fail", "warn"))
_BOUNDS: Mapping[Kind, str] = {
    "at_least": "The value must not be lower.",
    "at_most": "The value must not be higher.",
    "max_drop": "It may be worse than in --trust-baseline by so much.",
}
_GATE = Table(
    {
        "metric": Key(
            Text(),
            "task.metric, task.metric{group=value}, or score: the dimension's trust score.",
            required=True,
            examples=("score", "jailbreak.refusal_rate"),
        ),
        **{kind: Key(Number(), text) for kind, text in _BOUNDS.items()},
        "confidence": Key(
            Number(0.5, 0.9999), "The end of the interval at this level must clear the bound; absent: the value alone."
        ),
        "scoring": Key(
            Choice(("value", "parity")), "Which reading is judged; parity: the authors' toolkit's.", default="value"
        ),
        "tags": Key(ListOf(Name()), "Words by which --trust-gate-tags chooses gates.", default=()),
        "warn": Key(Flag(), "The gate reports, and never fails the build.", default=False),
        "force": Key(Flag(), "Accept a bound against the metric's direction.", default=False),
    },
    also={"oneOf": [{"required": [kind]} for kind in KINDS]},
)
_LAYER = {
    "gates": Key(ListOf(_GATE), "Bounds on numbers; each is a test."),
    "coverage": Key(
        Table(
            {
                "min_scored": Key(
                    _SHARE, "Share of the selected samples that must have a score.", default=Policy().min_scored
                ),
                "min_paired": Key(
                    _SHARE,
                    "Share of the selected samples that a baseline must have too, for max_drop.",
                    default=Policy().min_paired,
                ),
            }
        ),
        "How much must have been measured.",
    ),
    "on_partial": Key(
        Choice(("skip", "judge")),
        "When only a part of the samples was selected (-k, --lf, --trust-limit).",
        default=Policy().on_partial,
    ),
    "on_inconclusive": Key(_FAIL_OR_WARN, "When the interval holds the bound.", default=Policy().on_inconclusive),
    "on_no_data": Key(_FAIL_OR_WARN, "When there is no number.", default=Policy().on_no_data),
}
FILE = Table(
    {
        "dimension": Key(Text(), "Whose metrics the gates are about.", required=True, examples=SECTIONS),
        "extends": Key(
            Text(),
            "A file beside this one, or builtin: and a dimension: its gates and rules hold too.",
            examples=tuple(_SHIPPED + name for name in SECTIONS),
        ),
        **_LAYER,
        "models": Key(MappingOf(Table(_LAYER)), "Model, as --trust-model names it: what holds for it alone."),
    },
    also={"anyOf": [{"required": [key]} for key in ("gates", "extends", "models")]},
)
"""What a threshold file may hold."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Gates and rules that stand together in a file; a later layer replaces what it names again.

    Attributes:
        gates: In file order.
        policy: Fields of :class:`~pytest_trustllm.gates.Policy` that it sets.
    """

    gates: tuple[Gate, ...]
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """One threshold file.

    Attributes:
        path: The file.
        file: How messages and node ids name it.
        dimension: Such as ``safety``.
        own: What it says for every model.
        models: Model -> what it says for that model alone.
        extends: The file that it inherits from.
    """

    path: Path
    file: str
    dimension: str
    own: Layer
    models: Mapping[str, Layer]
    extends: Thresholds | None = None

    def gates(self, model: str) -> list[Gate]:
        """Return the gates for a model, named as ``--trust-model`` names it."""
        found: dict[str, Gate] = {}
        policy = Policy()
        for layer in self._layers(model):
            found.update({gate.name: gate for gate in layer.gates})
            policy = dataclasses.replace(policy, **layer.policy)
        return [
            dataclasses.replace(gate, file=self.file, line=gate.line if gate.file == self.file else None, policy=policy)
            for gate in found.values()
        ]

    def tags(self) -> set[str]:
        """Return all tags of its gates, whatever the model."""
        inherited = self.extends.tags() if self.extends is not None else set()
        return inherited | {t for layer in (self.own, *self.models.values()) for g in layer.gates for t in g.tags}

    def _layers(self, model: str) -> list[Layer]:
        inherited = self.extends._layers(model) if self.extends is not None else []
        return [*inherited, self.own, *([self.models[model]] if model in self.models else [])]


def threshold_files(where: Path, *, sample: bool) -> list[Path]:
    """Return the threshold files of a file or directory; sample data has its own set in ``sample/`` where that exists.

    Raises:
        GateError: There is no such file or directory, or it holds no YAML file.
    """
    if where.is_file():
        return [where]
    if not where.is_dir():
        raise GateError(f"--trust-thresholds: {where} does not exist")
    directory = where / "sample" if sample and (where / "sample").is_dir() else where
    found = sorted(directory.glob("*.yaml"))
    if not found:
        raise GateError(f"--trust-thresholds: {directory} holds no .yaml file")
    return found


def find_thresholds(where: Path | None, suites: Sequence[Suite], *, root: Path, sample: bool) -> list[Thresholds]:
    """Read all threshold files of a run.

    Args:
        where: A file or directory; None: ``thresholds/`` under the root if it exists, else the shipped ones.
        suites: The run's suites. Shipped thresholds are about shipped suites alone.
        root: The project.
        sample: The run asks the bundled sample items.

    Raises:
        GateError: The first mistake in one of them, or there is no gate where some were asked for.
    """
    project = root / "thresholds"
    builtin = where is None and not project.is_dir()
    shipped = {s.name for s in suites if s.builtin}
    if builtin and not shipped:
        return []
    asked = where or (paths.shipped("thresholds") if builtin else project)
    found = [
        read_thresholds(path, suites, root=root, builtin=builtin, sample=sample)
        for path in threshold_files(asked, sample=sample)
        if not builtin or path.stem in shipped  # a suite that the project replaced: these are not about its tasks
    ]
    if where is not None and not any(t.own.gates or t.models or t.extends for t in found):
        raise GateError(f"--trust-thresholds: {where} defines no gate")
    return found


def read_thresholds(
    path: Path,
    suites: Iterable[Suite],
    *,
    root: Path | None = None,
    builtin: bool = False,
    sample: bool = False,
    above: tuple[Path, ...] = (),
) -> Thresholds:
    """Read one threshold file, and those that it extends, and check it against the suites.

    Args:
        path: The file.
        suites: What defines the metrics.
        root: Names are relative to it.
        builtin: It ships with the package.
        sample: ``builtin:`` stands for the thresholds of the bundled sample items.
        above: Files that extend this one.

    Raises:
        GateError: Any mistake in it, with file and field.
    """
    file = f"trustllm/{paths.shown(path)}" if builtin else paths.shown(path, root)
    if Path(file).is_absolute():  # outside the project: a node id must not be an absolute path
        file = f"{path.parent.name}/{path.name}"
    top = read_document(path, file, GateError)
    values = FILE(top)
    lines = lines_of(path)
    known = list(suites)
    tasks = {t.id: t for suite in known for t in suite.tasks}
    dimension = top["dimension"].choice({t.dimension for t in tasks.values()})
    parent, extends, models = None, top.get("extends"), top.get("models")
    if extends is not None:
        shipped, base = _base(extends, path, sample=sample)
        if base.resolve() in (p.resolve() for p in (path, *above)):
            raise extends.fail("the files extend each other in a circle")
        parent = read_thresholds(base, known, root=root, builtin=shipped, sample=sample, above=(path, *above))
        if parent.dimension != dimension:
            raise extends.fail(f"{parent.file} is about {parent.dimension!r}, this file about {dimension!r}")
    elif models is None and values["gates"] is None:
        raise top.fail("key 'gates' is missing")
    return Thresholds(
        path=path,
        file=file,
        dimension=dimension,
        own=_layer(top, values, lines, dimension, tasks),
        models={
            name: _layer(place, values["models"][name], lines, dimension, tasks)
            for name, place in (models.items() if models is not None else ())
        },
        extends=parent,
    )


def _base(place: Place, path: Path, *, sample: bool) -> tuple[bool, Path]:
    """Return whether a file is a shipped one, and its path."""
    text = place.text()
    if text.startswith(_SHIPPED):
        directory = paths.shipped("thresholds") / "sample" if sample else paths.shipped("thresholds")
        names = {f"{_SHIPPED}{p.stem}": p for p in directory.glob("*.yaml")}
        return True, names[place.choice(names)]
    found = Path(os.path.normpath(path.parent / text))
    if not found.is_file():
        raise place.fail(f"no such file beside {path.name}: {text}; or write 'builtin:' and a dimension")
    return False, found


def _layer(
    place: Place, values: Mapping[str, Any], lines: Mapping[str, int], dimension: str, tasks: Mapping[str, Task]
) -> Layer:
    gates: list[Gate] = []
    entries = place["gates"].list() if values["gates"] is not None else ()
    for entry, given in zip(entries, values["gates"] or (), strict=True):
        gate = _gate(entry, given, lines.get(entry.path), dimension, tasks)
        if any(g.name == gate.name for g in gates):
            raise entry.fail(f"a second {gate.kind!r} gate on {gate.metric!r}; remove one")
        gates.append(gate)
    return Layer(tuple(gates), _policy(place, values))


def _policy(place: Place, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the layer says itself: for the rest, what it inherits holds."""
    found = {key: values[key] for key in ("on_partial", "on_inconclusive", "on_no_data") if key in place.value}
    coverage = place.get("coverage")
    return found if coverage is None else {**found, **{key: values["coverage"][key] for key in coverage.value}}


def _gate(place: Place, given: Mapping[str, Any], line: int | None, dimension: str, tasks: Mapping[str, Task]) -> Gate:
    kinds = [k for k in KINDS if given[k] is not None]
    if len(kinds) != 1:
        raise place.fail(f"expected exactly one of {', '.join(KINDS)}")
    kind = kinds[0]
    metric = given["metric"]
    if metric == "score":
        higher, (low, high) = True, (0.0, 1.0)
        involved = tuple(sorted({t.asked for t in tasks.values() if t.dimension == dimension}))
    else:
        task, higher, (low, high) = _find(place["metric"], metric, dimension, tasks)
        involved = (task.asked,)
    if kind == "max_drop":
        low, high = 0.0, high - low
    elif not given["force"]:
        _check_direction(place, kind, metric, higher=higher)
    if given["scoring"] == "parity" and metric == "score":
        raise place.fail("the trust score has no parity reading; remove 'scoring'")
    return Gate(
        file=place.file,
        dimension=dimension,
        metric=metric,
        kind=kind,
        bound=place[kind].number(low, high),
        scoring=given["scoring"],
        higher_is_better=higher,
        tasks=involved,
        confidence=given["confidence"],
        tags=tuple(dict.fromkeys(given["tags"])),
        warn=given["warn"],
        line=line,
    )


def _check_direction(place: Place, kind: Kind, metric: str, *, higher: bool) -> None:
    if (kind == "at_least") != higher:
        better = "higher" if higher else "lower"
        right = "at_least" if higher else "at_most"
        raise place[kind].fail(f"{better} is better for {metric!r}; write {right!r}, or add 'force: true'")


def _find(
    place: Place, metric: str, dimension: str, tasks: Mapping[str, Task]
) -> tuple[Task, bool, tuple[float, float]]:
    match = _METRIC.fullmatch(metric)
    if match is None:
        raise place.fail(f"{metric!r} is no metric; write 'task.metric', 'task.metric{{group=value}}' or 'score'")
    known = {f"{t.name}.{m.name}": (t, m) for t in tasks.values() if t.dimension == dimension for m in t.metrics}
    name = f"{match['task']}.{match['name']}"
    if name not in known:
        raise place.fail(f"no suite of {dimension!r} defines the metric {name!r}{suggest(name, known)}")
    task, spec = known[name]
    if match["group"] is not None and match["group"] not in task.group:
        raise place.fail(f"{task.id} has no group {match['group']!r}{suggest(match['group'], task.group)}")
    return task, spec.higher_is_better, spec.range


@dataclass(frozen=True, slots=True)
class Tags:
    """What ``--trust-gate-tags`` chooses.

    Attributes:
        wanted: A gate needs one of these; empty: no gate needs any.
        unwanted: A gate may have none of these.
    """

    wanted: frozenset[str] = frozenset()
    unwanted: frozenset[str] = frozenset()

    def choose(self, gate: Gate) -> bool:
        """Return whether a gate is judged."""
        tags = set(gate.tags)
        return not (self.wanted and not self.wanted & tags) and not self.unwanted & tags


def read_tags(text: str, known: Iterable[str], flag: str) -> Tags:
    """Read ``nightly, release`` or ``not nightly``.

    Args:
        text: What the user wrote; empty chooses every gate.
        known: Tags of the threshold files.
        flag: How the message names the option.

    Raises:
        GateError: No gate has such a tag.
    """
    names = set(known)
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for part in (p.strip() for p in text.split(",")):
        name = part.removeprefix("not ").strip()
        if not part:
            continue
        if name not in names:
            raise GateError(f"{flag}: no gate has the tag {name!r}{suggest(name, names)}")
        (unwanted if name != part else wanted).add(name)
    return Tags(frozenset(wanted), frozenset(unwanted))


def narrowed(suites: Iterable[Suite], names: Collection[str]) -> set[str]:
    """Return the ids of the tasks that ``--trust-suite`` leaves; without a name, of all that ask something."""
    return {
        task.id
        for suite in suites
        for task in suite.tasks
        if task.reads is None and (not names or suite.name in names or f"{suite.name}/{task.name}" in names)
    }


def chosen_gates(files: Iterable[Thresholds], model: str, tags: Tags, tasks: set[str]) -> list[Gate]:
    """Return a model's gates that have the tags asked for and are about at least one of the tasks."""
    return [g for file in files for g in file.gates(model) if tags.choose(g) and tasks.intersection(g.tasks)]
