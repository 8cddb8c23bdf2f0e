"""An installed distribution with scorers, a metric, a provider and suites: pytest and every command take it alike."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from acme import distribution, installed
from user_project import Project, ids, statuses

from pytest_trustllm.cli import main
from pytest_trustllm.extensions import SUITES

FILE = "trustllm/acme/manners.yaml"
ROLES = ("--trust-judge=acme:judge",)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("acme"))


@pytest.fixture
def acme(project: Project, site: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project beside which the distribution is installed."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(project.path)
    return project


def test_a_suite_package_runs_by_name_and_every_command_knows_its_parts(
    acme: Project, mode: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    result = acme.run("--trust-suite=acme", *ROLES, "--junitxml=j.xml", *mode, model="acme:small")
    assert statuses(result) == {"passed": 3, "missed": 1}
    assert sorted(acme.junit()) == [
        *(f"trustllm.acme.manners.yaml::{name}" for name in ("greetings[0000]", "greetings[0001]", "opinions[0000]")),
        "trustllm.acme.thresholds.manners.yaml::greetings.said[at_least]",
    ]
    run = acme.results()["run"]
    assert (run["suites"], run["installed_suites"], run["selection"]) == (["manners"], ["acme"], "partial")
    (acme.path / "labels.jsonl").write_text('{"response": "fine", "label": "polite"}\n', encoding="utf-8")
    acme.write("models.yaml", "house: {provider: acme, model: small}\n")
    capsys.readouterr()
    judge_check = ("judge-check", "--judge=acme:judge", "--task=manners/opinions", "labels.jsonl", "--suites=acme")
    for command in (
        ("gate", "r.json"),
        ("compare", "r.json", "r.json"),
        ("report", "r.json", "r.json", "-o", "r.html"),
        ("models", "--models", "models.yaml"),
        ("schema", "suite"),
        judge_check,
    ):
        status = main([*command])
        out, err = capsys.readouterr()
        assert (status, err) == (0, ""), (command, out)
        if command[0] == "gate":
            assert "gates: 1 passed" in out
        if command[0] == "schema":
            assert "acme_word" in out


def test_shards_of_a_suite_package_are_merged(acme: Project, capsys: pytest.CaptureFixture[str]) -> None:
    acme.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_suites =\n    acme\n    suites\n")
    for part in ("1", "2"):
        acme.run(*ROLES, f"--trust-shard={part}/2", f"--trust-results={part}.json", model="acme:small")
    capsys.readouterr()
    assert main(["merge", "1.json", "2.json", "-o", "whole.json"]) == 0
    assert json.loads((acme.path / "whole.json").read_text())["coverage"]["manners/greetings"]["expected"] == 2
    assert "gates: 1 passed" in capsys.readouterr().out


def test_the_ini_file_names_a_package_beside_a_directory(acme: Project) -> None:
    acme.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_suites =\n    acme\n    suites\n")
    look = ("--collect-only", "-q", *ROLES)
    assert ids(acme.run(*look)) == [
        *(f"suites/mine.yaml::echo[{row}]" for row in ("0000", "0001", "0002")),
        *(f"{FILE}::{name}" for name in ("greetings[0000]", "greetings[0001]", "opinions[0000]")),
        "trustllm/acme/thresholds/manners.yaml::greetings.said[at_least]",
    ]
    assert ids(acme.run(*look, f"{FILE}::greetings[0001]")) == [f"{FILE}::greetings[0001]"]
    assert ids(acme.run(*look, "--trust-suite=acme", "trustllm")) == ids(acme.run(*look, "--trust-suite=acme"))
    acme.gates("metric: echo.accuracy, at_least: 0.1")  # the project's own thresholds join those of the package
    assert [i for i in ids(acme.run(*look)) if "thresholds" in i] == [
        "thresholds/safety.yaml::echo.accuracy[at_least]",
        "trustllm/acme/thresholds/manners.yaml::greetings.said[at_least]",
    ]
    acme.write("thresholds/manners.yaml", "dimension: manners\ngates: [{metric: opinions.polite, at_least: 0.1}]\n")
    assert [i for i in ids(acme.run(*look)) if "manners" in i and "thresholds" in i] == [
        "thresholds/manners.yaml::opinions.polite[at_least]"
    ]
    acme.write("suites/manners.yaml", (acme.path / "suites/mine.yaml").read_text().replace("safety", "manners"))
    acme.write("thresholds/manners.yaml", "dimension: manners\ngates: [{metric: echo.accuracy, at_least: 0.1}]\n")
    assert [i for i in ids(acme.run(*look)) if FILE in i] == []  # the project's file of the same name replaces it


def test_an_installed_module_can_be_left_out_and_imported_twice(acme: Project) -> None:
    acme.write("conftest.py", "from acme_hooks import pytest_trustllm_register\n")
    assert statuses(acme.run("--trust-suite=acme", *ROLES, model="acme:small")) == {"passed": 3, "missed": 1}
    acme.write("conftest.py", "")
    result = acme.run("-p", "no:acme", "--trust-suite=acme")
    result.stderr.fnmatch_lines([f"ERROR: {FILE}: tasks[[]0].scorer.name: no scorer named 'acme_word'*"])


def test_what_is_no_directory_is_looked_for_among_the_packages(acme: Project) -> None:
    acme.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_suites = acne\n")
    acme.run().stderr.fnmatch_lines(
        ["ERROR: trust_suites: acne is not a directory, nor is it an installed suite package (did you mean 'acme'?)*"]
    )


def test_a_run_without_a_model_reads_no_entry_point(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    site = project.path / "site"
    distribution(site, "broken", "pytest_trustllm", "broken = none_such")
    distribution(site, "suites", SUITES, "broken = none_such")
    monkeypatch.setenv("PYTHONPATH", str(site))
    project.write("tests/test_own.py", "def test_plain(): pass\n")
    assert statuses(project.run("tests", model=None)) == {"passed": 1}
    result = project.run("tests")
    result.stderr.fnmatch_lines(["ERROR: entry point 'broken' of broken (group pytest_trustllm): none_such cannot be*"])
    assert "Traceback" not in result.stderr.str()


def test_a_task_of_an_installed_pack_is_found_by_name(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(project.path, "pytest-trustllm-packs", SUITES, "xstest = some_pack")
    project.write("some_pack/__init__.py", "")
    suite = (project.path / "suites/mine.yaml").read_text()
    project.write("some_pack/suites/xstest.yaml", suite.replace("safety", "xstest"))
    monkeypatch.setenv("PYTHONPATH", f"{project.path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert ids(project.run("--trust-suite=xstest/echo", "--collect-only", "-q"))[0].endswith("xstest.yaml::echo[0000]")
    result = project.run("--trust-suite=xstest/nope")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trust-suite: no suite or task 'xstest/nope'*; known: xstest/echo"])
