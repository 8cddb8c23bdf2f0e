"""A run for a model's repository on the Hugging Face Hub.

Two forms: entries for ``.eval_results/*.yaml`` (https://huggingface.co/docs/hub/eval-results), which the hub shows on
the model's page and on the data set's leaderboard, and the older ``model-index`` in the head of a model card.
"""

from __future__ import annotations

from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import MetricEntry, Results
from pytest_trustllm.report.export.names import comes_with_package, name_of

EVAL_RESULTS = ".eval_results/trustllm.yaml"
"""Where the entries belong in the model's repository."""
TRUSTLLM = "TrustLLM/TrustLLM-dataset"
"""The benchmark's data set on the hub."""
_NOT_PUBLISHED = "pytest-trustllm/not-the-benchmark"
"""In place of a data set's name: numbers over sample items or own suites must not reach TrustLLM's leaderboard."""
Json = dict[str, Any]


def eval_results(results: Results, url: str | None = None) -> list[Json]:
    """Return the entries for ``.eval_results``: one per metric that has a value, without those of groups.

    Args:
        results: The results document.
        url: Where the run can be looked at.
    """
    entries = []
    for id_, metric in _metrics(results).items():
        entry: Json = {
            "dataset": {"id": data_set_of(results, id_), "task_id": id_},
            "value": metric["value"],
            "date": results["run"]["started"],
            "notes": _notes(results, id_, metric),
        }
        if url is not None:
            entry["source"] = {"url": url, "name": "pytest-trustllm"}
        entries.append(entry)
    return entries


def model_index(results: Results, url: str | None = None) -> list[Json]:
    """Return ``model-index`` for the head of a model card; arguments as for :func:`eval_results`."""
    entries = []
    for id_, metric in _metrics(results).items():
        name = name_of(id_)
        entry: Json = {
            "task": {"type": "text-generation", "name": "Text Generation"},
            "dataset": {
                "type": data_set_of(results, id_),
                "name": f"TrustLLM {name.task}",
                "args": {"notes": _notes(results, id_, metric)},
            },
            "metrics": [{"type": name.metric, "value": metric["value"], "name": id_, "args": _numbers(metric)}],
        }
        if url is not None:
            entry["source"] = {"name": "pytest-trustllm", "url": url}
        entries.append(entry)
    return [{"name": one_line(results["run"]["model"]["name"], 200), "results": entries}]


def _metrics(results: Results) -> dict[str, MetricEntry]:
    return {id_: metric for id_, metric in results["metrics"].items() if metric["value"] is not None and "{" not in id_}


def data_set_of(results: Results, id_: str) -> str:
    """Return the hub's name of the data set that a metric of a run is about."""
    is_whole = results["run"]["data"]["source"] == "full" and results["run"]["selection"] == "full"
    if is_whole and comes_with_package(results, name_of(id_).task):
        return TRUSTLLM
    return _NOT_PUBLISHED


def _numbers(metric: MetricEntry) -> Json:
    return {
        "interval": metric["ci"],
        "confidence": metric["confidence"],
        "scored": metric["scored"],
        "expected": metric["expected"],
    }


def _notes(results: Results, id_: str, metric: MetricEntry) -> str:
    """Return the conditions of a number in one line."""
    run = results["run"]
    notes = [f"{metric['scored']} of {metric['expected']} samples scored"]
    if metric["ci"] is not None and metric["confidence"] is not None:
        low, high = metric["ci"]
        notes.append(f"{100 * metric['confidence']:g} % interval {low:.4g} to {high:.4g}")
    if run["data"]["source"] == "sample":
        notes.append("bundled sample items or own suites, not TrustLLM's data set")
    if run["selection"] == "partial":
        notes.append("partial selection")
    notes.append(f"task version {run['task_versions'].get(name_of(id_).task, 0)}")
    judge = run["roles"].get("judge")
    if judge is not None:
        notes.append(f"judge {judge['name']}")
    notes.append(f"pytest-trustllm {run['plugin_version']}")
    return one_line("; ".join(notes), 1000)
