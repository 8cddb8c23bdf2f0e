"""Other plugins and pytest's own flags keep their meaning: reruns, pages, orders, selections, several models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from user_project import MAYBE_N2, MAYBE_TWO, Project, ids, statuses

OWN = """
import pytest

@pytest.mark.parametrize("twice", [1, 2])
@pytest.mark.trust_task("suites/mine.yaml::echo")
def test_own(trust_model, trust_sample, twice):
    assert trust_model.answer(trust_sample)[0].text.startswith("you said ")
"""
TWO = "def answer(p): return 'you said ' + p\ndef bad(p): return 'you said bad'\n"
BOTH = ("--trust-model=python:app:answer", "--trust-model=python:app:bad")
FAILS_FIRST = """
import pathlib
NOTES = pathlib.Path(__file__).with_name("calls.txt")
def answer(prompt):
    before = NOTES.read_text().splitlines() if NOTES.exists() else []
    with NOTES.open("a") as f:
        f.write(prompt + "\\n")
    if prompt == "good 1" and before.count(prompt) < 2:
        raise RuntimeError("busy")
    return prompt
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_rerun_asks_again_and_its_answer_counts(project: Project, workers: tuple[str, ...]) -> None:
    pytest.importorskip("pytest_rerunfailures", reason="needs pytest-rerunfailures")
    project.samples(3)
    project.write("app.py", FAILS_FIRST)
    project.gates("metric: many.accuracy, at_least: 1.0")
    result = project.run("--reruns=2", *workers)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert statuses(result) == {"passed": 4, "rerun": 2}
    assert project.log().count("good 1") == 3
    assert project.log().count("good 0") == 1
    assert [line["status"] for line in project.lines()] == ["passed"] * 3
    assert project.results()["metrics"]["safety/many.accuracy"]["value"] == 1.0


def test_reruns_that_do_not_help_end_as_a_failure(project: Project) -> None:
    pytest.importorskip("pytest_rerunfailures", reason="needs pytest-rerunfailures")
    project.samples(2)
    project.write("app.py", FAILS_FIRST)
    result = project.run("--reruns=1")
    assert statuses(result) == {"failed": 1, "passed": 1, "rerun": 1}
    assert [line["status"] for line in project.lines()] == ["passed", "error"]


def test_pytest_html_shows_items_and_gates(project: Project) -> None:
    pytest.importorskip("pytest_html", reason="needs pytest-html")
    project.gates("metric: echo.accuracy, at_least: 0.9")
    result = project.run("--html=page.html", "--self-contained-html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    page = (project.path / "page.html").read_text(encoding="utf-8")
    for shown in ("suites/mine.yaml::echo[0001]", "thresholds/safety.yaml::echo.accuracy[at_least]", "0.667"):
        assert shown in page


SHUFFLE = """
import random
def pytest_collection_modifyitems(items):
    random.Random(SEED).shuffle(items)
"""


@pytest.mark.parametrize("workers", MAYBE_N2)
def test_random_order_changes_no_number_and_gates_stay_last(project: Project, workers: tuple[str, ...]) -> None:
    project.samples(30)
    project.write("app.py", "def answer(p): return 'bad' if int(p.split()[1]) % 7 == 3 else p\n")
    project.gates("metric: many.accuracy, at_least: 0.5", "metric: score, at_least: 0.5")
    found = []
    orders = set()
    for seed in (None, 1, 2):
        project.write("conftest.py", SHUFFLE.replace("SEED", str(seed)) if seed else "")
        order = ids(project.run("--collect-only", "-q"))
        assert [i.split("::")[0] for i in order[-2:]] == ["thresholds/safety.yaml"] * 2
        orders.add(tuple(order))
        assert project.run(*workers).ret == pytest.ExitCode.OK
        results = project.results()
        found.append(json.dumps([results[part] for part in ("metrics", "scores")]))
        assert {g["outcome"] for g in results["gates"]} == {"passed"}
        assert {line["id"] for line in project.lines()} == {f"{i:04d}" for i in range(30)}
    assert len(orders) == 3
    assert len(set(found)) == 1


def collected(project: Project, *args: str, model: str | None = "python:app:answer") -> list[str]:
    return ids(project.run("--collect-only", "-q", *args, model=model))


def test_a_mark_multiplies_with_the_tests_own_parameters(project: Project) -> None:
    project.write("tests/test_own.py", OWN)
    samples = ("0000", "0001", "0002")
    wanted = {f"tests/test_own.py::test_own[mine-echo-{sample}-{twice}]" for sample in samples for twice in (1, 2)}
    assert set(collected(project, "tests")) == wanted
    for workers in ((), ("-n", "2")):
        assert statuses(project.run("tests", *workers)) == {"passed": 6}
    assert collected(project, "tests", "-k", "0001") == collected(project, "tests", "-k", "mine-echo-0001")
    one = "tests/test_own.py::test_own[mine-echo-0001-2]"
    assert [i for i in collected(project, "tests") if i == one] == collected(project, one) == [one]


@pytest.mark.parametrize("workers", MAYBE_N2)
def test_a_mark_with_several_models(project: Project, workers: tuple[str, ...]) -> None:
    project.write("tests/test_own.py", OWN)
    project.write("app.py", TWO)
    result = project.run("tests", *BOTH, *workers, model=None)
    assert statuses(result) == {"passed": 12}
    found = collected(project, "tests", *BOTH, model=None)
    assert len(found) == 12
    assert all(("python:app:answer" in i) != ("python:app:bad" in i) for i in found)


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_a_wrong_mark_is_one_line_and_no_green_run(project: Project, workers: str) -> None:
    project.write("tests/test_own.py", OWN.replace("::echo", "::eco"))
    result = project.run("tests", "-n", workers)
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*test_own: trust_task: no task 'suites/mine.yaml::eco' (did you mean *"])
    assert "Traceback" not in result.stdout.str()


def test_several_models_have_reports_gates_and_selections_of_their_own(project: Project) -> None:
    project.write("app.py", TWO)
    project.gates("metric: echo.accuracy, at_least: 0.6")
    outputs = ("--trust-results=r.json", "--trust-report=r.html")
    for workers in ((), ("-n", "2")):
        result = project.run(*BOTH, *outputs, *workers, model=None)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        gates = {name: project.results(f"r.python-app-{name}.json")["gates"] for name in ("answer", "bad")}
        assert [[g["outcome"] for g in found] for found in gates.values()] == [["passed"], ["failed"]]
        assert not (project.path / "r.json").exists()
        pages = [(project.path / f"r.python-app-{name}.html").read_text(encoding="utf-8") for name in ("answer", "bad")]
        assert pages[0] != pages[1]
    one = "suites/mine.yaml::echo[python:app:bad-0001]"
    assert collected(project, *BOTH, one, model=None) == [one]
    assert len(collected(project, *BOTH, "-k", "bad-0001", model=None)) == 1


def test_maxfail_and_x_stop_at_items_that_raise(project: Project) -> None:
    project.samples(6)
    project.write("app.py", "def answer(p): raise RuntimeError('down')\n")
    assert statuses(project.run("-x")) == {"failed": 1}
    assert statuses(project.run("--maxfail=2")) == {"failed": 2}
    project.write("app.py", "def answer(p): return 'bad'\n")
    assert statuses(project.run("-x")) == {"missed": 6}  # a missed target is no failure
    assert statuses(project.run("-x", "--trust-strict")) == {"failed": 1}


def test_selections_leave_no_green_gate(project: Project) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.1")
    chosen: dict[str, tuple[Any, ...]] = {
        "-k": ("-k", "0000 or at_least"),
        "--deselect": ("--deselect", "suites/mine.yaml::echo[0001]"),
        "id": ("suites/mine.yaml::echo[0000]", "thresholds/safety.yaml"),
    }
    for args in chosen.values():
        result = project.run(*args)
        assert result.ret == pytest.ExitCode.OK
        assert [g["outcome"] for g in project.results()["gates"]] == ["skipped"], args


def test_without_a_model_no_directory_is_made(project: Project) -> None:
    project.write("tests/test_own.py", "def test_plain(): pass\n")
    project.run(
        "-p", "no:cacheprovider", "--trust-report=r.html", "--trust-results=r.json", "--trust-store=s", model=None
    )
    assert not [name for name in ("r.html", "r.json", "s", ".trustllm") if (project.path / name).exists()]
