"""A run as a bill of materials of a machine-learning model (CycloneDX 1.6 ML-BOM, JSON).

The model under test is the component that the document is about. Its model card holds the metrics with intervals, and
one entry per group of samples (``slice``). Judges and other roles are components too, and so are the files of data.

cyclonedx-python-lib has no types for model cards, so the document is written here, and the tests validate it with the
schema of that library.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import MetricEntry, ModelInfo, Results
from pytest_trustllm.report import caveats
from pytest_trustllm.report.export.digests import model_digest
from pytest_trustllm.report.export.names import name_of

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_PREFIX = "pytest-trustllm:"
"""Begins the names of our properties; CycloneDX asks for a namespace of one's own."""
Json = dict[str, Any]


def document(results: Results) -> Json:
    """Return the bill of materials of a run."""
    run = results["run"]
    data = _data_components(run["data"]["files"])
    roles = [_model(model, f"role-{role}", {"role": role}) for role, model in run["roles"].items()]
    model = _model(run["model"], "model", _facts(results))
    model["modelCard"] = _model_card(results, [component["bom-ref"] for component in data])
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": _serial(run["id"]),
        "version": 1,
        "metadata": {
            "timestamp": run["started"],
            "tools": {
                "components": [{"type": "application", "name": "pytest-trustllm", "version": run["plugin_version"]}]
            },
            "component": model,
        },
        "components": [*roles, *data],
    }


def _serial(run_id: str) -> str:
    """Return the serial number of a run's document: always the same one."""
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, run_id)}"


def _model(model: ModelInfo, reference: str, facts: Mapping[str, object]) -> Json:
    component: Json = {
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": one_line(model["name"], 200),
        "properties": _properties({**_identity(model), **facts}),
    }
    revision = model.get("revision")
    if revision:
        component["version"] = revision
    licence = model.get("about", {}).get("licence")
    if licence:
        component["licenses"] = [{"license": {"name": one_line(licence, 200)}}]
    return component


def _identity(model: ModelInfo) -> dict[str, object]:
    """Return what identifies a model. Its digest is not that of a file, so it is not among the component's hashes."""
    about = model.get("about", {})
    facts: dict[str, object] = {key: value for key, value in model.items() if key not in ("name", "about")}
    return {**facts, "parameters": about.get("parameters"), "identity-sha256": model_digest(model)["sha256"]}


def _facts(results: Results) -> dict[str, object]:
    """Return the conditions of a run."""
    run = results["run"]
    facts: dict[str, object] = {
        "run": run["id"],
        "seed": run["seed"],
        "epochs": run["epochs"],
        "selection": run["selection"],
        "data": run["data"]["source"],
        "commit": run.get("commit"),
    }
    for dimension, licences in run.get("licences", {}).items():
        for name, licence in licences.items():
            facts[f"licence:{dimension}/{name}"] = licence
    for gate in results["gates"]:
        facts[f"gate:{gate['id']}"] = gate["outcome"]
    return facts


def _properties(facts: Mapping[str, object]) -> list[Json]:
    entries = []
    for name, value in facts.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, sort_keys=True)
        entries.append({"name": f"{_PREFIX}{one_line(name, 300)}", "value": one_line(text, 2000)})
    return entries


def _data_components(files: Mapping[str, str]) -> list[Json]:
    components = []
    for number, (file, sha256) in enumerate(files.items()):
        name = one_line(file, 300)
        components.append(
            {
                "type": "data",
                "bom-ref": f"data-{number}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
                "data": [{"type": "dataset", "name": name}],
            }
        )
    return components


def _model_card(results: Results, data: list[str]) -> Json:
    parameters: Json = {"task": "text-generation"}
    if data:
        parameters["datasets"] = [{"ref": reference} for reference in data]
    architecture = results["run"]["model"].get("about", {}).get("architecture")
    if architecture:
        parameters["modelArchitecture"] = one_line(architecture, 200)
    metrics = []
    missing = []
    for id_, metric in results["metrics"].items():
        if metric["value"] is None:
            missing.append(id_)
        else:
            metrics.append(_performance(id_, metric["value"], metric))
    for dimension, score in results["scores"].items():
        if score["value"] is not None:
            metrics.append(_metric_entry(f"{dimension}/score", score["value"], score["ci"]))
    limits = [f"not measured: {one_line(id_)}" for id_ in missing if "{" not in id_]
    card: Json = {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": metrics}}
    notes = [one_line(note, 1000) for note in caveats.of(results)]
    if limits or notes:
        card["considerations"] = {"technicalLimitations": [*limits, *notes]}
    return card


def _performance(id_: str, value: float, metric: MetricEntry) -> Json:
    name = name_of(id_)
    entry = _metric_entry(f"{name.task}.{name.metric}", value, metric["ci"])
    if name.group:
        entry["slice"] = one_line(name.group, 300)
    return entry


def _metric_entry(kind: str, value: float, ci: list[float] | None) -> Json:
    # CycloneDX has text for numbers; repr is the shortest text that reads back as the same number
    entry: Json = {"type": one_line(kind, 300), "value": repr(value)}
    if ci is not None:
        entry["confidenceInterval"] = {"lowerBound": repr(ci[0]), "upperBound": repr(ci[1])}
    return entry
