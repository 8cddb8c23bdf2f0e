"""One test per sample, with pytest's own ids, marks and selection."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from user_project import SUITE, Project, ids, statuses

MINE = [f"suites/mine.yaml::echo[{n}]" for n in ("0000", "0001", "0002")]
BUILTIN = "[pytest]\n"
OWN = "def test_plain(): pass\n"


def collected(project: Project, *args: str) -> list[str]:
    return ids(project.run("--collect-only", "-q", *args))


def test_without_paths_suites_join_the_projects_own_tests(project: Project) -> None:
    project.write("tests/test_own.py", OWN)
    own = ["tests/test_own.py::test_plain"]
    assert collected(project) == [*MINE, *own]
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntestpaths = tests\n")
    assert collected(project) == [*own, *MINE]
    assert ids(project.run("--collect-only", "-q", model=None)) == own


def test_what_pytest_is_told_to_ignore_is_not_collected(project: Project) -> None:
    project.write("tests/test_own.py", OWN)
    project.gates("metric: echo.accuracy, at_least: 0.1")
    own, gate = "tests/test_own.py::test_plain", "thresholds/safety.yaml::echo.accuracy[at_least]"
    for testpaths in ("", "testpaths = tests\n"):
        project.write("pytest.ini", f"[pytest]\ntrust_builtin_suites = false\n{testpaths}")
        assert sorted(collected(project, "--ignore=suites")) == [own, gate]
        assert sorted(collected(project, "--ignore=suites/mine.yaml")) == [own, gate]
        assert sorted(collected(project, "--ignore=thresholds")) == sorted([*MINE, own])
        assert sorted(collected(project, f"--ignore-glob={project.path}/*s/*.yaml")) == [own]


def test_what_a_conftest_ignores_counts_below_its_directory(project: Project) -> None:
    project.write("tests/test_own.py", OWN)
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntestpaths = tests\n")
    ignores = "def pytest_ignore_collect(collection_path):\n    return True\n"
    project.write("tests/conftest.py", ignores)
    assert sorted(collected(project)) == sorted(MINE)
    assert collected(project, "--ignore=suites") == []
    project.write("tests/conftest.py", "")
    project.write(
        "conftest.py",
        "def pytest_ignore_collect(collection_path):\n    return collection_path.name == 'suites' or None\n",
    )
    assert collected(project) == ["tests/test_own.py::test_plain"]


def test_with_paths_just_what_they_say(project: Project) -> None:
    project.write("tests/test_own.py", OWN)
    project.gates("metric: echo.accuracy, at_least: 0.1")
    assert collected(project, "tests") == ["tests/test_own.py::test_plain"]
    assert collected(project, "suites") == MINE
    assert collected(project, "suites/mine.yaml") == MINE
    assert collected(project, "suites", "suites/mine.yaml") == MINE
    assert collected(project, MINE[1]) == MINE[1:2]
    assert collected(project, "suites/mine.yaml::echo") == MINE
    assert collected(project, "thresholds") == ["thresholds/safety.yaml::echo.accuracy[at_least]"]
    result = project.run("suites/mine.yaml::echo[0007]")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: not found: *suites/mine.yaml::echo*"])


def test_marks_keywords_and_deselection(project: Project) -> None:
    project.write("tests/test_own.py", OWN)
    assert collected(project, "-m", "trust") == MINE
    assert collected(project, "-m", "trust_safety") == MINE
    assert collected(project, "-m", "not trust") == ["tests/test_own.py::test_plain"]
    assert collected(project, "-k", "echo and 0001") == MINE[1:2]
    assert collected(project, "--deselect", MINE[0]) == [*MINE[1:], "tests/test_own.py::test_plain"]
    result = project.run("--strict-markers", "-k", "0001")
    assert statuses(result) == {"missed": 1, "deselected": 3}


def test_lf_runs_the_sample_that_failed(project: Project) -> None:
    project.write("app.py", "def answer(p):\n    if p == 'bad': raise RuntimeError('down')\n    return p\n")
    assert project.run().ret == pytest.ExitCode.TESTS_FAILED
    assert collected(project, "--lf") == MINE[1:2]
    assert collected(project, "--ff") == [MINE[1], MINE[0], MINE[2]]
    project.write("app.py", "def answer(p): return 'good'\n")
    assert statuses(project.run("--lf")) == {"passed": 1}
    assert collected(project, "--lf") == MINE


def test_shipped_suites_have_ids_that_do_not_depend_on_where_they_lie(project: Project) -> None:
    project.write("pytest.ini", BUILTIN)
    everything = collected(project)
    assert everything[:3] == MINE
    shipped = [i for i in everything if i.startswith("trustllm/safety.yaml::jailbreak[")]
    assert len(shipped) >= 8
    assert len(set(everything)) == len(everything)
    assert all(re.fullmatch(r"(trustllm|suites)/[\w/-]+\.yaml::.+\[.+\]", i) for i in everything)


def test_a_shipped_sample_is_selected_by_its_id(project: Project) -> None:
    project.write("pytest.ini", BUILTIN)
    one = "trustllm/safety.yaml::jailbreak[0003]"
    below = project.path / "below"
    below.mkdir()
    for where in (one, str(project.path / one)):
        assert collected(project, where) == [one]
    assert collected(project, "trustllm/safety.yaml::jailbreak[0003]", MINE[0]) == [MINE[0], one]
    assert {i.split("[")[0] for i in collected(project, "trustllm/safety.yaml::jailbreak")} == {one.split("[")[0]}
    every = {i for i in collected(project) if i.startswith("trustllm/")}
    assert set(collected(project, "trustllm")) == every
    assert len(collected(project, "trustllm/safety.yaml", one)) > 8
    assert {i.split("::")[0] for i in collected(project, "trustllm/ethics.yaml")} == {"trustllm/ethics.yaml"}
    result = project.run(one, "--trust-model=python:app:other", model=None)
    assert result.ret == pytest.ExitCode.INTERRUPTED  # the id is right, the model is not
    result.stdout.fnmatch_lines(["*FAILED trustllm/safety.yaml::jailbreak[[]0003] - models: *has no 'other'*"])


def test_a_shipped_sample_is_selected_from_a_subdirectory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("pytest.ini", BUILTIN)
    project.write("below/app.py", "def answer(p): return 'no'\n")
    monkeypatch.chdir(project.path / "below")
    one = "trustllm/safety.yaml::jailbreak[0003]"
    assert collected(project, one) == [one]
    assert collected(project, f"../{one}") == [one]
    assert collected(project, "../suites/mine.yaml") == MINE


def test_an_unknown_shipped_id_is_not_a_green_run(project: Project) -> None:
    project.write("pytest.ini", BUILTIN)
    mistakes = {
        "trustllm/safty.yaml": " (did you mean 'trustllm/safety.yaml'?)",
        "trustllm/safety.yaml::jailbrek": " (did you mean 'jailbreak'?)",
        "trustllm/safety.yaml::jailbreak[9999]": "*",
    }
    for wrong, hint in mistakes.items():
        result = project.run(MINE[0], wrong)
        assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
        result.stderr.fnmatch_lines([f"ERROR: not found: {wrong.replace('[', '[[]')}{hint}*"])


def test_a_suite_of_the_project_replaces_the_shipped_one_of_its_name(project: Project) -> None:
    project.write("pytest.ini", BUILTIN)
    (project.path / "suites/mine.yaml").rename(project.path / "suites/safety.yaml")
    everything = collected(project)
    assert [i for i in everything if "safety.yaml" in i] == [i.replace("mine", "safety") for i in MINE]
    assert any(i.startswith("trustllm/ethics.yaml::") for i in everything)


def test_suites_from_directories_of_the_ini_file(project: Project) -> None:
    (project.path / "suites").rename(project.path / "quality")
    assert collected(project) == []
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_suites = quality\n")
    assert collected(project) == [i.replace("suites", "quality") for i in MINE]


def test_suites_outside_the_rootdir_run_beside_those_inside(
    project: Project, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    elsewhere = os.path.relpath(tmp_path, project.path)
    for name, text in (("suites/far.yaml", SUITE), ("thresholds/far.yaml", FAR_GATE)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text.replace("safety", "far"), encoding="utf-8")
    project.write(
        "pytest.ini",
        f"[pytest]\ntrust_builtin_suites = false\ntrust_thresholds = {elsewhere}/thresholds\n"
        f"trust_suites =\n    {elsewhere}/suites\n    suites\n",
    )
    project.write(
        "conftest.py",
        "import pytest\nfrom pytest_trustllm import TrustModel\n"
        "@pytest.fixture(scope='session')\n"
        "def trust_model():\n    return TrustModel.from_callable(lambda prompt: 'good', name='own')\n",
    )
    far = f"trustllm/{tmp_path.name}/suites/far.yaml::echo[0001]"
    result = project.run("--junitxml=j.xml", *mode)
    assert statuses(result) == {"passed": 7}, "six samples of the app that conftest.py gives, and a gate"
    assert project.results()["run"]["nodes"]["far/echo"] == far.replace("0001", "{}")
    assert project.results()["coverage"]["far/echo"]["scored"] == 3
    assert sum(name.startswith(far.partition("::")[0].replace("/", ".")) for name in project.junit()) == 3
    if not mode:
        assert collected(project, far) == [far]
        assert collected(project, "-c", "pytest.ini", f"{tmp_path}/suites/far.yaml::echo[0001]") == [far]
        assert collected(project, "-c", "pytest.ini", f"{tmp_path}/suites") == [
            far.replace("0001", f"000{n}") for n in "012"
        ]
        assert statuses(project.run("--lf", "--trust-strict"))["passed"] == 7


FAR_GATE = "dimension: far\ngates: [{metric: echo.accuracy, at_least: 0.9}]\n"


def test_a_suite_where_pytest_does_not_walk_is_collected(project: Project) -> None:
    (project.path / "suites").rename(project.path / "build")
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_suites = build\n")
    project.write("tests/test_own.py", OWN)
    built = [i.replace("suites", "build") for i in MINE]
    assert collected(project) == ["tests/test_own.py::test_plain", *built]
    assert collected(project, built[1]) == [built[1]]


def test_a_directory_outside_that_is_not_there_is_named_as_in_the_ini_file(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\ntrust_suites = ../nothing/suites\n")
    project.run().stderr.fnmatch_lines(["ERROR: trust_suites: ../nothing/suites is not a directory"])


def test_trust_suite_narrows(project: Project) -> None:
    project.write("suites/other.yaml", SUITE.replace("echo", "second").replace("safety", "ethics"))
    assert len(collected(project)) == 6
    assert collected(project, "--trust-suite=mine") == MINE
    assert collected(project, "--trust-suite=mine/echo") == MINE
    assert len(collected(project, "--trust-suite=mine/echo", "--trust-suite=other")) == 6


def test_trust_limit_takes_the_same_samples_every_time(project: Project) -> None:
    project.samples(30)
    first = collected(project, "--trust-limit=5")
    assert len(first) == 5
    assert first == sorted(first)
    assert collected(project, "--trust-limit=5") == first
    assert collected(project, "--trust-limit=5", "--trust-seed=1") != first
    assert set(first) < set(collected(project, "--trust-limit=9"))
    project.run("--trust-limit=5", "-n", "2")
    assert [f"suites/mine.yaml::many[{line['id']}]" for line in project.lines()] == first


def test_collect_only_starts_nothing(project: Project) -> None:
    project.write("app.py", "import pathlib\npathlib.Path(__file__).with_name('calls.txt').write_text('loaded')\n")
    project.gates("metric: echo.accuracy, at_least: 0.9")
    for workers in ((), ("-n", "2")):
        result = project.run("--collect-only", *workers)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["*<TrustItem echo[[]0000]>*", "*<GateItem echo.accuracy[[]at_least]>*"])
    assert project.log() == []
    assert not (project.path / "r.json").exists()
    assert not (project.path / ".trustllm").exists()


def test_several_models_run_side_by_side(project: Project) -> None:
    project.write("app.py", "def good(p): return 'good'\ndef bad(p): return 'bad'\n")
    project.write(
        "tests/test_own.py",
        "import pytest\n"
        "@pytest.mark.trust_task('suites/mine.yaml::echo')\n"
        "def test_it(trust_model, trust_sample): assert trust_model.answer(trust_sample)[0].text in trust_model.name\n",
    )
    project.gates("metric: echo.accuracy, at_least: 0.9")
    both = ("--trust-model=python:app:good", "--trust-model=python:app:bad")
    everything = ids(project.run("--collect-only", "-q", *both, model=None))
    assert everything[0] == "suites/mine.yaml::echo[python:app:good-0000]"
    assert everything[3] == "suites/mine.yaml::echo[python:app:bad-0000]"
    assert everything[-1] == "thresholds/safety.yaml::echo.accuracy[python:app:bad-at_least]"
    assert len(everything) == 6 + 6 + 2
    for workers in ((), ("-n", "2")):
        result = project.run(*both, "--trust-results=r.json", *workers, model=None)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert statuses(result) == {"failed": 1, "passed": 3 + 6 + 1, "missed": 3}
        values = {
            name: project.results(f"r.python-app-{name}.json")["metrics"]["safety/echo.accuracy"]["value"]
            for name in ("good", "bad")
        }
        assert values == {"good": 1.0, "bad": 0.0}
        assert len(project.lines("r.python-app-bad.samples.jsonl")) == 3
    assert ids(project.run("--collect-only", "-q", *both, everything[3], model=None)) == [everything[3]]


def test_the_results_file_says_what_ran(project: Project) -> None:
    project.run("--trust-seed=5", "-k", "0000 or 0001")
    results = project.results()
    run = results["run"]
    assert (run["seed"], run["selection"], run["epochs"]) == (5, "partial", 1)
    assert run["model"]["name"] == "python:app:answer"
    assert run["packages"]["pytest"] == pytest.__version__
    assert run["data"]["source"] == "sample"
    assert run["generation"] == {"safety/echo": {"temperature": 0.0, "max_new_tokens": 512, "stop": []}}
    assert results["metrics"]["safety/echo.accuracy"]["expected"] == 2
    assert results["metrics"]["safety/echo.accuracy{kind=b}"]["value"] == 0.0
    assert results["scores"]["safety"]["value"] == 0.5
    assert results["usage"]["requests"] == 2
    lines = project.lines(results["samples"])
    assert [line["id"] for line in lines] == ["0000", "0001"]
    assert lines[1]["prompts"] == [[["user", "bad"]]]
    assert lines[1]["responses"][0]["text"] == "you said bad"
    assert (lines[0]["status"], lines[1]["status"]) == ("passed", "missed")
    assert json.dumps(results, allow_nan=False)
