"""The first screen of the page: what was tested and not, who judged, how sure it is; and the gates by dimension."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import caveats, gate_verdicts
from pytest_trustllm.report.page import gate_groups, html, overview
from pytest_trustllm.report.page.sample_data import pack


def made() -> Any:
    return synthetic_run.results()


def card(results: Any) -> dict[str, str]:
    samples: Any = synthetic_run.samples(90)
    gates = gate_verdicts.gates_of(results)
    lines = overview.lines_of(results, pack(samples, []), gates, None)
    return {line.label: " | ".join(part.text for part in line.parts) for line in lines}


def test_what_was_not_tested_is_named() -> None:
    results = made()
    results["run"]["unlicensed"] = {"fairness/bbq": "CC-BY-NC-4.0"}
    results["coverage"]["safety/jailbreak"] |= {"deselected": 2, "unscored": 3}
    line = card(results)["Not tested"]
    assert "left out of TrustLLM: " in line
    assert "misuse" in line.split(" | ")[0] or " more" in line.split(" | ")[0]
    assert "left out by licence: bbq" in line
    assert "no value: adversarial_factuality" in line
    assert "3 samples without a score" in line
    assert "2 samples deselected" in line


def test_a_run_of_own_suites_left_nothing_of_trustllm_out() -> None:
    results = made()
    results["coverage"] = {"support/tone": synthetic_run.coverage(4)}
    assert overview.untested(results) == []
    assert "TrustLLM" not in card(results)["Not tested"]


def check(**changes: Any) -> dict[str, Any]:
    kappa = {"value": 0.8125, "ci": None, "n": 120}
    return {"role": "judge", "compared": 120, "kappa": kappa, **changes}


def test_who_judged_and_how_well_is_on_the_first_screen() -> None:
    results = made()
    results["run"]["roles"] = {"judge": {"name": "gpt", "provider": "openai", "id": "gpt-4o"}}
    results["usage"]["roles"] = {"judge": results["usage"]}
    assert card(results)["Judged by"] == "judge: gpt, not checked against people's labels"
    results["run"]["judge_checks"] = [check()]
    assert card(results)["Judged by"] == "judge: gpt, kappa 0.812 on 120 labelled answers"


def test_a_role_that_no_sample_needed_did_not_judge() -> None:
    results = made()
    results["run"]["roles"] = {"refusal": {"name": "builtin"}, "judge": {"name": "gpt"}}
    results["usage"]["roles"] = {"judge": results["usage"]}
    assert card(results)["Judged by"] == "judge: gpt, not checked against people's labels"
    results["usage"]["roles"] = {}
    assert card(results)["Judged by"] == "rules alone; no further model took part"


def test_the_widest_interval_is_shown_as_it_is() -> None:
    results = made()
    score = {"value": 0.9, "confidence": 0.95, "method": "m", "of": [], "missing": []}
    results["scores"] = {"safety": {**score, "ci": [0.6, 0.95]}, "ethics": {**score, "ci": [0.85, 0.95]}}
    shown = card(results)["How sure"].split(" | ")[0]
    assert shown == "the widest interval of a trust score is 0.600 to 0.950 (safety); 95 % intervals"


def test_what_is_not_known_of_model_and_commit_is_said() -> None:
    results = made()
    results["run"]["model"].pop("about", None)
    results["run"].pop("commit", None)
    assert card(results)["Model"].endswith("licence unknown")
    assert "commit not recorded" in card(results)["Run"]
    samples: Any = synthetic_run.samples(9)
    lines = overview.lines_of(results, pack(samples, []), gate_verdicts.gates_of(results), None)
    tones = {part.text: part.tone for line in lines for part in line.parts}
    assert (tones["licence unknown"], tones["commit not recorded"]) == ("warn", "warn")


@pytest.mark.parametrize(
    ("judge", "same"),
    [
        ({"name": "j", "provider": "openai", "id": "gpt-4o"}, True),
        ({"name": "j", "provider": "openai", "id": "gpt-4o-2024-08-06"}, True),
        ({"name": "j", "provider": "openai", "id": "gpt-4o-mini"}, False),
        ({"name": "j", "provider": "azure", "id": "gpt-4o"}, False),
    ],
)
def test_a_model_that_judges_itself_is_a_warning(judge: dict[str, str], same: bool) -> None:
    results = made()
    results["run"]["model"] = {"name": "bot", "provider": "openai", "id": "gpt-4o"}
    results["run"]["roles"] = {"judge": judge}
    results["usage"]["roles"] = {"judge": synthetic_run.usage(1)}
    warning = "judge: the tested model judges its own answers"
    assert (warning in card(results)["Judged by"]) is same
    assert (warning in caveats.of(results)) is same
    results["usage"]["roles"] = {}  # no sample needed it
    assert warning not in caveats.of(results)


def test_models_without_ids_are_told_apart_by_name() -> None:
    results = made()
    results["run"]["model"] = {"name": "a", "provider": "python"}
    results["run"]["roles"] = {"judge": {"name": "b", "provider": "python"}}
    results["usage"]["roles"] = {"judge": synthetic_run.usage(1)}
    assert list(caveats.judges_itself(results)) == []


def lines(*outcomes: tuple[str, float | None, int | None]) -> list[gate_verdicts.GateLine]:
    results = made()
    results["gates"] = []
    for number, (outcome, value, lacking) in enumerate(outcomes):
        gate = synthetic_run.gate("safety", f"task{number}.rate[at_least]", outcome, value, 0.5, "why")
        if lacking is not None:
            gate["lacking"] = lacking
        results["gates"].append(gate)
    return gate_verdicts.gates_of(results)


def test_gates_are_sorted_by_margin_and_those_without_coverage_have_none() -> None:
    gates = lines(("passed", 0.75, None), ("failed", 0.55, 7), ("failed", 0.25, None), ("failed", 0.45, None))
    [group] = gate_groups.grouped(gates, ["ethics", "safety"])
    assert [(row.name, row.word) for row in group.rows] == [
        *(("task2.rate", "failed"), ("task3.rate", "failed"), ("task1.rate", "no coverage"), ("task0.rate", "passed")),
    ]
    assert [row.margin for row in group.rows] == [-0.25, pytest.approx(-0.05), None, 0.25]
    assert (group.dimension, group.summary) == ("safety", "1 of 4 met")
    worst = overview.worst(gates)
    assert worst is not None
    assert worst.text == "task2.rate, 0.250 below its bound"
    verdict = gate_verdicts.verdict_of(gates)
    assert verdict.sentence == "3 of 4 gates not met, 1 for lack of coverage"


def test_no_margin_contradicts_the_word_beside_it() -> None:
    [group] = gate_groups.grouped(lines(("failed", 0.75, None)), [])
    assert group.rows[0].margin is None


def test_what_a_gate_would_notice_is_a_question_only_for_one_that_is_met() -> None:
    results = made()
    power = {"source": "binomial", "samples": 16, "another_verdict": 0.002, "drop": 0.1, "samples_more": None}
    for gate in results["gates"]:
        gate["power"] = {**power, "epochs_more": None}
    words: dict[str, list[str]] = {}
    for group in gate_groups.grouped(gate_verdicts.gates_of(results), results["scores"]):
        words |= {row.gate.outcome: list(row.power) for row in group.rows}
    chance = "Another run of the same model gets another verdict in fewer than 1 % of cases."
    assert words["passed"] == [chance, "It turns red in 80 % of runs once the model has lost 0.100."]
    assert words["failed"] == [chance]


def test_many_gates_that_need_no_attention_are_folded() -> None:
    gates = lines(*[("passed", 0.75, None)] * 41, ("failed", 0.25, None))
    [group] = gate_groups.grouped(gates, [])
    assert (len(group.rows), len(group.folded)) == (1, 41)


def test_own_suites_have_no_columns_about_published_models() -> None:
    results = made()
    metric = results["metrics"]["safety/jailbreak.refusal_rate"]
    results["metrics"] = {"support/tone.rate": metric}
    results["scores"] = {"support": {**results["scores"]["safety"], "of": ["support/tone.rate"], "missing": []}}
    results["coverage"] = {"support/tone": synthetic_run.coverage(10)}
    page = html.render(html.Run(results, []))
    assert "Parity" not in page
    assert ">Place<" not in page
    assert "published models" not in page.split("<main")[1]
    assert "Parity" in html.render(html.Run(made(), []))


def test_the_name_of_a_model_in_a_file_is_the_file() -> None:
    results = made()
    results["run"]["model"]["name"] = "replay:/home/me/answers.zip"
    assert '<h1 id="model">replay:answers.zip</h1>' in html.render(html.Run(results, []))
