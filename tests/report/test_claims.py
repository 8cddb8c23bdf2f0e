"""Numbers of a card against what a run measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic_run
import yaml

from pytest_trustllm.report.card import section
from pytest_trustllm.report.claims import Verdict, verdicts
from pytest_trustllm.report.export import hub
from pytest_trustllm.suites.full_data import published_data
from pytest_trustllm.suites.model_card import read_card

FILE, SHA256 = "safety/jailbreak.jsonl", "ab12" * 16
OURS = f"type: 'file:{FILE}', revision: 'sha256:{SHA256}'"
CARDS = Path(__file__).parents[1] / "cards"
JAILBREAK = "safety/jailbreak.refusal_rate"


def results(**run: Any) -> Any:
    document = synthetic_run.results()
    document["run"].update(nodes={"safety/jailbreak": "trustllm/suites/safety.yaml::jailbreak[{}]"}, **run)
    document["metrics"][JAILBREAK].update(value=0.75, ci=[0.6, 0.85])
    document["metrics"]["privacy/confaide.pearson"].update(value=0.31, ci=None)
    return document


def verdict(tmp_path: Path, name: str, value: object, data: str = OURS) -> Verdict:
    card = tmp_path / "card.md"
    dataset = "" if not data else f"      - dataset: {{{data}}}\n"
    first = "        " if dataset else "      - "
    metrics = f"{first}metrics: [{{name: '{name}', value: {value}}}]\n"
    card.write_text(f"---\nmodel-index:\n  - name: support-bot\n    results:\n{dataset}{metrics}---\n")
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
        (
            "refusal_rate",
            0.7,
            "unchecked",
            "no metric of that name alone; name task and metric, as in 'jailbreak.refusal_",
        ),
        ("privacy/confaide.pearson", 0.31, "confirmed", "claimed 0.31, measured 0.310"),
        ("privacy/confaide.pearson", 0.4, "unchecked", "measured 0.310, and that reading has no interval"),
        ("truthfulness/adversarial_factuality.corrected_rate", 0.3, "unchecked", "the run has no value of it"),
    ],
)
def test_a_claim(tmp_path: Path, name: str, value: object, outcome: str, text: str) -> None:
    found = verdict(tmp_path, name, value)
    assert (found.outcome, text in found.text) == (outcome, True), found


def test_a_claim_about_other_data_is_not_compared(tmp_path: Path) -> None:
    found = verdict(tmp_path, JAILBREAK, 0.1, "type: TrustLLM/TrustLLM-dataset")
    assert found.outcome == "unchecked"
    assert f"it is about TrustLLM/TrustLLM-dataset, the run about file:{FILE}" in found.text


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("support-bot", "confirmed"),
        ("acme/Support Bot", "confirmed"),
        ("GPT-4", "unchecked"),
        ("support-bot-2", "unchecked"),
        ("''", "unchecked"),
        ("null", "confirmed"),
    ],
)
def test_a_claim_about_another_model_is_not_compared(tmp_path: Path, name: str, outcome: str) -> None:
    (tmp_path / "card.md").write_text(
        f"---\nmodel-index:\n  - name: {name}\n    results:\n      - dataset: {{{OURS}}}\n"
        f"        metrics: [{{name: '{JAILBREAK}', value: 0.75}}]\n---\n"
    )
    found = verdicts(read_card(tmp_path / "card.md"), results())[0]
    assert found.outcome == outcome, found
    assert outcome == "confirmed" or "the model" in found.text


@pytest.mark.parametrize(("folder", "outcome"), [("acme/", "confirmed"), ("other/", "unchecked"), ("", "confirmed")])
def test_folders_of_two_names_of_a_model_must_be_the_same(tmp_path: Path, folder: str, outcome: str) -> None:
    (tmp_path / "card.md").write_text(
        f"| Model | Metric | Value | Data |\n|---|---|---|---|\n"
        f"| {folder}Acorn-7B | {JAILBREAK} | 0.75 | file:{FILE}@sha256:{SHA256} |\n"
    )
    document = results(model={"name": "my-alias", "provider": "hf", "id": "acme/acorn-7b"})
    found = verdicts(read_card(tmp_path / "card.md"), document)[0]
    assert found.outcome == outcome, found


@pytest.mark.parametrize(
    ("data", "outcome", "text"),
    [
        (f"{OURS}, name: TrustLLM safety/jailbreak", "confirmed", ""),
        (
            f"{OURS}, name: My own prompts",
            "unchecked",
            "data named 'My own prompts', the run's are named 'TrustLLM safe",
        ),
        (f"{OURS}, split: test", "unchecked", "it is about test, the run about all of the data"),
        (f"{OURS}, config: german", "unchecked", "it is about german, the run about all of the data"),
        (f"type: 'file:{FILE}'", "unchecked", f"write revision: sha256:{SHA256}"),
        (f"type: 'file:{FILE}', revision: 'sha256:{'cd' * 32}'", "unchecked", f"the run about sha256:{SHA256}"),
        (f"type: 'file:{FILE}', revision: 'sha256:{SHA256[:16]}'", "confirmed", ""),
        (f"type: 'file:{FILE}', revision: 'sha256:{SHA256[:4]}'", "unchecked", "it is about data with sha256:ab12"),
        (
            f"type: 'file:{FILE}', revision: '2'",
            "unchecked",
            "it is about revision 2 of the data; those of the run have",
        ),
        (f"revision: 'sha256:{SHA256}'", "confirmed", ""),
    ],
)
def test_own_data_is_compared_by_its_digest(tmp_path: Path, data: str, outcome: str, text: str) -> None:
    found = verdict(tmp_path, JAILBREAK, 0.75, data)
    assert (found.outcome, text in found.text) == (outcome, True), found


def test_a_run_of_a_part_is_not_compared_with_a_number_about_all(tmp_path: Path) -> None:
    document = results()
    document["coverage"]["safety/jailbreak"].update(expected=100)
    (tmp_path / "card.md").write_text(f"| {JAILBREAK} | 0.75 |\n")
    table = f"| Metric | Value | Data |\n|---|---|---|\n| {JAILBREAK} | 0.75 | file:{FILE}@sha256:{SHA256}PART |\n"
    outcomes = {}
    for part in ("", " (10 of 100 samples)", " (9 of 100 samples)"):
        (tmp_path / "card.md").write_text(table.replace("PART", part))
        outcomes[part] = verdicts(read_card(tmp_path / "card.md"), document)[0].outcome
    assert list(outcomes.values()) == ["unchecked", "confirmed", "unchecked"]


def with_details(tmp_path: Path, value: object, dataset: str, args: str = "") -> Verdict:
    """Return the verdict on a number of ``JAILBREAK``, whose reading by the toolkit is 0.9123."""
    card = tmp_path / "card.md"
    card.write_text(
        f"---\nmodel-index:\n  - name: support-bot\n    results:\n      - dataset: {{{dataset}}}\n"
        f"        metrics: [{{name: '{JAILBREAK}', value: {value}{args}}}]\n---\n"
    )
    document = results()
    document["metrics"][JAILBREAK].update(parity=0.9123, judge_corrected={"value": 0.5, "ci": [0.4, 0.55], "labels": 9})
    if "TrustLLM/" in dataset:
        document["run"]["data"]["source"], document["run"]["selection"] = "full", "full"
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
        (0.75, ", args: {reading: mine}", "unchecked", "it is in the reading 'mine'; a run has value, parity and corr"),
        (0.5, ", args: {reading: corrected}", "confirmed", "claimed 0.5, measured 0.500 (0.400 to 0.550)"),
        (0.75, ", args: {reading: corrected}", "contradicted", "claimed 0.75, measured 0.500"),
        (0.75, ", args: 7", "confirmed", "claimed 0.75"),
    ],
)
def test_a_claim_is_compared_with_its_own_reading(
    tmp_path: Path, value: object, args: str, outcome: str, text: str
) -> None:
    found = with_details(tmp_path, value, OURS, args)
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
    assert second.text == "this run has no metric of that name"
    assert {each.outcome for each in rest} == {"not claimed"}
    assert JAILBREAK not in {each.metric for each in rest}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- safety/jailbreak.refusal_rate: 0.10\n- **jailbreak.refusal_rate** 10%\n", ["contradicted"] * 2),
        ("- **Jailbreak refusal rate:** 0.10\n- `jailbreak.refusal_rate` = 10 %\n", ["contradicted"] * 2),
        ("- safety/jailbroken.rate: 0.10\n- learning rate: 0.1\n- epochs: 3\n", ["unchecked"]),
        ("jailbreak.refusal_rate | 0.1\nexaggerated_safety.refusal_rate | 0.9\n", ["contradicted", "unchecked"]),
        ("refusal rate | 0.91\n", ["unchecked"]),
        ("> jailbreak.refusal_rate | 0.1\n", ["contradicted"]),
        ("| 0.1 | jailbreak.refusal_rate |\n", ["contradicted"]),
        ("| Metric | Value |\n|---|---|\n| jailbreak.refusal_rate | 0.75 (n=9) |\n", ["unchecked"]),
        ("| Metric | GPT-4 |\n|---|---|\n| jailbreak.refusal_rate | 0.1 |\n", ["unchecked"]),
        ("| Model | jailbreak.refusal_rate |\n|---|---|\n| GPT-4 | 0.75 |\n| {model} | 0.1 |\n", ["contradicted"]),
        ("| Model | jailbreak.refusal_rate |\n|---|---|\n| GPT-4 | 0.1 |\n", ["unchecked"]),
        ("| Model | Metric | Value |\n|---|---|---|\n| GPT-4 | jailbreak.refusal_rate | 0.1 |\n", ["unchecked"]),
        ("The jailbreak refusal rate of the model is 0.75.\n", ["unchecked"]),
        ("- jailbreak.refusal_rate: 0.75 (of 9)\n", ["unchecked"]),
        ("```\nsafety/jailbreak.refusal_rate 0.75\n```\n", ["unchecked"]),
        ("Version 1.0.2 measures the jailbreak refusal rate since 2024.\n", []),
        ("- safety trust score: 0.1\n", ["unchecked"]),
        ("| Task | Score |\n|---|---|\n| safety/jailbroken.rate | 0.1 |\n| lr | 0.1 |\n", ["unchecked"]),
        ("| Metric | GPT-4 | other |\n|---|---|---|\n| jailbreak.refusal_rate | 0.75 | 0.1 |\n", ["unchecked"]),
        ("| Metric | GPT-4 | {model} |\n|---|---|---|\n| jailbreak.refusal_rate | 0.75 | 0.1 |\n", ["contradicted"]),
        ("| jailbreak.refusal_rate | 0.1 |\n", ["contradicted"]),
        ("| Gate | Value | Bound |\n|---|---|---|\n| jailbreak.refusal_rate | 0.1 | 0.9 |\n", []),
        ("| Metric | Value | Data |\n|---|---|---|\n| `jailbreak.refusal_rate` | 0.75 | `{data}` |\n", ["confirmed"]),
    ],
)
def test_every_number_beside_a_metric_has_a_verdict(tmp_path: Path, text: str, found: list[str]) -> None:
    run = results()
    named = text.replace("{model}", run["run"]["model"]["name"]).replace("{data}", f"file:{FILE}@sha256:{SHA256}")
    (tmp_path / "card.md").write_text(named)
    outcomes = [each.outcome for each in verdicts(read_card(tmp_path / "card.md"), run)]
    assert [outcome for outcome in outcomes if outcome != "not claimed"] == found


HTML = """<p>Results</p><table class="a"><thead><tr><th>Metric</th><th>VALUE</th></tr></thead>
<tr><td><b>jailbreak.refusal_rate</b></td><td align="right"> 0.1&nbsp;</td></tr>
<tr><td>exaggerated_safety.refusal_rate<td>12.3 %</table>"""


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ("Value", ["contradicted", "unchecked"]),
        ("GPT-4", ["unchecked"] * 2),
        ("support-bot", ["contradicted", "unchecked"]),
    ],
)
def test_a_table_in_html_is_read_as_one_in_markdown(tmp_path: Path, column: str, found: list[str]) -> None:
    (tmp_path / "card.md").write_text(HTML.replace("VALUE", column))
    outcomes = [each.outcome for each in verdicts(read_card(tmp_path / "card.md"), results())]
    assert [outcome for outcome in outcomes if outcome != "not claimed"] == found


@pytest.mark.parametrize(
    "text",
    [
        "<table>\n\n| jailbreak.refusal_rate | 0.1 |\n",
        "<table><tr><td>x</td></tr>\n\n| jailbreak.refusal_rate | 0.1 |\n\n</table>",
        "<table><tr><td>\n\n| jailbreak.refusal_rate | 0.1 |\n",
    ],
)
def test_a_table_in_html_hides_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.md").write_text(text)
    found = verdicts(read_card(tmp_path / "card.md"), results())
    assert [each.outcome for each in found if each.metric == JAILBREAK] in (["contradicted"], ["unchecked"])


@pytest.mark.parametrize("part", [False, True], ids=["whole", "part"])
def test_the_plugins_own_card_passes_its_own_check(tmp_path: Path, part: bool) -> None:
    run = results()
    run["metrics"][JAILBREAK]["judge_corrected"] = {"value": 0.7, "ci": [0.55, 0.8], "labels": 30}
    if part:
        run["coverage"]["safety/jailbreak"].update(expected=100)
    head = yaml.safe_dump({"model-index": hub.model_index(run)})
    (tmp_path / "card.md").write_text(f"---\n{head}---\n\n{section(run)}")
    found = verdicts(read_card(tmp_path / "card.md"), run)
    assert {each.outcome for each in found} == {"confirmed"}, found
    assert [each.metric for each in found].count(JAILBREAK) == 3
    assert "safety/score" in {each.metric for each in found}
    run["run"]["data"]["files"][FILE] = "cd" * 32
    found = verdicts(read_card(tmp_path / "card.md"), run)
    assert "confirmed" not in {each.outcome for each in found}


@pytest.mark.parametrize(
    ("card", "outcomes"), [("complete", ["confirmed"]), ("contradicting", ["contradicted"]), ("poor", [])]
)
def test_whole_cards(card: str, outcomes: list[str]) -> None:
    found = verdicts(read_card(CARDS / f"{card}.md"), results(model={"name": "acorn", "id": "acme/acorn-7b-chat"}))
    assert [each.outcome for each in found if each.outcome != "not claimed"] == outcomes


@pytest.mark.parametrize("index", ["7", "[7]", "[{results: 7}]", "[{results: [{metrics: [7, {}]}]}]"])
def test_a_head_with_anything_in_it_is_read(tmp_path: Path, index: str) -> None:
    (tmp_path / "card.md").write_text(f"---\nmodel-index: {index}\n---\n")
    found = verdicts(read_card(tmp_path / "card.md"), results())
    assert {each.outcome for each in found} <= {"unchecked", "not claimed"}
