"""What one process knows of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm.engine.client import HostClient, HostProcess, Provided, Records
from pytest_trustllm.engine.keys import key_of, split_key
from pytest_trustllm.engine.messages import (
    AskReply,
    DetailReply,
    LoadFields,
    RunConfig,
    SpecFields,
    StopPlan,
    SuiteLocation,
)
from pytest_trustllm.engine.trust_model import TrustModel
from pytest_trustllm.errors import HostError, ModelError, SuiteError, one_line
from pytest_trustllm.formats import JudgeCheckEntry, Transcript
from pytest_trustllm.gates import selection
from pytest_trustllm.gates.deciding import metric_of
from pytest_trustllm.gates.dropping import earlier_samples
from pytest_trustllm.gates.selection import Tags
from pytest_trustllm.gates.thresholds import Thresholds
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.plugin.settings import Settings
from pytest_trustllm.registry import Registry
from pytest_trustllm.results.baseline import Baseline
from pytest_trustllm.suites import samples, shards
from pytest_trustllm.suites.attack_metrics import check_enough_attacks
from pytest_trustllm.suites.licences import licence_of, permits
from pytest_trustllm.suites.samples import DataSource, Entry
from pytest_trustllm.suites.shards import Shard
from pytest_trustllm.suites.task import Suite, Task
from pytest_trustllm.types import Request, Response, Sample

if TYPE_CHECKING:
    from pytest_trustllm.engine.host_thread import HostThread

_MOVE_FIXTURE = "move the fixture to the conftest.py of the rootdir"
NO_BATCHES_HINT = "leave the flag out, or test a model of an OpenAI-compatible API that has one"
_MOST_LINES = 40
"""Lines of one text that a failure shows."""


@dataclass(frozen=True)
class FixtureModel:
    """The model that an overridden fixture returned.

    Attributes:
        model: What the fixture returned.
        where: Where the fixture is defined, and its parameter.
        provided: Answers the host's requests with the model.
    """

    model: TrustModel
    where: str
    provided: Provided

    @property
    def source(self) -> tuple[str, Mapping[str, Any]]:
        """What stays the same whenever the same fixture makes the same app."""
        assert self.model.own is not None  # noqa: S101 - take() checked it
        return self.where, self.model.own.info


@dataclass
class RunState:
    """State of a run with ``--trust-model``.

    Attributes:
        config: The run's configuration.
        settings: Flags and ini keys.
        registry: Names that YAML may use.
        suites: All suites of the project and the package.
        data: The rows.
        thresholds: The threshold files.
        tags: Which gates are judged.
        fixture: A conftest.py overrides ``trust_model``; the name of ``--trust-model`` is a label then.
        models: Label -> spec; the spec is None for a fixture.
        roles: Role -> spec.
        base: The bare model behind the app; None without one, and in xdist workers.
        baselines: Model -> the earlier run that it is compared with; empty in xdist workers.
        checks: How well the roles' models agreed with people; empty in xdist workers.
        host: The model host, in the process that started it.
        unstarted: A model could not be started, so no test runs.
        interrupted: A signal ends the run: nothing is waited for any longer than it must be.
        client: The connection to the host; None before it is started, or if no test will run.
        records: The records of the samples; None before the plan is sent.
        fixture_model: The model of an overridden fixture, once the fixture was set up.
        virtual: Node ids of our own tree that the command line names.
        builtin_asked: The run collects our own tree.
        gates_asked: The run is to judge gates: paths on the command line, if there are any, name some.
        part_named: Paths on the command line leave out suites or gates of the project.
    """

    config: pytest.Config
    settings: Settings
    registry: Registry
    suites: Sequence[Suite]
    data: DataSource
    thresholds: Sequence[Thresholds]
    tags: Tags
    fixture: bool
    models: Mapping[str, ModelSpec | None]
    roles: Mapping[str, ModelSpec]
    base: ModelSpec | None = None
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    checks: Sequence[JudgeCheckEntry] = ()
    host: HostProcess | HostThread | None = None
    unstarted: bool = False
    client: HostClient | None = None
    interrupted: bool = False
    records: Records | None = None
    fixture_model: FixtureModel | None = None
    virtual: Sequence[str] = ()
    builtin_asked: bool = True
    gates_asked: bool = True
    part_named: bool = False
    _entries: dict[str, list[Entry]] = field(default_factory=dict)
    _of_shard: set[tuple[str, str]] | None = None

    @property
    def several(self) -> bool:
        """Whether there is more than one model: ids hold the model's name then."""
        return len(self.models) > 1

    def tasks(self) -> list[Task]:
        """Return the tasks of all suites."""
        return [task for suite in self.suites for task in suite.tasks]

    def collected(self) -> list[Task]:
        """Return the tasks of all suites that are collected."""
        tasks: list[Task] = []
        for suite in self.suites:
            tasks += self.chosen(suite)
        return tasks

    def chosen(self, suite: Suite) -> list[Task]:
        """Return the tasks of a suite that are collected: they have samples, and ``--trust-suite`` leaves them."""
        ids = selection.selected_tasks([suite], self.settings.suites)
        return [task for task in suite.tasks if task.id in ids and task.id not in self._left_out]

    def licences(self) -> dict[str, str]:
        """Return task -> licence of its rows, of all tasks that send prompts."""
        licences: dict[str, str] = {}
        sample = self.settings.data == "sample"
        for suite in self.suites:
            for task in suite.tasks:
                if task.reads is None:
                    licences[task.id] = licence_of(task, suite, sample=sample)
        return licences

    def requested(self) -> set[str]:
        """Return the tasks that ``--trust-suite`` selects, whatever their licence."""
        return selection.selected_tasks(self.suites, self.settings.suites)

    @cached_property
    def unlicensed(self) -> Mapping[str, str]:
        """Task -> licence, of those that ``--trust-licences`` leaves out."""
        patterns = self.settings.licences
        if not patterns:
            return {}
        return {task: licence for task, licence in self.licences().items() if not permits(patterns, licence)}

    @cached_property
    def _left_out(self) -> frozenset[str]:
        """Tasks that are no part of the run: for their licence, or because what they are about was not given."""
        pointless = [task.id for task in self.tasks() if not self.data.is_about_something(task)]
        return frozenset(pointless).union(self.unlicensed)

    def chosen_gates(self, model: str) -> list[Gate]:
        """Return a model's gates that are about at least one collected task and have the requested tags."""
        return [gate for gate in self.gates_of(model) if self.tags.choose(gate)]

    def resembling(self) -> list[str]:
        """Return names of models in threshold files that may be misspelt."""
        names = selection.likely_misspelt(self.thresholds, list(self.models))
        if self.fixture:
            return names
        aliases = {alias.name for alias in catalogue.list_entries(self.settings.models_file, self.registry)}
        return [name for name in names if name not in aliases]  # an alias is another model, not a misspelt one

    def unwritten_thresholds(self) -> str | None:
        """Return the project's directory of threshold files if it holds none, so that nothing is judged."""
        directory = self.config.rootpath / "thresholds"
        if self.settings.thresholds is None and selection.is_unwritten(directory):
            return f"{directory.name}/"
        return None

    def gates_of(self, model: str) -> list[Gate]:
        """Return a model's gates that are about at least one collected task, whatever their tags."""
        tasks = selection.selected_tasks(self.suites, self.settings.suites) - self._left_out
        return selection.gates_about(self.thresholds, model, tasks)

    def file_of(self, path: Path, model: str) -> Path:
        """Return the path of one model's file: with several models, each has its own, named after the model."""
        if not self.several:
            return path
        # Not every character of an id such as hf:org/name may be part of a file name.
        safe = "".join(char if char.isalnum() or char in "._-" else "-" for char in model)
        return path.with_name(f"{path.stem}.{safe}{path.suffix}")

    def entries(self, task: Task) -> list[Entry]:
        """Return the samples of a task that this run's data has, before ``--trust-limit``."""
        if task.id not in self._entries:
            # Without their rows: collecting needs ids only, and the rows of all tasks take much memory.
            self._entries[task.id] = [dataclasses.replace(entry, rows=()) for entry in self.data.entries(task)]
        return self._entries[task.id]

    def read_rows(self) -> None:
        """Read the rows of the user's own suites now, to find mistakes in them before anything is collected.

        Raises:
            SuiteError: A file of rows cannot be read, or no row fits the task.
        """
        for suite in self.suites:
            if suite.builtin:
                continue
            for task in self.chosen(suite):
                readers = [other for other in suite.tasks if other.reads is not None and other.answers_from == task.id]
                self.entries(task)  # a mistake in a file of rows names that file
                try:
                    for scoring_task in (task, *readers):
                        check_enough_attacks(scoring_task, task, self.settings.epochs)
                    self.data.check_metrics(task)
                    self.data.check_templates(task, readers)
                except SuiteError as e:
                    raise SuiteError(f"{suite.shown}: {e}") from None

    def limited(self, task: Task) -> list[Entry]:
        """Return the samples of a task that ``--trust-limit`` leaves."""
        return samples.limited(self.entries(task), self.settings.limit, self.settings.seed, task.id)

    def selected(self, task: Task) -> list[Entry]:
        """Return the samples of a task that ``--trust-limit`` and ``--trust-shard`` leave."""
        if self.settings.shard is None:
            return self.limited(task)
        if self._of_shard is None:
            self._of_shard = self._part(self.settings.shard)
        return [entry for entry in self.limited(task) if (task.id, entry.id) in self._of_shard]

    def _part(self, shard: Shard) -> set[tuple[str, str]]:
        """Return (task, sample) of this shard's part of all samples that would be collected without it."""
        costs = {}
        for task in self.collected():
            wanted = {entry.id for entry in self.limited(task)}
            turns = 1 if task.talk is None else task.talk.most_turns
            for entry in self.data.entries(task):
                if entry.id in wanted:
                    sample = self.data.sample(task, entry)
                    costs[sample.fingerprint, task.id, entry.id] = shards.expected_tokens(
                        sample, task.generation, turns
                    )
        return {(task_id, sample_id) for _, task_id, sample_id in shards.members(costs, shard)}

    def whole(self) -> dict[str, int]:
        """Return task -> samples that all shards have together."""
        counts = {task.id: len(self.limited(task)) for task in self.collected()}
        return {task_id: count for task_id, count in counts.items() if count}

    def samples(self, task: Task) -> list[Sample]:
        """Return the selected samples of a task, rendered."""
        selected = {entry.id for entry in self.selected(task)}
        return [self.data.sample(task, entry) for entry in self.data.entries(task) if entry.id in selected]

    def totals(self, planned: set[str]) -> dict[str, int]:
        """Return task -> samples that its data has, for all tasks that were planned or that gates are about."""
        tasks = {task.id: task for task in self.tasks() if task.reads is None}
        ids = set(planned)
        for model in self.models:
            for gate in self.chosen_gates(model):
                ids.update(gate.tasks)
        return {task_id: len(self.entries(tasks[task_id])) for task_id in sorted(ids)}

    def start(self) -> None:
        """Start the model host, once, in the process that the user started.

        Raises:
            HostError: It did not start.
        """
        try:
            self.host = self._new_host()
        except OSError as e:  # no descriptors, processes or memory left, or nowhere to put temporary files
            raise HostError(f"the model host cannot be started: {one_line(e.strerror or e)}") from None
        self.connect(self.host.address, self.host.token)

    def _new_host(self) -> HostProcess | HostThread:
        if not self.settings.in_process:
            return HostProcess(self._host_config())
        from pytest_trustllm.engine.host_thread import HostThread

        return HostThread(self._host_config())

    def _host_config(self) -> RunConfig:
        settings = self.settings
        return {
            "models": {name: _spec_fields(spec) for name, spec in self._asked().items() if spec is not None},
            "fixture": self.fixture,
            "roles": {role: _spec_fields(spec) for role, spec in self.roles.items()},
            "load": self._load_fields(),
            "suites": [_location(suite) for suite in self.suites],
            "data": settings.data,
            "card": None if self.data.card is None else str(self.data.card.path),
            "audited": self.data.audited,
            "root": str(self.config.rootpath),
            "registry": self.registry.added(),
            "sys_path": [str(self.config.invocation_params.dir), *sys.path],
            "store": str(settings.store),
            "fresh": settings.fresh,
            "offline": settings.offline,
            "seed": settings.seed,
            "epochs": settings.epochs,
            "judge_votes": settings.judge_votes,
            "blocked": settings.blocked,
            "batch": settings.batch,
            "budget": [dataclasses.astuple(limit) for limit in settings.budget],
            "before": {model: self._before(model) for model in self.baselines},
        }

    @property
    def base_label(self) -> str | None:
        """What keys call the bare model, which may have the name of the model under test; None without one."""
        name = self.settings.base_model
        return None if name is None else f"base {name}"

    def base_keys(self, keys: Sequence[str]) -> list[str]:
        """Return the keys of the same samples for the bare model; none without one."""
        if self.base_label is None:
            return []
        parts = [split_key(key) for key in keys]
        return list(dict.fromkeys(key_of(self.base_label, part.task, part.sample) for part in parts))

    def _asked(self) -> dict[str, ModelSpec | None]:
        """Return all models that are asked the samples."""
        asked = dict(self.models)
        if self.base_label is not None:
            asked[self.base_label] = self.base
        return asked

    def _before(self, model: str) -> dict[str, list[Any]]:
        """Return id of a gate -> what the model's baseline has of the samples of its metric."""
        if self.settings.stop == "never":
            return {}
        tasks = {task.id: task for task in self.tasks()}
        before: dict[str, list[Any]] = {}
        for gate in self.chosen_gates(model):
            if gate.against == "baseline" and gate.metric_id is not None:
                task, spec, group = metric_of(gate, tasks)
                before[gate.id] = earlier_samples(self.baselines[model].records, task.id, spec, group, gate.reading)
        return before

    def find_batches(self) -> None:
        """Ask the servers of the models under test whether they have what ``--trust-batch`` needs.

        Raises:
            ModelError: One has no batch API.
        """
        if self.settings.batch is None:
            return
        for spec in self.models.values():
            if spec is None:
                continue
            provider: Any = catalogue.provider_of(spec, self.registry)
            try:
                provider.find_batches(spec)
            except ModelError as e:
                raise ModelError(f"--trust-batch: {e}; {NO_BATCHES_HINT}") from None

    def _load_fields(self) -> LoadFields:
        settings = self.settings
        return {
            "device": settings.device,
            "batch_size": settings.batch_size,
            "max_concurrency": settings.max_concurrency,
            "logs": str(settings.store / "servers"),
            "cluster": settings.cluster,
            "sharing": max(1, self._models_on_cluster),
        }

    def start_models(self) -> None:
        """Wait until the models that must be started answer.

        Raises:
            TrustLLMError: One of them cannot be started.
        """
        models = [label for label, spec in self.models.items() if spec is not None and self._must_start(spec)]
        roles = [role for role, spec in self.roles.items() if self._must_start(spec)]
        if models or roles:
            self._connected_client().call("ready", models=models, roles=roles)

    def _must_start(self, spec: ModelSpec) -> bool:
        # A project's own provider need not derive from BaseProvider
        must_start = getattr(catalogue.provider_of(spec, self.registry), "must_start", None)
        return must_start is not None and bool(must_start(spec, LoadSettings(cluster=self.settings.cluster)))

    @property
    def _models_on_cluster(self) -> int:
        if self.settings.cluster is None:
            return 0
        specs = [*self.models.values(), *self.roles.values()]
        return sum(spec is not None and self._must_start(spec) for spec in specs)

    def connect(self, address: str, token: str) -> None:
        """Use a host from now on; the connection is made at the first call."""
        self.client = HostClient(address, token)

    def another_client(self) -> HostClient:
        """Return a further connection to the host."""
        assert self.host is not None  # noqa: S101 - only the process that started the host calls this
        return HostClient(self.host.address, self.host.token)

    def unpriced(self) -> list[str]:
        """Return the models under test, and the roles' models behind an API, whose price is not known."""
        names = []
        for label, tested in self.models.items():
            if tested is None or "price" not in tested.options:
                names.append(label)
        for spec in self.roles.values():
            if spec.provider == "openai" and "price" not in spec.options:
                names.append(spec.name)
        return names

    def plan(
        self, keys: Sequence[str], extra: Sequence[str], gates: Mapping[str, str], stop: StopPlan | None = None
    ) -> None:
        """Tell the host what was selected, in the order of the tests. If it is gone, the first test reports that.

        Args:
            keys: Samples that are items.
            extra: Samples that the user's own tests want.
            gates: Key -> node id of the selected gates.
            stop: When to stop asking; None: every sample is asked.
        """
        all_keys = list(dict.fromkeys([*keys, *extra]))
        totals = self.totals({split_key(key).task for key in keys})
        client = self._connected_client()
        with contextlib.suppress(HostError):
            client.call("plan", keys=all_keys, items=len(keys), totals=totals, gates=dict(gates), stop=stop)
        if self.fixture:
            client.prepare()
        self.records = Records(client, all_keys)
        self.data.forget()
        self._entries.clear()  # read again where they are needed

    def _connected_client(self) -> HostClient:
        if self.client is None:
            raise HostError("the model host was not started (is this --collect-only?)")
        return self.client

    def trust_model(self, name: str | None = None) -> TrustModel:
        """Return the value of the ``trust_model`` fixture if nobody overrides it.

        Raises:
            ModelError: A conftest.py overrides it for other tests; the run has no second model.
        """
        if self.fixture:
            raise ModelError(f"trust_model is overridden in a conftest.py that this test does not see; {_MOVE_FIXTURE}")
        return TrustModel(name or next(iter(self.models)), link=self)

    def take(self, model: object, where: str) -> None:
        """Make an overridden fixture's model part of the run.

        Args:
            model: What the fixture returned.
            where: Where the fixture is defined, and its parameter.

        Raises:
            ModelError: It is not a model, or not the one of this run.
        """
        if self.client is None:  # with --setup-only and the like, nothing is asked
            return
        if not isinstance(model, TrustModel):
            raise ModelError(
                f"the fixture trust_model returned {type(model).__name__}; "
                "return TrustModel.from_callable(your_function, name='...')"
            )
        if model.own is None:
            return
        if not self.fixture:
            raise ModelError(
                "trust_model is overridden in a file that pytest had not read when the run was planned; "
                f"{_MOVE_FIXTURE}"
            )
        first = self.fixture_model
        if first is None:
            self.fixture_model = self._attached(model, where)
        elif first.source != (where, model.own.info):
            raise ModelError(
                f"trust_model is given twice: {first.model.name!r} by {first.where}, {model.name!r} by {where}; "
                "a run tests one app: run pytest for each of them"
            )
        else:  # a fixture of a narrower scope makes its model again and again
            first.provided.replace(model.own)
        model.bind(self)

    def _attached(self, model: TrustModel, where: str) -> FixtureModel:
        """Let this process answer the host's requests with a fixture's model."""
        assert model.own is not None  # noqa: S101 - take() checked it
        client = self._connected_client()
        client.call("app", name=model.name, where=where)  # fails if another worker made another one
        workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
        places = max(1, math.ceil(model.own.max_concurrency / workers))
        return FixtureModel(model, where, client.attach(model.own, places))

    def label(self, model: str) -> str:
        """Return what keys call a model: with an overridden fixture, the name on the command line."""
        if self.fixture:
            return next(iter(self.models))
        return model

    def ask(self, model: str, request: Request) -> Response:
        """Send a request to a model through the run's host."""
        reply: AskReply = self._connected_client().call(
            "ask",
            model=self.label(model),
            messages=[list(message) for message in request.messages],
            generation=dataclasses.asdict(request.generation),
            seed=request.seed,
            tools=[dataclasses.asdict(tool) for tool in request.tools],
        )
        return Response.restored(reply["response"])

    def transcript(self, model: str, sample: Sample) -> Transcript:
        """Return prompts and responses of a sample; a test whose responses are pending is skipped."""
        transcript = self._transcript(key_of(self.label(model), sample.task, sample.id))
        for response in transcript.get("responses", ()):
            if response.get("pending"):
                pytest.skip(str(response["error"]))
        return transcript

    def _transcript(self, key: str) -> Transcript:
        reply: DetailReply = self._connected_client().call("detail", key=key)
        return reply["transcript"]

    def texts(self, key: str, *, hidden: bool) -> list[str]:
        """Return prompt, response, expected answer and what scorers printed, for people.

        Args:
            key: Of the sample.
            hidden: Whether the response may be harmful, and is left out.
        """
        transcript = self._transcript(key)
        texts = _said_in_conversation(transcript, hidden=hidden)
        if not texts:
            texts = _prompts_and_responses(transcript, hidden=hidden)
        if "expected" in transcript:
            texts.append(("expected", transcript["expected"]))
        if "printed" in transcript and not hidden:  # a scorer may print the response
            texts.append(("printed", transcript["printed"]))
        lines: list[str] = []
        for name, text in texts:
            lines += _indented(name, text)
        return lines

    def record(self, model: str, sample: Sample) -> str:
        """Return the record of a sample, as JSON; a test whose sample is pending is skipped."""
        if self.records is None:
            raise ModelError("the run has no plan yet")
        _, record, _ = self.records.get(key_of(self.label(model), sample.task, sample.id))
        reason = pending_reason(record)
        if reason is not None:
            pytest.skip(reason)
        return record


_HIDDEN = "hidden; --trust-show-content shows it"


def _prompts_and_responses(transcript: Transcript, *, hidden: bool) -> list[tuple[str, str | None]]:
    texts: list[tuple[str, str | None]] = []
    for messages in transcript.get("prompts", ()):
        if messages:
            texts.append(("prompt", messages[-1][1]))
    for response in transcript.get("responses", ()):
        text = response.get("text")
        texts.append(("response", _HIDDEN if hidden and text else text))
    return texts


def _said_in_conversation(transcript: Transcript, *, hidden: bool) -> list[tuple[str, str | None]]:
    """Return who said what; nothing if the sample is no conversation.

    What follows the first answer may quote it, and is hidden with it.
    """
    texts: list[tuple[str, str | None]] = []
    for talk in transcript.get("talks", ()):
        is_hidden = False
        for role, content in talk:
            is_hidden = is_hidden or (hidden and role not in ("system", "user"))
            texts.append((role, _HIDDEN if is_hidden else content))
    responses = transcript.get("responses")
    if texts and responses and responses[-1].get("text") is None and not responses[-1].get("calls"):
        texts.append(("assistant", None))  # a reply without an answer is not among the messages
    return texts


def pending_reason(record: str) -> str | None:
    """Return why a sample is pending; None if it is not.

    Args:
        record: The sample's, as JSON; there are thousands, and most are not parsed.
    """
    if '"pending":true' not in record:
        return None
    fields = json.loads(record)
    return str(fields["reason"]) if fields.get("pending") else None


def _indented(name: str, text: str | None) -> list[str]:
    """Return a text next to its name, with its further lines below the first."""
    if text is None:
        lines = ["(none)"]
    else:
        lines = text.splitlines() or ["(empty)"]
    heading = f"{name + ':':<10}"
    indent = " " * len(heading)
    first, *further = lines[:_MOST_LINES]
    return [heading + first, *(indent + line for line in further)]


def _location(suite: Suite) -> SuiteLocation:
    package = "" if suite.package is None else suite.package.name
    return {"path": str(suite.path), "builtin": suite.builtin, "package": package}


def _spec_fields(spec: ModelSpec) -> SpecFields:
    # Not dataclasses.asdict: the options may be a read-only mapping, which cannot be copied deeply.
    return {
        "name": spec.name,
        "provider": spec.provider,
        "target": spec.target,
        "revision": spec.revision,
        "kind": spec.kind,
        "options": dict(spec.options),
    }
