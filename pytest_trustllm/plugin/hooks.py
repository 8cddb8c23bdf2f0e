"""Hooks of a run with ``--trust-model``; only :func:`enable` registers them."""

from __future__ import annotations

import gc
import inspect
import json
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pytest

from pytest_trustllm import extensions
from pytest_trustllm.config import paths
from pytest_trustllm.engine.keys import key_of
from pytest_trustllm.errors import HostError, TrustLLMError, one_line, suggest
from pytest_trustllm.plugin import give_model, node_ids, nodes, progress
from pytest_trustllm.plugin.arguments import take_arguments
from pytest_trustllm.plugin.ending import ENDING, Ending
from pytest_trustllm.plugin.gate_reports import report_gates
from pytest_trustllm.plugin.gatherer import GATHERER, Gatherer
from pytest_trustllm.plugin.nodes import GateItem, TrustItem
from pytest_trustllm.plugin.options import STATE
from pytest_trustllm.plugin.run_files import check_writable
from pytest_trustllm.plugin.run_setup import make_state
from pytest_trustllm.plugin.run_state import RunState
from pytest_trustllm.plugin.settings import read_settings
from pytest_trustllm.plugin.stop_plan import stop_plan
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.task import Suite, Task

_FREEZE_FROM = 5_000
"""From this many items, hiding them from the garbage collector pays: it saves a tenth of the run's time."""
_SHOW_ONLY = ("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test", "cacheshow")
"""Options with which pytest shows something and runs no test: no model is asked then, and no file written."""
_SPLITTING = {"splits": "--splits", "test-group-count": "--test-group-count", "num_shards": "--num-shards"}
"""Options of pytest-split, pytest-test-groups and pytest-shard."""
_MOST_CRASHES = 8
"""How often an item whose worker died runs again; xdist itself restarts four times as often as it has workers."""
_STATUSES = {
    "missed": ("missed", "m", ("MISS", {"yellow": True})),
    "unscored": ("unscored", "u", ("UNSCORED", {"yellow": True})),
    "warned": ("warned", "w", ("WARNED", {"yellow": True})),
}


class _WorkerInput(TypedDict):
    """What an xdist controller tells its workers.

    Keys:
        address: The host's; empty with options that only show something.
        token: The host's.
        args: Arguments of the command line that are paths.
        virtual: Those that are node ids of our own tree.
        builtin: Our own tree is collected.
        gates: Gates are collected.
        audited: The saved run that is tested, as JSON.
    """

    address: str
    token: str
    args: list[str]
    virtual: list[str]
    builtin: bool
    gates: bool
    audited: str


def enable(config: pytest.Config) -> None:
    """Read everything and find the user's mistakes. The model host starts only when tests are about to run.

    Raises:
        pytest.UsageError: The first mistake, in one line.
    """
    gc.unfreeze()  # what an earlier session in this process froze; done at its end, it would slow its exit by a tenth
    registry = Registry()
    try:
        _take_extensions(config)
        config.hook.pytest_trustllm_register(registry=registry)
        settings = read_settings(config)
        if settings.plan:  # nothing runs, so there is nothing to divide among workers
            config.option.dist, config.option.tx = "no", []
        state = make_state(config, settings, registry, fixture=_fixture_given(config))
    except TrustLLMError as e:
        raise pytest.UsageError(one_line(e, 1000)) from None
    config.stash[STATE] = state
    for dimension in {suite.dimension for suite in state.suites}:
        config.addinivalue_line("markers", f"trust_{dimension}: an item of a trust suite about {dimension}")
    config.pluginmanager.register(sys.modules[__name__], "trustllm-core")
    config.pluginmanager.register(nodes, "trustllm-collection")
    give_model(config, state.trust_model)
    if hasattr(config, "workerinput"):
        _join(config, state)
        return
    try:
        take_arguments(config, state)
        if _will_run(config, state):
            check_writable(state)
    except TrustLLMError as e:
        raise pytest.UsageError(one_line(e, 1000)) from None
    config.stash[GATHERER] = Gatherer(state)
    config.pluginmanager.register(config.stash[GATHERER], "trustllm-gatherer")
    _check_splitting(config, state)
    if config.getoption("dist", "no") != "no":
        config.pluginmanager.register(Controller(), "trustllm-controller")


def _take_extensions(config: pytest.Config) -> None:
    """Register the modules of installed extensions as plugins, unless ``-p no:NAME`` blocks one.

    A module that is a plugin already, or whose hook a plugin or conftest.py imports, registers its names there.

    Raises:
        TrustLLMError: A module cannot be imported, or does not define the hook.
    """
    manager = config.pluginmanager
    for entry in extensions.module_entries():
        if manager.is_blocked(entry.name):
            continue
        module = extensions.module_of(entry)
        registered = {impl.function for impl in config.hook.pytest_trustllm_register.get_hookimpls()}
        if getattr(module, extensions.HOOK) not in registered:
            manager.register(module, f"{extensions.MODULES}:{entry.name}")


def _check_splitting(config: pytest.Config, state: RunState) -> None:
    """Refuse plugins that split tests over jobs: no job would have all samples of a gate, so none would judge it.

    Raises:
        pytest.UsageError: Such a plugin splits tests that gates are about.
    """
    if not state.gates_asked or not any(state.chosen_gates(model) for model in state.models):
        return
    for option, flag in _SPLITTING.items():
        parts = config.getoption(option, None)
        if parts is not None and int(parts) > 1:
            raise pytest.UsageError(
                f"{flag}: no job would have all samples of a gate, so none could judge it; use --trust-shard=I/{parts} "
                "and 'pytest-trustllm merge', or run the suites in a job of their own"
            )


def _will_run(config: pytest.Config, state: RunState) -> bool:
    """Return whether tests will run, and not just be shown."""
    return not state.settings.plan and not any(config.getoption(name, None) for name in _SHOW_ONLY)


def _start(config: pytest.Config) -> None:
    """Start the model host and the progress line, in the process that the user started and only if tests will run.

    Raises:
        pytest.UsageError: It did not start.
    """
    state: RunState = config.stash[STATE]
    if state.host is not None or hasattr(config, "workerinput") or not _will_run(config, state):
        return
    ending = Ending(state)
    ending.install()
    config.pluginmanager.register(ending, ENDING)
    try:
        state.find_batches()
        state.start()
    except TrustLLMError as e:
        raise pytest.UsageError(one_line(e, 1000)) from None
    progress_line = progress.of(config, state.another_client)
    if progress_line is not None:
        config.pluginmanager.register(progress_line, "trustllm-progress")
        progress_line.start()


def _fixture_given(config: pytest.Config) -> bool:
    """Return whether a conftest.py that pytest has read so far defines ``trust_model``."""
    plugins = config.pluginmanager.get_plugins()
    return any("trust_model" in getattr(plugin, "__dict__", {}) for plugin in plugins)


def _join(config: pytest.Config, state: RunState) -> None:
    """Take from the controller what an xdist worker cannot know: how pytest was called, and where the host is."""
    controller: _WorkerInput = config.workerinput["trust"]  # type: ignore[attr-defined]
    config.args[:] = controller["args"]
    state.virtual = controller["virtual"]
    state.builtin_asked = controller["builtin"]
    state.gates_asked = controller["gates"]
    if controller["address"]:
        state.connect(controller["address"], controller["token"])


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the host before the xdist workers, which are told its address."""
    if session.config.getoption("dist", "no") != "no":
        _start(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Start the host. pytest calls this hook to run tests or to list them, and not for ``--fixtures`` and the like."""
    _start(session.config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Warn if a budget of money cannot be enforced."""
    state: RunState = config.stash[STATE]
    unpriced = state.unpriced()
    if not unpriced or not any(limit.kind == "usd" for limit in state.settings.budget):
        return []
    names = ", ".join(one_line(name, 60) for name in unpriced)
    return [f"WARNING: --trust-budget: money is not counted, no price is known: {names}"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the connection to the host, and end the host in the process that started it."""
    state: RunState = config.stash[STATE]
    if state.client is not None:
        state.client.close()
    if state.host is not None:
        state.host.stop()
        if state.client is not None:  # an xdist worker's app stays: it may be answering for the tests of other workers
            state.client.leave()
    ending = config.pluginmanager.get_plugin(ENDING)
    if ending is not None:
        ending.uninstall()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``trust_sample`` the samples of the marked task, and ``trust_model`` each of several models."""
    state: RunState = metafunc.config.stash[STATE]
    mark = metafunc.definition.get_closest_marker("trust_task")
    if mark is not None and "trust_sample" in metafunc.fixturenames:
        where = f"{metafunc.definition.nodeid}: trust_task"
        task_id = mark.args[0] if len(mark.args) == 1 else None
        suite, task = _marked_task(state, task_id, where)
        try:
            samples = state.samples(task)
        except TrustLLMError as e:
            raise pytest.Collector.CollectError(f"{where}: {e}") from None
        ids = [f"{suite.name}-{task.name}-{sample.id}" for sample in samples]
        metafunc.parametrize("trust_sample", samples, ids=ids)
    if state.several and "trust_model" in metafunc.fixturenames:
        models = [state.trust_model(name) for name in state.models]
        metafunc.parametrize("trust_model", models, ids=list(state.models), scope="session")


def _marked_task(state: RunState, task_id: object, where: str) -> tuple[Suite, Task]:
    """Return the task that a mark names, by the name of its file wherever that is.

    Raises:
        CollectError: It names none; pytest shows its text without a traceback.
    """
    if not isinstance(task_id, str):
        raise pytest.Collector.CollectError(f"{where}: expected one text, such as 'suites/safety.yaml::jailbreak'")
    file, _, task_name = task_id.partition("::")
    stem = file.rsplit("/", maxsplit=1)[-1].removesuffix(".yaml")
    tasks = {}
    for suite in state.suites:
        for task in suite.tasks:
            if task.reads is None:
                tasks[f"{suite.name}.yaml::{task.name}"] = (suite, task)
    name = f"{stem}.yaml::{task_name}"
    if name not in tasks:
        raise pytest.Collector.CollectError(f"{where}: no task {task_id!r}{suggest(name, tasks)}")
    return tasks[name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Move the gates to the end, however the items were sorted, and send the plan."""
    config = session.config
    state: RunState = config.stash[STATE]
    is_worker = hasattr(config, "workerinput")
    gates = [item for item in session.items if isinstance(item, GateItem)]
    rest = [item for item in session.items if not isinstance(item, GateItem)]
    session.items[:] = rest
    if not is_worker:  # with xdist, the controller judges the gates
        session.items += gates
    if state.settings.plan and not is_worker:
        keys = [item.key for item in rest if isinstance(item, TrustItem)]
        config.stash[GATHERER].make_plans(keys, {gate.key: gate.nodeid for gate in gates})
    if state.client is None or (not gates and not rest):
        return
    if state.fixture and not is_worker:
        _check_one_app(config, rest)
    keys = [item.key for item in rest if isinstance(item, TrustItem)]
    extra: list[str] = []
    for item in rest:
        sample = _parameter(item, "trust_sample")
        if sample is not None:
            extra += [key_of(model, sample.task, sample.id) for model in state.models]
    extra += state.base_keys(keys)
    if keys or extra or gates:
        planned_gates = {gate.key: gate.nodeid for gate in gates}
        state.plan(keys, extra, planned_gates, stop_plan(state, keys, extra, planned_gates))
    if len(keys) > _FREEZE_FROM:
        gc.collect()
        gc.freeze()  # the items exist to the end: without this, every full collection walks through all of them


def _parameter(item: pytest.Item, fixture: str) -> Any:
    """Return the value with which an item is parametrized for a fixture; None if it is not."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return None
    return callspec.params.get(fixture)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """Start the servers of the run before its first test, so that one that does not come up is reported once.

    Raises:
        pytest.UsageError: A model cannot be started.
    """
    state: RunState = session.config.stash[STATE]
    if state.settings.plan:
        session.items.clear()
    if state.host is not None and not session.testsfailed:
        try:
            state.start_models()
        except HostError:
            pass  # the first test reports it
        except TrustLLMError as e:
            state.unstarted = True
            raise pytest.UsageError(one_line(e, 1500)) from None
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """Take an overridden ``trust_model`` into the run. If it cannot be made, stop: no further item can succeed."""
    if fixturedef.argname != "trust_model":
        return (yield)
    try:
        result: Any = yield
        where = _definition(fixturedef, request.config, getattr(request, "param", None))
        request.config.stash[STATE].take(result, where)
        return result
    except TrustLLMError as e:
        request.session.shouldstop = f"trust_model could not be made: {one_line(e)}"
        pytest.fail(str(e), pytrace=False)
    except Exception as e:
        request.session.shouldstop = f"trust_model could not be made: {type(e).__name__}: {one_line(e)}"
        raise


def _definition(fixturedef: Any, config: pytest.Config, parameter: object = None) -> str:
    """Return where a fixture is defined, for people, and its parameter."""
    code = getattr(inspect.unwrap(fixturedef.func), "__code__", None)
    where = fixturedef.baseid or "a plugin"
    if code is not None:
        where = f"{paths.shown(Path(code.co_filename), config.rootpath)}:{code.co_firstlineno}"
    if parameter is not None:
        where += f" with parameter {one_line(repr(parameter), 60)}"
    return where


def _check_one_app(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Look, before any model is asked, whether more than one ``trust_model`` fixture, or parameter of it, is used.

    Raises:
        pytest.UsageError: A run tests one app.
    """
    apps: dict[tuple[int, str], tuple[Any, object]] = {}
    for item in items:
        info = getattr(item, "_fixtureinfo", None)  # private; without it, the second app fails when it is made
        definitions = getattr(info, "name2fixturedefs", {}).get("trust_model", ())
        if not definitions:
            continue
        effective = definitions[-1]
        if effective.func.__module__ == give_model.__module__:  # our own reports itself what is wrong
            continue
        parameter = _parameter(item, "trust_model")
        apps[id(effective), repr(parameter)] = (effective, parameter)
    if len(apps) > 1:
        places = [_definition(fixture, config, parameter) for fixture, parameter in apps.values()]
        raise pytest.UsageError(
            f"trust_model is given more than once: by {' and by '.join(places[:3])}; "
            "a run tests one app: run pytest for each of them"
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Attach the record to the call report, which xdist sends to the controller; stop if the host is gone.

    It is the outermost wrapper, because pytest-retry runs an item again while its report is made.
    """
    report: Any = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, HostError):
        message = str(call.excinfo.value)
        report.longrepr = message
        item.session.shouldstop = message  # no further item can succeed
    if call.when == "call" and isinstance(item, TrustItem) and item.trust is not None:
        report.trust = item.trust
    if call.when == "call" and isinstance(item, GateItem):
        report.trust_warned = item.warned
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Any) -> Any:
    """Mark passed tests that deserve a look: a missed target or an unscored sample, and a gate that warns."""
    if report.when == "???" and report.outcome == "rerun":  # from xdist, of an item that runs again
        return "", "", ""
    if report.when == "call" and report.outcome == "passed":
        if getattr(report, "trust_warned", False):
            return _STATUSES["warned"]
        return _STATUSES.get(getattr(report, "trust", {}).get("status", ""))
    return None


class Controller:
    """What only an xdist controller does."""

    def __init__(self) -> None:
        self._crashes: Counter[str] = Counter()
        self._ran: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which tests have run: a worker can die between its report and the message that the item is done."""
        if report.when == "call" and getattr(report, "trust", None) is not None:
            self._ran.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """Run an item again whose worker died: it only waited, and most likely the prompt of another killed the app.

        The host finds out which prompt it was, and the record of that sample reports it.
        """
        state: RunState = sched.config.stash[STATE]
        if crashitem in self._ran:
            report.outcome = "rerun"  # type: ignore[assignment]  # it has its outcome already
            return
        files = [node_ids.node_id(sched.config, suite) for suite in state.suites]
        is_sample = any(crashitem.startswith(f"{file}::") for file in files)
        self._crashes[crashitem] += 1
        if state.fixture and is_sample and self._crashes[crashitem] <= _MOST_CRASHES:
            report.outcome = "rerun"  # type: ignore[assignment]  # as xdist's documentation does it
            sched.mark_test_pending(crashitem)

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker the host's address and what is collected."""
        state: RunState = node.config.stash[STATE]
        worker_input: _WorkerInput = {
            "address": "",
            "token": "",
            "args": [str(argument) for argument in node.config.args],
            "virtual": list(state.virtual),
            "builtin": state.builtin_asked,
            "gates": state.gates_asked,
            "audited": json.dumps(state.data.audited),  # in ASCII: execnet refuses lone surrogates
        }
        if state.host is not None:  # with --setup-plan there is none
            worker_input["address"] = state.host.address
            worker_input["token"] = state.host.token
        node.workerinput["trust"] = worker_input

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Judge the gates once the workers are done; ``-x`` and Ctrl-C raise an exception, and none is judged."""
        result = yield
        gatherer = session.config.stash[GATHERER]
        if gatherer.state.host is not None:  # with --setup-only nothing ran
            report_gates(session, gatherer, gatherer.gates())
        return result
