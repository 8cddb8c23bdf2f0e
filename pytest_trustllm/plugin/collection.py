"""Suites and threshold files as pytest nodes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm import masking
from pytest_trustllm.client import key_of
from pytest_trustllm.errors import TrustLLMError, one_line, suggest
from pytest_trustllm.gates import Gate
from pytest_trustllm.plugin.options import STATE

if TYPE_CHECKING:
    from pytest_trustllm.plugin.state import RunState
    from pytest_trustllm.suites import Suite, Task

VIRTUAL = "trustllm"
"""First part of the node ids of what ships with the package: they do not depend on where it is installed."""


class TrustFailure(Exception):
    """An item or a gate failed; its message is all there is to show."""


class _Named(pytest.Item):
    """Has the node id that its text gives: pytest 9.2 keeps ids in parts, and ``--lf`` compares them with parsed texts.

    It stands after ``pytest.Function`` among the bases, whose own constructor takes brackets for a part of the name.
    """

    def __init__(self, name: str, parent: pytest.Collector, nodeid: object = None, **more: Any) -> None:
        super().__init__(name, parent, nodeid=f"{parent.nodeid}::{name}", **more)


class _Failing(pytest.Item):
    """Shows our own failures in one line."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return one line for our own errors, pytest's view for anything else."""
        if isinstance(excinfo.value, TrustFailure | TrustLLMError):
            return one_line(excinfo.value, 1000)
        return super().repr_failure(excinfo, style)


def _needs_the_model(trust_model: object) -> None:
    """Its signature gives every item the fixture; the item's own ``runtest`` does the work."""


class TrustItem(_Failing, pytest.Function, _Named):
    """One sample of one model.

    A ``pytest.Function`` has fixtures, conftest overrides and marks; all items of a suite share one ``fixtureinfo``.

    Attributes:
        key: The sample's key in the host.
        trust: What became of it; None before it ran.
    """

    key: str
    trust: dict[str, str] | None = None

    @property
    def ihook(self) -> Any:
        """Hooks of the conftest files that the suite sees."""
        assert isinstance(self.parent, _SuiteNode)  # noqa: S101 - it made the item
        return self.parent.item_hooks

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the item is defined."""
        return self.path, None, self.name

    def runtest(self) -> None:
        """Wait for the sample's record and show its status."""
        state: RunState = self.config.stash[STATE]
        assert state.records is not None  # noqa: S101 - made when the collection was finished
        if getattr(self, "execution_count", 1) > 1:  # pytest-rerunfailures counts so
            state.records.again(self.key)
        status, record, fatal = state.records.get(self.key)
        self.trust = {"key": self.key, "status": status, "record": record}
        if status == "error" or (status == "missed" and state.settings.strict):
            reason = _reason(state, status, record)
            if fatal:
                self.session.shouldstop = one_line(f"the model cannot be asked: {reason}", 500)
            raise TrustFailure(reason)


def _reason(state: RunState, status: str, record: str) -> str:
    """Return why an item fails; what the scorer read may be the answer itself, and is hidden where that may harm."""
    found = json.loads(record)
    if status == "error":
        reason = str(found["reason"])
    else:
        hidden = not state.settings.show_content and masking.unrefused(found, _hoping(state))
        read = f", read {found['answer']!r}" if found["answer"] and not hidden else ""
        reason = f"missed: scored {found['value']:g}{read}"
    return reason if state.settings.show_content else masking.masked(reason)


def _hoping(state: RunState) -> frozenset[str]:
    metrics = [(t.metric_id(m.name), m) for s in state.suites for t in s.tasks for m in t.metrics]
    return masking.hoping_for_refusal({id_: {"higher_is_better": m.higher_is_better} for id_, m in metrics})


class _SuiteNode(pytest.Collector):
    """Common to suites on disk and suites of the package."""

    suite: Suite

    @cached_property
    def item_hooks(self) -> Any:
        """The hooks of its items. An item is asked for them seven times, and for the first time when it runs."""
        return self.ihook

    def collect(self) -> Iterator[TrustItem]:
        """Yield one item per sample and model."""
        state: RunState = self.config.stash[STATE]
        self.add_marker("trust")
        self.add_marker(f"trust_{self.suite.dimension}")
        shared: Any = None
        try:
            for model in state.models:
                for task in state.chosen(self.suite):
                    for item in self._items(state, task, model, shared):
                        shared = shared or getattr(item, "_fixtureinfo", None)
                        yield item
        except TrustLLMError as e:
            raise self.CollectError(str(e)) from None

    def _items(self, state: RunState, task: Task, model: str, shared: Any) -> Iterator[TrustItem]:
        for entry in state.selected(task):
            name = _sample_name(state, task, model, entry.id)
            item: TrustItem = TrustItem.from_parent(self, name=name, callobj=_needs_the_model, fixtureinfo=shared)
            # the private name saves a quarter of the run's time; without it every item makes its own, as it may
            shared = shared or getattr(item, "_fixtureinfo", None)
            item.key = key_of(model, task.id, entry.id)
            yield item

    def _selected(self, items: Iterable[TrustItem], wanted: Sequence[str]) -> Iterator[TrustItem]:
        names = set(wanted)
        for item in items:
            if item.name in names or item.name.split("[")[0] in names:
                names.discard(item.name)
                yield item


class SuiteFile(_SuiteNode, pytest.File):
    """A suite of the user's project."""


class VirtualSuite(_SuiteNode):
    """A suite of the package, under ``trustllm/``."""

    wanted: Sequence[str] = ()

    @property
    def ihook(self) -> Any:
        """Hooks of the rootdir's conftest.py: the path of this node does not exist."""
        return self.session.gethookproxy(self.config.rootpath)

    def collect(self) -> Iterator[TrustItem]:
        """Yield the items, or those of them that were named on the command line."""
        items = super().collect()
        return self._selected(items, self.wanted) if self.wanted else items


class GateItem(_Failing, _Named):
    """One gate for one model; judged after everything else."""

    gate: Gate
    model: str
    warned: bool = False

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the gate is defined, and a title that pytest does not take for a dotted path."""
        return self.path, None, f"gate {self.name}"

    def runtest(self) -> None:
        """Judge the gate."""
        from pytest_trustllm.plugin.gather import GATHERER

        gatherer = self.config.stash[GATHERER]
        result = gatherer.judge(self.gate, self.model, self.nodeid)
        self.user_properties += gatherer.properties(result)
        if result.outcome == "skipped":
            pytest.skip(gatherer.shown(result.reason))
        if result.failing:
            raise TrustFailure(gatherer.shown(result.reason))
        self.warned = result.warned


class _GateNode(pytest.Collector):
    """Common to threshold files on disk and those of the package."""

    file: Path

    def collect(self) -> Iterator[GateItem]:
        """Yield the file's gates."""
        state: RunState = self.config.stash[STATE]
        self.add_marker("trust")
        for model in state.models:
            for gate in state.chosen_gates(model):
                if Path(gate.file).name == self.file.name:
                    item: GateItem = GateItem.from_parent(self, name=_gate_name(state, gate, model))
                    item.gate, item.model = gate, model
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
        items = super().collect()
        return (i for i in items if i.name in self.wanted) if self.wanted else items


class VirtualRoot(pytest.Directory):
    """The tree of what lies outside the project. Its path is the rootdir, so that its conftest.py counts."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield suites, then threshold files."""
        state: RunState = self.config.stash[STATE]
        for suite in _virtual_suites(state) if state.builtin_asked else ():
            wanted = _wanted(state, suite.shown)
            if wanted is not None:
                node = _virtual(VirtualSuite, self, suite.shown)
                node.suite, node.wanted = suite, wanted
                yield node
        for path, file in _virtual_gates(self.config, state) if state.gates_asked else ():
            wanted = _wanted(state, file)
            if wanted is not None:
                gates = _virtual(VirtualGates, self, file)
                gates.file, gates.wanted = path, wanted
                yield gates


def _virtual(kind: Any, parent: VirtualRoot, nodeid: str) -> Any:
    path = parent.config.rootpath / nodeid
    return kind.from_parent(parent, name=nodeid.removeprefix(f"{VIRTUAL}/"), path=path, nodeid=nodeid)


def _virtual_suites(state: RunState) -> list[Suite]:
    return [s for s in state.suites if s.builtin and state.chosen(s)]


def _virtual_gates(config: pytest.Config, state: RunState) -> list[tuple[Path, str]]:
    """Return path and node id of the threshold files that pytest does not reach by walking the project."""
    return [(t.path, t.file) for t in state.thresholds if not _on_disk(config, t.path)]


def _on_disk(config: pytest.Config, path: Path) -> bool:
    """Return whether pytest reaches a file by walking the project."""
    return path.is_relative_to(config.rootpath) and "site-packages" not in path.parts


def _wanted(state: RunState, file: str) -> Sequence[str] | None:
    """Return which names of a virtual file the command line asks for; empty: all; None: not this file."""
    found: list[str] = []
    for id_ in state.virtual:
        where, _, name = id_.partition("::")
        if file == where or file.startswith(f"{where}/"):
            if not name:
                return ()
            found.append(name)
    return found or (None if state.virtual else ())


def _check_virtual(config: pytest.Config, state: RunState) -> None:
    """Look for ids on the command line that name nothing: pytest does so for paths that exist.

    Raises:
        pytest.UsageError: The first of them.
    """
    suites = {s.shown: s for s in _virtual_suites(state)}
    files = [*suites, *(file for _, file in _virtual_gates(config, state))]
    for id_ in state.virtual:
        where, _, name = id_.partition("::")
        known = [file for file in files if file == where or file.startswith(f"{where}/")]
        if not known:
            raise pytest.UsageError(f"not found: {one_line(id_)}{suggest(where, files)}")
        if name:
            names = _suite_names(state, suites[where]) if where in suites else _gate_names(state, where)
            if name not in names:
                raise pytest.UsageError(f"not found: {one_line(id_)}{suggest(name, names).partition(';')[0]}")


def _suite_names(state: RunState, suite: Suite) -> set[str]:
    tasks = state.chosen(suite)
    samples = {_sample_name(state, t, m, e.id) for t in tasks for m in state.models for e in state.selected(t)}
    return samples | {t.name for t in tasks}


def _gate_names(state: RunState, file: str) -> set[str]:
    return {_gate_name(state, g, m) for m in state.models for g in state.chosen_gates(m) if g.file == file}


def _sample_name(state: RunState, task: Task, model: str, sample: str) -> str:
    return f"{task.name}[{_prefix(state, model)}{sample}]"


def sample_ids(state: RunState, tasks: Iterable[Task], model: str) -> dict[str, str]:
    """Return task -> node id of its samples, with ``{}`` for the sample's id."""
    shown = {t.id: s.shown for s in state.suites for t in s.tasks}
    return {t.id: f"{shown[t.id]}::{_sample_name(state, t, model, '{}')}" for t in tasks if t.reads is None}


def _gate_name(state: RunState, gate: Gate, model: str) -> str:
    return f"{gate.metric}[{_prefix(state, model)}{gate.kind}]"


def _prefix(state: RunState, model: str) -> str:
    return f"{model.replace('::', '-')}-" if state.several else ""


def gate_id(state: RunState, gate: Gate, model: str) -> str:
    """Return the node id of a gate for one model."""
    return f"{gate.file}::{_gate_name(state, gate, model)}"


def take_arguments(config: pytest.Config, state: RunState) -> None:
    """Decide what is collected: without paths everything, with paths just what they say.

    Arguments that name the package's own nodes (``trustllm/...``) are no paths: they are taken out of ``config.args``.
    """
    wanted: list[Path] = []
    given = config.args_source is pytest.Config.ArgsSource.ARGS
    if given:
        state.virtual = [v for arg in config.args if (v := _virtual_id(config, arg)) is not None]
        config.args[:] = [a for a in config.args if _virtual_id(config, a) is None]
        state.builtin_asked = bool(state.virtual)
        _check_virtual(config, state)
    else:
        wanted += state.settings.suite_directories
    if not given or config.getoption("trust_thresholds"):
        wanted += [t.path for t in state.thresholds]
    state.gates_asked = bool(wanted) or bool(state.virtual)
    reached = [(config.invocation_params.dir / a.split("::")[0]).resolve() for a in config.args]
    for path in wanted:
        if _on_disk(config, path) and not any(path.resolve().is_relative_to(r) for r in reached):
            config.args.append(str(path))


def _virtual_id(config: pytest.Config, argument: str) -> str | None:
    """Return the node id if an argument names a node of the package: relative, absolute, or as an IDE writes it."""
    file, colons, rest = argument.partition("::")
    path = Path(os.path.normpath(config.invocation_params.dir / file))
    for base in (config.invocation_params.dir, config.rootpath):
        if path.is_relative_to(base):
            parts = path.relative_to(base).as_posix()
            if (parts == VIRTUAL or parts.startswith(f"{VIRTUAL}/")) and not path.exists():
                return parts + colons + rest
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Make a node of a suite file or a threshold file of the project."""
    if file_path.suffix != ".yaml":
        return None
    state: RunState = parent.config.stash[STATE]
    for suite in state.suites:
        if suite.path == file_path and not suite.builtin and state.chosen(suite):
            node: SuiteFile = SuiteFile.from_parent(parent, path=file_path)
            node.suite = suite
            return node
    if any(t.path == file_path for t in state.thresholds):
        gates: GateFile = GateFile.from_parent(parent, path=file_path)
        gates.file = file_path
        return gates
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Add the package's own tree to what the session collected."""
    report = yield
    if isinstance(collector, pytest.Session) and report.passed:
        state: RunState = collector.config.stash[STATE]
        if state.builtin_asked or state.gates_asked:
            root = VirtualRoot.from_parent(collector, path=collector.config.rootpath, name=VIRTUAL, nodeid=VIRTUAL)
            report.result = [*report.result, root]
    return report
