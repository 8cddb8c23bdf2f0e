"""A run as an evaluation log of Every Eval Ever, schema 0.3.0 (https://evalevalai.com, arXiv:2606.14516).

One document holds all metrics, and those of groups of samples, with intervals. It holds no texts: of a metric without
a value there is no entry, since the schema requires a number, and the details of the source list its id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pytest_trustllm.formats import MetricEntry, ModelInfo, Results
from pytest_trustllm.report.export.in_toto import started
from pytest_trustllm.report.export.names import name_of
from pytest_trustllm.report.words import words_of
from pytest_trustllm.results.identity import generation_of

SCHEMA_VERSION = "0.3.0"
Relationship = Literal["first_party", "third_party", "collaborative", "other"]
RELATIONSHIPS: tuple[str, ...] = get_args(Relationship)
_SELF_DEPLOYED = frozenset({"hf", "demo", "server", "vllm", "sglang", "llamacpp"})
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Who ran the evaluation, which the run itself does not know.

    Attributes:
        organization: Its name.
        relationship: To the maker of the model.
    """

    organization: str = "unknown"
    relationship: str = "other"


def document(results: Results, evaluator: Evaluator) -> Json:
    """Return the log of a run."""
    run = results["run"]
    model = _model_info(run["model"])
    moment = started(results)
    stamp = repr(moment.timestamp())
    evaluation = f"trustllm/{model['id']}/{stamp}"
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation,
        "evaluation_timestamp": stamp,
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": "pytest-trustllm",
            "source_type": "evaluation_run",
            "source_organization_name": evaluator.organization,
            "evaluator_relationship": evaluator.relationship,
            "additional_details": _details(
                {
                    "run": run["id"],
                    "data": run["data"],
                    "thresholds": run.get("thresholds"),
                    "licences": run.get("licences"),
                    "commit": run.get("commit"),
                    "selection": run["selection"],
                    "coverage": results["coverage"],
                    "without_value": _without_value(results),
                }
            ),
        },
        "eval_library": {
            "name": "pytest-trustllm",
            "version": run["plugin_version"],
            "additional_details": _details({"roles": run["roles"], "packages": run.get("packages")}),
        },
        "model_info": model,
        "evaluation_results": [
            _result(results, id_, metric, evaluation)
            for id_, metric in results["metrics"].items()
            if metric["value"] is not None
        ],
    }


def _without_value(results: Results) -> list[str]:
    return [id_ for id_, metric in results["metrics"].items() if metric["value"] is None]


def _details(facts: Mapping[str, object]) -> dict[str, str]:
    """Return facts as the schema has them: every value is text."""
    details = {}
    for name, value in facts.items():
        if value is not None:
            details[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
    return details


def _model_info(model: ModelInfo) -> Json:
    provider = model.get("provider", "unknown")
    facts: dict[str, object] = {key: value for key, value in model.items() if key not in ("name", "id", "about")}
    deployment = "self_deployed" if provider in _SELF_DEPLOYED else "unknown"
    if provider == "openai" and "base_url" not in model:
        deployment = "externally_managed"
    details = _details({**facts, "about": model.get("about")})
    details["deployment_type"] = deployment
    # weights on a disk may still be closed to others: only the hub's own licence would tell
    details["model_availability"] = "open_weights" if provider == "demo" else "unknown"
    return {"name": model["name"], "id": model.get("id") or model["name"], "additional_details": details}


def _result(results: Results, id_: str, metric: MetricEntry, evaluation: str) -> Json:
    run = results["run"]
    name = name_of(id_)
    low, high = metric["range"]
    words = words_of(id_)
    entry: Json = {
        "evaluation_result_id": f"{evaluation}/{id_}",
        "evaluation_name": name.task,
        "evaluation_timestamp": run["started"],
        "source_data": {
            "dataset_name": name.task,
            "source_type": "other",
            "additional_details": _details({"source": run["data"]["source"], "samples": name.group or "all"}),
        },
        "metric_config": {
            "evaluation_description": name.task if words is None else words.plain,
            "metric_id": f"trustllm.{id_}",
            "metric_name": name.metric,
            "metric_kind": name.metric,
            "lower_is_better": not metric["higher_is_better"],
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
            "additional_details": _details({"task_version": run["task_versions"].get(name.task)}),
        },
        "score_details": {
            "score": metric["value"],
            "details": _details({key: metric.get(key) for key in ("parity", "expected", "scored", "unscored")}),
            "uncertainty": _uncertainty(metric),
        },
    }
    generation = generation_of(run, name.task)
    if generation is not None:
        entry["generation_config"] = {
            "generation_args": {"temperature": generation["temperature"], "max_tokens": generation["max_new_tokens"]},
            "additional_details": _details({"stop": generation["stop"], "seed": run["seed"], "epochs": run["epochs"]}),
        }
    return entry


def _uncertainty(metric: MetricEntry) -> Json:
    uncertainty: Json = {"num_samples": metric["scored"]}
    if metric["ci"] is not None:
        low, high = metric["ci"]
        uncertainty["confidence_interval"] = {
            "lower": low,
            "upper": high,
            "confidence_level": metric["confidence"],
            "method": metric["method"] or "",
        }
    return uncertainty
