"""What scorers read, and why samples have no score: counted in a way that people can take in."""

from __future__ import annotations

from typing import Any

import synthetic_run

from pytest_trustllm.report import words
from pytest_trustllm.report.page import html, readings, unscored
from pytest_trustllm.report.page.sample_data import Packed, pack
from pytest_trustllm.results.coverage import reasons_of


def read(*answers: str | None, gold: str | None = None, **changes: Any) -> Packed:
    base: Any = next(synthetic_run.samples(1))
    observed = {} if gold is None else {"gold": gold}
    lines = [{**base, "id": str(n), "answer": a, "observed": observed, **changes} for n, a in enumerate(answers)]
    return pack(lines, [])


def test_case_makes_no_other_answer() -> None:
    (table,) = readings.breakdowns_of(read("no", "No", "No", "NO", "yes", gold="YES"))
    assert dict(zip(table.columns, table.cells[0], strict=True)) == {"No": 4, "yes": 1}
    assert list(table.rows) == ["YES"]
    assert table.brief == "4 × No · 1 × yes"


def test_spellings_of_the_right_label_are_one_line() -> None:
    base: Any = next(synthetic_run.samples(1))
    lines = [
        {**base, "id": str(n), "answer": "a", "observed": {"gold": g}} for n, g in enumerate(["No", "no", "No", "yes"])
    ]
    (table,) = readings.breakdowns_of(pack(lines, []))
    assert list(table.rows) == ["No", "yes"]
    assert [sum(line) for line in table.cells] == [3, 1]


def test_scores_that_are_rarely_alike_are_counted_in_ranges() -> None:
    (table,) = readings.breakdowns_of(read(*[f"{n / 40:.4f}" for n in range(41)], None))
    assert list(table.columns[:2]) == ["0 to 0.125", "0.125 to 0.25"]
    assert table.columns[-1] == "nothing read"
    assert len(table.columns) == 9
    assert sum(map(sum, table.cells)) == 42
    assert [sum(column) for column in zip(*table.cells, strict=True)][:2] == [5, 5]


def test_few_numbers_are_labels() -> None:
    (table,) = readings.breakdowns_of(read("0", "50", "100", "50"))
    assert table.columns[0] == "50"


def test_numbers_that_make_no_ranges_are_labels() -> None:
    spellings = [f"1.{'0' * n}" for n in range(13)]
    (table,) = readings.breakdowns_of(read(*spellings))
    assert sum(map(sum, table.cells)) == 13
    (table,) = readings.breakdowns_of(read("-1e308", "1e308", "nan", "inf", *[str(n) for n in range(10)]))
    assert sum(map(sum, table.cells)) == 14


def without_score(*reasons: str) -> list[unscored.Reason]:
    base: Any = next(synthetic_run.samples(1))
    lines = [
        {**base, "id": str(n), "status": "unscored", "value": None, "answer": None, "reason": reason}
        for n, reason in enumerate(reasons)
    ]
    results: Any = {**synthetic_run.results(), "scores": {}}
    return unscored.reasons_of(results, pack(lines, []))


def test_unreadable_replies_are_one_kind_with_the_replies_below() -> None:
    replies = ("'Maybe.'", "'It\\'s ok'", "'Maybe.'")
    found = without_score(
        *[f"judge replied {reply}, expected one of refuse, comply" for reply in replies],
        *("no response", "names -50 and 100", "names -100 and -50"),
    )
    assert [(reason.text, reason.count) for reason in found] == [
        ("judge replied …, expected one of refuse, comply", 3),
        ("names … and …", 2),
        ("no response", 1),
    ]
    assert [(single.text[:22], single.count) for single in found[0].single] == [
        ("judge replied 'Maybe.'", 2),
        ("judge replied 'It\\'s o", 1),
    ]
    assert found[2].single == ()
    ((task, count, link),) = found[0].tasks
    assert (task, count) == ("truthfulness/hallucination", 3)
    assert "q=%2C%20expected%20one%20of%20refuse%2C%20comply" in link  # what all of them have in common


def test_the_page_counts_what_the_terminal_counts() -> None:
    results: Any = synthetic_run.results()
    base: Any = next(synthetic_run.samples(1))
    task = base["task"]
    lines: list[Any] = [
        {**base, "id": "0", "status": "unscored", "value": 0.0, "reason": "no response", "silent": True},
        {**base, "id": "1", "status": "error", "value": None, "reason": "it raised"},
        {**base, "id": "2", "status": "passed", "value": None, "reason": "a refusal", "applies": False},
        {**base, "id": "3", "status": "passed", "value": 1.0, "reason": None},
    ]
    results["coverage"][task].update(scored=1, unscored=1, errored=1, not_applicable=1, lost=2)
    shown = unscored.reasons_of(results, pack(lines, []))
    on_page = sorted((task, reason.text, count) for reason in shown for task, count, _ in reason.tasks)
    assert on_page == sorted(reasons_of(lines, results["coverage"]))
    assert [count for _, _, count in on_page] == [1, 2, 1]


def test_of_many_single_replies_some_are_listed() -> None:
    (reason,) = without_score(*[f"judge replied '{n}'" for n in range(70)])
    assert (reason.count, len(reason.single), reason.further) == (70, 50, 20)


def test_the_page_says_what_numbers_mean_and_where_the_evidence_belongs() -> None:
    page = html.render(html.Run(synthetic_run.results(), synthetic_run.samples(90)))
    assert "Whether the model declines what would do harm" in page
    assert "Personal data reach people who have no right to them." in page
    link = 'href="#items?in=privacy&amp;tag=OWASP%20LLM02"'
    assert f'{link} title="Sensitive Information Disclosure (OWASP Top 10' in page
    about = words.words_of("safety/jailbreak.refusal_rate")
    assert about is not None
    assert f'<small class="plain">{about.plain}</small>' in page
    assert f"<dd>{about.harm}</dd>" in page
