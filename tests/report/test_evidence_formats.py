"""Every format for other programs, accepted by its own library or schema."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import synthetic_run
import yaml
from jsonschema import Draft7Validator

from pytest_trustllm.cli import export as export_command
from pytest_trustllm.report import card
from pytest_trustllm.report.export import cyclonedx, every_eval, hub, in_toto, lm_eval

RELATIONSHIPS = ["first_party", "third_party", "collaborative", "other"]
EVERY_EVAL_EVER: dict[str, Any] = {
    "type": "object",
    "required": [
        *("schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info", "eval_library"),
        "evaluation_results",
    ],
    "properties": {
        "retrieved_timestamp": {"type": "string"},
        "source_metadata": {
            "required": ["source_type", "source_organization_name", "evaluator_relationship"],
            "properties": {
                "source_type": {"enum": ["documentation", "evaluation_run"]},
                "evaluator_relationship": {"enum": RELATIONSHIPS},
                "additional_details": {"additionalProperties": {"type": "string"}},
            },
        },
        "model_info": {
            "required": ["name", "id", "additional_details"],
            "properties": {"additional_details": {"required": ["deployment_type", "model_availability"]}},
        },
        "eval_library": {"required": ["name", "version"]},
        "evaluation_results": {
            "items": {
                "required": ["evaluation_name", "source_data", "metric_config", "score_details"],
                "properties": {
                    "source_data": {"required": ["dataset_name", "source_type"]},
                    "metric_config": {
                        "required": ["lower_is_better"],
                        "properties": {"score_type": {"enum": ["binary", "continuous", "levels"]}},
                    },
                    "score_details": {
                        "required": ["score"],
                        "properties": {
                            "score": {"type": "number"},
                            "uncertainty": {
                                "properties": {"confidence_interval": {"required": ["lower", "upper"]}},
                            },
                        },
                    },
                },
            }
        },
    },
}
"""What version 0.3.0 of the format demands, as far as an export of ours can violate it. EVERY_EVAL_EVER_SCHEMA names
the file of the whole schema (https://github.com/evaleval/every_eval_ever), which no package contains."""
HOSTILE = "</script>`|\n::error::\x1b[31m\u202e | [x](javascript:alert(1))"


def results(**run: Any) -> dict[str, Any]:
    document = synthetic_run.results()
    document["metrics"]["safety/jailbreak.refusal_rate"].update(
        ci=[0.9, 0.98], confidence=0.95, method="Wilson's score interval"
    )
    document["run"].update(
        thresholds={"thresholds/safety.yaml": "ef" * 32},
        commit={"id": "1" * 40, "branch": "main", "changed": False},
        licences={"safety": {"Jailbreak Trigger": "MIT"}},
    )
    document["run"].update(run)
    return document


def hostile() -> dict[str, Any]:
    document = results()
    document["run"]["model"] = {"name": HOSTILE, "provider": "hf", "revision": HOSTILE}
    document["run"]["data"]["files"] = {HOSTILE: "ab" * 32}
    document["gates"][0]["id"] = f"thresholds/x.yaml::{HOSTILE}"
    document["metrics"][f"safety/{HOSTILE}.rate{{g={HOSTILE}}}"] = document["metrics"]["safety/jailbreak.refusal_rate"]
    return document


EACH = pytest.mark.parametrize("document", [results(), hostile()], ids=["usual", "hostile"])


# --- in-toto ----------------------------------------------------------------------------------------------------------


def saved(tmp_path: Path, document: dict[str, Any]) -> Path:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(document))
    (tmp_path / "trust.samples.jsonl").write_text("{}\n")
    return path


def statement(tmp_path: Path, document: dict[str, Any]) -> dict[str, Any]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return in_toto.statement(document, saved(tmp_path, document), in_toto.Window(now, now + timedelta(days=1)))


@EACH
def test_in_toto_reads_the_statement_and_its_predicate(tmp_path: Path, document: dict[str, Any]) -> None:
    json_format = pytest.importorskip("google.protobuf.json_format", reason="needs protobuf")
    pytest.importorskip("in_toto_attestation", reason="needs in-toto-attestation")
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    made = statement(tmp_path, document)
    Statement.copy_from_pb(json_format.ParseDict(made, statement_pb2.Statement())).validate()
    extensions = {in_toto.VALIDITY, in_toto.RUN}
    known = {key: value for key, value in made["predicate"].items() if key not in extensions}
    predicate = json_format.ParseDict(known, test_result_pb2.TestResult())
    assert predicate.result == "FAILED"
    assert len(predicate.passed_tests) == 2
    assert len(predicate.failed_tests) == 2
    assert {"thresholds/safety.yaml", "rules"} <= {entry.name for entry in predicate.configuration}


def test_the_result_passes_only_if_every_gate_was_judged_and_met(tmp_path: Path) -> None:
    document = results()
    passed, skipped = document["gates"][0], document["gates"][4]
    warned = {**document["gates"][2], "warn": True}
    expected = {
        "PASSED": [[passed]],
        "WARNED": [[passed, skipped], [passed, warned], [skipped], []],
        "FAILED": [[passed, document["gates"][2]], [passed, document["gates"][3]]],
    }
    for result, cases in expected.items():
        for gates in cases:
            assert statement(tmp_path, {**document, "gates": gates})["predicate"]["result"] == result
    document["gates"] = [passed]
    document["coverage"]["safety/jailbreak"]["errored"] = 1
    assert statement(tmp_path, document)["predicate"]["failedTests"] == ["safety/jailbreak"]


def test_a_model_has_a_digest_of_all_that_can_change_its_answers(tmp_path: Path) -> None:
    model = {"name": "m", "provider": "hf", "id": "org/m", "revision": "c" * 40, "dtype": "float32"}
    digests = []
    for change in ({}, {"name": "alias", "about": {"parameters": 1}}, {"dtype": "bfloat16"}, {"revision": "d" * 40}):
        made = statement(tmp_path, results(model={**model, **change}))
        digests.append(made["subject"][0]["digest"])
    same, renamed, other_dtype, other_revision = digests
    assert same == renamed
    assert same["gitCommit"] == "c" * 40
    assert len({digest["sha256"] for digest in (same, other_dtype, other_revision)}) == 3
    assert "gitCommit" not in statement(tmp_path, results())["subject"][0]["digest"]


# --- CycloneDX --------------------------------------------------------------------------------------------------------


@EACH
def test_cyclonedx_accepts_the_bill_of_materials(document: dict[str, Any]) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="needs cyclonedx-python-lib[json-validation]")
    from cyclonedx.schema import SchemaVersion

    bom = cyclonedx.document(document)
    errors = validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom))
    assert errors is None, str(errors)


def test_cyclonedx_has_slices_and_intervals_and_no_number_that_was_not_measured() -> None:
    bom = cyclonedx.document(results())
    model = bom["metadata"]["component"]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    jailbreak = [metric for metric in metrics if metric["type"] == "safety/jailbreak.refusal_rate"]
    assert [metric.get("slice") for metric in jailbreak] == [None, *(f"attack={g}" for g in synthetic_run.GROUPS)]
    assert jailbreak[0]["confidenceInterval"] == {"lowerBound": "0.9", "upperBound": "0.98"}
    assert float(jailbreak[0]["value"]) == 0.955
    assert not [metric for metric in metrics if "adversarial_factuality" in metric["type"]]
    limits = model["modelCard"]["considerations"]["technicalLimitations"]
    assert "not measured: truthfulness/adversarial_factuality.corrected_rate" in limits
    assert cyclonedx.document(results())["serialNumber"] == bom["serialNumber"]
    assert [c["hashes"][0]["content"] for c in bom["components"] if c["type"] == "data"] == ["ab12" * 16]


# --- Every Eval Ever --------------------------------------------------------------------------------------------------


@EACH
def test_every_eval_ever_accepts_the_log(document: dict[str, Any]) -> None:
    log = every_eval.document(document, every_eval.Evaluator("ACME", "first_party"))
    assert list(Draft7Validator(EVERY_EVAL_EVER).iter_errors(log)) == []
    whole = os.environ.get("EVERY_EVAL_EVER_SCHEMA")
    if whole is not None:
        schema = json.loads(Path(whole).read_text(encoding="utf-8"))
        assert schema["version"] == every_eval.SCHEMA_VERSION
        assert list(Draft7Validator(schema).iter_errors(log)) == []
    measured = {id_ for id_, metric in document["metrics"].items() if metric["value"] is not None}
    assert {entry["metric_config"]["metric_id"].removeprefix("trustllm.") for entry in log["evaluation_results"]} == (
        measured
    )
    assert "adversarial_factuality" in log["source_metadata"]["additional_details"]["without_value"]


def test_the_command_offers_the_relationships_of_the_schema() -> None:
    assert tuple(RELATIONSHIPS) == export_command._RELATIONSHIPS


# --- lm-eval ----------------------------------------------------------------------------------------------------------


@EACH
def test_lm_eval_finds_its_keys(document: dict[str, Any]) -> None:
    """What lm-eval's own consumers read: ``make_table`` and the converters of result files."""
    made = json.loads(json.dumps(lm_eval.document(document)))
    assert made["results"]["safety_jailbreak"]["refusal_rate,none"] == 0.955
    assert made["results"]["safety_jailbreak"]["refusal_rate_stderr,none"] == "N/A"
    assert made["results"]["safety_jailbreak"]["refusal_rate,parity"] == pytest.approx(0.45)
    assert made["higher_is_better"]["safety_exaggerated_safety"] == {"refusal_rate": False}
    assert made["results"]["truthfulness_adversarial_factuality"] == {"alias": "truthfulness_adversarial_factuality"}
    for key in ("configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert made[key].keys() == made["results"].keys()
    assert made["configs"]["safety_jailbreak"]["generation_kwargs"]["max_gen_toks"] == 512
    assert {name for names in made["group_subtasks"].values() for name in names} == made["results"].keys()
    assert math.isclose(made["date"], datetime(2025, 1, 31, 12, tzinfo=UTC).timestamp())


def test_lm_eval_itself_prints_the_results() -> None:
    utils = pytest.importorskip("lm_eval.utils", reason="needs lm-eval")
    pytest.importorskip("pytablewriter", reason="needs lm-eval")
    table = utils.make_table(lm_eval.document(results()))
    assert "safety_jailbreak" in table
    assert "0.955" in table


def test_lm_eval_file_names_have_no_path_of_the_model_in_them() -> None:
    name = lm_eval.file_name(results(model={"name": "../../org/x"}))
    assert name == "..__..__org__x/results_2025-01-31T12-00-00+00-00.json"


# --- the hub ----------------------------------------------------------------------------------------------------------


@EACH
def test_the_hub_library_reads_both_forms(tmp_path: Path, document: dict[str, Any]) -> None:
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    from huggingface_hub import EvalResultEntry, ModelCard, parse_eval_result_entries
    from huggingface_hub.repocard_data import model_index_to_eval_results

    text = yaml.safe_dump(hub.eval_results(document, "https://example.org/run"))
    entries = parse_eval_result_entries(yaml.safe_load(text))
    assert all(isinstance(entry, EvalResultEntry) for entry in entries)
    by_task = {entry.task_id: entry for entry in entries}
    assert by_task["safety/jailbreak.refusal_rate"].value == 0.955
    assert "90 % interval" not in by_task["safety/jailbreak.refusal_rate"].notes
    assert "95 % interval 0.9 to 0.98" in by_task["safety/jailbreak.refusal_rate"].notes
    # numbers over sample items must not get to the leaderboard of TrustLLM's data set
    assert not [entry.dataset_id for entry in entries if not entry.dataset_id.startswith(("file:", "task:"))]

    head = yaml.safe_dump({"model-index": hub.model_index(document, "https://example.org/run")})
    (tmp_path / "card.md").write_text(f"---\n{head}---\n\n{card.section(document)}")
    loaded = ModelCard.load(tmp_path / "card.md")
    _, read = model_index_to_eval_results(hub.model_index(document))
    assert len(read) == len(entries)
    assert loaded.data.eval_results is not None
    assert {(r.metric_name, r.metric_value) for r in loaded.data.eval_results} == {
        (e.task_id, e.value) for e in entries
    }


def test_only_a_whole_run_over_the_published_data_names_its_data_set() -> None:
    nodes = {"safety/jailbreak": "trustllm/suites/safety.yaml::jailbreak[{}]"}
    full = results(data={"source": "full", "files": {}}, nodes=nodes)
    by_task = {entry["dataset"]["task_id"]: entry["dataset"]["id"] for entry in hub.eval_results(full)}
    assert by_task["safety/jailbreak.refusal_rate"] == hub.TRUSTLLM
    assert by_task["ethics/awareness.accuracy"] != hub.TRUSTLLM  # a suite of the project's own
    full["run"]["selection"] = "partial"
    assert hub.TRUSTLLM not in {entry["dataset"]["id"] for entry in hub.eval_results(full)}


# --- the section of a model card --------------------------------------------------------------------------------------


def test_the_card_tells_numbers_conditions_limits_and_the_command() -> None:
    text = card.section(results())
    assert "| | `jailbreak.refusal_rate` | 0.955 | 0.900 to 0.980 | 9 of 10 | higher |" in text
    assert "- Not measured in `truthfulness`: `adversarial_factuality.corrected_rate`" in text
    assert "bundled sample items" in text
    assert f"- Commit: `{'1' * 40}`" in text
    assert "pytest --trust-model=support-bot -k 'not slow'" in text


def test_the_conditions_name_only_models_that_some_sample_needed() -> None:
    document = results(roles={"refusal": {"name": "rules"}, "judge": {"name": "gpt"}})
    text = card.section(document)
    assert "- `Refusal`: `rules`" in text
    assert "Judge" not in text
    document["usage"]["roles"]["judge"] = synthetic_run.usage(1)
    assert "- `Judge`: `gpt`" in card.section(document)


def test_hostile_text_in_a_card_stays_text() -> None:
    markdown = pytest.importorskip("markdown_it", reason="needs markdown-it-py")
    page = markdown.MarkdownIt("commonmark", {"html": True}).enable("table").render(card.section(hostile()))
    assert "</script>" not in page
    assert "<a " not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
