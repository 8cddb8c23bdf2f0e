"""Log every run to MLflow: ``pytest -p pytest_trustllm.plugin.mlflow_logging`` (extra ``mlflow``).

Where to is MLflow's own matter: ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``. Metrics, trust scores and their
limits become metrics, conditions become parameters and tags, and the results document, concealed as in a CI log, is
an artifact. Samples and their texts are not logged.

A store that cannot be used is found before the run. Runs are logged after their files are written, so that a server
that does not answer costs no results.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm.config.secrets import public_url, without_url_secrets
from pytest_trustllm.errors import one_line
from pytest_trustllm.plugin import options

if TYPE_CHECKING:
    from pytest_trustllm.formats import Results

_UNUSABLE = re.compile(r"[^\w\-./ :]")
"""What MLflow does not accept in a metric's name."""
_LONGEST = 250
_FLAG = "-p pytest_trustllm.plugin.mlflow_logging"
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""How long the first question to a server may take; MLflow's own defaults are minutes."""
_REMEDY = (
    "set MLFLOW_TRACKING_URI to a server, to a database (needs the whole 'mlflow', not 'mlflow-skinny'), or to a "
    "directory with MLFLOW_ALLOW_FILE_STORE=true"
)
_RESULTS: pytest.StashKey[list[Results]] = pytest.StashKey()
_PROBLEMS: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Find out before the run, which may be expensive, that MLflow is missing or that its store cannot be used.

    Raises:
        pytest.UsageError: It is.
    """
    config.stash[_RESULTS], config.stash[_PROBLEMS] = [], []
    try:
        import mlflow
    except ImportError:
        raise pytest.UsageError(f"{_FLAG}: needs mlflow; pip install 'pytest-trustllm[mlflow]'") from None
    if hasattr(config, "workerinput") or not options.model_names(config):
        return  # nothing is logged here
    try:
        with _impatient():
            mlflow.MlflowClient().search_experiments(max_results=1)
    except Exception as e:  # noqa: BLE001 - what a store's own library raises
        where = one_line(public_url(mlflow.get_tracking_uri()), 200)
        raise pytest.UsageError(f"{_FLAG}: MLflow cannot use {where}: {_reason(e)}; {_REMEDY}") from None


@contextmanager
def _impatient() -> Iterator[None]:
    """Let requests to a server fail soon, unless the user has said how long they may take."""
    added = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _reason(error: Exception) -> str:
    first, _, _ = str(error).partition(". ")
    return one_line(without_url_secrets(first), 200).rstrip(".")


def pytest_trustllm_results(results: Results, config: pytest.Config) -> None:
    """Remember the run of one model: what the hooks of others add to it is not there yet."""
    config.stash[_RESULTS].append(results)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Log the runs; one that MLflow does not take fails the session.

    Wrappers of this hook have written the files of the run by now, and what is to be printed is not printed yet.
    """
    problems = session.config.stash[_PROBLEMS]
    for results in session.config.stash[_RESULTS]:
        try:
            _log(results)
        except Exception as e:  # noqa: BLE001 - what a store's own library raises
            problems.append(f"MLflow: {one_line(results['run']['model']['name'], 60)} was not logged: {_reason(e)}")
    if problems and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print which runs were not logged."""
    for problem in config.stash[_PROBLEMS]:
        terminalreporter.write_line(f"ERROR: {problem}", red=True)


def _log(results: Results) -> None:
    import mlflow

    from pytest_trustllm.report import masking

    shown = masking.concealed(results)
    with mlflow.start_run(run_name=one_line(shown["run"]["model"]["name"], _LONGEST)):
        mlflow.set_tags(_tags(shown))
        mlflow.log_params(_parameters(shown))
        mlflow.log_metrics(dict(_metrics(shown)))
        mlflow.log_dict(dict(shown), "trust.json")


def name_of(id_: str) -> str:
    """Return a metric's id as MLflow accepts names: ``{group=value}`` becomes `` group:value``.

    A slash would make MLflow's store of files take the metric for a directory.
    """
    name = id_.replace("{", " ").replace("}", "").replace("=", ":")
    return _UNUSABLE.sub("_", name)[:_LONGEST]


def _metrics(results: Results) -> Iterator[tuple[str, float]]:
    """Yield every number that is there; a metric without a value has none."""
    numbers: dict[str, Any] = {f"{name}/score": score for name, score in results["scores"].items()}
    numbers.update(results["metrics"])
    for id_, entry in numbers.items():
        if entry["value"] is None:
            continue
        yield name_of(id_), entry["value"]
        if entry["ci"] is not None:
            low, high = entry["ci"]
            yield name_of(f"{id_}.low"), low
            yield name_of(f"{id_}.high"), high
    for outcome in ("passed", "failed", "inconclusive", "no_data", "skipped"):
        yield f"gates.{outcome}", sum(gate["outcome"] == outcome for gate in results["gates"])


def _parameters(results: Results) -> dict[str, str]:
    run = results["run"]
    facts: dict[str, object] = {
        "model": run["model"]["name"],
        "revision": run["model"].get("revision"),
        "seed": run["seed"],
        "epochs": run["epochs"],
        "data": run["data"]["source"],
        "selection": run["selection"],
    }
    for role, model in run["roles"].items():
        facts[role] = model["name"]
    return {key: one_line(value, _LONGEST) for key, value in facts.items() if value is not None}


def _tags(results: Results) -> dict[str, str]:
    run = results["run"]
    tags = {"trustllm.run": run["id"], "trustllm.version": run["plugin_version"]}
    commit = run.get("commit")
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit["id"]
    tags["trustllm.data"] = json.dumps(run["data"]["files"])[:5000]
    return tags
