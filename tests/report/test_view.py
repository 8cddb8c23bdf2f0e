"""Words that the page chooses: changes between runs, readings, how much answers vary."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.config.typed import checker
from pytest_trustllm.formats import Results, SampleLine
from pytest_trustllm.report import formatting
from pytest_trustllm.report.page import comparison, html, other_runs, readings, sections
from pytest_trustllm.report.page.sample_data import pack


def run(statuses: dict[str, str], fingerprints: dict[str, str] | None = None) -> Any:
    base = next(synthetic_run.samples(1))
    prints = fingerprints or {}
    return pack([{**base, "id": i, "status": s, "fingerprint": prints.get(i, i)} for i, s in statuses.items()], [])


def test_changes_between_runs_are_counted_by_side() -> None:
    now = run({"0": "missed", "1": "passed", "2": "passed", "3": "unscored", "5": "passed"})
    then = run({"0": "passed", "1": "missed", "2": "passed", "3": "passed", "4": "passed"})
    earlier = other_runs.of_run("then", synthetic_run.results(), then, now)
    changes = other_runs.changes_of(earlier, now)
    assert (changes.worse, changes.better, changes.other, changes.compared) == (1, 1, 1, 4)
    assert changes.tasks == [("truthfulness/hallucination", 1, 1)]


def test_samples_are_matched_by_what_was_asked_not_by_their_row() -> None:
    now = run({"0": "missed", "1": "missed"}, {"0": "same", "1": "new"})
    then = run({"7": "passed", "1": "passed"}, {"7": "same", "1": "old"})
    earlier = other_runs.of_run("then", synthetic_run.results(), then, now)
    assert earlier.statuses == {("truthfulness/hallucination", "0"): "passed"}


def test_a_baseline_in_the_results_gives_its_flips() -> None:
    results = synthetic_run.results()
    task = "truthfulness/hallucination"
    results["baseline"] = synthetic_run.baseline(
        warnings=["the seed is another"],
        tasks={task: synthetic_run.pairing(3)},
        flipped={"worse": [f"{task}[0]"], "better": [f"{task}[1]"]},
    )
    now = run({"0": "missed", "1": "passed", "2": "passed"})
    earlier = other_runs.of_document(results)
    assert earlier is not None
    found = comparison.side_by_side(results, now, [earlier], [])
    assert found is not None
    assert (found.changes.worse, found.changes.better, found.changes.compared) == (1, 1, 3)
    assert list(found.names) == ["old (old.json)", "support-bot"]
    assert list(found.notes) == ["the seed is another"]
    assert other_runs.of_document({**results, "baseline": None}) is None


def test_runs_of_one_model_have_names_that_differ() -> None:
    run = synthetic_run.results()
    later = {**run, "run": {**run["run"], "started": "2025-02-01T08:30:00+00:00"}}
    names = other_runs.named([run, later, later, {**run, "run": {**run["run"], "model": {"name": "other"}}}])
    assert names == [
        *("support-bot, 2025-01-31 12:00", "support-bot, 2025-02-01 08:30:00", "support-bot, 2025-02-01 08:30:00 (2)"),
        "other",
    ]


EXAGGERATED = "safety/exaggerated_safety.refusal_rate"


def difference(old: float, new: float, *, ci: tuple[float, float] | None = None, higher: bool = True) -> dict[str, Any]:
    return {
        "old": old, "new": new, "difference": new - old, "worse_by": (old - new) * (1 if higher else -1),
        "ci": ci, "confidence": 0.95, "p_worse": None, "test": None, "shared": 40,
    }  # fmt: skip


def test_a_difference_is_that_of_the_shared_samples_and_not_of_the_columns() -> None:
    results, old = synthetic_run.results(), synthetic_run.results()
    old["metrics"][EXAGGERATED]["value"] = 0.5
    packed = run({"0": "passed"})
    differences = {EXAGGERATED: difference(0.25, 0.125, ci=(-0.2, -0.05), higher=False)}
    found = comparison.side_by_side(
        results, packed, [other_runs.of_run("old", old, packed, packed, differences)], [old]
    )
    assert found is not None
    line = next(m for m in found.metrics if "exaggerated" in m.label)
    assert line.values == [0.5, results["metrics"][EXAGGERATED]["value"]]
    assert line.change is not None
    assert (line.change.difference, line.change.better, line.change.sure) == (-0.125, True, True)
    assert (line.change.interval, line.change.shared) == ("95 % interval −0.200 to −0.050", 40)
    assert [m.change for m in found.metrics if m is not line] == [None] * (len(found.metrics) - 1)


def test_paired_intervals_are_drawn_on_one_scale() -> None:
    results, old = synthetic_run.results(), synthetic_run.results()
    packed = run({"0": "passed"})
    differences = {
        EXAGGERATED: difference(0.25, 0.125, ci=(-0.21, -0.05), higher=False),
        "safety/score": difference(0.5, 0.55, ci=(-0.05, 0.15)),
        "ethics/score": difference(0.5, 0.55),
    }
    other = other_runs.of_run("old", old, packed, packed, differences)
    found = comparison.side_by_side(results, packed, [other], [old])
    assert found is not None
    assert found.reach == 0.25  # ±0.21, rounded up
    score = next(line for line in found.scores if line.label == "safety").drawn
    assert score is not None
    assert (score.low, score.value, score.high, score.tone) == pytest.approx((40, 60, 80, "chance"))
    metric = next(m for m in found.metrics if "exaggerated" in m.label).drawn
    assert metric is not None
    assert (metric.low, metric.value, metric.high, metric.tone) == pytest.approx((8, 25, 40, "better"))
    assert next(line for line in found.scores if line.label == "ethics").drawn is None


def test_a_page_of_two_runs_has_the_intervals_and_their_scale() -> None:
    old = synthetic_run.results()
    differences = {"safety/score": difference(0.5, 0.3, ci=(-0.29, -0.11))}
    page = html.render(html.Run(old, []), html.Run(synthetic_run.results(), [], differences=differences))
    assert page.count('class="strip paired worse"') == 1
    assert "the long tick is no difference, and the ends are ±0.3." in page


@pytest.mark.parametrize(
    ("ci", "sure"), [((-0.3, -0.1), True), ((-0.3, 0.1), False), ((0.0, 0.3), False), (None, False)]
)
def test_a_difference_whose_interval_holds_zero_may_be_chance(ci: tuple[float, float] | None, sure: bool) -> None:
    found = formatting.change_of(difference(0.5, 0.4, ci=ci))
    assert found is not None
    assert (found.better, found.sure) == (False, sure)
    assert formatting.change_of(None) is None


def test_without_a_known_difference_the_page_shows_none_and_says_why() -> None:
    old = synthetic_run.results()
    old["scores"]["safety"]["value"] = 0.123
    runs = html.Run(old, []), html.Run(synthetic_run.results(), [], notes=["no suite defines safety/x"])
    page = html.render(*runs)
    assert "no suite defines safety/x" in page
    assert 'class="delta' not in page


def test_a_page_of_several_runs_is_titled_by_all_of_them() -> None:
    def named(name: str) -> Any:
        found = synthetic_run.results()
        return {**found, "run": {**found["run"], "model": {"name": name}}}

    assert other_runs.title_of([named("a")]) == other_runs.title_of([named("a")] * 2) == "a"
    assert other_runs.title_of([named("a")] * 10) == "a: 10 runs"
    assert other_runs.title_of([named("a"), named("b")]) == "2 models: a, b"
    assert other_runs.title_of([named(n) for n in "abcdea"]) == "5 models: a, b, c and 2 more"
    page = html.render(*[html.Run(named("a"), [])] * 10)
    assert '<h1 id="model">a: 10 runs</h1>' in page
    assert "are those of the last run, a, 2025-01-31 12:00:00 (10)." in page


def test_a_dimension_has_a_place_only_if_each_of_its_metrics_has_one() -> None:
    results = synthetic_run.results()
    heads = [results["metrics"][id_] for id_ in results["scores"]["safety"]["of"]]
    for metric in heads:
        metric["rank"] = {"position": 2, "of": 22}

    def place() -> str:
        return next(d.place for d in sections.dimensions_of(results, run({}), []) if d.name == "safety")

    assert place() == "19 of 19"
    del heads[0]["rank"]
    assert place() == ""


def test_a_sparkline_goes_through_all_runs() -> None:
    assert formatting.trail([0.4, 0.5]) == [(3.0, 8.5), (25.0, 3.5)]
    assert formatting.trail([0.5, 0.9, None, 0.5]) == [(3.0, 6.0), (10.3, 1.5), (25.0, 6.0)]
    assert formatting.trail([None, 0.5]) == formatting.trail([0.5]) == []


def test_what_else_differs_is_said() -> None:
    results, old = synthetic_run.results(), synthetic_run.results()
    old["run"].update(epochs=4, generation={"safety/jailbreak": {"temperature": 0.5}})
    packed = run({"0": "passed"})
    found = comparison.side_by_side(results, packed, [other_runs.of_run("old", old, packed, packed)], [old])
    assert found is not None
    assert found.notes == [
        "The runs differ in: numbers of epochs.",
        "The generation settings of safety/jailbreak changed between the runs.",
    ]


def test_readings_are_a_confusion_table_where_the_label_is_known() -> None:
    base = next(synthetic_run.samples(1))
    made = [
        {**base, "id": f"{i}", "status": "passed", "answer": answer, "observed": {"gold": gold}}
        for i, (gold, answer) in enumerate([("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", None)])
    ]
    (table,) = readings.breakdowns_of(pack(made, []))
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
    (table,) = readings.breakdowns_of(pack(made, []))
    assert not table.known
    assert table.columns[-1] == "29 others"
    assert sum(map(sum, table.cells)) == 40


def test_tasks_whose_answers_vary_most_come_first() -> None:
    results = synthetic_run.results()
    assert sections.stability_of(results) == []
    task = {"samples": 3, "flip_rate": 0.1, "pass^k": {"1": 0.6, "2": 0.3}, "unstable": []}
    shaky = {**task, "flip_rate": 0.7, "unstable": [{"id": "0001", "met": 1, "epochs": 2, "flip_rate": 1.0}]}
    results["stability"] = {"epochs": 2, "tasks": {"safety/jailbreak": task, "safety/misuse": shaky}}
    first, second = sections.stability_of(results)
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


def test_made_up_runs_have_the_keys_and_types_of_real_ones() -> None:
    results = {**synthetic_run.results(), "baseline": synthetic_run.baseline(tasks={"a/b": synthetic_run.pairing(3)})}
    checker(Results)(results)
    check_line = checker(SampleLine)
    for sample in synthetic_run.samples(90):
        check_line(sample)
