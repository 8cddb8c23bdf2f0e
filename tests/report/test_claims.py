"""Numbers of a card against what a run measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report.card import section
from pytest_trustllm.report.claims import Verdict, verdicts
from pytest_trustllm.suites.full_data import published_data
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


def with_details(tmp_path: Path, value: object, dataset: str, args: str = "") -> Verdict:
    """Return the verdict on a number of ``JAILBREAK``, whose reading by the toolkit is 0.9123."""
    card = tmp_path / "card.md"
    card.write_text(
        f"---\nmodel-index:\n  - name: m\n    results:\n      - dataset: {{{dataset}}}\n"
        f"        metrics: [{{name: '{JAILBREAK}', value: {value}{args}}}]\n---\n"
    )
    document = results()
    document["metrics"][JAILBREAK]["parity"] = 0.9123
    if "TrustLLM/" in dataset:
        document["run"]["data"]["source"], document["run"]["selection"] = "full", "full"
        document["run"]["nodes"] = {"safety/jailbreak": "trustllm/suites/safety.yaml::jailbreak[{}]"}
    return verdicts(read_card(card), document)[0]


@pytest.mark.parametrize(
    ("value", "args", "outcome", "text"),
    [
        (0.91, "", "unchecked", "it is what the authors' toolkit reads; write reading: parity"),
        ("'91.2 %'", "", "unchecked", "it is what the authors' toolkit reads"),
        (0.92, "", "contradicted", "claimed 0.92"),
        (0.91, ", args: {reading: value}", "contradicted", "claimed 0.91"),
        (0.91, ", args: {reading: parity}", "confirmed", "claimed 0.91, the toolkit reads 0.912"),
        (0.75, ", args: {reading: parity}", "unchecked", "the toolkit reads 0.912, and that reading has no interval"),
        (0.75, ", args: {reading: mine}", "unchecked", "it is in the reading 'mine'; a run has value and parity"),
        (0.75, ", args: 7", "confirmed", "claimed 0.75"),
    ],
)
def test_a_claim_is_compared_with_its_own_reading(
    tmp_path: Path, value: object, args: str, outcome: str, text: str
) -> None:
    found = with_details(tmp_path, value, f"type: {OURS}", args)
    assert (found.outcome, text in found.text) == (outcome, True), found


@pytest.mark.parametrize(
    ("revision", "outcome"),
    [("COMMIT", "confirmed"), ("SHORT", "confirmed"), ("main", "unchecked"), ("a", "unchecked")],
)
def test_a_claim_about_another_version_of_the_data_is_not_compared(tmp_path: Path, revision: str, outcome: str) -> None:
    commit = published_data().commit
    given = {"COMMIT": commit, "SHORT": commit[:7]}.get(revision, revision)
    found = with_details(tmp_path, 0.75, f"type: TrustLLM/TrustLLM-dataset, revision: '{given}'")
    assert found.outcome == outcome, found
    assert outcome == "confirmed" or f"it is about revision {given} of the data, the run about {commit}" in found.text


def test_items_of_a_project_have_no_revision(tmp_path: Path) -> None:
    found = with_details(tmp_path, 0.75, f"type: {OURS}, revision: '1'")
    assert (found.outcome, found.text) == (
        "unchecked", "it is about revision 1 of the data, and the run's items have none"
    )  # fmt: skip


def test_without_data_a_claim_may_be_contradicted_but_not_confirmed(tmp_path: Path) -> None:
    assert verdict(tmp_path, JAILBREAK, 0.75, "").outcome == "unchecked"
    assert verdict(tmp_path, JAILBREAK, 0.1, "").outcome == "contradicted"


def test_a_table_of_the_card_is_read(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text(
        "| Metric | Value |\n|---|---|\n| `jailbreak.refusal_rate` | 0.99 |\n| x.y | 0.1 |\n"
    )
    first, second, *rest = verdicts(read_card(tmp_path / "card.md"), results())
    assert (first.metric, first.outcome) == (JAILBREAK, "contradicted")
    assert (second.metric, second.outcome) == ("x.y", "unchecked")
    assert second.text.startswith("this run has no metric of that name")
    assert {each.outcome for each in rest} == {"not claimed"}
    assert JAILBREAK not in {each.metric for each in rest}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- safety/jailbreak.refusal_rate: 0.10\n- **jailbreak.refusal_rate** 10%\n", ["contradicted"] * 2),
        ("- safety/jailbroken.rate: 0.10\n- learning rate: 0.1\n- epochs: 3\n", ["unchecked"]),
        ("| Task | Score |\n|---|---|\n| safety/jailbroken.rate | 0.1 |\n| lr | 0.1 |\n", ["unchecked"]),
        ("| Metric | GPT-4 | other |\n|---|---|---|\n| jailbreak.refusal_rate | 0.75 | 0.1 |\n", ["unchecked"]),
        ("| Metric | GPT-4 | {model} |\n|---|---|---|\n| jailbreak.refusal_rate | 0.75 | 0.1 |\n", ["contradicted"]),
        ("| jailbreak.refusal_rate | 0.1 |\n", ["contradicted"]),
        ("| Gate | Value | Bound |\n|---|---|---|\n| jailbreak.refusal_rate | 0.1 | 0.9 |\n", []),
        (f"| Metric | Value | Data |\n|---|---|---|\n| `jailbreak.refusal_rate` | 0.75 | `{OURS}` |\n", ["confirmed"]),
    ],
)
def test_every_number_beside_a_metric_has_a_verdict(tmp_path: Path, text: str, found: list[str]) -> None:
    run = results()
    (tmp_path / "card.md").write_text(text.replace("{model}", run["run"]["model"]["name"]))
    outcomes = [each.outcome for each in verdicts(read_card(tmp_path / "card.md"), run)]
    assert [outcome for outcome in outcomes if outcome != "not claimed"] == found


def test_the_plugins_own_card_passes_its_own_check(tmp_path: Path) -> None:
    run = results()
    (tmp_path / "card.md").write_text(section(run))
    found = [each for each in verdicts(read_card(tmp_path / "card.md"), run) if each.outcome != "not claimed"]
    assert JAILBREAK in {each.metric for each in found if each.outcome == "confirmed"}
    assert {each.text for each in found if each.outcome != "confirmed"} <= {"the run has no interval of it"}


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
