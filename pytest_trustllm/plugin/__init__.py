"""The pytest plugin: the only room that uses pytest.

Every pytest run loads this module, whether it tests a model or not. So it imports nothing heavy, and without
``--trust-model`` it declares options, marks and two fixtures and does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from pytest_trustllm.plugin import options

_INACTIVE = "needs a model under test: run pytest with --trust-model=NAME"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the flags and their ini twins."""
    options.declare(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks, so that a conftest.py may implement them in any run."""
    from pytest_trustllm.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest's own wrapper, which starts to capture
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Leave the terminal alone where a debugger may need it.

    A breakpoint in the host's thread stops while the main thread goes on, and pytest would take standard input away
    at the next test.
    """
    given = early_config.known_args_namespace
    if options.runs_in_process(early_config, given):
        given.capture = "no"
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks; enable everything else if a model is given."""
    config.addinivalue_line("markers", "trust: an item of a trust suite")
    config.addinivalue_line(
        "markers", "trust_task(id): give trust_sample the samples of 'suites/safety.yaml::jailbreak'"
    )
    if options.model_names(config) and not config.getoption("help", False):
        from pytest_trustllm.plugin import hooks

        hooks.enable(config)
    else:
        if "--trust-audit" in options.given_flags(config):  # nothing must look as if it had been checked
            raise pytest.UsageError("--trust-audit: needs the model of the saved run; give --trust-model=NAME too")
        give_model(config, lambda: pytest.skip(_INACTIVE))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which flags do nothing because no model is given."""
    flags = [] if options.model_names(config) else options.given_flags(config)
    return f"trust: without --trust-model, nothing is done for {', '.join(flags)}" if flags else None


def give_model(config: pytest.Config, get: Callable[[], object]) -> None:
    """Register the fixture ``trust_model``.

    The fixture uses no other one: with ``pytestconfig``, every item would set up three more, which takes a tenth of its
    time. pytest looks for fixtures in modules and classes, so this makes a module.
    """

    @pytest.fixture(scope="session")
    def trust_model() -> object:
        """The model under test. Override it in the rootdir's conftest.py to test your own app."""
        return get()

    plugin = ModuleType("trustllm-model")
    vars(plugin)["trust_model"] = trust_model
    config.pluginmanager.register(plugin, plugin.__name__)


@pytest.fixture
def trust_sample() -> None:
    """One sample of the task named by ``@pytest.mark.trust_task``; the mark replaces this fixture."""
    pytest.skip(f"trust_sample {_INACTIVE}, and the mark trust_task('suites/NAME.yaml::TASK') on the test")
