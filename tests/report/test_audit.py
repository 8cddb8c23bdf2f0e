"""The part for auditors: sign-off, limits, licences, what was left out; the run in words; the foot of printed pages."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report.page import audit, html, provenance


def made(**run: Any) -> Any:
    results: Any = synthetic_run.results()
    results["run"].update(run)
    return results


def test_what_is_not_known_is_a_line_to_write_on() -> None:
    form = dict(audit.audit_of(made()).form)
    assert form == {
        "Purpose of this evaluation": "", "Responsible person": "", "Decision": "", "Date and signature": "",
    }  # fmt: skip
    form = dict(audit.audit_of(made(extra={"purpose": "release 7", "responsible": "Ada"})).form)
    assert form["Purpose of this evaluation"] == "release 7"
    assert form["Responsible person"] == "Ada"


def test_licences_of_rows_sets_and_model() -> None:
    generation = {"safety/jailbreak": {}, "safety/misuse": {}, "ethics/ethics": {}}
    licences = {"safety/jailbreak": "MIT", "safety/misuse": "MIT", "ethics/ethics": "not stated"}
    results = made(generation=generation, task_licences=licences, licences={"safety": {"XSTest": "CC BY 4.0"}})
    results["run"]["model"]["about"] = {"licence": "apache-2.0"}
    assert audit.audit_of(results).licences == [
        ("MIT", "rows of all of safety"),
        ("not stated", "rows of ethics/ethics"),
        ("CC BY 4.0", "data set XSTest"),
        ("apache-2.0", "the model"),
    ]


def test_all_that_was_left_out_is_listed() -> None:
    results = made(unlicensed={"fairness/bbq": "CC-BY-NC-4.0"})
    results["unjudged"] = {"tasks": ["ethics/awareness"], "of": 10, "gates": ["a::b"]}
    left_out = dict(audit.audit_of(results).left_out)
    assert "safety/misuse" in left_out["Tasks of TrustLLM that did not run"].split(", ")
    assert left_out["Left out because of their licence"] == "fairness/bbq (CC-BY-NC-4.0)"
    missing = "truthfulness/adversarial_factuality.corrected_rate"
    assert left_out["Headline metrics without a value"] == missing
    assert left_out["Tasks without a gate"] == "ethics/awareness"
    assert left_out["Gates that were deselected"] == "a::b"


def test_limits_are_those_of_this_run() -> None:
    limits = audit.audit_of(made()).limits
    assert limits[0].startswith("The bundled sample items")
    assert any("public since 2024" in limit for limit in limits)
    own = made(data={"source": "full", "files": {}})
    own["coverage"] = {"support/tone": synthetic_run.coverage(4)}
    own["run"]["model"] = {"name": "a", "provider": "x", "id": "1"}
    own["run"]["roles"] = {"judge": {"name": "b", "provider": "x", "id": "1"}}
    own["usage"]["roles"] = {"judge": synthetic_run.usage(1)}
    limits = audit.audit_of(own).limits
    assert not any("TrustLLM" in limit for limit in limits)
    assert limits[0] == "Judge: the tested model judges its own answers."


def test_the_checksum_is_that_of_the_file() -> None:
    results = made()
    text = json.dumps(results, indent=1, ensure_ascii=True) + "\n"
    assert audit.audit_of(results).checksum == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_what_no_file_can_hold_has_no_checksum(value: object) -> None:
    results = made(extra={"x": value})
    assert audit.audit_of(results).checksum == ""
    assert "Checksum of the results file" not in html.render(html.Run(results, []))


def test_the_foot_of_a_printed_page_has_run_date_and_page_and_no_text_of_others() -> None:
    page = html.render(html.Run(made(id="5f1c"), []))
    assert '@bottom-left { content: "TrustLLM report, run 5f1c, 2025-01-31 12:00:00 UTC";' in page
    assert "counter(page)" in page
    text = 'a"; } </style><script>x</script>\\'
    page = html.render(html.Run(made(id=text, started=text, model={"name": text}), []))
    assert '@bottom-left { content: "TrustLLM report";' in page


def test_the_run_is_told_in_words() -> None:
    card = dict(provenance.card_of(made(stopped=False, cpus=2, builtin_suites=True)))
    run, tasks, usage = dict(card["Run"]), dict(card["Tasks"]), dict(card["Usage"])
    assert run["duration"] == "83 s"
    assert run["started"] == "2025-01-31 12:00:00 UTC"
    assert run["plugin version"] == "0.1.0"
    assert (run["stopped"], run["shipped suites"]) == ("no", "yes")
    assert tasks["safety/jailbreak"] == "version 1, temperature 1, at most 512 new tokens"
    assert tasks["safety/toxicity"] == "version 1"
    assert usage["output tokens"] == "30,000"
    assert not any("_" in name for group in ("Run", "Model", "Usage") for name in dict(card[group]))
