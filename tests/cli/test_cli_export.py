"""Tables and badges of a saved run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import saved_run

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    sample = saved_run.sample_line(answer="=1")
    scores = {"safety": saved_run.score_entry(0.5)}
    results = saved_run.results(scores=scores, samples="r.samples.jsonl")
    (tmp_path / "r.json").write_text(json.dumps(results))
    (tmp_path / "r.samples.jsonl").write_text(json.dumps(sample) + "\n")
    return tmp_path / "r.json"


def test_csv(run: Run, saved: Path) -> None:
    found = run("export", saved, "-o", "out/s.csv")
    assert (found.status, found.err, found.out) == (0, "", "csv: out/s.csv\n")
    with Path("out/s.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["answer"], row["response"]) == ("0000", "'=1", "hello")


def test_parquet(run: Run, saved: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install pyarrow")
    assert run("export", saved, "--format=parquet", "-o", "s.parquet").status == 0
    assert parquet.read_table("s.parquet").to_pylist()[0]["answer"] == "=1"


def test_logs_for_inspect(run: Run, saved: Path) -> None:
    assert run("export", saved, "--format=inspect", "-o", "logs").out == "inspect: logs\n"
    log = json.loads(Path("logs/safety-echo.json").read_text())
    assert log["samples"][0]["output"]["choices"][0]["message"]["content"] == "hello"


def test_badges(run: Run, saved: Path) -> None:
    found = run("badge", saved, "-o", "badges")
    assert found.status == 0
    assert sorted(p.name for p in Path("badges").iterdir()) == ["trust-safety.svg", "trust.svg"]


@pytest.mark.parametrize(
    "command", [("export", "--format=csv"), ("export", "--format=parquet"), ("export", "--format=inspect"), ("badge",)]
)
def test_what_is_no_results_file_is_one_line(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "r.json").write_text('{"schema": "pytest-trustllm/results/1", "samples": 7}')
    found = run(*command, "r.json", "-o", "out")
    assert found.status == 4
    assert found.err.count("\n") == 1
    assert not Path("out").exists()


def test_an_unknown_format_is_one_line(run: Run, saved: Path) -> None:
    found = run("export", saved, "--format=xls", "-o", "s.xls")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "'csv'" in found.err
    assert "'parquet'" in found.err


def test_several_runs_are_one_report(run: Run, saved: Path, tmp_path: Path) -> None:
    other = json.loads(saved.read_text())
    other["run"]["model"]["name"] = "other"
    (tmp_path / "o.json").write_text(json.dumps(other))
    assert run("report", saved, "o.json", "-o", "both.html").status == 0
    page = Path("both.html").read_text()
    assert "Compared with m" in page
    assert "<title>Not judged: 2 models: " in page


def test_content_is_shown_on_demand(run: Run, saved: Path) -> None:
    run("report", saved, "-o", "a.html")
    run("report", saved, "-o", "b.html", "--show-content")
    assert "responses without a detected refusal" in Path("a.html").read_text()
    assert "Nothing: this page was made with" in Path("b.html").read_text()
