"""Log every run to MLflow: ``pytest -p pytest_trustllm.plugin.mlflow_logging`` (extra ``mlflow``).

Where to is MLflow's own matter: ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``. Metrics, trust scores and their
limits become metrics, conditions become parameters and tags, and the results document, concealed as in a CI log, is
an artifact. Samples and their texts are not logged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm.errors import ModelError, one_line

if TYPE_CHECKING:
    from pytest_trustllm.formats import Results

_UNUSABLE = re.compile(r"[^\w\-./ :]")
"""What MLflow does not accept in a metric's name."""
_LONGEST = 250


def pytest_configure(config: pytest.Config) -> None:
    """Find out before the run, which may be expensive, that MLflow is missing.

    Raises:
        pytest.UsageError: It is.
    """
    try:
        import mlflow  # noqa: F401
    except ImportError:
        raise pytest.UsageError(
            "-p pytest_trustllm.plugin.mlflow_logging: needs mlflow; pip install 'pytest-trustllm[mlflow]'"
        ) from None


def pytest_trustllm_results(results: Results, config: pytest.Config) -> None:
    """Log the run of one model.

    Raises:
        ModelError: MLflow did not take it.
    """
    import mlflow

    from pytest_trustllm.report import masking

    shown = masking.concealed(results)
    try:
        with mlflow.start_run(run_name=one_line(shown["run"]["model"]["name"], _LONGEST)):
            mlflow.set_tags(_tags(shown))
            mlflow.log_params(_parameters(shown))
            mlflow.log_metrics(dict(_metrics(shown)))
            mlflow.log_dict(dict(shown), "trust.json")
    except mlflow.exceptions.MlflowException as e:
        raise ModelError(f"MLflow: {one_line(e, 300)}") from None


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
