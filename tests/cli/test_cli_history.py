"""``history`` and ``bisect``: what they print and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy  # noqa: F401 - pytester forgets what a test imports, and numpy cannot be loaded twice
import pytest
import saved_run

from pytest_trustllm.results import history

Run = Callable[..., SimpleNamespace]
RUN = "000000000000, 2026-01-07T00:00"
COMMITS = {"a": "1" * 40, "b": "2" * 40}


def entry(day: int, values: list[float], **run: Any) -> Any:
    metric = {
        "value": sum(values) / len(values), "parity": None, "ci": [0.1, 0.9], "confidence": 0.95, "method": "m",
        "expected": len(values), "scored": len(values), "unscored": 0, "higher_is_better": True, "range": [0.0, 1.0],
    }  # fmt: skip
    records = [
        saved_run.sample_line(id=f"{place:04}", fingerprint=f"f{place}", value=value)
        for place, value in enumerate(values)
    ]
    started = f"2026-01-{day:02}T00:00:00+00:00"
    results = saved_run.results(
        run={"id": f"{day:032}", "started": started, **run},
        metrics={"safety/echo.accuracy": metric},
        scores={"safety": saved_run.score_entry(metric["value"], of=["safety/echo.accuracy"])},
    )
    return history.entry_of(results, records)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for day in range(1, 11):
        values = [1.0] * 12 if day < 7 else [0.0] * 8 + [1.0] * 4
        revision = "a" if day < 7 else "b"
        commit = {"id": COMMITS[revision], "branch": "main", "changed": False}
        run = {"model": {"name": "bot", "revision": revision}, "commit": commit}
        history.append(tmp_path / "runs", entry(day, values, **run), "--trust-history")
    return tmp_path / "runs"


def test_bisect_names_run_commit_cause_and_samples(run: Run, runs: Path) -> None:
    found = run("bisect", "runs")
    assert (found.status, found.err) == (0, "")
    assert found.out.splitlines() == [
        f"safety/echo.accuracy: 1.000 to 0.333 in run 7 of 10 ({RUN}, commit 222222222), p = 0.0001",
        "  other model than in run 6: revision a to b",
        "  8 of 12 samples moved:",
        *(f"    safety/echo[{place:04}]  1 to 0" for place in range(8)),
    ]


def test_the_page_shows_what_bisect_prints(run: Run, runs: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/history.md").read_text()
    shown = page.partition("<!-- command: bisect -->\n```text\n")[2].partition("```")[0]
    assert shown
    assert run("bisect", "runs").out.startswith(shown)


def test_history_prints_runs_events_and_metrics(run: Run, runs: Path) -> None:
    out = run("history", "runs").out
    assert "10  2026-01-10T00:00  222222222  main" in out
    assert "run 7: other model: revision a to b" in out
    assert "safety/echo.accuracy  1.000   0.333  0.100 to 0.900  7" in out
    assert "safety/score          1.000   0.333  -               -" in out


def test_without_a_change_the_answer_is_no(run: Run, tmp_path: Path) -> None:
    for day in (1, 2, 3):
        history.append(tmp_path / "runs", entry(day, [1.0, 0.0]), "--trust-history")
    found = run("bisect", "runs")
    assert found.status == 1
    assert found.out.startswith("no metric moved over 3 runs")


def test_what_was_not_tested_is_not_called_unmoved(run: Run, tmp_path: Path) -> None:
    for day, values in ((1, [1.0, 0.0]), (2, [1.0, 0.0, 1.0])):
        history.append(tmp_path / "runs", entry(day, values), "--trust-history")
    found = run("bisect", "runs")
    assert (found.status, found.out) == (1, "nothing was tested\n")
    assert "not tested, for no two runs have scores of the same samples: safety/echo" in found.err


def test_a_model_without_a_revision_may_have_changed(run: Run, tmp_path: Path) -> None:
    for day in range(1, 11):
        values = [float(day < 7)] * 12
        history.append(tmp_path / "runs", entry(day, values, model={"name": "bot"}), "--trust-history")
    assert "  no revision is recorded of model: it may have changed\n" in run("bisect", "runs").out


def test_runs_of_other_models_are_left_out_and_named(run: Run, runs: Path) -> None:
    history.append(runs, entry(11, [1.0] * 12, model={"name": "new"}), "--trust-history")
    found = run("history", "runs")
    assert "WARNING: runs of other models are left out (--model): bot" in found.err
    joined = run("bisect", "runs", "--model=bot", "--model=new")
    assert "in run 11 of 11" in joined.out
    assert "other model than in run 10: bot to new" in joined.out


def test_files_that_are_no_runs_are_left_out_and_named(run: Run, runs: Path) -> None:
    (runs / "cut.json").write_text("")
    empty = "runs/cut.json: not JSON: Expecting value: line 1 column 1 (char 0)"
    (runs / "package.json").write_text("{}")
    for command in ("history", "bisect"):
        found = run(command, "runs")
        assert found.status == 0
        assert found.err.splitlines() == [
            "WARNING: left out, 1 file without a run: runs/package.json",
            f"WARNING: left out, 1 file that cannot be read: {empty}",
        ]


def test_the_page_is_written(run: Run, runs: Path) -> None:
    assert run("history", "runs", "-o", "h.html").out == "history: h.html\n"
    shown = Path("h.html").read_text()
    assert "▼ run 7" in shown
    assert "<figcaption>not tested for changes</figcaption>" in shown  # the trust score
    assert "no change beyond chance" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bisect", "none"), "none: there is no such history"),
        (("history", "runs", "--metric=safety/ecco"), "--metric: no run has 'safety/ecco'"),
        (("history", "runs", "--model=bob"), "--model: no run of 'bob' (did you mean 'bot'?)"),
        (("history", "runs", "-o", "h.pdf"), "-o: expected a file name that ends in .html"),
    ],
)
def test_what_is_not_there_is_one_line(run: Run, runs: Path, arguments: tuple[str, ...], message: str) -> None:
    found = run(*arguments)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert message in found.err


def test_one_run_has_no_change(run: Run, tmp_path: Path) -> None:
    history.append(tmp_path / "runs", entry(1, [1.0]), "--trust-history")
    found = run("bisect", "runs")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "it takes two" in found.err


def test_hostile_names_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    hostile = "x\x1b[31m\n::error::\u202e"
    for day in (1, 2, 3, 4):
        each = entry(day, [float(day > 2)] * 12, model={"name": hostile, "revision": hostile * (day > 2)})
        history.append(tmp_path / "runs", json.loads(json.dumps(each)), "--trust-history")
    out = run("history", "runs").out + run("bisect", "runs").out
    assert not {"\x1b", "\u202e"} & {*out}
    assert "\n::error" not in out
