"""Hooks of a run with ``--trust-model``; registered by :func:`enable` alone."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from typing import Any, NoReturn

import pytest

from pytest_trustllm.client import key_of
from pytest_trustllm.errors import HostError, TrustLLMError, one_line, suggest
from pytest_trustllm.plugin import collection, give_model, progress
from pytest_trustllm.plugin.collection import GateItem, TrustItem
from pytest_trustllm.plugin.gather import GATHERER, Gatherer, replay
from pytest_trustllm.plugin.options import STATE
from pytest_trustllm.plugin.settings import read_settings
from pytest_trustllm.plugin.state import RunState, make_state
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites import Suite, Task

_MANY = 5_000
"""Items from which on it pays to keep them out of the garbage collector's way: a tenth of the run's time."""
_LETTERS = {
    "missed": ("missed", "m", ("MISS", {"yellow": True})),
    "unscored": ("unscored", "u", ("UNSCORED", {"yellow": True})),
    "warned": ("warned", "w", ("WARNED", {"yellow": True})),
}


def enable(config: pytest.Config) -> None:
    """Read everything, find the user's mistakes, start the model host.

    Raises:
        pytest.UsageError: The first mistake, in one line.
    """
    gc.unfreeze()  # what an earlier session of this process left; at the end of one it would slow the exit by a tenth
    registry = Registry()
    try:
        config.hook.pytest_trustllm_register(registry=registry)
        settings = read_settings(config)
        state = make_state(config, settings, registry, fixture=_fixture_given(config))
    except TrustLLMError as e:
        raise pytest.UsageError(one_line(e, 1000)) from None
    config.stash[STATE] = state
    for dimension in {s.dimension for s in state.suites}:
        config.addinivalue_line("markers", f"trust_{dimension}: an item of a trust suite about {dimension}")
    config.pluginmanager.register(sys.modules[__name__], "trustllm-core")
    config.pluginmanager.register(collection, "trustllm-collection")
    give_model(config, state.trust_model)
    if hasattr(config, "workerinput"):
        _join(config, state)
        return
    try:
        collection.take_arguments(config, state)
    except TrustLLMError as e:
        raise pytest.UsageError(one_line(e, 1000)) from None
    config.stash[GATHERER] = Gatherer(state)
    config.pluginmanager.register(config.stash[GATHERER], "trustllm-gatherer")
    if not config.option.collectonly:
        if config.getoption("dist", "no") != "no":
            config.pluginmanager.register(Controller(), "trustllm-controller")
        _end_in_order()
        try:
            state.start()
        except TrustLLMError as e:
            raise pytest.UsageError(one_line(e, 1000)) from None


def _end_in_order() -> None:
    """Let SIGTERM end the run as Ctrl-C does, with results and reports; a second one ends it at once."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # else somebody knows better
        signal.signal(signal.SIGTERM, _ended)


def _ended(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise pytest.Session.Interrupted("ended by SIGTERM")


def _fixture_given(config: pytest.Config) -> bool:
    """Return whether a conftest.py that pytest has read by now defines ``trust_model``."""
    return any("trust_model" in vars(p) for p in config.pluginmanager.get_plugins() if hasattr(p, "__dict__"))


def _join(config: pytest.Config, state: RunState) -> None:
    """Take from the controller what an xdist worker cannot know: how pytest was called, and where the host is."""
    given: dict[str, Any] = config.workerinput["trust"]  # type: ignore[attr-defined]
    config.args[:] = given["args"]
    state.virtual, state.builtin_asked, state.gates_asked = given["virtual"], given["builtin"], given["gates"]
    state.connect(given["address"], given["token"])


def pytest_sessionstart(session: pytest.Session) -> None:
    """Watch the host from here on, where it was started."""
    state: RunState = session.config.stash[STATE]
    shown = progress.of(session.config, state.another_client) if state.host is not None else None
    if shown is not None:
        session.config.pluginmanager.register(shown, "trustllm-progress")
        shown.start()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what of the budget cannot be watched."""
    state: RunState = config.stash[STATE]
    unpriced = state.unpriced() if any(limit.kind == "usd" for limit in state.settings.budget) else []
    names = ", ".join(one_line(name, 60) for name in unpriced)
    return [f"WARNING: --trust-budget: money is not counted, no price is known: {names}"] if unpriced else []


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the host; end it where it was started."""
    if signal.getsignal(signal.SIGTERM) is _ended:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    state: RunState = config.stash[STATE]
    if state.client is not None:
        state.client.close()
    if state.host is not None:
        state.host.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``trust_sample`` the samples of the marked task, and ``trust_model`` each of several models."""
    state: RunState = metafunc.config.stash[STATE]
    mark = metafunc.definition.get_closest_marker("trust_task")
    if mark is not None and "trust_sample" in metafunc.fixturenames:
        where = f"{metafunc.definition.nodeid}: trust_task"
        suite, task = _marked(state, mark.args[0] if len(mark.args) == 1 else None, where)
        try:
            found = state.samples(task)
        except TrustLLMError as e:
            raise pytest.UsageError(f"{where}: {e}") from None
        metafunc.parametrize("trust_sample", found, ids=[f"{suite.name}-{task.name}-{s.id}" for s in found])
    if state.several and "trust_model" in metafunc.fixturenames:
        found_models = [state.trust_model(name) for name in state.models]
        metafunc.parametrize("trust_model", found_models, ids=list(state.models), scope="session")


def _marked(state: RunState, where: object, message: str) -> tuple[Suite, Task]:
    if not isinstance(where, str):
        raise pytest.UsageError(f"{message}: expected one text, such as 'suites/safety.yaml::jailbreak'")
    file, _, name = where.partition("::")
    stem = file.rsplit("/", maxsplit=1)[-1].removesuffix(".yaml")
    known = {f"{s.name}.yaml::{t.name}": (s, t) for s in state.suites for t in s.tasks if t.reads is None}
    found = known.get(f"{stem}.yaml::{name}")
    if found is None:
        raise pytest.UsageError(f"{message}: no task {where!r}{suggest(f'{stem}.yaml::{name}', known)}")
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Put the gates last, whatever sorted the items, and send the plan; gates of a worker are the controller's."""
    config = session.config
    state: RunState = config.stash[STATE]
    gates = [i for i in session.items if isinstance(i, GateItem)]
    rest = [i for i in session.items if not isinstance(i, GateItem)]
    session.items[:] = rest if hasattr(config, "workerinput") else [*rest, *gates]
    if state.client is None or (not gates and not rest):
        return
    keys = [i.key for i in rest if isinstance(i, TrustItem)]
    extra = [key_of(model, s.task, s.id) for i in rest for s in _wanted(i) for model in state.models]
    if keys or extra or gates:
        state.plan(keys, extra, [g.nodeid for g in gates])
    if len(keys) > _MANY:
        gc.collect()
        gc.freeze()  # the items stay to the end: without this every full collection walks through all of them


def _wanted(item: pytest.Item) -> list[Any]:
    callspec = getattr(item, "callspec", None)
    sample = callspec.params.get("trust_sample") if callspec is not None else None
    return [sample] if sample is not None else []


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """Take an overridden ``trust_model`` into the run; if it cannot be made, stop: no further item can do better."""
    if fixturedef.argname != "trust_model":
        return (yield)
    try:
        result: Any = yield
        request.config.stash[STATE].take(result)
        return result
    except TrustLLMError as e:
        request.session.shouldstop = f"trust_model could not be made: {one_line(e)}"
        pytest.fail(str(e), pytrace=False)
    except Exception as e:
        request.session.shouldstop = f"trust_model could not be made: {type(e).__name__}: {one_line(e)}"
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Let the call report carry the record, once per item, for xdist can send it; stop where the host is gone."""
    report: Any = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, HostError):
        report.longrepr = item.session.shouldstop = str(call.excinfo.value)  # no further item can do better
    if call.when == "call" and isinstance(item, TrustItem) and item.trust is not None:
        report.trust = item.trust
    if call.when == "call" and isinstance(item, GateItem):
        report.trust_warned = item.warned
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Any) -> Any:
    """Show passed tests that need a look: a missed target or an unscored sample (a gate decides), a gate that warns."""
    if report.when == "call" and report.outcome == "passed":
        if getattr(report, "trust_warned", False):
            return _LETTERS["warned"]
        return _LETTERS.get(getattr(report, "trust", {}).get("status", ""))
    return None


class Controller:
    """What only an xdist controller does."""

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where the host is."""
        state: RunState = node.config.stash[STATE]
        assert state.host is not None  # noqa: S101 - started before any worker
        node.workerinput["trust"] = {
            "address": state.host.address,
            "token": state.host.token,
            "args": [str(a) for a in node.config.args],
            "virtual": list(state.virtual),
            "builtin": state.builtin_asked,
            "gates": state.gates_asked,
        }

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Judge the gates after the workers are done; ``-x`` and Ctrl-C leave by an exception and judge nothing."""
        result = yield
        gatherer = session.config.stash[GATHERER]
        replay(session, gatherer, gatherer.gates())
        return result
