"""A run for a model's repository on the Hugging Face Hub.

Two forms: entries for ``.eval_results/*.yaml`` (https://huggingface.co/docs/hub/eval-results), which the hub shows on
the model's page and on the data set's leaderboard, and the older ``model-index`` in the head of a model card.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import MetricEntry, Results
from pytest_trustllm.report.export.names import comes_with_package, name_of

EVAL_RESULTS = ".eval_results/trustllm.yaml"
"""Where the entries belong in the model's repository."""
TRUSTLLM = "TrustLLM/TrustLLM-dataset"
"""The benchmark's data set on the hub."""
_FILE, _TASK, _DIMENSION = "file:", "task:", "dimension:"
"""Begin the name of data that the hub does not have: no repository can be called so, hence numbers over sample items or
own suites reach no leaderboard."""
DIGEST = "sha256:"
"""Begins the version of such data."""
_SHOWN_DIGEST = 16
"""Characters of a SHA-256 that tell files apart for a reader."""
_CELL = re.compile(r"(?P<type>[^@]*)(?:@(?P<revision>[\w:.-]+))?(?: \((?P<part>[^()]*)\))?")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DataSet:
    """What a metric was measured on.

    Attributes:
        type: The hub's name of the data set; of other data, the file of the rows, or the task where that is not known.
        name: What people call it.
        sha256: Of the file of the rows; of a trust score, of the digests of all files; None: it is not known.
        part: How much of it was asked; None: all of it.
    """

    type: str
    name: str
    sha256: str | None
    part: str | None = None

    @property
    def revision(self) -> str | None:
        """The version of data that the hub does not have; None if it is not known, or for the hub's own data."""
        if self.sha256 is None or self.type == TRUSTLLM:
            return None
        return f"{DIGEST}{self.sha256}"

    @property
    def cell(self) -> str:
        """What :func:`parts_of_cell` reads."""
        revision = "" if self.revision is None else f"@{self.revision[: len(DIGEST) + _SHOWN_DIGEST]}"
        part = "" if self.part is None else f" ({self.part})"
        return f"{self.type}{revision}{part}"


def parts_of_cell(cell: str) -> tuple[str, str | None, str | None]:
    """Return type, revision and part in a cell such as ``file:a.jsonl@sha256:0123456789abcdef (3 of 9 samples)``."""
    match = _CELL.fullmatch(cell)
    if match is None:
        return cell, None, None
    return match["type"], match["revision"], match["part"]


def eval_results(results: Results, url: str | None = None) -> list[Json]:
    """Return the entries for ``.eval_results``: one per metric that has a value, without those of groups.

    Args:
        results: The results document.
        url: Where the run can be looked at.
    """
    entries = []
    for id_, metric in _metrics(results).items():
        entry: Json = {
            "dataset": {"id": data_set_of(results, id_).type, "task_id": id_},
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
        data = data_set_of(results, id_)
        dataset: Json = {"type": data.type, "name": data.name, "args": {"notes": _notes(results, id_, metric)}}
        if data.revision is not None:
            dataset["revision"] = data.revision
        if data.part is not None:
            dataset["split"] = data.part
        entry: Json = {
            "task": {"type": "text-generation", "name": "Text Generation"},
            "dataset": dataset,
            "metrics": [{"type": name_of(id_).metric, "value": metric["value"], "name": id_, "args": _numbers(metric)}],
        }
        if url is not None:
            entry["source"] = {"name": "pytest-trustllm", "url": url}
        entries.append(entry)
    return [{"name": one_line(results["run"]["model"]["name"], 200), "results": entries}]


def _metrics(results: Results) -> dict[str, MetricEntry]:
    return {id_: metric for id_, metric in results["metrics"].items() if metric["value"] is not None and "{" not in id_}


def data_set_of(results: Results, id_: str) -> DataSet:
    """Return the data that a metric or trust score of a run is about."""
    dimension, _, name = id_.partition("/")
    if name != "score":
        return _data_of_task(results, name_of(id_).task)
    score = results["scores"][dimension]
    tasks = dict.fromkeys(name_of(metric).task for metric in (*score["of"], *score["missing"]))
    sets = [_data_of_task(results, task) for task in tasks]
    if sets and all(data.type == TRUSTLLM for data in sets):
        return DataSet(TRUSTLLM, f"TrustLLM {dimension}", None)
    digests = [data.sha256 for data in sets if data.sha256 is not None]
    known = bool(sets) and len(digests) == len(sets)
    sha256 = hashlib.sha256(" ".join(digests).encode()).hexdigest() if known else None
    parts = [data.part for data in sets if data.part is not None]
    return DataSet(
        one_line(f"{_DIMENSION}{dimension}", 200), one_line(dimension, 200), sha256, "; ".join(parts) or None
    )


def _data_of_task(results: Results, task: str) -> DataSet:
    run = results["run"]
    file = run.get("data_files", {}).get(task)
    sha256 = None if file is None else run["data"]["files"].get(file)
    shipped = comes_with_package(results, task)
    name = one_line(f"TrustLLM {task}" if shipped else task, 200)
    if shipped and run["data"]["source"] == "full" and run["selection"] == "full":
        return DataSet(TRUSTLLM, name, sha256)
    own = f"{_TASK}{task}" if file is None else f"{_FILE}{file}"
    return DataSet(one_line(own, 200), name, sha256, _part(results, task))


def _part(results: Results, task: str) -> str | None:
    """Return how many samples of a task were asked, if not all."""
    counts = results["coverage"].get(task)
    if counts is None:
        return None
    asked = counts["collected"] - counts["lost"] - counts.get("unneeded", 0)
    return None if asked == counts["expected"] else f"{asked} of {counts['expected']} samples"


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
