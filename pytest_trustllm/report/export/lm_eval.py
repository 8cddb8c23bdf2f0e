"""A run as a results file of the Language Model Evaluation Harness (lm-eval 0.4).

A metric's key is ``name,filter`` there: the filter is ``none`` for the value and ``parity`` for the reading of
TrustLLM's authors. lm-eval shows standard errors; ours are intervals, so the errors are ``N/A`` and the intervals stand
under ``pytest_trustllm``, which lm-eval ignores.
"""

from __future__ import annotations

import re
from typing import Any

from pytest_trustllm.formats import MetricEntry, Results
from pytest_trustllm.report.export.in_toto import started
from pytest_trustllm.report.export.names import name_of
from pytest_trustllm.results.identity import generation_of

Json = dict[str, Any]


def file_name(results: Results) -> str:
    """Return where lm-eval would write the file, below its output directory."""
    started = results["run"]["started"].replace(":", "-")
    return f"{_sanitized(results['run']['model']['name'])}/results_{started}.json"


def document(results: Results) -> Json:
    """Return the results file."""
    run = results["run"]
    tasks = list(results["coverage"])
    model = run["model"]
    commit = run.get("commit")
    return {
        "results": {_name(task): _task_results(results, task) for task in tasks},
        "groups": {dimension: {"alias": dimension} for dimension in results["scores"]},
        "group_subtasks": _subtasks(tasks),
        "configs": {_name(task): _config(results, task) for task in tasks},
        "versions": {_name(task): run["task_versions"].get(task, 0) for task in tasks},
        "n-shot": {_name(task): 0 for task in tasks},
        "higher_is_better": {_name(task): _directions(results, task) for task in tasks},
        "n-samples": {_name(task): _counts(results, task) for task in tasks},
        "config": {
            "model": model.get("provider", "unknown"),
            "model_args": {key: value for key, value in model.items() if key not in ("about", "label")},
            "model_revision": model.get("revision"),
            "model_dtype": model.get("dtype"),
            "model_num_parameters": model.get("about", {}).get("parameters"),
            "limit": None,
            "bootstrap_iters": 0,
            "random_seed": run["seed"],
        },
        "git_hash": None if commit is None else commit["id"],
        "date": started(results).timestamp(),
        "model_source": model.get("provider", "unknown"),
        "model_name": model["name"],
        "model_name_sanitized": _sanitized(model["name"]),
        "chat_template_sha": model.get("chat_template"),
        "system_instruction": model.get("system_prompt"),
        "total_evaluation_time_seconds": str(run["seconds"]),
        "task_hashes": {},
        "pytest_trustllm": {
            "run": run["id"],
            "version": run["plugin_version"],
            "metrics": results["metrics"],
            "scores": results["scores"],
            "data": run["data"],
            "roles": run["roles"],
        },
    }


def _name(task: str) -> str:
    """Return a task's name as lm-eval has names: it uses them in names of files."""
    return task.replace("/", "_")


def _sanitized(name: str) -> str:
    """Return a model's name as lm-eval uses it in paths (``sanitize_model_name``)."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)


def _metrics(results: Results, task: str) -> dict[str, MetricEntry]:
    """Return name -> metric of a task, without those of its groups."""
    metrics = {}
    for id_, metric in results["metrics"].items():
        name = name_of(id_)
        if name.task == task and not name.group:
            metrics[name.metric] = metric
    return metrics


def _task_results(results: Results, task: str) -> Json:
    entry: Json = {"alias": _name(task)}
    for name, metric in _metrics(results, task).items():
        for filter_, value in (("none", metric["value"]), ("parity", metric["parity"])):
            if value is not None:
                entry[f"{name},{filter_}"] = value
                entry[f"{name}_stderr,{filter_}"] = "N/A"
    return entry


def _directions(results: Results, task: str) -> dict[str, bool]:
    return {name: metric["higher_is_better"] for name, metric in _metrics(results, task).items()}


def _counts(results: Results, task: str) -> dict[str, int]:
    coverage = results["coverage"][task]
    return {"original": coverage["expected"], "effective": coverage["scored"]}


def _subtasks(tasks: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(task.partition("/")[0], []).append(_name(task))
    return groups


def _config(results: Results, task: str) -> Json:
    run = results["run"]
    config: Json = {
        "task": _name(task),
        "dataset_path": run["data"]["source"],
        "output_type": "generate_until",
        "metric_list": [
            {"metric": name, "higher_is_better": better} for name, better in _directions(results, task).items()
        ],
        "num_fewshot": 0,
        "repeats": run["epochs"],
        "metadata": {"version": run["task_versions"].get(task, 0)},
    }
    generation = generation_of(run, task)
    if generation is not None:
        config["generation_kwargs"] = {
            "temperature": generation["temperature"],
            "do_sample": generation["temperature"] > 0,
            "max_gen_toks": generation["max_new_tokens"],
            "until": generation["stop"],
        }
    return config
