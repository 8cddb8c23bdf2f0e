"""Gates that stop asking once they are decided: what is asked, what is skipped, what the results say."""

from __future__ import annotations

import sys

import pytest
from user_project import MAYBE_N2, Project, in_every_mode, statuses

APP = """
import pathlib
def answer(prompt):
    with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as f:
        f.write(prompt + "\\n")
    number = int(prompt.split()[-1])
    return "good" if number % 100 < {right} else "bad"
"""


def write(project: Project, *, right: int = 98, count: int = 400, tasks: str = "many") -> None:
    """Write an app that answers so many of a hundred samples right, and suites that ask it."""
    project.write("app.py", APP.replace("{right}", str(right)))
    rows = "".join(f"        - {{prompt: number {i}, label: good, kind: k{i % 2}}}\n" for i in range(count))
    suite = "dimension: safety\ntasks:\n"
    for name in tasks.split():
        suite += (
            f"  - name: {name}\n    data:\n      samples:\n{rows}    scorer: contains\n"
            "    group: kind\n    metrics: [accuracy]\n"
        )
    project.write("suites/mine.yaml", suite)


@in_every_mode
@pytest.mark.parametrize(("right", "outcome"), [(98, "passed"), (50, "failed")])
def test_alpha_asks_a_part_and_skips_the_rest(
    project: Project, mode: tuple[str, ...], right: int, outcome: str
) -> None:
    write(project, right=right)
    project.gates("metric: many.accuracy, at_least: 0.8")
    result = project.run("--trust-stop=0.05", "-rs", *mode)
    found = project.results()
    metric = found["metrics"]["safety/many.accuracy"]
    asked = len(project.log())
    assert 0 < asked < 300
    assert (metric["asked"], metric["planned"], metric["stopped"]) == (asked, 400, "alpha")
    assert metric["ci"][0] <= right / 100 <= metric["ci"][1]
    assert "sequence" in metric["method"]
    (gate,) = found["gates"]
    assert gate["outcome"] == outcome
    assert gate["early"]["rule"] == "alpha"
    assert gate["early"]["asked"] <= asked
    stop = found["run"]["stop"]
    assert (stop["rule"], stop["alpha"], stop["asked"], stop["planned"]) == ("alpha", 0.05, asked, 400)
    assert found["coverage"]["safety/many"]["unneeded"] == 400 - asked
    assert found["coverage"]["safety/many"]["lost"] == 0
    assert len(project.lines()) == asked
    assert statuses(result)["skipped"] == 400 - asked
    result.stdout.fnmatch_lines(
        [
            f"asked {asked} of 400 samples (* %): 1 of 1 gates decided early (alpha 0.05)",
            f"*not needed: gates decided after {asked} of 400 samples*",
        ]
    )


@pytest.mark.parametrize("mode", MAYBE_N2)
def test_exact_stops_once_no_answer_can_change_the_verdict(project: Project, mode: tuple[str, ...]) -> None:
    write(project, right=10)
    project.gates("metric: many.accuracy, at_least: 0.8")
    result = project.run("--trust-stop=exact", *mode)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = project.results()
    metric = found["metrics"]["safety/many.accuracy"]
    assert metric["stopped"] == "exact"
    assert metric["confidence"] == 1.0
    assert metric["ci"][1] < 0.8
    assert len(project.log()) < 160
    assert found["run"]["stop"]["rule"] == "exact"
    assert found["run"]["stop"]["alpha"] is None
    result.stdout.fnmatch_lines(["*no further answer can change that*"])


def test_without_the_option_nothing_changes(project: Project) -> None:
    write(project, right=10, count=60)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run()
    metric = project.results()["metrics"]["safety/many.accuracy"]
    assert (metric["asked"], metric["planned"], metric["stopped"]) == (60, 60, None)
    assert "stop" not in project.results()["run"]
    assert len(project.log()) == 60


@pytest.mark.parametrize("where", ["file", "gate", "ini"])
def test_the_rule_may_stand_in_a_file(project: Project, where: str) -> None:
    write(project, right=10)
    gate = "metric: many.accuracy, at_least: 0.8"
    if where == "ini":
        project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_stop = exact\n")
        project.gates(gate)
    elif where == "gate":
        project.gates(f"{gate}, stop: exact")
    else:
        project.gates(gate, more="stop: exact")
    project.run()
    assert project.results()["metrics"]["safety/many.accuracy"]["stopped"] == "exact"
    (project.path / "calls.txt").unlink()
    project.run("--trust-stop=never", "--trust-fresh")
    assert len(project.log()) == 400


@pytest.mark.parametrize("text", ["sometimes", "0", "2"])
def test_a_rule_that_is_none_is_one_line(project: Project, text: str) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.8")
    result = project.run(f"--trust-stop={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trust-stop: *write *0.05*"])
    project.gates(f"metric: echo.accuracy, at_least: 0.8, stop: {text}")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *thresholds/safety.yaml: gates*stop*"])


def test_a_task_without_a_gate_is_asked_whole_or_not_at_all(project: Project) -> None:
    write(project, right=10, count=100, tasks="many other")
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=exact")
    found = project.results()
    assert found["coverage"]["safety/other"].get("unneeded", 0) == 0
    assert found["metrics"]["safety/other.accuracy"]["scored"] == 100
    assert found["metrics"]["safety/many.accuracy"]["stopped"] == "exact"
    result = project.run("--trust-stop=exact", "--trust-stop-ungated", "-rs")
    found = project.results()
    assert found["coverage"]["safety/other"]["unneeded"] == 100
    assert "safety/other.accuracy" not in found["metrics"]
    result.stdout.fnmatch_lines(["*not needed: no gate is about its task*"])


def test_a_partial_selection_decides_nothing(project: Project) -> None:
    write(project, right=10, count=100)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=exact", "--trust-limit=80")
    assert len(project.log()) == 80
    assert project.results()["gates"][0]["outcome"] == "skipped"
    project.gates("metric: many.accuracy, at_least: 0.8", more="on_partial: judge")
    project.run("--trust-stop=exact", "--trust-limit=80", "--trust-fresh")
    assert len(project.log()) < 80 + 60
    assert project.results()["gates"][0]["outcome"] == "failed"


@pytest.mark.parametrize("mode", MAYBE_N2)
def test_stored_answers_are_used_in_the_same_order(project: Project, mode: tuple[str, ...]) -> None:
    """A second run decides after as many samples, and asks nothing."""
    write(project)
    project.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: '1'}\n")
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05", *mode, model="bot")
    first = project.results()
    calls = len(project.log())
    project.run("--trust-stop=0.05", *mode, model="bot")
    second = project.results()
    assert second["gates"][0]["early"] == first["gates"][0]["early"]
    assert len(project.log()) <= calls + 20  # those ahead of the decision may be others


def test_epochs_of_a_sample_belong_together(project: Project) -> None:
    write(project, right=10)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05", "--trust-epochs=3")
    calls = project.log()
    assert len(calls) == 3 * len(set(calls))
    assert len(calls) < 600


def test_each_of_several_models_is_decided_for_itself(project: Project) -> None:
    write(project, right=10)
    project.write("good.py", "def answer(prompt): return 'good'")
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05", "--trust-model=python:good:answer")
    outcomes = {}
    for path in project.path.glob("r.*.json"):
        found = project.results(path.name)
        outcomes[found["run"]["model"]["name"]] = found["gates"][0]["outcome"]
        assert found["metrics"]["safety/many.accuracy"]["asked"] < 300
    assert outcomes == {"python:app:answer": "failed", "python:good:answer": "passed"}


def test_a_users_own_test_gets_its_samples_in_any_case(project: Project) -> None:
    write(project, right=10, count=200)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.write(
        "tests/test_own.py",
        "import pytest\n"
        "@pytest.mark.trust_task('suites/mine.yaml::many')\n"
        "def test_own(trust_model, trust_sample):\n"
        "    assert trust_model.ask(trust_sample).text\n",
    )
    result = project.run("--trust-stop=exact")
    assert statuses(result).get("skipped", 0) == 0
    assert len(project.log()) == 200


def test_what_cannot_be_bounded_is_asked_whole_and_named(project: Project) -> None:
    write(project, right=98, count=100)
    suite = (project.path / "suites/mine.yaml").read_text().replace("[accuracy]", "[{name: best, kind: max}]")
    project.write("suites/mine.yaml", suite)
    project.gates("metric: many.best, at_least: 0.8")
    result = project.run("--trust-stop=0.05")
    assert len(project.log()) == 100
    assert project.results()["run"]["stop"]["whole"] == {
        "thresholds/safety.yaml::many.best[at_least]": "the samples not yet asked can move this metric anywhere"
    }
    result.stdout.fnmatch_lines(["*asked whole*many.best*"])


@pytest.mark.parametrize("mode", MAYBE_N2)
def test_a_drop_since_the_baseline_is_decided_early(project: Project, mode: tuple[str, ...]) -> None:
    write(project, right=90, count=800)
    project.gates("metric: many.accuracy, max_drop: 0.1")
    project.run("--trust-results=base.json")
    baseline = project.path / "base.json"
    (project.path / "calls.txt").unlink()
    project.run("--trust-stop=0.05", f"--trust-baseline={baseline}", "--trust-fresh", *mode)
    (gate,) = project.results()["gates"]
    assert (gate["outcome"], gate["early"]["rule"]) == ("passed", "alpha")
    assert gate["reason"].startswith("many.accuracy: drop 0.000 ≤ 0.1, decided after ")
    assert len(project.log()) < 400


@pytest.mark.parametrize("mode", MAYBE_N2)
def test_the_app_of_a_fixture_is_asked_a_part(project: Project, mode: tuple[str, ...]) -> None:
    write(project)
    project.write(
        "conftest.py",
        "import pytest, app\n"
        "from pytest_trustllm import TrustModel\n"
        "@pytest.fixture(scope='session')\n"
        "def trust_model():\n"
        "    return TrustModel.from_callable(app.answer, name='bot', max_concurrency=4)\n",
    )
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05", *mode, model="bot")
    assert project.results()["gates"][0]["outcome"] == "passed"
    assert len(project.log()) < 300


def test_a_budget_that_is_spent_first_leaves_the_gates_undecided(project: Project) -> None:
    write(project)
    project.gates("metric: many.accuracy, at_least: 0.8")
    result = project.run("--trust-stop=0.05", "--trust-budget=100 tokens")
    (gate,) = project.results()["gates"]
    assert gate["outcome"] == "skipped"
    assert len(project.log()) < 60
    assert "not needed" not in result.stdout.str()
    project.run("--trust-stop=0.05", "--trust-budget=100k tokens", "--trust-fresh")
    assert project.results()["gates"][0]["early"]["rule"] == "alpha"


def test_a_run_that_is_cut_short_decides_nothing(project: Project) -> None:
    write(project, right=50)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05", "--trust-strict", "-x")
    (gate,) = project.results()["gates"]
    assert gate["outcome"] == "skipped"
    assert "early" not in gate


def test_a_baseline_that_stopped_early_is_told_from_one_that_lost_samples(project: Project) -> None:
    write(project)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05", "--trust-results=base.json")
    project.gates("metric: many.accuracy, at_least: 0.8", "metric: many.accuracy, max_drop: 0.1")
    result = project.run("--trust-baseline=base.json")
    result.stdout.fnmatch_lines(["*the baseline stopped early and asked * of 400 samples*"])
    outcomes = [gate["outcome"] for gate in project.results()["gates"]]
    assert outcomes == ["passed", "no_data"]


def test_the_report_shows_how_the_limits_closed_in(project: Project) -> None:
    write(project)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05", "--trust-report=t.html")
    page = (project.path / "t.html").read_text(encoding="utf-8")
    assert page.count('class="course"') == 1
    asked = project.results()["run"]["stop"]["asked"]
    assert f"asked {asked} of 400 samples" in page
    assert "samples flip" not in page  # those that were not asked count too
    project.run("--trust-report=t.html")
    assert 'class="course"' not in (project.path / "t.html").read_text(encoding="utf-8")


def test_a_saved_run_is_judged_again_as_it_was(project: Project, pytester: pytest.Pytester) -> None:
    """The same gate keeps its verdict; another bound is judged by the limits, which hold for any."""
    write(project, right=98)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-stop=0.05")
    (first,) = project.results()["gates"]

    def gate() -> pytest.RunResult:
        return pytester.run(sys.executable, "-m", "pytest_trustllm.cli", "gate", "r.json", "--thresholds", "thresholds")

    again = gate()
    assert again.ret == 0
    again.stdout.fnmatch_lines(["asked * of 400 samples (* %): 1 of 1 gates decided early (alpha 0.05)"])
    project.gates("metric: many.accuracy, at_least: 0.5")
    assert gate().ret == 0
    project.gates(f"metric: many.accuracy, at_least: {first['ci'][1] - 0.01}")
    result = gate()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*limits*after *"])


def test_a_baseline_lets_gates_stop_earlier(project: Project) -> None:
    write(project, right=90)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-results=base.json", "--trust-stop=never")
    project.run("--trust-stop=0.05", "--trust-fresh")
    alone = project.results()["gates"][0]
    project.run("--trust-stop=0.05", "--trust-fresh", "--trust-baseline=base.json")
    found = project.results()
    (gate,) = found["gates"]
    assert (gate["outcome"], gate["early"]["rule"]) == ("passed", "alpha")
    assert gate["early"]["asked"] < 0.8 * alone["early"]["asked"]
    metric = found["metrics"]["safety/many.accuracy"]
    assert metric["estimate"] == "baseline-assisted"
    assisted = metric["assisted"]
    assert "changes since the baseline" in assisted["method"]
    assert assisted["ci"][0] <= 0.9 <= assisted["ci"][1]
    # the plain sequence, beside it, is wider
    assert assisted["ci"][1] - assisted["ci"][0] < metric["ci"][1] - metric["ci"][0]
    assert assisted["confidence"] == metric["confidence"]
