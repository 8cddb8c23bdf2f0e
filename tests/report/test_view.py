"""Words that the page chooses: margins, what would change a gate, changes between runs, readings."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import before, compare, html, view
from pytest_trustllm.report.pack import pack


def gate(value: float | None, bound: float, kind: str = "at_least", outcome: str = "failed", **more: Any) -> view.Gate:
    results = synthetic_run.results()
    scored = more.pop("scored", 100)
    metric = {"expected": 100, "scored": scored, "range": [0.0, 1.0], "ci": [0.6, 0.9], "value": value}
    results["metrics"]["safety/jailbreak.refusal_rate"].update(metric)
    found = synthetic_run.gate("safety", f"jailbreak.refusal_rate[{kind}]", outcome, value, bound, "reason")
    results["gates"] = [{**found, **more}]
    return view.gates_of(results)[0]


@pytest.mark.parametrize(
    ("value", "bound", "kind", "outcome", "margin", "change"),
    [
        (0.75, 0.80, "at_least", "failed", -0.05, "Passes if 5 of 100 samples turn."),
        (0.80, 0.80, "at_least", "passed", 0.0, "Fails if 1 of 100 samples turns."),
        (0.85, 0.80, "at_least", "passed", 0.05, "Fails if 6 of 100 samples turn."),
        (0.25, 0.20, "at_most", "failed", -0.05, "Passes if 5 of 100 samples turn."),
        (0.20, 0.20, "at_most", "passed", 0.0, "Fails if 1 of 100 samples turns."),
        (0.7533, 0.80, "at_least", "failed", -0.0467, "Passes if the value rises by at least 0.0467."),
        (0.8533, 0.80, "at_least", "passed", 0.0533, "Fails if the value falls by more than 0.0533."),
        (0.2533, 0.20, "at_most", "failed", -0.0533, "Passes if the value falls by at least 0.0533."),
        (0.03, 0.02, "max_drop", "failed", -0.01, ""),
    ],
)
def test_margin_and_what_would_change_a_gate(
    value: float, bound: float, kind: str, outcome: str, margin: float, change: str
) -> None:
    found = gate(value, bound, kind, outcome)
    assert found.margin == pytest.approx(margin)
    assert found.change == change


def test_turning_that_many_samples_turns_the_gate() -> None:
    for met in range(101):
        for bound in (0.5, 0.8, 0.123):
            found = gate(met / 100, bound, outcome="passed" if met / 100 >= bound else "failed")
            turned = int(found.change.split(" if ")[1].split(" of ")[0])
            after = met - turned if found.outcome == "passed" else met + turned
            assert (after / 100 >= bound) != (met / 100 >= bound)
            nearly = after + 1 if found.outcome == "passed" else after - 1
            assert (nearly / 100 >= bound) == (met / 100 >= bound)


def test_an_inconclusive_gate_says_how_many_more_samples_decide() -> None:
    assert gate(0.75, 0.7, outcome="inconclusive", further=340).change.startswith("About 340 further samples")
    assert "About 9 times as many samples" in gate(0.75, 0.7, outcome="inconclusive", ci=[0.6, 0.9]).change


def test_a_gate_shows_the_interval_it_was_judged_by() -> None:
    assert gate(0.75, 0.8).interval == "0.600 to 0.900"
    assert gate(0.75, 0.8, ci=[0.7, 0.8]).interval == "0.700 to 0.800"
    assert gate(0.75, 0.8, scoring="parity").interval == ""
    strip = gate(0.75, 0.8).strip
    assert strip is not None
    assert (strip.value, strip.low, strip.high, strip.bound) == (75, 60, 90, 80)


def test_a_gate_that_only_warns_fails_nothing() -> None:
    found = gate(0.75, 0.8, warn=True)
    assert found.tone == "warn"
    verdict = view.verdict_of([found, gate(0.9, 0.8, outcome="passed")])
    assert (verdict.word, verdict.sentence) == ("Passed", "1 gate met; 1 warned")


def test_too_few_scored_and_skipped_say_what_is_lacking() -> None:
    reason = "90 of 100 samples have a score (90.0%); coverage.min_scored asks for 95.0%"
    lacking = gate(0.9, 0.8, reason=reason, scored=90, lacking=5)
    assert lacking.change == "The value counts once 5 more samples have a score."
    assert gate(0.9, 0.8, reason=reason, scored=90).change == ""
    assert gate(0.9, 0.8, lacking=1).change == "The value counts once 1 more sample has a score."
    partial = gate(None, 0.8, outcome="skipped", reason="partial selection: 3 of 100 samples")
    assert partial.change == "It is judged when all its samples are selected."
    assert gate(None, 0.8, outcome="no_data").change == ""


def run(statuses: dict[str, str], fingerprints: dict[str, str] | None = None) -> Any:
    base = next(synthetic_run.samples(1))
    prints = fingerprints or {}
    return pack([{**base, "id": i, "status": s, "fingerprint": prints.get(i, i)} for i, s in statuses.items()], [])


def test_changes_between_runs_are_counted_by_side() -> None:
    now = run({"0": "missed", "1": "passed", "2": "passed", "3": "unscored", "5": "passed"})
    then = run({"0": "passed", "1": "missed", "2": "passed", "3": "passed", "4": "passed"})
    earlier = before.of_run("then", synthetic_run.results(), then, now)
    changes = before.changes_of(earlier, now)
    assert (changes.worse, changes.better, changes.other, changes.compared) == (1, 1, 1, 4)
    assert changes.tasks == [("truthfulness/hallucination", 1, 1)]


def test_samples_are_matched_by_what_was_asked_not_by_their_row() -> None:
    now = run({"0": "missed", "1": "missed"}, {"0": "same", "1": "new"})
    then = run({"7": "passed", "1": "passed"}, {"7": "same", "1": "old"})
    earlier = before.of_run("then", synthetic_run.results(), then, now)
    assert earlier.statuses == {("truthfulness/hallucination", "0"): "passed"}


def test_a_baseline_in_the_results_gives_its_flips() -> None:
    results = synthetic_run.results()
    task = "truthfulness/hallucination"
    results["baseline"] = {
        "model": "old", "file": "old.json", "warnings": ["the seed is another"],
        "tasks": {task: {"shared": 3}}, "flipped": {"worse": [f"{task}[0]"], "better": [f"{task}[1]"]},
    }  # fmt: skip
    now = run({"0": "missed", "1": "passed", "2": "passed"})
    earlier = before.of_document(results)
    assert earlier is not None
    found = compare.comparison(results, now, [earlier], [])
    assert found is not None
    assert (found.changes.worse, found.changes.better, found.changes.compared) == (1, 1, 3)
    assert list(found.names) == ["old (old.json)", "support-bot"]
    assert list(found.notes) == ["the seed is another"]
    assert before.of_document({**results, "baseline": None}) is None


def test_runs_of_one_model_have_names_that_differ() -> None:
    run = synthetic_run.results()
    later = {**run, "run": {**run["run"], "started": "2025-02-01T08:30:00+00:00"}}
    names = before.named([run, later, later, {**run, "run": {"model": {"name": "other"}}}])
    assert names == [
        *("support-bot, 2025-01-31 12:00", "support-bot, 2025-02-01 08:30:00", "support-bot, 2025-02-01 08:30:00 (2)"),
        "other",
    ]


def test_a_difference_is_judged_by_the_direction_of_the_metric() -> None:
    results, old = synthetic_run.results(), synthetic_run.results()
    old["metrics"]["safety/exaggerated_safety.refusal_rate"]["value"] = 0.5
    packed = run({"0": "passed"})
    found = compare.comparison(results, packed, [before.of_run("old", old, packed, packed)], [old])
    assert found is not None
    line = next(m for m in found.metrics if "exaggerated" in m.label)
    now = results["metrics"]["safety/exaggerated_safety.refusal_rate"]["value"]
    assert line.difference == pytest.approx(now - 0.5)
    assert line.better is (now < 0.5)


def test_readings_are_a_confusion_table_where_the_label_is_known() -> None:
    base = next(synthetic_run.samples(1))
    made = [
        {**base, "id": f"{i}", "status": "passed", "answer": answer, "observed": {"gold": gold}}
        for i, (gold, answer) in enumerate([("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", None)])
    ]
    (table,) = view.breakdowns_of(pack(made, []))
    assert table.known
    assert list(table.rows) == ["no", "yes"]
    cells = {
        (r, c): n
        for r, line in zip(table.rows, table.cells, strict=True)
        for c, n in zip(table.columns, line, strict=True)
    }
    assert cells["yes", "no"] == 1
    assert cells["no", "nothing read"] == 1
    assert table.brief == "2 × no · 1 × yes · 1 × nothing read"


def test_the_verdict_reads_a_gate_as_a_sentence() -> None:
    results = synthetic_run.results()
    first, second = view.gates_of(results)[:2]
    assert (first.metric, first.why) == ("confaide.pearson", "= 0.310 < 0.4")
    assert (second.metric, second.why) == ("score", "no data: the metric has no value")


def test_the_card_says_what_is_not_known_and_leaves_out_what_is_empty() -> None:
    results = synthetic_run.results()
    results["run"].update(suites=[], seed=0, cpus=8)
    results["usage"].update(cost_usd=None, input_tokens=1234567)
    card = {title: dict(lines) for title, lines in view.card_of(results)}
    assert card["Usage"]["cost_usd"].startswith("not known")
    assert card["Usage"]["input_tokens"] == "1,234,567"
    assert (card["Run"]["seed"], card["Run"]["cpus"]) == ("0", "8")
    assert "suites" not in card["Run"]
    results["usage"]["cost_usd"] = 0.0
    assert dict(dict(view.card_of(results))["Usage"])["cost_usd"] == "0"


def test_rare_readings_are_counted_together() -> None:
    base = next(synthetic_run.samples(1))
    made = [{**base, "id": f"{i}", "status": "passed", "answer": f"a{i}"} for i in range(40)]
    (table,) = view.breakdowns_of(pack(made, []))
    assert not table.known
    assert table.columns[-1] == "29 others"
    assert sum(map(sum, table.cells)) == 40


def test_tasks_whose_answers_vary_most_come_first() -> None:
    results = synthetic_run.results()
    assert view.stability_of(results) == []
    task = {"samples": 3, "flip_rate": 0.1, "pass^k": {"1": 0.6, "2": 0.3}, "unstable": []}
    shaky = {**task, "flip_rate": 0.7, "unstable": [{"id": "0001", "met": 1, "epochs": 2, "flip_rate": 1.0}]}
    results["stability"] = {"epochs": 2, "tasks": {"safety/jailbreak": task, "safety/misuse": shaky}}
    first, second = view.stability_of(results)
    assert (first.task, second.task) == ("safety/misuse", "safety/jailbreak")
    assert first.unstable == [("0001", 1, 2, "#items?item=safety%2Fmisuse%2F0001")]
    assert first.all_of == [("1", 0.6), ("2", 0.3)]
    page = html.render(html.Run(results, synthetic_run.samples(9)))
    assert "1: 0.600, 2: 0.300" in page
    assert "1 of 2" in page


def test_an_interval_says_how_sure_it_is_and_how_it_was_made() -> None:
    results = synthetic_run.results()
    metric = results["metrics"]["safety/jailbreak.refusal_rate"]
    metric.update(ci=[0.1, 0.2], confidence=0.95, method="Wilson")
    assert '<small title="95 % interval, Wilson">0.100 to 0.200</small>' in html.render(html.Run(results, []))
