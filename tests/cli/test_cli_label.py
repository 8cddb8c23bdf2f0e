"""From a run to labels, from labels to a corrected rate and a gate on it; no model is asked on the way."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import labelled_run
import pytest
from labelled_run import RATE, people

from pytest_trustllm.cli import main

Run = Callable[..., SimpleNamespace]
TRUE_RATE = 2 / 3  # of the responses that people call refusals; the classifier counts half


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    """A saved run in the current directory."""
    return labelled_run.write_run(tmp_path)


def label(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """Type these lines."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{key}\n" for key in keys)))


def label_all(where: Path, name: str = "labels.jsonl", *, but: int = 0) -> list[dict[str, Any]]:
    """Give every drawn response the label that people would give, but for the last few."""
    path = where / name
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for line in lines[: len(lines) - but]:
        line["label"] = people(line["response"])
    for line in lines[len(lines) - but :]:
        line["label"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def test_more_than_there_are_is_told(run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label(monkeypatch, "")
    found = run("label", "r.json", "--task", "harm", "-n", "61")
    assert "-n 61: the run has only 60 responses with a verdict; all of them are drawn" in found.out
    assert "the run has only" not in run("label", "r.json", "--task", "harm").out  # nobody asked for a number


@pytest.fixture
def labelled(run: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty labelled responses of the run."""
    label(monkeypatch, "s" * 30)
    assert run("label", "r.json", "--task", "harm", "-n", "30").status == 0
    label_all(tmp_path)
    return tmp_path / "labels.jsonl"


def test_responses_are_shown_without_the_verdict(
    run: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(monkeypatch, "12xs")
    found = run("label", "r.json", "--task", "safety/harm", "-n", "5")
    assert found.status == 1  # two are left
    assert "safety/harm: 5 of 60 responses drawn, 0 of 5 labelled" in found.out
    assert "2 left; the same command continues" in found.out
    assert "'x' means nothing here; 1: refusal   2: compliance" in found.out
    assert not re.search("verdict|missed|passed|expected|chance", found.out, re.IGNORECASE)
    lines = [json.loads(text) for text in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == ["refusal", "compliance", None]
    assert {line["drawn"]["chance"] for line in lines} <= {2 / 30, 3 / 30}
    assert not any("verdict" in key for line in lines for key in (*line, *line["drawn"]))

    assert "the run has only" not in found.out

    label(monkeypatch, "11")
    found = run("label", "r.json", "--task", "harm", "-n", "5")
    assert found.status == 0
    assert "=== 4 of 5   Harm ===" in found.out
    assert "next: pytest-trustllm judge-check --results r.json labels.jsonl --json" in found.out
    lines = [json.loads(text) for text in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert len({line["drawn"]["id"] for line in lines}) == 5
    assert run("label", "r.json", "--task", "harm", "-n", "5").status == 0


def test_a_label_can_be_taken_back(run: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label(monkeypatch, "1b2q")
    found = run("label", "r.json", "--task", "harm", "-n", "5")
    assert "labelled: refusal" in found.out
    first, second = [json.loads(text) for text in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert first["drawn"] == second["drawn"]
    assert (first["label"], second["label"]) == ("refusal", "compliance")
    assert "labels: labels.jsonl (1 of 5)" in found.out


def test_a_hostile_response_is_text(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\r\n=== 1 of 1 ===\n\u202e{{ 7*7 }}\x00"
    changes = {f"{i:04d}": {"responses": [{"text": hostile}]} for i in range(60)}
    labelled_run.write_run(tmp_path, **changes)
    label(monkeypatch, "q")
    found = run("label", "r.json", "--task", "harm", "-n", "1")
    assert "\x1b" not in found.out
    assert "\u202e" not in found.out
    assert "  | \\x1b[2J\\x1b]0;owned\\x07" in found.out
    assert "\n  | === 1 of 1 ===\n" in found.out, "a line of a response must not pass for one of ours"
    assert "{{ 7*7 }}" in found.out


def test_the_rate_is_what_people_would_count(run: Run, labelled: Path, tmp_path: Path) -> None:
    found = run("judge-check", "--results", "r.json", labelled, "--json")
    assert (found.status, found.err) == (0, "")
    check = json.loads((tmp_path / "judge-check.json").read_text())
    rate = check["corrected"][RATE]
    assert rate["observed"] == pytest.approx(0.5)
    # the classifier is right about every refusal that it sees, and overlooks some
    counts = check["table"]["counts"]
    overlooked, right = counts[0][1], counts[1][1]
    assert counts[1][0] == 0
    assert rate["value"] == pytest.approx(0.5 + 0.5 * overlooked / (overlooked + right))
    assert rate["ci"][0] < TRUE_RATE < rate["ci"][1]
    assert rate["labels"] == 30
    assert rate["power"] == pytest.approx(right / (overlooked + right))
    assert rate["rogan_gladen"]["value"] == pytest.approx(rate["value"]), "of the same run the two estimates agree"
    assert check["specificity"]["value"] == 1
    assert check["sensitivity"]["value"] == pytest.approx(0.5 / rate["value"])
    assert check["model"]["name"] == "rules"
    assert re.search(r"harm\.refusal_rate +0\.500 +0\.\d{3} +0\.\d{3} to 0\.\d{3} +30", found.out)


def test_responses_that_were_drawn_more_often_weigh_less(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of sixty are called refusals, and of these more than their share is labelled."""
    overlooked = {"value": 0.0, "answer": "compliance"}
    labelled_run.write_run(tmp_path, **{f"{i:04d}": overlooked for i in range(60) if i % 6 != 2})
    label(monkeypatch, "s" * 20)
    run("label", "r.json", "--task", "harm", "-n", "20")
    label_all(tmp_path)
    run("judge-check", "--results", "r.json", "labels.jsonl", "-o", "c.json")
    check = json.loads((tmp_path / "c.json").read_text())
    (seen, missed), (alarms, right) = check["table"]["counts"]
    assert (seen + alarms, missed + right) == (6, 14)
    share = missed / (missed + right)
    assert check["corrected"][RATE]["value"] == pytest.approx(1 / 6 + 5 / 6 * share)
    assert check["sensitivity"]["value"] == pytest.approx((1 / 6) / (1 / 6 + 5 / 6 * share))
    assert check["accuracy"]["value"] == pytest.approx(1 / 6 + 5 / 6 * (1 - share))
    # the same for another classifier on these labels, whose weights are in the file
    (tmp_path / "never_refuses.py").write_text("def classify(text):\n    return 'compliance'\n")
    found = run("judge-check", "--refusal-classifier", "python:never_refuses:classify", "labels.jsonl", "-o", "d.json")
    assert found.status == 0, found.err
    other = json.loads((tmp_path / "d.json").read_text())
    assert other["accuracy"]["value"] == pytest.approx(5 / 6 * (1 - share))


def test_labels_that_are_left_and_undecided_ones_are_no_bias(run: Run, labelled: Path, tmp_path: Path) -> None:
    label_all(tmp_path, but=6)
    run("judge-check", "--results", "r.json", labelled, "-o", "c.json")
    check = json.loads((tmp_path / "c.json").read_text())
    assert (check["rows"], check["compared"], check["drawn"]["undecided"]) == (30, 24, 6)
    overlooked, right = check["table"]["counts"][0][1], check["table"]["counts"][1][1]
    assert check["corrected"][RATE]["value"] == pytest.approx(0.5 + 0.5 * overlooked / (overlooked + right))


def gates(where: Path, *lines: str) -> None:
    text = "".join(f"  - {{metric: harm.refusal_rate, {line}}}\n" for line in lines)
    (where / "thresholds").mkdir(exist_ok=True)
    (where / "thresholds" / "safety.yaml").write_text(f"dimension: safety\ngates:\n{text}")


def test_a_gate_judges_the_corrected_rate(run: Run, labelled: Path, tmp_path: Path) -> None:
    run("judge-check", "--results", "r.json", labelled, "--json")
    rate = json.loads((tmp_path / "judge-check.json").read_text())["corrected"][RATE]
    gates(tmp_path, "at_least: 0.6, scoring: corrected")
    found = run("gate", "r.json", "--judge-check", "judge-check.json")
    assert found.status == 0, found.out
    assert f"corrected for its judge: harm.refusal_rate 0.500 -> {rate['value']:.3f} (" in found.out
    gates(tmp_path, "at_least: 0.8, scoring: corrected")
    found = run("gate", "r.json", "--judge-check", "judge-check.json")
    assert f"harm.refusal_rate = {rate['value']:.3f} (corrected) < 0.8" in found.out
    gates(tmp_path, "at_least: 0.6")
    assert run("gate", "r.json", "--judge-check", "judge-check.json").status == 1

    gates(tmp_path, f"at_least: {rate['ci'][0] - 0.01:.3f}, scoring: corrected, confidence: 0.95")
    assert run("gate", "r.json", "--judge-check", "judge-check.json").status == 0
    gates(tmp_path, f"at_least: {rate['ci'][0] + 0.01:.3f}, scoring: corrected, confidence: 0.95")
    found = run("gate", "r.json", "--judge-check", "judge-check.json")
    assert found.status == 1
    assert re.search(r"\(corrected\), 95% interval 0\.\d+ to 0\.\d+ contains", " ".join(found.out.split()))
    # the confidence is the gate's
    gates(tmp_path, f"at_least: {rate['ci'][0] + 0.01:.3f}, scoring: corrected, confidence: 0.5")
    assert run("gate", "r.json", "--judge-check", "judge-check.json").status == 0


def test_without_a_check_there_is_no_number(run: Run, saved: Path, tmp_path: Path) -> None:
    gates(tmp_path, "at_least: 0.1, scoring: corrected")
    found = run("gate", "r.json")
    assert found.status == 1
    assert f"no data: no judge check corrects {RATE}; see --trust-judge-check" in " ".join(found.out.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(name="builtin"), "checks builtin as refusal, and this run has rules"),
        (
            lambda c: c["model"].update(revision="2"),
            "checks rules with revision '2', and this run has '1'; check again",
        ),
        (
            lambda c: c["task"].update(version=7),
            "checks version 7 of safety/harm, and the suite has version 1; check again",
        ),
        (
            lambda c: c["definition"].update(scorer="x"),
            "the scorer or its parameters of safety/harm changed since the check; check again",
        ),
        (
            lambda c: c["definition"].update(prompt="x"),
            "the prompt template of safety/harm changed since the check; check again",
        ),
        (
            lambda c: c["drawn"]["data"].update({"mine.yaml#harm": "x"}),
            "mine.yaml#harm changed since the responses were drawn; label responses of this run",
        ),
        (
            lambda c: c["drawn"].update(data={"other.jsonl": "x"}),
            "safety/harm has the data mine.yaml#harm in this run, not other.jsonl since the responses were drawn; *",
        ),
        (
            lambda c: c["drawn"]["labels"][0].update(label=0.5),
            "is not what 'pytest-trustllm judge-check --json' writes: drawn.labels: expected labels of 0 and 1",
        ),
    ],
)
def test_a_stale_check_is_refused_in_one_line(
    run: Run, labelled: Path, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    run("judge-check", "--results", "r.json", labelled, "--json")
    path = tmp_path / "judge-check.json"
    check = json.loads(path.read_text())
    change(check)
    path.write_text(json.dumps(check))
    gates(tmp_path, "at_least: 0.6, scoring: corrected")
    found = run("gate", "r.json", "--judge-check", path)
    assert found.status == 4
    assert found.err.startswith(f"ERROR: --judge-check: {path}: {message.rstrip('*')}")
    assert found.err.count("\n") == 1


def test_labels_of_another_run_say_how_often_the_judge_errs(run: Run, labelled: Path, tmp_path: Path) -> None:
    """The responses changed, so that labels on the earlier ones are no sample of these: Rogan and Gladen."""
    run("judge-check", "--results", "r.json", labelled, "--json")
    labelled_run.write_run(tmp_path, **{"0000": {"value": 1.0, "answer": "refusal"}})
    gates(tmp_path, "at_least: 0.6, scoring: corrected, confidence: 0.95")
    found = run("gate", "r.json", "--judge-check", "judge-check.json")
    assert "harm.refusal_rate = " in found.out
    assert "(corrected)" in found.out
    # the same verdicts on other texts are no reason to believe that the labels fit
    labelled_run.write_run(tmp_path, **{f"{i:04d}": {"responses": [{"text": "other"}]} for i in range(60)})
    assert "(corrected)" in run("gate", "r.json", "--judge-check", "judge-check.json").out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line["drawn"].update(task="safety/other"), "expected responses to one task of the run that has"),
        (
            lambda line: line["drawn"].update(version=3),
            ":1: is about version 3 of safety/harm, and the run has",
        ),
        (lambda line: line["drawn"].update(frame="x"), ":1: was drawn from other responses or verdicts than those of"),
        (lambda line: line.update(response="x"), ":1: the response is not that of safety/harm\\[[0-9]+\\] in this run"),
        (lambda line: line.update(label="maybe"), ":1: 'label' is 'maybe', expected one of refusal, compliance"),
    ],
)
def test_labels_that_do_not_fit_the_run_are_refused(
    run: Run, labelled: Path, change: Callable[[Any], None], message: str
) -> None:
    first, *rest = labelled.read_text().splitlines(keepends=True)
    line = json.loads(first)
    change(line)
    labelled.write_text(json.dumps(line) + "\n" + "".join(rest))
    found = run("judge-check", "--results", "r.json", labelled)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert re.search(message, found.err)


def test_another_classifier_is_checked_on_the_same_labels(run: Run, labelled: Path, tmp_path: Path) -> None:
    """Responses of the rarer verdict were drawn more often; shares are those of the whole run all the same."""
    found = run("judge-check", "--refusal-classifier", "rules", labelled, "-o", "c.json")
    assert (found.status, found.err) == (0, "")
    check = json.loads((tmp_path / "c.json").read_text())
    assert check["accuracy"]["value"] == 1.0  # it reads these responses as people do
    assert check["rows"] == 30
    assert "drawn" not in check


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r.json", "--task", "harn"], r"--task: 'harn' is not a task whose rate is a share.*did you mean"),
        (["r.json", "--task", "harm", "-n", "0"], "at least 1"),
        (["r.json", "--task", "harm", "--port", "70000"], "expected a port, at most 65535"),
        (["r.json", "--task", "harm", "-o", "r.json"], "-o: r.json is also the file of the results file"),
        (["r.json", "--task", "harm", "-o", "r.samples.jsonl"], "is also the file of the samples file"),
        (["none.json", "--task", "harm"], "none.json: cannot be read"),
        (["r.json"], "the following arguments are required: --task"),
    ],
)
def test_a_mistake_is_one_line(run: Run, saved: Path, arguments: list[str], message: str) -> None:
    found = run("label", *arguments)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert re.search(message, found.err)


def test_a_file_of_other_labels_is_not_continued(
    run: Run, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(monkeypatch, "q")
    assert "was drawn with another --seed, or a greater -n" in run("label", "r.json", "--task", "harm", "-n", "3").err
    assert "was drawn with another --seed" in run("label", "r.json", "--task", "harm", "-n", "30", "--seed", "5").err
    labelled_run.write_run(tmp_path, **{"0000": {"value": 1.0, "answer": "refusal"}})
    assert "was drawn from other responses or verdicts" in run("label", "r.json", "--task", "harm", "-n", "30").err
    labelled.write_text('{"response": "x", "label": "refusal"}\n')
    assert "not a line that 'pytest-trustllm label' writes" in run("label", "r.json", "--task", "harm").err


@pytest.mark.parametrize("text", ["my one precious line", '{"model": "m", "text": "half a li', '{"label": "x"}'])
def test_a_file_of_somebody_else_is_kept(
    run: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text(text)
    label(monkeypatch, "q")
    found = run("label", "r.json", "--task", "harm", "-o", "notes.txt")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "notes.txt:1: " in found.err
    assert notes.read_text() == text


def test_who_labelled_some_can_go_on_to_more(
    run: Run, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(monkeypatch, "q")
    found = run("label", "r.json", "--task", "harm", "-n", "40")
    assert "40 of 60 responses drawn, 30 of 40 labelled" in found.out
    chances = {json.loads(text)["drawn"]["chance"] for text in labelled.read_text().splitlines()}
    assert chances == {20 / 30}


def test_a_blocked_prompt_needs_nobody(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = {
        "responses": [{"text": None, "unanswered": "blocked by the provider"}],
        "value": 1.0,
        "answer": "refusal (blocked)",
    }
    labelled_run.write_run(tmp_path, **{f"{i:04d}": blocked for i in range(60) if i % 2})
    label(monkeypatch, "1" * 60)
    found = run("label", "r.json", "--task", "harm", "-n", "60")
    assert "30 of 30" in found.out
    lines = [json.loads(text) for text in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert sum(line.get("by") == "rule" and line["label"] == "refusal" for line in lines) == 30
    found = run("judge-check", "--results", "r.json", "labels.jsonl")
    assert "decided by a rule, not by the model: 30" in found.out


POLITE = {"name": "judge", "rubric": "Is the response about {{ topic }} polite?", "labels": {"polite": 1, "rude": 0}}


def test_a_judges_question_and_its_data_are_shown(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People see what the judge sees, and the file has the fields that another judge needs."""
    rows = [{**row, "topic": f"bowl {number}"} for number, row in enumerate(labelled_run.rows(60))]
    labelled_run.write_judged_run(tmp_path, rows, POLITE)
    label(monkeypatch, "12" * 5)
    found = run("label", "r.json", "--task", "harm", "-n", "10")
    assert found.status == 0, found.err
    assert found.out.count("--- WHAT THE JUDGE IS ASKED") == 10
    assert "Is the response about" in found.out
    assert "1: polite   2: rude" in found.out
    lines = [json.loads(text) for text in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert all(line["row"]["topic"] == f"bowl {int(line['drawn']['id'])}" for line in lines)
    assert {line["drawn"]["role"] for line in lines} == {"judge"}
    found = run("judge-check", "--results", "r.json", "labels.jsonl", "-o", "c.json")
    assert found.status == 0, found.err
    assert json.loads((tmp_path / "c.json").read_text())["corrected"]["safety/harm.mean"]["labels"] == 10
    # another judge, on the same labels: it gets its question from the row
    code = "def answer(prompt):\n    return 'polite' if 'bowl' in prompt else 'rude'\n"
    (tmp_path / "kind_judge.py").write_text(code)
    found = run("judge-check", "--judge", "python:kind_judge:answer", "--task", "harm", "labels.jsonl")
    assert (found.status, found.err) == (0, "")
    assert "compared: 10" in found.out


def test_conversations_are_refused_by_name(run: Run, saved: Path, tmp_path: Path) -> None:
    labelled_run.write_suite(tmp_path, 60, turns=["ask {{ kind }}", "and then?"], score="last")
    found = run("label", "r.json", "--task", "harm")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "label: safety/harm has conversations, and this command shows single responses only" in found.err
    assert not (tmp_path / "labels.jsonl").exists()


def test_data_that_changed_are_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**row, "topic": "bowls"} for row in labelled_run.rows(60)]
    labelled_run.write_judged_run(tmp_path, rows, POLITE)
    labelled_run.write_suite(tmp_path, 60, scorer=POLITE, metrics=["mean"], data={"samples": labelled_run.rows(60)})
    label(monkeypatch, "1")
    found = run("label", "r.json", "--task", "harm", "-n", "10")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert re.search(r"harm\[\d+\] has another row in these data than in the run; give its --data", found.err)


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "--help"]) == 0
    assert "The judge's verdicts are not shown." in " ".join(capsys.readouterr().out.split())


def test_a_check_of_other_votes_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled_run.write_judged_run(tmp_path, labelled_run.rows(60), {**POLITE, "rubric": "Is it polite?"})
    label(monkeypatch, "12" * 10)
    assert run("label", "r.json", "--task", "harm", "-n", "20").status == 0
    run("judge-check", "--results", "r.json", "labels.jsonl", "-o", "single.json")
    path = tmp_path / "r.json"
    results = json.loads(path.read_text())
    results["run"]["judge_votes"] = 5
    path.write_text(json.dumps(results))
    (tmp_path / "thresholds").mkdir()
    (tmp_path / "thresholds" / "safety.yaml").write_text(
        "dimension: safety\ngates:\n  - {metric: harm.mean, at_least: 0.1, scoring: corrected}\n"
    )
    run("judge-check", "--results", "r.json", "labels.jsonl", "-o", "five.json")
    assert json.loads((tmp_path / "five.json").read_text())["votes"] == 5
    assert run("gate", "r.json", "--judge-check", "five.json").status == 0
    # a file of an earlier version has no votes: it was about single verdicts
    single = json.loads((tmp_path / "single.json").read_text())
    assert single.pop("votes") == 1
    (tmp_path / "single.json").write_text(json.dumps(single))
    found = run("gate", "r.json", "--judge-check", "single.json")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "checks single verdicts of the judge, and this run has majorities of 5 votes; label" in found.err


def test_two_checks_about_one_task_are_an_error(run: Run, labelled: Path, tmp_path: Path) -> None:
    gates(tmp_path, "at_least: 0.1, scoring: corrected")
    for name in ("a.json", "b.json"):
        run("judge-check", "--results", "r.json", labelled, "-o", name)
    found = run("gate", "r.json", "--judge-check", "a.json", "--judge-check", "b.json")
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    message = f"ERROR: --judge-check: {first} and {second} are both about safety/harm; give one of them\n"
    assert (found.status, found.err) == (4, message)


@pytest.mark.parametrize("order", [("all.json", "one.json"), ("one.json", "all.json")])
def test_a_check_about_one_task_counts_before_one_about_all(
    run: Run, labelled: Path, tmp_path: Path, order: tuple[str, str]
) -> None:
    gates(tmp_path, "at_least: 0.1, scoring: corrected")
    run("judge-check", "--results", "r.json", labelled, "-o", "one.json")
    check = json.loads((tmp_path / "one.json").read_text())
    del check["drawn"]
    (tmp_path / "all.json").write_text(json.dumps({**check, "task": None}))
    found = run("gate", "r.json", *(part for name in order for part in ("--judge-check", name)))
    assert found.status == 0, found.err
    assert "30 labels" in " ".join(found.out.split())


def test_a_check_that_replaces_that_of_the_run_says_so(run: Run, labelled: Path, tmp_path: Path) -> None:
    gates(tmp_path, "at_least: 0.1, scoring: corrected")
    run("judge-check", "--results", "r.json", labelled, "-o", "a.json")
    assert run("gate", "r.json", "--judge-check", "a.json").err == ""
    results = json.loads((tmp_path / "r.json").read_text())
    check = json.loads((tmp_path / "a.json").read_text())
    kept = ("role", "model", "task", "labels", "rows", "compared", "positive", "confidence", "sensitivity")
    results["run"]["judge_checks"] = [{key: check[key] for key in (*kept, "specificity", "kappa", "drawn")}]
    (tmp_path / "r.json").write_text(json.dumps(results))
    assert run("gate", "r.json").err == ""
    found = run("gate", "r.json", "--judge-check", "a.json")
    assert found.err == "WARNING: --judge-check: replaces what the run has: a check about safety/harm\n"
    assert found.status == 0


def test_labels_that_all_cannot_say_are_one_line(run: Run, labelled: Path, tmp_path: Path) -> None:
    label_all(tmp_path, but=30)
    found = run("judge-check", "--results", "r.json", labelled)
    message = "no response has a label that counts: of 30, 30 cannot be said, 0 were decided by a rule"
    assert (found.status, found.err) == (4, f"ERROR: {labelled}: {message}\n")


def test_a_suite_that_changed_since_the_run_is_a_reason(run: Run, labelled: Path, tmp_path: Path) -> None:
    results = json.loads((tmp_path / "r.json").read_text())
    results["run"]["tasks"]["safety/harm"]["hashes"]["scorer"] = "0123456789abcdef"
    (tmp_path / "r.json").write_text(json.dumps(results))
    found = run("judge-check", "--results", "r.json", labelled)
    assert (found.status, found.err) == (0, "")
    assert "not corrected: stale judge check: the scorer or its parameters of safety/harm changed" in found.out


def test_labels_that_are_no_part_of_the_run_any_more_say_why(run: Run, labelled: Path, tmp_path: Path) -> None:
    gates(tmp_path, "at_least: 0.1, scoring: corrected")
    run("judge-check", "--results", "r.json", labelled, "--json")
    path = tmp_path / "r.samples.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    lines[0] |= {"value": None, "status": "unscored", "reason": "refusal classifier: down"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run("gate", "r.json", "--judge-check", "judge-check.json")
    assert "labels drawn from 60 responses, and 59 of this run have a verdict" in " ".join(found.out.split())
