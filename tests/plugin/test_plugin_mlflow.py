"""Runs logged to MLflow, in its local store of files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from user_project import Project

from pytest_trustllm.plugin.mlflow_logging import name_of

# not imported here: pytester forgets modules that a test imports, which breaks what mlflow hooks into
pytestmark = pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow-skinny")
LOGGING = ("-p", "pytest_trustllm.plugin.mlflow_logging")


def test_a_run_is_logged_with_intervals_and_without_texts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    store = project.path / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "trust")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    result = project.run(*LOGGING, "-W", "ignore::FutureWarning")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    logged = {path.name: path.read_text() for path in store.rglob("metrics/safety/*") if path.is_file()}
    results = project.results()
    metric = results["metrics"]["safety/echo.accuracy"]
    assert float(logged["echo.accuracy"].split()[1]) == metric["value"]
    assert float(logged["echo.accuracy.low"].split()[1]) == metric["ci"][0]
    (artifact,) = store.rglob("trust.json")
    assert json.loads(artifact.read_text())["metrics"] == results["metrics"]
    everything = "".join(path.read_text() for path in store.rglob("*") if path.is_file())
    assert "you said" not in everything
    assert results["run"]["id"] in everything


def test_a_store_that_cannot_be_used_ends_the_run_before_it_begins(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://user:secret@here")
    result = project.run(*LOGGING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith("ERROR: -p pytest_trustllm.plugin.mlflow_logging: MLflow cannot use nonsense://here: ")
    assert line.endswith("or to a directory with MLFLOW_ALLOW_FILE_STORE=true")
    assert not (project.path / "r.json").exists()


@pytest.mark.slow
def test_a_store_that_breaks_during_the_run_costs_no_results(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    store = project.path / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    project.write(
        "app.py",
        "import shutil\nfrom pathlib import Path\n\ndef answer(prompt):\n"
        f"    shutil.rmtree({str(store)!r}, ignore_errors=True)\n    Path({str(store)!r}).touch()\n    return prompt\n",
    )
    result = project.run(*LOGGING, "-W", "ignore::FutureWarning", "--trust-history=runs")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: MLflow: python:app:answer was not logged: *"])
    assert project.results()["metrics"]
    assert list((project.path / "runs").glob("*.json"))


def test_without_mlflow_the_run_ends_before_it_begins(project: Project) -> None:
    project.write("mlflow.py", "raise ImportError('none')")
    result = project.run(*LOGGING, "-o", "pythonpath=.")
    if result.ret != pytest.ExitCode.USAGE_ERROR:
        pytest.skip("mlflow was imported before the project's path")
    result.stderr.fnmatch_lines(["ERROR: -p pytest_trustllm.plugin.mlflow_logging: needs mlflow; pip install *"])


def test_names_that_mlflow_accepts() -> None:
    assert (
        name_of("safety/jailbreak.refusal_rate{attack=role play}") == "safety/jailbreak.refusal_rate attack:role play"
    )
    assert name_of("a/b.c{k=é'\"}") == "a/b.c k:é__"
    assert len(name_of("x" * 900)) == 250


def test_logging_is_only_there_on_demand() -> None:
    text = (Path(__file__).parents[2] / "pytest_trustllm/plugin/hooks.py").read_text()
    assert "mlflow" not in text
