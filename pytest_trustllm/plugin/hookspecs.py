"""Hooks that a conftest.py or another plugin can implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every pytest run loads this module
    import pytest

    from pytest_trustllm.formats import Record, Results
    from pytest_trustllm.registry import Registry


def pytest_trustllm_register(registry: Registry) -> None:
    """Register scorers, metrics and model providers under the names that YAML files use.

    Called once per process, before any suite is read, in a run with ``--trust-model``: in the process that was started,
    in every xdist worker, and repeated in the model host from the import path of what was registered. So register
    classes and functions that can be imported (a class in conftest.py can; one made inside a function cannot).

    Example::

        def pytest_trustllm_register(registry):
            registry.scorers.add("starts_with", "myapp.scoring:StartsWith")

    The module of an entry point in the group ``pytest_trustllm`` may define it too; the commands read that as well.
    """


def pytest_trustllm_sample_scored(record: Record, config: pytest.Config) -> None:
    """Called for every scored sample, where all reports arrive: the only process, or the xdist controller.

    Args:
        record: Model, task, id, status, value, answer, reason and group of the sample.
        config: The run's configuration.
    """


def pytest_trustllm_results(results: Results, config: pytest.Config) -> None:
    """Called once per model after the run, before the results file and the report are written.

    Args:
        results: The results document; entries added under ``results["run"]["extra"]`` are kept.
        config: The run's configuration.
    """
