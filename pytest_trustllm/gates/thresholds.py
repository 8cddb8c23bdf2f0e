"""One threshold file to gates: its shape, the files that it extends, its layers for single models."""

from __future__ import annotations

import dataclasses
import hashlib
import os.path
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config import paths
from pytest_trustllm.config.containment import HOW, check_below, files_below, root_of
from pytest_trustllm.config.documents import Place, lines_of, read_document
from pytest_trustllm.config.fields import Choice, Either, Flag, Key, ListOf, MappingOf, Name, Number, Table, Text
from pytest_trustllm.config.paths import is_file
from pytest_trustllm.errors import GateError, one_line, suggest
from pytest_trustllm.gates.stopping import LEAST_ALPHA, MOST_ALPHA
from pytest_trustllm.gates.verdict import BOUND_KINDS, BoundKind, Gate, Policy
from pytest_trustllm.scorers.base import sub_scores_of
from pytest_trustllm.suites.rows import SECTIONS
from pytest_trustllm.suites.task import Suite, Task
from pytest_trustllm.suites.verdict_rates import is_verdict_rate
from pytest_trustllm.types import GateScoring

# a group's value is a field of the data, and can be any text; the closing brace ends it
_METRIC = re.compile(r"(?P<task>[A-Za-z0-9_-]+)\.(?P<name>[A-Za-z0-9_-]+)(\{(?P<group>[^=}]+)=(?P<value>[^}]*)\})?")
_SHIPPED = "builtin:"
_SHARE = Number(0, 1)
_FAIL_OR_WARN = Choice(("fail", "warn"))
_BOUNDS: Mapping[BoundKind, str] = {
    "at_least": "The value must not be lower.",
    "at_most": "The value must not be higher.",
    "max_drop": "How much worse than in --trust-baseline, or than that of --trust-base-model, it may be.",
}
_STOP = Either(str, Choice(("exact", "never")), Number(LEAST_ALPHA, MOST_ALPHA))
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
            Choice(("value", "parity", "corrected")),
            "Which reading is judged; parity: the authors' toolkit's; corrected: the value without the mistakes that "
            "--trust-judge-check knows of its judge.",
            default="value",
        ),
        "tags": Key(ListOf(Name()), "Words by which --trust-gate-tags chooses gates.", default=()),
        "stop": Key(
            _STOP,
            "When it may be decided before all samples are asked: exact (no further answer can change the verdict), an "
            "alpha (the probability of another verdict), or never; absent: as for the whole file, or --trust-stop.",
        ),
        "against": Key(
            Choice(("baseline", "base")),
            "What max_drop compares with: --trust-baseline, or the model of --trust-base-model.",
            default="baseline",
        ),
        "warn": Key(Flag(), "The gate reports, but never fails the build.", default=False),
        "force": Key(Flag(), "Accept a bound against the metric's direction.", default=False),
    },
    also={"oneOf": [{"required": [kind]} for kind in BOUND_KINDS]},
)
_NO_GATE = "an empty list judges nothing and removes no inherited gate; write a gate, or remove the key"


class _Gates(ListOf):
    """A list of gates. An empty one is reported when the rest of the file has been read, by :data:`_NO_GATE`."""

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {**ListOf.schema(self), "minItems": 1}


_LAYER = {
    "gates": Key(_Gates(_GATE), "Bounds on numbers; each is a test."),
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
                "headlines": Key(
                    Choice(("all", "measured")),
                    "What a gate on score needs: all headline metrics, with a value and min_scored of their samples; "
                    "or those that were measured.",
                    default=Policy().headlines,
                ),
            }
        ),
        "How much must have been measured.",
    ),
    "on_partial": Key(
        Choice(("skip", "judge", "estimate")),
        "When only a part of the samples was selected (-k, --lf, --trust-limit). estimate: if --trust-limit drew it, "
        "judge the interval of what all samples would give.",
        default=Policy().on_partial,
    ),
    "on_inconclusive": Key(_FAIL_OR_WARN, "When the interval holds the bound.", default=Policy().on_inconclusive),
    "on_no_data": Key(_FAIL_OR_WARN, "When there is no number.", default=Policy().on_no_data),
    "stop": Key(_STOP, "When its gates may be decided before all samples are asked; absent: --trust-stop."),
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
    """Gates and rules of one part of a file; a later layer replaces what it names again.

    Attributes:
        gates: In file order.
        policy: The fields of :class:`~pytest_trustllm.gates.verdict.Policy` that it sets.
    """

    gates: tuple[Gate, ...]
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """One threshold file.

    Attributes:
        path: The file.
        file: Its name in messages and node ids.
        dimension: Such as ``safety``.
        own: What it sets for every model.
        models: Model -> what it sets for that model alone.
        sha256: Of its bytes.
        extends: The file that it inherits from.
    """

    path: Path
    file: str
    dimension: str
    own: Layer
    models: Mapping[str, Layer]
    sha256: str
    extends: Thresholds | None = None

    def gates(self, model: str) -> list[Gate]:
        """Return the gates for a model, named as ``--trust-model`` names it."""
        gates: dict[str, Gate] = {}
        policy = Policy()
        for file in self._inheritance():
            for layer in file._layers(model):
                gates.update({gate.name: gate for gate in layer.gates})
                policy = dataclasses.replace(policy, **layer.policy)
        return [self._as_own(gate, policy) for gate in gates.values()]

    def model_names(self) -> dict[str, str]:
        """Return every model that has a layer: name -> the file, this one or one that it extends, that has it."""
        names: dict[str, str] = {}
        for file in self._inheritance():
            names.update(dict.fromkeys(file.models, file.file))
        return names

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of this file and of those that it extends, by name."""
        return {file.file: file.sha256 for file in self._inheritance()}

    @property
    def has_gates(self) -> bool:
        """It defines or inherits a gate, for whatever model."""
        return any(layer.gates for layer in self._all_layers())

    def tags(self) -> set[str]:
        """Return all tags of its gates, whatever the model."""
        tags: set[str] = set()
        for layer in self._all_layers():
            for gate in layer.gates:
                tags.update(gate.tags)
        return tags

    def _inheritance(self) -> list[Thresholds]:
        """Return the files that it extends, from the most distant one on, and itself."""
        if self.extends is None:
            return [self]
        return [*self.extends._inheritance(), self]

    def _layers(self, model: str) -> list[Layer]:
        """Return what this file alone sets for a model."""
        if model in self.models:
            return [self.own, self.models[model]]
        return [self.own]

    def _all_layers(self) -> Iterator[Layer]:
        for file in self._inheritance():
            yield file.own
            yield from file.models.values()

    def _as_own(self, gate: Gate, policy: Policy) -> Gate:
        """Return a gate under the name and the policy of this file; an inherited one has no line in it."""
        line = gate.line if gate.file == self.file else None
        return dataclasses.replace(gate, file=self.file, line=line, policy=policy)


def read_thresholds(
    path: Path,
    suites: Iterable[Suite],
    *,
    root: Path | None = None,
    builtin: bool = False,
    package: str = "",
    sample: bool = False,
) -> Thresholds:
    """Read one threshold file and those that it extends, and check them against the suites.

    Args:
        path: The file.
        suites: Define the metrics.
        root: Names are relative to it.
        builtin: The file ships with pytest-trustllm.
        package: Name of the installed package of suites that the file is part of.
        sample: ``builtin:`` means the thresholds of the bundled sample items.

    Raises:
        GateError: Any mistake in it, with file and field.
    """
    tasks = {task.id: task for suite in suites for task in suite.tasks}
    inside = path.parent if builtin or package else root_of(path, root)
    with files_below(inside):
        return _Reader(tasks, root, sample).read(path, builtin=builtin, package=package, extending=())


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads threshold files of one run.

    Attributes:
        tasks: Task id -> task, of all suites.
        root: Names of files are relative to it.
        sample: ``builtin:`` means the thresholds of the bundled sample items.
    """

    tasks: Mapping[str, Task]
    root: Path | None
    sample: bool

    def read(self, path: Path, *, builtin: bool, package: str, extending: tuple[Path, ...]) -> Thresholds:
        """Read a file and those that it extends.

        Args:
            path: The file.
            builtin: It ships with pytest-trustllm.
            package: Name of the installed package that it is part of.
            extending: Files that extend this one, directly or through others.
        """
        file = self._name(path, builtin=builtin, package=package)
        top = read_document(path, file, GateError)
        values = FILE(top)
        dimension = top["dimension"].choice({task.dimension for task in self.tasks.values()})
        parent = None
        extends = top.get("extends")
        if extends is not None:
            parent = self._parent(extends, path, package=package, extending=extending)
            if parent.dimension != dimension:
                raise extends.fail(f"{parent.file} is about {parent.dimension!r}, this file about {dimension!r}")
        elif values["gates"] is None and values["models"] is None:
            raise top.fail("key 'gates' is missing")
        layers = _LayerReader(dimension, self._tasks_of(dimension), lines_of(path))
        own = layers.read(top, values)
        models: dict[str, Layer] = {}
        if values["models"] is not None:
            for model, place in top["models"].items():
                models[model] = layers.read(place, values["models"][model])
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return Thresholds(path, file, dimension, own, models, sha256, parent)

    def _name(self, path: Path, *, builtin: bool, package: str) -> str:
        """Return what messages and node ids call a file."""
        if package:
            return f"trustllm/{package}/thresholds/{path.name}"
        if builtin:
            return f"trustllm/{paths.shown(path)}"
        name = paths.shown(path, self.root)
        # outside the project: pytest's node ids are relative to the project and must not be absolute paths
        return f"{path.parent.name}/{path.name}" if Path(name).is_absolute() else name

    def _parent(self, extends: Place, path: Path, *, package: str, extending: tuple[Path, ...]) -> Thresholds:
        """Read the file that another one extends."""
        builtin = extends.text().startswith(_SHIPPED)
        parent = self._shipped_file(extends) if builtin else _file_beside(extends, path)
        descendants = (path, *extending)
        if parent.resolve() in [descendant.resolve() for descendant in descendants]:
            raise extends.fail("the files extend each other in a circle")
        return self.read(parent, builtin=builtin, package="" if builtin else package, extending=descendants)

    def _shipped_file(self, extends: Place) -> Path:
        directory = paths.shipped("thresholds")
        if self.sample:
            directory /= "sample"
        files = {_SHIPPED + path.stem: path for path in directory.glob("*.yaml")}
        return files[extends.choice(files)]

    def _tasks_of(self, dimension: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.dimension == dimension]


def _file_beside(extends: Place, path: Path) -> Path:
    text = extends.text()
    # not resolve(): '..' after a symbolic link means the link's directory, as it reads in the file
    beside = Path(os.path.normpath(path.parent / text))
    outside = extends.fail(f"{one_line(text, 200)} leads out of what threshold files may read; {HOW}")
    check_below(beside, outside)
    if not is_file(beside):
        raise extends.fail(f"no such file beside {path.name}: {text}; or write 'builtin:' and a dimension")
    return beside


@dataclass(frozen=True, slots=True)
class _GatedMetric:
    """The metric, or the trust score, that a gate is about.

    Attributes:
        higher_is_better: Direction.
        range: Least and greatest possible value.
        tasks: Ids of the tasks whose samples decide.
        verdict_rate: It is the share of one verdict, so that its judge's mistakes can be taken out of it.
    """

    higher_is_better: bool
    range: tuple[float, float]
    tasks: tuple[str, ...]
    verdict_rate: bool = False


@dataclass(frozen=True, slots=True)
class _LayerReader:
    """Reads the layers of one threshold file.

    Attributes:
        dimension: Of the file.
        tasks: Of the dimension.
        lines: Where values begin in the file: path -> line.
    """

    dimension: str
    tasks: Sequence[Task]
    lines: Mapping[str, int]

    def read(self, place: Place, values: Mapping[str, Any]) -> Layer:
        """Read a layer from its place and its values by key."""
        gates: list[Gate] = []
        names: set[str] = set()
        if values["gates"] == ():  # who writes it means to remove inherited gates, or forgot to write some
            raise place["gates"].fail(_NO_GATE)
        if values["gates"] is not None:
            for entry, gate_values in zip(place["gates"].list(), values["gates"], strict=True):
                gate = self._gate(entry, gate_values)
                if gate.name in names:
                    raise entry.fail(
                        f"a second {gate.kind!r} gate on {gate.metric!r}; remove one, "
                        "or put it into a threshold file of its own"
                    )
                names.add(gate.name)
                gates.append(gate)
        return Layer(tuple(gates), _policy(place, values))

    def _gate(self, place: Place, values: Mapping[str, Any]) -> Gate:
        kinds = [kind for kind in BOUND_KINDS if values[kind] is not None]
        if len(kinds) != 1:
            raise place.fail(f"expected exactly one of {', '.join(BOUND_KINDS)}")
        kind = kinds[0]
        metric = values["metric"]
        if values["against"] == "base" and kind != "max_drop":
            raise place["against"].fail(f"{kind!r} compares with a number; write 'max_drop', or remove 'against'")
        gated = self._trust_score() if metric == "score" else self._metric(place["metric"], metric)
        low, high = gated.range
        if kind == "max_drop":  # a distance within the range; which way is worse, the metric knows
            low, high = 0.0, high - low
        elif not values["force"]:  # a bound on the wrong side would pass every bad model
            _check_direction(place, kind, metric, higher_is_better=gated.higher_is_better)
        _check_scoring(place, values["scoring"], kind, gated, metric)
        return Gate(
            file=place.file,
            dimension=self.dimension,
            metric=metric,
            kind=kind,
            bound=place[kind].number(low, high),
            scoring=values["scoring"],
            higher_is_better=gated.higher_is_better,
            tasks=gated.tasks,
            confidence=values["confidence"],
            tags=tuple(dict.fromkeys(values["tags"])),  # each once, in order
            warn=values["warn"],
            stop=values["stop"],
            against=values["against"],
            line=self.lines.get(place.path),
        )

    def _trust_score(self) -> _GatedMetric:
        return _GatedMetric(True, (0.0, 1.0), tuple(sorted({task.answers_from for task in self.tasks})))

    def _metric(self, place: Place, metric: str) -> _GatedMetric:
        match = _METRIC.fullmatch(metric)
        if match is None:
            forms = "'task.metric', 'task.metric{group=value}' or 'score'"
            raise place.fail(f"unknown metric {metric!r}; write {forms}")
        metrics = {f"{task.name}.{spec.name}": (task, spec) for task in self.tasks for spec in task.metrics}
        name = f"{match['task']}.{match['name']}"
        if name not in metrics:
            raise place.fail(f"no suite of {self.dimension!r} defines the metric {name!r}{suggest(name, metrics)}")
        task, spec = metrics[name]
        group = match["group"]
        if group is not None:
            _check_group(place, task, group, match["value"])
        return _GatedMetric(spec.higher_is_better, spec.range, (task.answers_from,), is_verdict_rate(task, spec))


def _check_scoring(place: Place, scoring: GateScoring, kind: BoundKind, gated: _GatedMetric, metric: str) -> None:
    if metric == "score" and scoring == "parity":
        # the toolkit has no trust score: it is the mean of the headline metrics' values
        raise place.fail("the trust score has no parity reading; remove 'scoring'")
    if scoring != "corrected":
        return
    if metric == "score" or not gated.verdict_rate:
        name = "the trust score" if metric == "score" else repr(metric)
        raise place["scoring"].fail(
            f"{name} cannot be corrected: it is not the plain share of a judge's verdicts; remove 'scoring'"
        )
    if kind == "max_drop":
        raise place["scoring"].fail("a drop is not corrected; write 'at_least' or 'at_most', or remove 'scoring'")


def _check_group(place: Place, task: Task, group: str, value: str) -> None:
    """See that a task has a group, and a part of this name if it is the group of its scorer's parts."""
    sub_scores = sub_scores_of(task.scorer)
    groups = list(task.group)
    if sub_scores is not None:
        groups.append(sub_scores.group)
    if group not in groups:
        raise place.fail(f"{task.id} has no group {group!r}{suggest(group, groups)}")
    if group in task.group or sub_scores is None:
        return
    # Of a guard, only the answers tell which categories it has
    is_known = sub_scores.absent is not None or value in sub_scores.names
    if not is_known:
        raise place.fail(f"the scorer of {task.id} has no {group} {value!r}{suggest(value, sub_scores.names)}")


def _policy(place: Place, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a policy that a layer sets itself: defaults must not undo what it inherits."""
    policy = {key: values[key] for key in ("on_partial", "on_inconclusive", "on_no_data", "stop") if key in place.value}
    coverage = place.get("coverage")
    if coverage is not None:
        for key in coverage.value:
            policy[key] = values["coverage"][key]
    return policy


def _check_direction(place: Place, kind: BoundKind, metric: str, *, higher_is_better: bool) -> None:
    if higher_is_better:
        better, matching = "higher", "at_least"
    else:
        better, matching = "lower", "at_most"
    if kind != matching:
        raise place[kind].fail(f"{better} is better for {metric!r}; write {matching!r}, or add 'force: true'")
