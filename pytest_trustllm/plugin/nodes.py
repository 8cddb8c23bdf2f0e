"""Suites and threshold files as pytest nodes, and the hooks that collect them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm.engine.keys import key_of
from pytest_trustllm.engine.messages import NOT_NEEDED
from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.formats import Record
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.plugin.node_ids import VIRTUAL, gate_key, gate_name, is_packaged, line_of, node_id, sample_name
from pytest_trustllm.plugin.options import STATE
from pytest_trustllm.plugin.run_state import pending_reason
from pytest_trustllm.plugin.virtual_tree import is_virtual, virtual_gates, virtual_suites, wanted_names
from pytest_trustllm.report import masking

if TYPE_CHECKING:
    from pytest_trustllm.plugin.run_state import RunState
    from pytest_trustllm.suites.task import Suite, Task


class TrustFailure(Exception):
    """An item or a gate failed; its message is all that is shown."""


class _Named(pytest.Item):
    """Builds its node id as text: pytest 9.2 keeps ids in parts, and ``--lf`` compares them with parsed texts.

    It comes after ``pytest.Function`` among the bases, whose own constructor takes brackets for a part of the name.
    """

    def __init__(self, name: str, parent: pytest.Collector, nodeid: object = None, **arguments: Any) -> None:
        super().__init__(name, parent, nodeid=f"{parent.nodeid}::{name}", **arguments)


class _Failing(pytest.Item):
    """Shows our own failures in one line."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return one line for our own errors, pytest's view for anything else."""
        if isinstance(excinfo.value, TrustFailure | TrustLLMError):
            lines = str(excinfo.value).split("\n")
            return "\n".join(one_line(line, 1000) for line in lines)
        return super().repr_failure(excinfo)  # a function takes no style


def _module_of(name: str, path: Path) -> ModuleType:
    """Return what hooks and fixtures find in place of a Python test's module."""
    module = ModuleType(name)
    module.__file__ = str(path)
    return module


def _needs_the_model(trust_model: object) -> None:
    """Its signature gives every item the fixture; the item's own ``runtest`` does the work."""


class TrustItem(_Failing, pytest.Function, _Named):
    """One sample of one model.

    A ``pytest.Function`` has fixtures, conftest overrides and marks; all items of a suite share one ``fixtureinfo``.

    Attributes:
        key: The sample's key in the host.
        trust: Its key, status and record, for the report; None before it ran.
    """

    key: str
    trust: dict[str, str] | None = None

    @property
    def suite_node(self) -> _SuiteNode:
        """The node of its suite."""
        assert isinstance(self.parent, _SuiteNode)  # noqa: S101 - it made the item
        return self.parent

    @property
    def ihook(self) -> Any:
        """Hooks of the conftest files that the suite sees."""
        return self.suite_node.item_hooks

    def getparent(self, cls: type[Any]) -> Any:
        """Return the closest parent of a class; the suite takes the place of a module.

        So fixtures of module scope live as long as the suite's items run, and ``request.module`` exists.
        """
        if cls is pytest.Module:
            return self.suite_node
        return super().getparent(cls)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the item is defined; pytest needs a line number for whatever is skipped."""
        return self.path, 0, self.name

    def runtest(self) -> None:
        """Wait for the sample's record and show its status."""
        state: RunState = self.config.stash[STATE]
        try:
            status, record, fatal = self._fetched(state)
        except pytest.fail.Exception as e:  # pytest-timeout's signal, while the test waits: a traceback tells nothing
            raise TrustFailure(str(e)) from None
        if status == NOT_NEEDED:
            pytest.skip(f"{NOT_NEEDED}: {record}")
        self.trust = {"key": self.key, "status": status, "record": record}
        reason = pending_reason(record)
        if reason is not None:
            pytest.skip(reason)
        if status == "error" or (status == "missed" and state.settings.strict):
            lines = self._failure_lines(state, json.loads(record))
            if fatal:
                self.session.shouldstop = one_line(f"the model cannot be asked: {lines[0]}", 500)
            raise TrustFailure("\n".join(lines))

    def _failure_lines(self, state: RunState, record: Record) -> list[str]:
        """Return why the item fails, and with ``-v`` the texts that explain it."""
        show_content = state.settings.show_content
        harmful = masking.unrefused(_as_masking_reads(record), _tasks_hoping_for_refusal(state))
        hidden = harmful and not show_content
        lines = [_reason(record, hidden=hidden)]
        if self.config.getoption("verbose", 0) > 0:
            lines += state.texts(self.key, hidden=hidden)
        if show_content:
            return lines
        return [masking.masked(line) for line in lines]

    def _fetched(self, state: RunState) -> tuple[str, str, bool]:
        """Return status, record and whether no further sample can succeed; a second run of the item asks again."""
        assert state.records is not None  # noqa: S101 - made at the end of collection
        ran_before = self.trust is not None  # with pytest-retry and flaky
        run_count = getattr(self, "execution_count", 1)  # set by pytest-rerunfailures
        if ran_before or run_count > 1:
            state.records.again(self.key)
        return state.records.get(self.key)


def _as_masking_reads(record: Record) -> Record:
    """Return a record as masking reads it: if a scorer raised, nobody knows whether the answer is a refusal."""
    if record["status"] != "error":
        return record
    return {**record, "status": "unscored"}


def _reason(record: Record, *, hidden: bool) -> str:
    """Return why an item fails; what the scorer read may be the answer itself, and is hidden if that may harm."""
    if record["status"] == "error":
        return str(record["reason"])
    message = f"missed: scored {record['value']:g}"
    if record["answer"] and not hidden:
        message += f", read {record['answer']!r}"
    return message


def _tasks_hoping_for_refusal(state: RunState) -> frozenset[str]:
    directions = {}
    for task in state.tasks():
        for metric in task.metrics:
            directions[task.metric_id(metric.name)] = metric.higher_is_better
    return masking.hoping_for_refusal(directions)


class _SuiteNode(pytest.Collector):
    """Common to suites on disk and suites of our own tree."""

    suite: Suite
    _shared_fixtureinfo: Any = None

    @cached_property
    def obj(self) -> ModuleType:
        """What its items have in place of a module."""
        return _module_of(self.suite.name, self.path)

    @cached_property
    def item_hooks(self) -> Any:
        """The hooks of its items, looked up once: pytest asks every item for them seven times."""
        return self.ihook

    def collect(self) -> Iterator[TrustItem]:
        """Yield one item per sample and model."""
        state: RunState = self.config.stash[STATE]
        self.add_marker("trust")
        self.add_marker(f"trust_{self.suite.dimension}")
        try:
            for model in state.models:
                for task in state.chosen(self.suite):
                    yield from self._items(state, task, model)
        except TrustLLMError as e:
            raise self.CollectError(str(e)) from None

    def _items(self, state: RunState, task: Task, model: str) -> Iterator[TrustItem]:
        for entry in state.selected(task):
            item: TrustItem = TrustItem.from_parent(
                self,
                name=sample_name(state, task, model, entry.id),
                callobj=_needs_the_model,
                fixtureinfo=self._shared_fixtureinfo,
            )
            if self._shared_fixtureinfo is None:
                # The private attribute saves a quarter of the run's time. Without it every item makes its own.
                self._shared_fixtureinfo = getattr(item, "_fixtureinfo", None)
                self._check_parameters(self._shared_fixtureinfo)
            item.key = key_of(model, task.id, entry.id)
            yield item

    def _check_parameters(self, fixtureinfo: Any) -> None:
        """Refuse a ``trust_model`` with parameters: an item has no value for them, and a run tests one app."""
        definitions = getattr(fixtureinfo, "name2fixturedefs", {}).get("trust_model", ())
        if definitions and definitions[-1].params is not None:
            raise self.CollectError(
                "the fixture trust_model has params, and a run tests one app: "
                "give it without params, and run pytest for each app"
            )

    def _selected(self, items: Iterable[TrustItem], wanted: Sequence[str]) -> Iterator[TrustItem]:
        """Yield the items whose name, or whose task, is wanted; an item that is named twice comes once."""
        names = set(wanted)
        for item in items:
            task_name, _, _ = item.name.partition("[")
            if item.name in names or task_name in names:
                names.discard(item.name)
                yield item


class SuiteFile(_SuiteNode, pytest.File):
    """A suite of the user's project."""


class VirtualSuite(_SuiteNode):
    """A suite of the package or of an installed one, under ``trustllm/``, or one outside the rootdir."""

    wanted: Sequence[str] = ()

    @property
    def ihook(self) -> Any:
        """Hooks of the rootdir's conftest.py: the path of this node does not exist, or lies outside the rootdir."""
        return self.session.gethookproxy(self.config.rootpath)

    def collect(self) -> Iterator[TrustItem]:
        """Yield the items, or those of them that were named on the command line."""
        items = super().collect()
        if self.wanted:
            return self._selected(items, self.wanted)
        return items


class GateItem(_Failing, _Named):
    """One gate for one model; judged after everything else.

    It is not a function and uses no fixtures, but hooks in conftest files of others expect every item to be one.
    """

    gate: Gate
    model: str
    warned: bool = False
    cls: None = None
    fixturenames: Sequence[str] = ()

    @property
    def key(self) -> str:
        """What processes call the gate: xdist's groups or a hook may change its node id."""
        return gate_key(self.gate, self.model)

    @property
    def module(self) -> ModuleType:
        """What it has in place of a test's module."""
        return _module_of(self.path.stem, self.path)

    @property
    def funcargs(self) -> dict[str, object]:
        """Values of its fixtures: none."""
        return {}

    @property
    def obj(self) -> Any:
        """What it has in place of a test's function."""
        return self.runtest

    function = obj

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[Any]:
        """Yield its marks except ``flaky``: the samples have run, so judging them again changes nothing."""
        for node, mark in super().iter_markers_with_node(name):
            if mark.name != "flaky":
                yield node, mark

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the gate is defined, and a title that pytest does not take for a dotted path."""
        return self.path, line_of(self.gate), f"gate {self.name}"

    def _initrequest(self) -> None:
        """Do nothing: pytest-retry calls this before a second try to set up fixtures, and a gate has none."""

    def runtest(self) -> None:
        """Judge the gate."""
        from pytest_trustllm.plugin.gatherer import GATHERER, PlannedGate

        gatherer = self.config.stash[GATHERER]
        result = gatherer.judge(PlannedGate(self.gate, self.model, self.nodeid))
        self.user_properties += gatherer.properties(result)
        if result.outcome == "skipped":
            pytest.skip(gatherer.shown(result.reason))
        if result.failing:
            raise TrustFailure(gatherer.shown(result.reason))
        self.warned = result.warned


class _GateNode(pytest.Collector):
    """Common to threshold files on disk and those of our own tree."""

    file: str

    def collect(self) -> Iterator[GateItem]:
        """Yield the file's gates."""
        state: RunState = self.config.stash[STATE]
        self.add_marker("trust")
        for model in state.models:
            for gate in state.chosen_gates(model):
                if gate.file != self.file:
                    continue
                item: GateItem = GateItem.from_parent(self, name=gate_name(state, gate, model))
                item.gate = gate
                item.model = model
                item.add_marker(f"trust_{gate.dimension}")
                yield item


class GateFile(_GateNode, pytest.File):
    """A threshold file of the user's project."""


class VirtualGates(_GateNode):
    """A threshold file of the package, or one outside the rootdir."""

    wanted: Sequence[str] = ()

    @property
    def ihook(self) -> Any:
        """Hooks of the rootdir's conftest.py."""
        return self.session.gethookproxy(self.config.rootpath)

    def collect(self) -> Iterator[GateItem]:
        """Yield the gates, or those of them that were named on the command line."""
        for item in super().collect():
            if not self.wanted or item.name in self.wanted:
                yield item


class VirtualRoot(pytest.Directory):
    """The tree of everything outside the project. Its path is the rootdir, so that the rootdir's conftest.py counts."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield suites, then threshold files."""
        state: RunState = self.config.stash[STATE]
        if state.builtin_asked:
            yield from self._suites(state)
        if state.gates_asked:
            yield from self._gates(state)

    def _suites(self, state: RunState) -> Iterator[VirtualSuite]:
        for suite in virtual_suites(state):
            nodeid = node_id(self.config, suite)
            wanted = wanted_names(state, nodeid)
            if wanted is not None:
                path = self._path_of(nodeid) if is_packaged(suite) else suite.path
                node: VirtualSuite = VirtualSuite.from_parent(self, name=_name(nodeid), path=path, nodeid=nodeid)
                node.suite = suite
                node.wanted = wanted
                yield node

    def _gates(self, state: RunState) -> Iterator[VirtualGates]:
        for file in virtual_gates(state):
            wanted = wanted_names(state, file)
            if wanted is not None:
                path = self._path_of(file)
                node: VirtualGates = VirtualGates.from_parent(self, name=_name(file), path=path, nodeid=file)
                node.file = file
                node.wanted = wanted
                yield node

    def _path_of(self, nodeid: str) -> Path:
        # It does not exist. With the rootdir itself, IDEs that arrange tests by path would mix the suites up.
        return self.config.rootpath / nodeid


def _name(nodeid: str) -> str:
    return nodeid.removeprefix(f"{VIRTUAL}/")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the node of a suite file or a threshold file of the project."""
    if file_path.suffix != ".yaml":
        return None
    state: RunState = parent.config.stash[STATE]
    for suite in state.suites:
        if suite.path == file_path and not is_virtual(parent.config, suite) and state.chosen(suite):
            node: SuiteFile = SuiteFile.from_parent(parent, path=file_path)
            node.suite = suite
            return node
    for file in state.thresholds:
        if file.path == file_path:
            gates: GateFile = GateFile.from_parent(parent, path=file_path)
            gates.file = file.file
            return gates
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Add our own tree to what the session collected."""
    report = yield
    if isinstance(collector, pytest.Session) and report.passed:
        state: RunState = collector.config.stash[STATE]
        if state.builtin_asked or state.gates_asked:
            root = VirtualRoot.from_parent(collector, path=collector.config.rootpath, name=VIRTUAL, nodeid=VIRTUAL)
            report.result = [*report.result, root]
    return report
