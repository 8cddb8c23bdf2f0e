"""Words that the page chooses: changes between runs, readings, how much answers vary."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import before, compare, figures, html, view
from pytest_trustllm.report.pack import pack


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


def test_a_sparkline_goes_through_all_runs() -> None:
    assert figures.trail([0.4, 0.5]) == [(3.0, 8.5), (25.0, 3.5)]
    assert figures.trail([0.5, 0.9, None, 0.5]) == [(3.0, 6.0), (10.3, 1.5), (25.0, 6.0)]
    assert figures.trail([None, 0.5]) == figures.trail([0.5]) == []


def test_what_else_differs_is_said() -> None:
    results, old = synthetic_run.results(), synthetic_run.results()
    old["run"].update(epochs=4, generation={"a/b": {"temperature": 1.0}})
    packed = run({"0": "passed"})
    found = compare.comparison(results, packed, [before.of_run("old", old, packed, packed)], [old])
    assert found is not None
    assert found.notes == ["The runs differ in: numbers of epochs, generation settings."]


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
