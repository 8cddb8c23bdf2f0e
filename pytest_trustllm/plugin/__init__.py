"""The pytest plugin: the only room that knows pytest.

This module is what every pytest run loads, also one that never heard of trust: it imports nothing heavy, and without
``--trust-model`` it declares its options, marks and two fixtures and does nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm.plugin import options

if TYPE_CHECKING:
    from pytest_trustllm.trust_model import TrustModel

_INACTIVE = "needs a model under test: run pytest with --trust-model=NAME"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the flags and their ini twins."""
    options.declare(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks, so that a conftest.py may implement them in any run."""
    from pytest_trustllm.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks; wake the rest if a model is given."""
    config.addinivalue_line("markers", "trust: an item of a trust suite")
    config.addinivalue_line(
        "markers", "trust_task(id): give trust_sample the samples of 'suites/safety.yaml::jailbreak'"
    )
    if options.model_names(config):
        from pytest_trustllm.plugin import core

        core.enable(config)


@pytest.fixture(scope="session")
def trust_model(pytestconfig: pytest.Config) -> TrustModel:
    """The model under test. Override it in the rootdir's conftest.py to test your own app."""
    state: Any = pytestconfig.stash.get(options.STATE, None)
    if state is None:
        pytest.skip(_INACTIVE)
    model: TrustModel = state.trust_model()
    return model


@pytest.fixture
def trust_sample() -> None:
    """One sample of the task named by ``@pytest.mark.trust_task``; the mark replaces this fixture."""
    pytest.skip(f"trust_sample {_INACTIVE}, and the mark trust_task('suites/NAME.yaml::TASK') on the test")
