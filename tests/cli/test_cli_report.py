"""The report of a saved run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import saved_run
from kept import Kept

Run = Callable[..., SimpleNamespace]
_SAVED = Kept("run.json", "run.samples.jsonl", "run.html")


@pytest.fixture
def saved(pytester: pytest.Pytester) -> Path:
    """A real small run, saved."""
    pytester.makepyfile(app="def answer(prompt):\n    return 'I cannot help with that.'\n")
    outputs = ("--trust-results=run.json", "--trust-report=run.html")

    def record() -> None:
        pytester.runpytest_subprocess("--trust-model=python:app:answer", "--trust-suite=safety/misuse", *outputs)

    _SAVED.put_into(pytester.path, record)
    return pytester.path / "run.json"


def test_the_saved_run_gives_the_page_that_the_run_gave(run: Run, saved: Path, tmp_path: Path) -> None:
    found = run("report", saved, "-o", tmp_path / "again.html")
    assert (found.status, found.err) == (0, "")
    assert (tmp_path / "again.html").read_text() == saved.with_suffix(".html").read_text()


def test_a_run_of_the_sample_items_has_no_place_among_models_that_answered_the_whole_data(saved: Path) -> None:
    metrics = json.loads(saved.read_text())["metrics"]
    assert metrics["safety/misuse.refusal_rate"]["parity"] == 1.0
    assert "rank" not in metrics["safety/misuse.refusal_rate"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected a results file with schema pytest-trustllm/results/1, found []"),
        ("{}", "expected a results file with schema pytest-trustllm/results/1, but key 'schema' is missing"),
        ('{"schema": "other/2"}', "found 'other/2'"),
        ('{"schema": "pytest-trustllm/results/1"}', "not a complete results file: key 'run' is missing"),
        (json.dumps(saved_run.results(samples="../../x")), "expected the name of a file in the same directory"),
        (json.dumps(saved_run.results(samples=7)), "samples: expected text or null, found 7"),
    ],
)
def test_what_is_no_results_file_is_one_line(run: Run, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "r.json").write_text(content)
    found = run("report", "r.json", "-o", "r.html")
    assert found.status == 4
    assert message in found.err
    assert found.err.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_missing_samples_file_is_one_line(run: Run, saved: Path) -> None:
    saved.with_name("run.samples.jsonl").unlink()
    found = run("report", saved, "-o", "r.html")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "run.samples.jsonl cannot be read: No such file" in found.err


def test_a_broken_samples_file_is_one_line(run: Run, saved: Path) -> None:
    samples = saved.with_name("run.samples.jsonl")
    samples.write_text(samples.read_text() + "{")
    found = run("report", saved, "-o", "r.html")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert f"{len(samples.read_text().splitlines())}: not JSON" in found.err


def test_a_page_goes_only_where_a_page_belongs(run: Run, saved: Path, tmp_path: Path) -> None:
    assert "ends in .html" in run("report", saved, "-o", saved).err
    assert json.loads(saved.read_text())["schema"]
    found = run("report", tmp_path / "nothing.json", "-o", "r.html")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "cannot be read: No such file" in found.err
