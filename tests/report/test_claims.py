"""Numbers of a card against what a run measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report.claims import Verdict, verdicts
from pytest_trustllm.suites.model_card import read_card

OURS = "pytest-trustllm/not-the-benchmark"
CARDS = Path(__file__).parents[1] / "cards"
JAILBREAK = "safety/jailbreak.refusal_rate"


def results() -> Any:
    document = synthetic_run.results()
    document["metrics"][JAILBREAK].update(value=0.75, ci=[0.6, 0.85])
    document["metrics"]["privacy/confaide.pearson"].update(value=0.31, ci=None)
    return document


def verdict(tmp_path: Path, name: str, value: object, data: str = OURS) -> Verdict:
    card = tmp_path / "card.md"
    dataset = "" if not data else f"      - dataset: {{type: {data}}}\n"
    first = "        " if dataset else "      - "
    metrics = f"{first}metrics: [{{name: '{name}', value: {value}}}]\n"
    card.write_text(f"---\nmodel-index:\n  - name: m\n    results:\n{dataset}{metrics}---\n")
    return verdicts(read_card(card), results())[0]


@pytest.mark.parametrize(
    ("name", "value", "outcome", "text"),
    [
        (JAILBREAK, 0.75, "confirmed", "claimed 0.75, measured 0.750 (0.600 to 0.850)"),
        (JAILBREAK, "'75 %'", "confirmed", "claimed 75 %"),
        (JAILBREAK, "'0.85 ± 0.02'", "confirmed", "claimed 0.85"),
        (JAILBREAK, 0.854, "contradicted", "claimed 0.854"),
        (JAILBREAK, 0.9, "contradicted", "claimed 0.9, measured 0.750"),
        (JAILBREAK, "'55%'", "contradicted", "claimed 55%"),
        ("jailbreak.refusal_rate", 0.9, "contradicted", "claimed 0.9"),
        (JAILBREAK, 75, "unchecked", "75 is outside [0, 1]; write 0.75 or 75 %"),
        (JAILBREAK, "'very good'", "unchecked", "'very good' is not a number"),
        ("safety/jailbreaks.refusal_rate", 0.7, "unchecked", "did you mean 'safety/jailbreak.refusal_rate'?"),
        ("refusal_rate", 0.7, "unchecked", "this run has no metric of that name"),
        ("privacy/confaide.pearson", 0.3, "unchecked", "the run has no interval of it"),
        ("truthfulness/adversarial_factuality.corrected_rate", 0.3, "unchecked", "the run has no value of it"),
    ],
)
def test_a_claim(tmp_path: Path, name: str, value: object, outcome: str, text: str) -> None:
    found = verdict(tmp_path, name, value)
    assert (found.outcome, text in found.text) == (outcome, True), found


def test_a_claim_about_other_data_is_not_compared(tmp_path: Path) -> None:
    found = verdict(tmp_path, JAILBREAK, 0.1, "TrustLLM/TrustLLM-dataset")
    assert found.outcome == "unchecked"
    assert "it is about TrustLLM/TrustLLM-dataset, the run about pytest-trustllm/not-the-benchmark" in found.text


def test_without_data_a_claim_may_be_contradicted_but_not_confirmed(tmp_path: Path) -> None:
    assert verdict(tmp_path, JAILBREAK, 0.75, "").outcome == "unchecked"
    assert verdict(tmp_path, JAILBREAK, 0.1, "").outcome == "contradicted"


def test_a_table_of_the_card_is_read(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text(
        "| Metric | Value |\n|---|---|\n| `jailbreak.refusal_rate` | 0.99 |\n| x.y | 0.1 |\n"
    )
    first, *rest = verdicts(read_card(tmp_path / "card.md"), results())
    assert (first.metric, first.outcome) == (JAILBREAK, "contradicted")
    assert {each.outcome for each in rest} == {"not claimed"}
    assert JAILBREAK not in {each.metric for each in rest}


@pytest.mark.parametrize(
    ("card", "outcomes"), [("complete", ["confirmed"]), ("contradicting", ["contradicted"]), ("poor", [])]
)
def test_whole_cards(card: str, outcomes: list[str]) -> None:
    found = verdicts(read_card(CARDS / f"{card}.md"), results())
    assert [each.outcome for each in found if each.outcome != "not claimed"] == outcomes


@pytest.mark.parametrize("index", ["7", "[7]", "[{results: 7}]", "[{results: [{metrics: [7, {}]}]}]"])
def test_a_head_with_anything_in_it_is_read(tmp_path: Path, index: str) -> None:
    (tmp_path / "card.md").write_text(f"---\nmodel-index: {index}\n---\n")
    found = verdicts(read_card(tmp_path / "card.md"), results())
    assert {each.outcome for each in found} <= {"unchecked", "not claimed"}
