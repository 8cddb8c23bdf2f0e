"""Two saved runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from kept import Kept

Run = Callable[..., SimpleNamespace]
_SAVED = Kept("a.json", "a.samples.jsonl", "b.json", "b.samples.jsonl")


@pytest.fixture
def saved(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """Two saved runs of a project, a.json and b.json; the second answers one of ten right that was wrong, two not."""
    rows = "".join(f"        - {{prompt: question {i}, label: good, kind: {'ab'[i % 2]}}}\n" for i in range(10))
    suites = pytester.mkdir("suites")
    (suites / "mine.yaml").write_text(
        f"dimension: safety\ntasks:\n  - name: echo\n    data:\n      samples:\n{rows}    group: kind\n"
        "    scorer: contains\n    metrics: [accuracy, {name: mean, lower_is_better: true}]\n"
    )
    pytester.makeini("[pytest]\ntrust_builtin_suites = false\n")
    monkeypatch.chdir(pytester.path)

    def record() -> None:
        for name, bad in (("a", "0,1"), ("b", "1,2,3")):
            pytester.makepyfile(app=f"def answer(prompt): return 'bad' if prompt[-1] in '{bad}' else 'good'\n")
            pytester.runpytest_subprocess("--trust-model=python:app:answer", f"--trust-results={name}.json")

    _SAVED.put_into(pytester.path, record)
    return pytester.path


@pytest.fixture
def compare(run: Run, saved: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    capsys.readouterr()  # what the runs printed
    return lambda *args: run("compare", *args)


def test_flips_come_first_then_the_headline_metrics(compare: Run) -> None:
    found = compare("a.json", "b.json")
    assert (found.status, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0].startswith("A: a.json (python:app:answer, 20")
    assert lines[1].startswith("B: b.json (python:app:answer, 20")
    assert lines[2:6] == [
        "  10 shared samples: 2 got worse, 1 better",
        "  worse: echo[0002], echo[0003]",
        "  better: echo[0000]",
        "",
    ]
    rows = {line.split()[0]: line.split()[1:] for line in lines[8:-1]}
    assert list(rows) == ["safety/score", "safety/echo.accuracy"]
    assert rows["safety/echo.accuracy"][:3] == ["0.800", "0.700", "-0.100"]
    assert rows["safety/echo.accuracy"][-2:] == ["0.5", "10"]


def test_all_shows_every_metric_and_marks_those_that_are_better_lower(compare: Run) -> None:
    lines = compare("a.json", "b.json", "--all").out.splitlines()
    names = [line.split()[0] for line in lines[8:-1]]
    assert names == [
        "safety/score",
        "safety/echo.accuracy",
        "safety/echo.accuracy{kind=a}",
        "safety/echo.accuracy{kind=b}",
        "safety/echo.mean*",
        "safety/echo.mean{kind=a}*",
        "safety/echo.mean{kind=b}*",
    ]


def test_the_other_way_round_is_the_opposite(compare: Run) -> None:
    lines = compare("b.json", "a.json").out.splitlines()
    assert lines[2] == "  10 shared samples: 1 got worse, 2 better"
    assert "+0.100" in lines[9]


def test_nonsense_is_refused_in_one_line(compare: Run, saved: Path) -> None:
    suite, samples = saved / "suites/mine.yaml", saved / "a.samples.jsonl"
    text, lines = suite.read_text(), samples.read_text()

    def refused(message: str, *args: str) -> None:
        found = compare(*args)
        assert (found.status, found.out) == (4, "")
        assert found.err.startswith(f"ERROR: {message}"), found.err
        assert found.err.count("\n") == 1

    refused("none.json: cannot be read", "a.json", "none.json")
    refused("A: ", "none.json", "a.json")
    (saved / "b.json").write_text("{")
    refused("b.json: not JSON", "a.json", "b.json")
    (saved / "b.json").write_text((saved / "a.json").read_text())
    suite.write_text(text.replace("name: echo", "name: echo\n    version: 2"))
    refused("a.json: the run has version 1 of safety/echo, suites/mine.yaml version 2", "a.json", "b.json")
    suite.write_text(text)
    (saved / "c.json").write_text((saved / "a.json").read_text().replace("a.samples", "c.samples"))
    others = [{**json.loads(line), "fingerprint": f"other{i}"} for i, line in enumerate(lines.splitlines())]
    (saved / "c.samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in others))
    refused("c.json and a.json share no sample; there is nothing to compare", "c.json", "a.json")


def test_the_page_says_the_difference_that_compare_says(run: Run, saved: Path, compare: Run) -> None:
    """Two rows of the later run are not the earlier one's: its own column counts them, the difference does not."""
    samples = (saved / "b.samples.jsonl").read_text().splitlines()
    other = [{**json.loads(line), "fingerprint": f"new{i}"} if i in (4, 5) else json.loads(line)
             for i, line in enumerate(samples)]  # fmt: skip
    (saved / "b.samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in other))
    rows = {line.split()[0]: line.split()[1:] for line in compare("a.json", "b.json").out.splitlines() if "/" in line}
    assert rows["safety/score"][:3] == ["0.750", "0.625", "-0.125"]
    assert run("report", "a.json", "b.json", "-o", "page.html").status == 0
    page = (saved / "page.html").read_text()
    assert "−0.125</span>" in page
    assert "−0.100</span>" not in page
    assert "on 8 samples of both runs" in page


def test_without_the_runs_suites_the_page_has_no_difference_and_says_why(run: Run, saved: Path) -> None:
    (saved / "suites/mine.yaml").unlink()
    found = run("report", "a.json", "b.json", "-o", "page.html")
    assert found.status == 0
    page = (saved / "page.html").read_text()
    assert "Differences over the shared samples are missing: a.json: no suite defines safety/echo" in page
    assert 'class="delta' not in page


def test_what_of_the_runs_differs_is_said_by_compare_and_page(run: Run, saved: Path, compare: Run) -> None:
    document = json.loads((saved / "b.json").read_text())
    document["run"]["tasks"]["safety/echo"]["hashes"]["rubric"] = "another"
    (saved / "b.json").write_text(json.dumps(document))
    assert "  WARNING: the rubric of safety/echo changed since the baseline" in compare("a.json", "b.json").out
    run("report", "a.json", "b.json", "-o", "page.html")
    assert "The rubric of safety/echo changed between the runs." in (saved / "page.html").read_text()
