"""Gates are tests to the user: lines, junit cases and the exit status, however many processes ran."""

from __future__ import annotations

import pytest
from user_project import MAYBE_N2, Project, ids, in_every_mode, statuses

GATE = "thresholds/safety.yaml::echo.accuracy[[]at_least]"
OK, FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED


@in_every_mode
def test_a_gate_that_fails_fails_the_build(project: Project, mode: tuple[str, ...]) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.7", 'metric: "echo.accuracy{kind=b}", at_most: 0.5, force: true')
    result = project.run("--junitxml=j.xml", *mode)
    assert result.ret == FAILED
    assert statuses(result) == {"failed": 1, "passed": 3, "missed": 1}
    result.stdout.fnmatch_lines(
        [
            "*gate echo.accuracy[[]at_least]*",
            "echo.accuracy = 0.667 < 0.7",
            "*FAILED safety.yaml: echo.accuracy = 0.667 < 0.7*",
            "gates: 1 passed, 1 failed, 0 skipped",
            f"FAILED {GATE} - echo.accuracy = 0.667 < 0.7",
        ]
    )
    cases = project.junit()
    assert cases["thresholds.safety.yaml::echo.accuracy[at_least]"] == "failure"
    assert cases["thresholds.safety.yaml::echo.accuracy{kind=b}[at_most]"] == "passed"
    assert cases["suites.mine.yaml::echo[0001]"] == "passed"
    assert len(cases) == 5
    gate = project.results()["gates"][0]
    assert gate["id"] == "thresholds/safety.yaml::echo.accuracy[at_least]"
    assert (gate["outcome"], gate["bound"], gate["metric"]) == ("failed", 0.7, "safety/echo.accuracy")
    assert gate["value"] == 2 / 3


def test_gates_that_pass_leave_the_build_green(project: Project, mode: tuple[str, ...]) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.6", "metric: score, at_least: 0.6")
    result = project.run(*mode)
    assert result.ret == OK
    assert statuses(result) == {"passed": 4, "missed": 1}
    assert [g["outcome"] for g in project.results()["gates"]] == ["passed", "passed"]


def test_without_threshold_files_nothing_is_judged(project: Project) -> None:
    result = project.run()
    assert result.ret == OK
    assert project.results()["gates"] == []
    result.stdout.fnmatch_lines(["gates: none"])


def test_an_empty_directory_of_thresholds_judges_nothing_and_says_so(project: Project) -> None:
    project.write("thresholds/.gitkeep", "")
    result = project.run("--trust-report=r.html")
    assert result.ret == OK
    result.stdout.fnmatch_lines(["gates: none; thresholds/ has no threshold file"])
    assert project.results()["gates"] == []
    assert "thresholds/ has no threshold file" in (project.path / "r.html").read_text()
    # what is named, or could be meant as a file of gates, is a mistake still
    for options, name in ((["--trust-thresholds=thresholds"], "a.txt"), ([], "safety.yml"), ([], "sample/.gitkeep")):
        project.write(f"thresholds/{name}", "")
        assert project.run(*options).ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_part_of_the_samples_judges_nothing(project: Project, workers: tuple[str, ...]) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.9")
    result = project.run("--trust-limit=1", "-rs", *workers)
    assert result.ret == OK
    result.stdout.fnmatch_lines(["SKIPPED*partial selection: 1 of 3 samples*"])
    assert project.results()["gates"][0]["outcome"] == "skipped"
    assert project.results()["run"]["selection"] == "partial"


def test_part_of_the_samples_is_judged_if_the_file_says_so(project: Project) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.9", more="on_partial: judge")
    result = project.run("-k", "0001 or accuracy")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines([f"FAILED {GATE} - echo.accuracy = 0.000 < 0.9 (partial: 1 of 3 samples)"])


@pytest.mark.parametrize("workers", MAYBE_N2)
def test_unscored_samples_fail_a_gate_whose_coverage_they_break(project: Project, workers: tuple[str, ...]) -> None:
    project.prompts("good", "mumble", "good too")
    project.gates("metric: echo.accuracy, at_least: 0.5")
    result = project.run(*workers)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["2 of 3 samples have a score (66.7%); coverage.min_scored requires 95.0% (safety/echo: 1 unscored)"]
    )
    project.gates("metric: echo.accuracy, at_least: 0.5", more="coverage: {min_scored: 0.6}")
    assert project.run(*workers).ret == OK


def test_no_data_never_passes(project: Project) -> None:
    project.prompts("mumble", "mumble on")
    project.gates("metric: echo.accuracy, at_least: 0.0", more="coverage: {min_scored: 0}")
    result = project.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines([f"FAILED {GATE} - no data: the metric has no value"])
    metric = project.results()["metrics"]["safety/echo.accuracy"]
    assert (metric["value"], metric["expected"], metric["scored"], metric["unscored"]) == (None, 2, 0, 2)


def test_lf_after_a_failing_gate_does_not_turn_green(project: Project, mode: tuple[str, ...]) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.7")
    assert project.run(*mode).ret == FAILED
    for _ in range(2):  # the id must stay in pytest's memory, or the second try would find nothing to do
        result = project.run("--lf", *mode)
        assert result.ret == FAILED
        result.stdout.fnmatch_lines([f"FAILED {GATE} - failed in the last run and cannot be judged now: partial *"])
    project.gates("metric: echo.accuracy, at_least: 0.6")
    assert project.run(*mode).ret == OK


def test_x_stops_before_the_gates(project: Project) -> None:
    project.write("app.py", "def answer(prompt): raise RuntimeError('the app is down')\n")
    project.gates("metric: echo.accuracy, at_least: 0.5")
    result = project.run("-x")
    assert result.ret == FAILED
    assert statuses(result) == {"failed": 1}
    (gate,) = project.results()["gates"]
    assert (gate["outcome"], gate["reason"]) == (
        "skipped",
        "partial selection: 1 of 3 samples, the run stopped early",
    )


def test_a_gate_sees_only_what_was_selected_of_its_own_task(project: Project) -> None:
    project.prompts("good")
    more = project.path / "suites/more.yaml"
    more.write_text((project.path / "suites/mine.yaml").read_text().replace("echo", "other"))
    project.gates("metric: echo.accuracy, at_least: 0.9", "metric: other.accuracy, at_least: 0.9")
    result = project.run("--trust-suite=more")
    assert result.ret == OK
    assert [g["metric"] for g in project.results()["gates"]] == ["safety/other.accuracy"]


def test_gates_are_selected_like_tests(project: Project) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.7", "metric: score, at_least: 0.6")
    both = [g.replace("[[]", "[") for g in (GATE, "thresholds/safety.yaml::score[[]at_least]")]
    assert ids(project.run("--collect-only", "-q"))[-2:] == both
    assert project.run("--deselect", both[0]).ret == OK
    assert project.run("-k", "not accuracy").ret == OK
    assert ids(project.run("--collect-only", "-q", both[1])) == both[1:]
    assert ids(project.run("--collect-only", "-q", "-m", "trust_safety"))[-2:] == both


def test_gates_come_last_whatever_sorts_the_items(project: Project) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.6")
    project.write("conftest.py", "def pytest_collection_modifyitems(items): items.reverse()\n")
    assert "::echo.accuracy[" in ids(project.run("--collect-only", "-q"))[-1]
    assert project.run().ret == OK


def test_a_threshold_file_outside_the_project(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "strict.yaml"
    file.write_text("dimension: safety\ngates:\n  - {metric: echo.accuracy, at_least: 0.9}\n")
    result = project.run(f"--trust-thresholds={file}")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines([f"FAILED {file.parent.name}/strict.yaml::echo.accuracy[[]at_least] - *"])


def test_thresholds_named_on_the_command_line_win_over_the_project(project: Project) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.9")
    project.write("lax/safety.yaml", "dimension: safety\ngates:\n  - {metric: echo.accuracy, at_least: 0.1}\n")
    assert project.run("--trust-thresholds=lax").ret == OK
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_thresholds = lax\n")
    assert project.run("suites").ret == OK  # with a path: no gates but those asked for
    assert [g["id"].split("::")[0] for g in project.results()["gates"]] == []


def test_sample_data_has_thresholds_of_its_own(project: Project) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.9")
    project.write("thresholds/sample/safety.yaml", "dimension: safety\ngates:\n  - {metric: score, at_least: 0.1}\n")
    assert project.run().ret == OK
    assert [g["id"] for g in project.results()["gates"]] == ["thresholds/sample/safety.yaml::score[at_least]"]


def test_with_confidence_a_gate_has_three_outcomes(project: Project, mode: tuple[str, ...]) -> None:
    project.samples(40)
    project.write("app.py", "def answer(prompt): return 'good' if int(prompt.split()[-1]) % 5 else 'wrong'\n")
    project.gates(
        "metric: many.accuracy, at_least: 0.5, confidence: 0.95",
        "metric: many.accuracy, at_most: 0.5, confidence: 0.95, force: true",
        "metric: score, at_least: 0.75, confidence: 0.95",
    )
    result = project.run("--junitxml=j.xml", *mode)
    assert result.ret == FAILED
    unsure = "score = 0.800, 95% interval 0.652 to 0.895 contains 0.75; about 309 more samples would decide"
    result.stdout.fnmatch_lines(
        [
            "many.accuracy = 0.800, lower 95% bound 0.652 > 0.5",
            unsure,
            "  INCONCLUSIVE safety.yaml: score = 0.800, 95% interval 0.652 to 0.895 contain*",
            "gates: 1 passed, 2 failed, 0 skipped",
        ]
    )
    assert [v for k, v in project.junit().items() if k.startswith("thresholds")] == ["passed", "failure", "failure"]
    gates = project.results()["gates"]
    assert [g["outcome"] for g in gates] == ["passed", "failed", "inconclusive"]
    assert [g["further"] for g in gates] == [None, None, 309]
    assert gates[0]["reason"] == "many.accuracy = 0.800, lower 95% bound 0.652 ≥ 0.5"
    assert gates[0]["ci"] == project.results()["metrics"]["safety/many.accuracy"]["ci"]


def test_what_only_warns_is_shown_and_fails_nothing(project: Project, mode: tuple[str, ...]) -> None:
    project.gates(
        "metric: echo.accuracy, at_least: 0.9, warn: true",
        "metric: score, at_least: 0.5, confidence: 0.95",
        "metric: score, max_drop: 0.5",
        more="on_inconclusive: warn\non_no_data: warn",
    )
    result = project.run("--junitxml=j.xml", "-v", *mode)
    assert result.ret == OK
    assert statuses(result) == {"passed": 2, "missed": 1, "warned": 3}
    result.stdout.fnmatch_lines(
        [
            "*echo.accuracy[[]at_least]*WARNED*",
            "  WARNING FAILED safety.yaml: echo.accuracy = 0.667 < 0.9",
            "  WARNING INCONCLUSIVE safety.yaml: score = 0.667, 95% interval *",
            "  WARNING NO DATA safety.yaml: score: no data: there is no baseline; *",
            "gates: 0 passed, 0 failed, 0 skipped, 3 warned",
        ]
    )
    assert set(project.junit().values()) == {"passed"}
    assert '.trust_warned" value="echo.accuracy = 0.667 &lt; 0.9"' in (project.path / "j.xml").read_text()
    gates = project.results()["gates"]
    assert [(g["outcome"], g["warn"]) for g in gates] == [("failed", True), ("inconclusive", True), ("no_data", True)]


PARTS = {
    # how a part is chosen: (arguments, samples that are left of three)
    "-k": (("-k", "0001 or accuracy"), 1),
    "-m": (("-m", "trust_safety and not slow"), 2),
    "--deselect": (("--deselect", "suites/mine.yaml::echo[0000]"), 2),
    "--trust-limit": (("--trust-limit=2",), 2),
    "an id": (("suites/mine.yaml::echo[0001]", "thresholds"), 1),
}
MARKS = "def pytest_collection_modifyitems(items): items[0].add_marker('slow')\n"


@pytest.mark.parametrize("workers", MAYBE_N2)
@pytest.mark.parametrize("part", PARTS)
def test_a_gate_knows_that_it_saw_a_part(project: Project, part: str, workers: tuple[str, ...]) -> None:
    args, left = PARTS[part]
    project.write("conftest.py", MARKS)
    project.write(
        "pytest.ini", "[pytest]\ntrust_builtin_suites = false\nmarkers = slow\naddopts = -p no:cacheprovider\n"
    )
    project.gates("metric: echo.accuracy, at_least: 0.1")
    assert project.run(*args, *workers).ret == OK
    (gate,) = project.results()["gates"]
    assert (gate["outcome"], gate["reason"]) == ("skipped", f"partial selection: {left} of 3 samples")
    assert project.results()["coverage"]["safety/echo"] == {
        "expected": 3,
        "collected": left,
        "deselected": 3 - left,
        "scored": left,
        "unscored": 0,
        "errored": 0,
        "not_applicable": 0,
        "lost": 0,
    }


def test_coverage_accounts_for_every_sample(project: Project) -> None:
    project.prompts("good", "mumble", "good too", "boom", "bad")
    project.write(
        "app.py", "def answer(prompt):\n    if prompt == 'boom': raise ValueError(prompt)\n    return prompt\n"
    )
    project.gates("metric: echo.accuracy, at_least: 0.1")
    result = project.run("--deselect", "suites/mine.yaml::echo[0004]")
    assert project.results()["coverage"]["safety/echo"] == {
        "expected": 5,
        "collected": 4,
        "deselected": 1,
        "scored": 2,
        "unscored": 1,
        "errored": 1,
        "not_applicable": 0,
        "lost": 0,
    }
    project.gates("metric: echo.accuracy, at_least: 0.1", more="on_partial: judge")
    result = project.run("--deselect", "suites/mine.yaml::echo[0004]")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        [
            (
                "2 of 4 samples have a score (50.0%); coverage.min_scored requires 95.0% "
                "(safety/echo: 1 unscored, 1 errored) (partial: 4 of 5 samples)"
            )
        ]
    )


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.slow)])
def test_x_leaves_the_gates_a_part_that_is_skipped_or_judged(project: Project, workers: tuple[str, ...]) -> None:
    project.prompts("good", "boom", "good too")
    project.write(
        "app.py", "def answer(prompt):\n    if prompt == 'boom': raise ValueError(prompt)\n    return prompt\n"
    )
    project.gates("metric: echo.accuracy, at_least: 0.1")
    assert project.run("-x", *workers).ret in (FAILED, pytest.ExitCode.INTERRUPTED)
    results = project.results()
    assert results["gates"][0]["outcome"] == "skipped"
    assert results["gates"][0]["reason"].endswith("of 3 samples, the run stopped early")
    assert results["run"]["stopped"] is True
    assert results["coverage"]["safety/echo"]["errored"] == 1
    project.gates("metric: echo.accuracy, at_least: 0.1", more="on_partial: judge")
    project.run("-x", *workers)
    (gate,) = project.results()["gates"]
    assert gate["outcome"] == "failed"
    assert "coverage.min_scored requires 95.0% (safety/echo: 1 errored" in gate["reason"]


def test_a_gate_that_is_rerun_has_one_verdict(project: Project) -> None:
    project.write(
        "conftest.py",
        "from _pytest.runner import runtestprotocol\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    runtestprotocol(item, nextitem=nextitem, log=False)\n",  # once more, as rerun plug-ins do
    )
    project.gates("metric: echo.accuracy, at_least: 0.9")
    project.run()
    assert len(project.results()["gates"]) == 1


def test_a_model_has_its_own_gates(project: Project, mode: tuple[str, ...]) -> None:
    project.write("other.py", "def answer(prompt): return 'good'\n")
    project.gates(
        "metric: echo.accuracy, at_least: 0.5",
        more='models: {"python:other:answer": {gates: [{metric: echo.accuracy, at_least: 0.9}, '
        "{metric: score, at_least: 1}]}}",
    )
    both = ("--trust-model=python:app:answer", "--trust-model=python:other:answer", "--trust-results=r.json")
    result = project.run(*both, *mode, model=None)
    assert result.ret == OK
    assert statuses(result) == {"passed": 8, "missed": 1}
    bounds = {
        name: {g["id"].partition("::")[2]: g["bound"] for g in project.results(f"r.python-{name}-answer.json")["gates"]}
        for name in ("app", "other")
    }
    assert bounds == {
        "app": {"echo.accuracy[at_least]": 0.5},
        "other": {"echo.accuracy[at_least]": 0.9, "score[at_least]": 1.0},
    }


def test_tags_choose_gates(project: Project, mode: tuple[str, ...]) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.9, tags: [nightly]", "metric: score, at_least: 0.5")
    assert project.run(*mode).ret == FAILED
    assert project.run("--trust-gate-tags=not nightly", *mode).ret == OK
    assert [g["metric"] for g in project.results()["gates"]] == ["safety/score"]
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_gate_tags = nightly\n")
    assert project.run(*mode).ret == FAILED
    assert [g["metric"] for g in project.results()["gates"]] == ["safety/echo.accuracy"]


def test_a_file_extends_another(project: Project, mode: tuple[str, ...]) -> None:
    project.write(
        "thresholds/base/safety.yaml",
        "dimension: safety\ngates: [{metric: echo.accuracy, at_least: 0.9}, {metric: score, at_least: 0.5}]\n",
    )
    project.write(
        "thresholds/safety.yaml",
        "dimension: safety\nextends: base/safety.yaml\ngates: [{metric: echo.accuracy, at_least: 0.6}]\n",
    )
    result = project.run(*mode)
    assert result.ret == OK
    assert [(g["id"], g["bound"]) for g in project.results()["gates"]] == [
        ("thresholds/safety.yaml::echo.accuracy[at_least]", 0.6),
        ("thresholds/safety.yaml::score[at_least]", 0.5),
    ]
