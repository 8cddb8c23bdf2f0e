"""What one run knows, in one process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm import baseline as earlier
from pytest_trustllm import samples, shards, thresholds
from pytest_trustllm.baseline import Baseline
from pytest_trustllm.client import HostClient, HostProcess, Records, key_of
from pytest_trustllm.correction import read_check
from pytest_trustllm.errors import HostError, ModelError, SuiteError, suggest
from pytest_trustllm.gates import Gate, GateResult
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import Kind
from pytest_trustllm.plugin.settings import Settings
from pytest_trustllm.records import Request, Response, Sample, Selection
from pytest_trustllm.registry import Registry
from pytest_trustllm.samples import Data, Entry
from pytest_trustllm.shards import Shard
from pytest_trustllm.suites import Suite, Task, find_suites
from pytest_trustllm.thresholds import Tags, Thresholds
from pytest_trustllm.trust_model import TrustModel

if TYPE_CHECKING:
    from pytest_trustllm.models.base import ModelSpec

_ROOT = "move the fixture to the conftest.py of the rootdir"
_PARSED = 500
_COMMON = ("task", "group", "status", "observed", "also")
_ROLE_KINDS: dict[str, Kind] = {"judge": "chat", "refusal": "classifier", "embedder": "embedder", "toxicity": "rater"}


@dataclass
class RunState:
    """State of a run with ``--trust-model``.

    Attributes:
        config: The run's configuration.
        settings: What command line and ini file say.
        registry: Names that YAML may use.
        suites: All suites of the project and the package.
        data: The rows.
        thresholds: The threshold files.
        tags: Which gates are judged.
        fixture: A conftest.py gives ``trust_model``; the names of ``--trust-model`` are labels then.
        models: Label -> spec; the spec is None for a fixture.
        roles: Role -> spec.
        checks: What is known of the mistakes of roles' models; empty in xdist workers.
        baselines: Model -> the earlier run that it is compared with; empty in xdist workers.
    """

    config: pytest.Config
    settings: Settings
    registry: Registry
    suites: Sequence[Suite]
    data: Data
    thresholds: Sequence[Thresholds]
    tags: Tags
    fixture: bool
    models: Mapping[str, ModelSpec | None]
    roles: Mapping[str, ModelSpec]
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    checks: Sequence[Mapping[str, Any]] = ()
    host: HostProcess | None = None
    client: HostClient | None = None
    records: Records | None = None
    own: TrustModel | None = None
    virtual: Sequence[str] = ()
    builtin_asked: bool = True
    gates_asked: bool = True
    _entries: dict[str, list[Entry]] = field(default_factory=dict)
    _mine: set[tuple[str, str]] | None = None

    @property
    def several(self) -> bool:
        """More than one model: ids carry the model's name."""
        return len(self.models) > 1

    def chosen(self, suite: Suite) -> list[Task]:
        """Return the tasks of a suite that are collected: not those that read another's answers, nor others' names."""
        tasks = thresholds.narrowed([suite], self.settings.suites)
        return [t for t in suite.tasks if t.id in tasks]

    def chosen_gates(self, model: str) -> list[Gate]:
        """Return a model's gates that are about at least one collected task and have the tags asked for."""
        tasks = thresholds.narrowed(self.suites, self.settings.suites)
        return thresholds.chosen_gates(self.thresholds, model, self.tags, tasks)

    def file_of(self, path: Path, model: str) -> Path:
        """Return where one model's file of a name lies: with several models, each has a file of its own."""
        if not self.several:
            return path
        safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in model)
        return path.with_name(f"{path.stem}.{safe}{path.suffix}")

    def entries(self, task: Task) -> list[Entry]:
        """Return the samples of a task that this run's data has, before ``--trust-limit``."""
        if task.id not in self._entries:
            found = self.data.entries(task)
            self._entries[task.id] = [dataclasses.replace(e, rows=()) for e in found]
        return self._entries[task.id]

    def read_rows(self) -> None:
        """Read the rows of the user's own suites now, for the mistakes in them: collecting would tell them too late.

        Raises:
            SuiteError: A file of rows cannot be read, or the rows do not fit the task.
        """
        for task in (t for suite in self.suites if not suite.builtin for t in self.chosen(suite)):
            self.entries(task)

    def limited(self, task: Task) -> list[Entry]:
        """Return the samples of a task that ``--trust-limit`` leaves."""
        return samples.limited(self.entries(task), self.settings.limit, self.settings.seed, task.id)

    def selected(self, task: Task) -> list[Entry]:
        """Return the samples of a task that ``--trust-limit`` and ``--trust-shard`` leave."""
        if self.settings.shard is None:
            return self.limited(task)
        if self._mine is None:
            self._mine = self._part(self.settings.shard)
        return [e for e in self.limited(task) if (task.id, e.id) in self._mine]

    def _part(self, shard: Shard) -> set[tuple[str, str]]:
        """Return (task, sample) of this shard's part of all samples that would be collected without it."""
        costs = {}
        for task in (t for suite in self.suites for t in self.chosen(suite)):
            wanted = {e.id for e in self.limited(task)}
            for entry in self.data.entries(task):
                if entry.id in wanted:
                    sample = self.data.sample(task, entry)
                    costs[sample.fingerprint, task.id, entry.id] = shards.cost(sample, task.generation)
        return {(task_id, sample_id) for _, task_id, sample_id in shards.part(costs, shard)}

    def whole(self) -> dict[str, int]:
        """Return task -> samples that all shards have together."""
        chosen = {t.id: len(self.limited(t)) for suite in self.suites for t in self.chosen(suite)}
        return {task: count for task, count in chosen.items() if count}

    def samples(self, task: Task) -> list[Sample]:
        """Return the selected samples of a task, rendered."""
        chosen = {e.id for e in self.selected(task)}
        return [self.data.sample(task, e) for e in self.data.entries(task) if e.id in chosen]

    def totals(self, planned: set[str]) -> dict[str, int]:
        """Return task -> samples that its data has, for all tasks that were planned or that gates are about."""
        tasks = {t.id: t for suite in self.suites for t in suite.tasks if t.reads is None}
        names = planned.union(*(g.tasks for model in self.models for g in self.chosen_gates(model)))
        return {name: len(self.entries(tasks[name])) for name in sorted(names)}

    def start(self) -> None:
        """Start the model host, once, in the process that was started."""
        self.host = HostProcess(
            {
                "models": {name: _plain(spec) for name, spec in self.models.items() if spec is not None},
                "fixture": self.fixture,
                "roles": {role: _plain(spec) for role, spec in self.roles.items()},
                "load": {
                    "device": self.settings.device,
                    "batch_size": self.settings.batch_size,
                    "max_concurrency": self.settings.max_concurrency,
                },
                "suites": [[str(s.path), s.builtin] for s in self.suites],
                "data": self.settings.data,
                "root": str(self.config.rootpath),
                "registry": self.registry.added(),
                "sys_path": [str(self.config.invocation_params.dir), *sys.path],
                "store": str(self.settings.store),
                "fresh": self.settings.fresh,
                "offline": self.settings.offline,
                "seed": self.settings.seed,
                "epochs": self.settings.epochs,
                "judge_votes": self.settings.judge_votes,
                "budget": [dataclasses.astuple(limit) for limit in self.settings.budget],
            }
        )
        self.connect(self.host.address, self.host.token)

    def connect(self, address: str, token: str) -> None:
        """Talk to a host from here on."""
        self.client = HostClient(address, token)

    def another_client(self) -> HostClient:
        """Return a further connection to the host."""
        assert self.host is not None  # noqa: S101 - asked where it was started
        return HostClient(self.host.address, self.host.token)

    def unpriced(self) -> list[str]:
        """Return the models under test, and those behind an API that help, whose price is not known."""
        helping = [spec for spec in self.roles.values() if spec.provider == "openai"]
        named = [name for name, spec in self.models.items() if spec is None or "price" not in spec.options]
        return [*named, *(spec.name for spec in helping if "price" not in spec.options)]

    def plan(self, keys: Sequence[str], extra: Sequence[str], gates: Sequence[str]) -> None:
        """Tell the host what was selected, in the order of the tests; the first of them says if the host is gone.

        Args:
            keys: Samples with an item of their own.
            extra: Samples that a user's own tests want.
            gates: Names of the selected gates.
        """
        whole = list(dict.fromkeys([*keys, *extra]))
        totals = self.totals({key.rsplit("|", 2)[1] for key in keys})
        with contextlib.suppress(HostError):
            self._client().call("plan", keys=whole, items=len(keys), totals=totals, gates=list(gates))
        self.records = Records(self._client(), whole)
        self.data.forget()
        self._entries.clear()  # read again where they are needed

    def _client(self) -> HostClient:
        if self.client is None:
            raise HostError("the model host was not started (is this --collect-only?)")
        return self.client

    def trust_model(self, name: str | None = None) -> TrustModel:
        """Return what the ``trust_model`` fixture gives when nobody overrides it.

        Raises:
            ModelError: A conftest.py overrides it for other tests; the run has no second model.
        """
        if self.fixture:
            raise ModelError(f"trust_model is overridden in a conftest.py that this test does not see; {_ROOT}")
        return TrustModel(name or next(iter(self.models)), link=self)

    def take(self, model: object) -> None:
        """Make an overridden fixture's model part of the run."""
        if not isinstance(model, TrustModel):
            raise ModelError(
                f"the fixture trust_model returned {type(model).__name__}; "
                "return TrustModel.from_callable(your_function, name='...')"
            )
        if model.own is None or model is self.own:
            return
        if not self.fixture:
            raise ModelError(
                f"trust_model is overridden in a file that pytest had not read when the run was planned; {_ROOT}"
            )
        if self.own is not None:  # a fixture of a narrower scope makes its model again and again
            model.bind(self)
            return
        workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
        self._client().attach(model.own, max(1, -(-model.own.max_concurrency // workers)))
        model.bind(self)
        self.own = model

    def label(self, model: str) -> str:
        """Return the label in keys of a model: with an overridden fixture, the name on the command line."""
        return next(iter(self.models)) if self.fixture else model

    def ask(self, model: str, request: Request) -> Response:
        """Ask the model through the run's host."""
        message = {
            "model": self.label(model),
            "messages": [list(m) for m in request.messages],
            "generation": dataclasses.asdict(request.generation),
            "seed": request.seed,
        }
        found = self._client().call("ask", **message)["response"]
        return Response(**found)

    def transcript(self, model: str, sample: Sample) -> Mapping[str, Any]:
        """Return prompts and responses of a sample."""
        key = key_of(self.label(model), sample.task, sample.id)
        found: Mapping[str, Any] = self._client().call("detail", key=key)["transcript"]
        return found

    def record(self, model: str, sample: Sample) -> str:
        """Return the record of a sample, as JSON."""
        if self.records is None:
            raise ModelError("the run has no plan yet")
        return self.records.get(key_of(self.label(model), sample.task, sample.id))[1]


def make_state(config: pytest.Config, settings: Settings, registry: Registry, *, fixture: bool) -> RunState:
    """Read suites, data, thresholds and model names, and look for every mistake that needs no model.

    Raises:
        TrustLLMError: The first mistake found.
    """
    root = config.rootpath
    suites = find_suites(settings.suite_directories, registry, root=root, builtin=settings.builtin_suites)
    _check_narrowing(settings, suites)
    data = samples.open_data(settings.data, root)
    files = thresholds.find_thresholds(settings.thresholds, suites, root=root, sample=settings.data == "sample")
    tags = thresholds.read_tags(settings.gate_tags, {t for f in files for t in f.tags()}, "--trust-gate-tags")
    models: dict[str, ModelSpec | None] = dict.fromkeys(settings.models)
    if fixture and len(models) > 1:
        raise SuiteError("--trust-model: a conftest.py overrides trust_model, so give one name only")
    roles = {}
    if not hasattr(config, "workerinput"):
        user_file = settings.models_file
        for role, name in settings.roles.items():
            roles[role] = catalogue.resolve(name, user_file=user_file, kind=_ROLE_KINDS[role], registry=registry)
        if not fixture:
            for name in models:
                models[name] = catalogue.resolve(name, user_file=user_file, kind="chat", registry=registry)
        for spec in (*roles.values(), *models.values()):
            if spec is not None:
                catalogue.provider_of(spec, registry).check(spec)
    state = RunState(config, settings, registry, suites, data, files, tags, fixture, models, roles)
    if not hasattr(config, "workerinput"):
        state.read_rows()
        tasks, names = [t for s in suites for t in s.tasks], {role: spec.name for role, spec in roles.items()}
        state.checks = [read_check(p, names, tasks, "--trust-judge-check") for p in settings.judge_checks]
    if settings.baseline is not None and not hasattr(config, "workerinput"):
        state.baselines = {model: _baseline(state, settings.baseline, model) for model in models}
    return state


def _baseline(state: RunState, path: Path, model: str) -> Baseline:
    settings = state.settings
    found = earlier.read_baseline(state.file_of(path, model), root=state.config.rootpath)
    tasks = [t for suite in state.suites for t in suite.tasks]
    setting = earlier.Setting(model, {role: spec.name for role, spec in state.roles.items()})
    any_model = None if settings.baseline_any_model else "--trust-baseline-any-model"
    earlier.check(found, setting, state.chosen_gates(model), tasks, any_model=any_model)
    return found


def _plain(spec: ModelSpec) -> dict[str, Any]:
    """Return a spec as JSON; its options may be a mapping that cannot be copied."""
    fields = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    return {**fields, "options": dict(spec.options)}


def _check_narrowing(settings: Settings, suites: Sequence[Suite]) -> None:
    known = {s.name for s in suites} | {f"{s.name}/{t.name}" for s in suites for t in s.tasks if t.reads is None}
    for name in settings.suites:
        if name not in known:
            raise SuiteError(f"--trust-suite: no suite or task {name!r}{suggest(name, known)}")


@dataclass
class Gathered:
    """What arrived from the tests, in the process where every report arrives.

    Attributes:
        records: Model -> key -> record as JSON text.
        gates: Model -> gate -> verdict, in the order in which they were judged; a rerun replaces it.
    """

    records: dict[str, dict[str, str]] = field(default_factory=dict)
    gates: dict[str, dict[str, GateResult]] = field(default_factory=dict)

    def take(self, key: str, record: str) -> None:
        """Keep one record; a rerun replaces it."""
        self.records.setdefault(key.rsplit("|", 2)[0], {})[key] = record

    def parsed(self, model: str) -> Iterator[dict[str, Any]]:
        """Yield the records of one model, many parsed at once: equal keys are one object then, as equal values are."""
        texts = list(self.records.get(model, {}).values())
        once: dict[object, Any] = {}
        for start in range(0, len(texts), _PARSED):
            for record in json.loads(f"[{','.join(texts[start : start + _PARSED])}]"):
                for name in _COMMON:
                    value = record[name]
                    record[name] = once.setdefault(str(value), value)
                yield record


def selection_of(plan: Mapping[str, Any], model: str) -> Selection:
    """Return what a plan selected for one model."""
    planned: dict[str, int] = {}
    for key in plan["keys"][: plan["items"]]:
        name, task, _ = key.rsplit("|", 2)
        if name == model:
            planned[task] = planned.get(task, 0) + 1
    return Selection(plan["totals"], planned)
