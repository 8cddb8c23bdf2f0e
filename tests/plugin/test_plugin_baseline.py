"""An earlier run beside this one: gates on a drop, samples that flipped, and what cannot be compared."""

from __future__ import annotations

import json
from typing import Any

import pytest
import saved_run
from kept import Kept
from user_project import MAYBE_N2, Project, statuses

OK, FAILED, USAGE = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR
BASE = ("--trust-baseline=base.json",)
DROP = "thresholds/safety.yaml::many.accuracy[[]max_drop]"


def app(project: Project, *bad: int, model: str = "app") -> None:
    """Make the app answer these prompts wrong, and say when it is asked."""
    project.write(
        f"{model}.py",
        "def answer(prompt):\n"
        "    print(prompt, file=open('calls.txt', 'a'))\n"
        f"    return 'wrong' if int(prompt.split()[-1]) in {bad!r} else 'good'\n",
    )


_BASELINE = Kept("base.json", "base.samples.jsonl")


@pytest.fixture
def compared(project: Project) -> Project:
    """A project whose baseline answers two of twenty wrong."""

    def record() -> None:
        assert project.run("--trust-results=base.json").ret == OK
        (project.path / "calls.txt").unlink()

    project.samples(20)
    app(project, 3, 7)
    _BASELINE.put_into(project.path, record)
    return project


def change(project: Project, **run: Any) -> None:
    """Change what the baseline says about its run."""
    results = project.results("base.json")
    results["run"].update(run)
    project.write("base.json", json.dumps(results))


def test_a_drop_fails_and_names_the_samples(compared: Project, mode: tuple[str, ...]) -> None:
    app(compared, 3, 4, 5)
    compared.gates("metric: many.accuracy, max_drop: 0.02", "metric: score, max_drop: 0.1")
    result = compared.run(*BASE, "--junitxml=j.xml", *mode)
    assert result.ret == FAILED
    reason = "many.accuracy: drop 0.050 > 0.02, 0.900 to 0.850 on 20 shared samples"
    result.stdout.fnmatch_lines(
        [
            reason,
            "baseline base.json (python:app:answer, 20*)",
            "  20 shared samples: 2 got worse, 1 better",
            "  worse: many[[]0004], many[[]0005]",
            "  better: many[[]0007]",
            "gates: 1 passed, 1 failed, 0 skipped",
            f"FAILED {DROP} - {reason}",
        ]
    )
    assert compared.junit()["thresholds.safety.yaml::many.accuracy[max_drop]"] == "failure"
    found = compared.results()
    assert found["baseline"]["flipped"] == {
        "worse": ["safety/many[0004]", "safety/many[0005]"],
        "better": ["safety/many[0007]"],
    }
    gate = found["gates"][0]
    assert (gate["outcome"], gate["before"], gate["now"], gate["shared"]) == ("failed", 0.9, 0.85, 20)
    assert gate["value"] == pytest.approx(0.05)


def test_from_a_subdirectory_baseline_and_report_are_found(compared: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    app(compared, 3, 4, 5)
    compared.write("thresholds/safety.yaml", "dimension: safety\ngates: [{metric: many.accuracy, max_drop: 0.5}]\n")
    (compared.path / "below").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(compared.path))
    monkeypatch.chdir(compared.path / "below")
    where = ("--rootdir=..", "-c", "../pytest.ini", "..")
    result = compared.run(*where, "--trust-baseline=../base.json", "--trust-report=page.html")
    assert result.ret == OK, result.stdout.str()
    result.stdout.fnmatch_lines(["  20 shared samples: 2 got worse, 1 better"])
    page = (compared.path / "below" / "page.html").read_text(encoding="utf-8")
    assert "<b>▼ 2</b> got worse" in page
    assert json.loads((compared.path / "below" / "r.json").read_text())["baseline"]["file"] == "base.json"


def test_with_confidence_a_drop_that_chance_explains_is_inconclusive(compared: Project) -> None:
    compared.gates("metric: many.accuracy, max_drop: 0.02, confidence: 0.95")
    app(compared, 3, 4, 5)
    result = compared.run(*BASE)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["many.accuracy: drop 0.050 > 0.02, *; chance may explain it (p = 0.5); about * more *"]
    )
    assert compared.results()["gates"][0]["outcome"] == "inconclusive"
    app(compared, *range(12))
    result = compared.run(*BASE)
    result.stdout.fnmatch_lines(["many.accuracy: drop 0.500 > 0.02, *; chance does not explain it (p = 0.00098)"])
    assert compared.results()["gates"][0]["outcome"] == "failed"
    app(compared, 3)
    assert compared.run(*BASE).ret == OK


def test_a_drop_of_what_is_better_when_lower_is_a_rise(compared: Project) -> None:
    compared.samples(20)
    suite = compared.path / "suites/mine.yaml"
    suite.write_text(suite.read_text().replace("metrics: [accuracy]", "metrics: [{name: mean, lower_is_better: true}]"))
    app(compared, *range(10))
    assert compared.run("--trust-results=base.json").ret == OK
    compared.gates("metric: many.mean, max_drop: 0.02")
    app(compared, *range(8))  # more answers have the word: worse
    result = compared.run(*BASE)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["many.mean: drop 0.100 > 0.02, 0.500 to 0.600 on 20 shared samples"])
    app(compared, *range(12))
    assert compared.run(*BASE).ret == OK


def test_rows_that_moved_are_the_same_and_others_are_counted_and_named(compared: Project) -> None:
    rows = [f"good {i}" for i in range(1, 20)]
    rows[4] = "good 99"  # row 5 is another one now; row 0 is gone
    rows.insert(0, "good 100")
    rows.append("good 101")
    text = "".join(f"        - {{prompt: {p}, label: good}}\n" for p in rows)
    compared.write(
        "suites/mine.yaml",
        f"dimension: safety\ntasks:\n  - name: many\n    data:\n      samples:\n{text}"
        "    scorer: contains\n    metrics: [accuracy]\n",
    )
    compared.gates("metric: many.accuracy, max_drop: 0.02")
    result = compared.run(*BASE)
    assert result.ret == OK
    result.stdout.fnmatch_lines(["  18 shared samples: 0 got worse, 0 better; 2 changed; 1 added"])
    assert compared.results()["baseline"]["tasks"]["safety/many"] == {
        "shared": 18,
        "changed": ["0000", "0005"],
        "added": ["0020"],
        "removed": [],
    }
    reason = compared.results()["gates"][0]["reason"]
    assert reason.endswith("on 18 shared samples (2 changed: many[0000], many[0005]; 1 added: many[0020])")
    compared.gates("metric: many.accuracy, max_drop: 0.02", more="coverage: {min_paired: 0.9}")
    result = compared.run(*BASE)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["no data: 18 of 21 samples are the baseline's (85.7%); coverage.min_paired requires *"]
    )


def test_without_a_baseline_a_drop_has_no_data_and_the_run_can_be_one(compared: Project) -> None:
    compared.gates("metric: many.accuracy, max_drop: 0.02")
    result = compared.run("--trust-results=first.json")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["no data: there is no baseline; give one with --trust-baseline=PATH.json"])
    assert compared.run("--trust-baseline=first.json").ret == OK
    compared.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_baseline = first.json\n")
    assert compared.run().ret == OK


@pytest.mark.parametrize("workers", MAYBE_N2)
def test_a_part_of_the_samples_is_not_compared(compared: Project, workers: tuple[str, ...]) -> None:
    compared.gates("metric: many.accuracy, max_drop: 0.02")
    result = compared.run(*BASE, "--trust-limit=5", *workers)
    assert result.ret == OK
    assert compared.results()["gates"][0]["reason"] == "partial selection: 5 of 20 samples"
    assert compared.results()["baseline"]["tasks"]["safety/many"]["shared"] == 5


def test_what_else_differs_is_a_warning(compared: Project) -> None:
    change(
        compared,
        seed=7,
        generation={"safety/many": {"temperature": 1.0, "max_new_tokens": 512, "stop": []}},
        data={"source": "sample", "files": {"mine.yaml#many": "0" * 64}},
    )
    compared.gates("metric: many.accuracy, max_drop: 0.02")
    result = compared.run(*BASE)
    assert result.ret == OK
    result.stdout.fnmatch_lines(
        [
            "  WARNING: the baseline's seed is 7, this run's 0",
            "  WARNING: mine.yaml#many is not the baseline's",
            "  WARNING: the generation settings of safety/many changed since the baseline",
        ]
    )
    assert len(compared.results()["baseline"]["warnings"]) == 3


def test_a_changed_definition_is_not_blamed_on_the_model(compared: Project) -> None:
    """The gate still compares, and neither its reason nor the summary lets the reader miss why a number moved."""
    suite = compared.path / "suites/mine.yaml"
    suite.write_text(suite.read_text().replace("[accuracy]", "[{name: accuracy, kind: mean, low: -1}]"))
    app(compared, 3, 4, 5, 7)
    compared.gates("metric: many.accuracy, max_drop: 0.02", "metric: score, max_drop: 0.2")
    result = compared.run(*BASE)
    assert result.ret == FAILED
    line = "the metrics or their parameters of safety/many changed since the baseline"
    result.stdout.fnmatch_lines(["  WARNING: the metrics or their parameters of safety/many changed since the"])
    found = compared.results()
    assert found["baseline"]["warnings"] == [line]
    failed, passed = found["gates"]
    assert (failed["outcome"], passed["outcome"]) == ("failed", "passed")
    assert failed["reason"].endswith(f"on 20 shared samples ({line})")
    assert passed["reason"].endswith(f"on 20 shared samples ({line})")
    assert set(found["run"]["tasks"]["safety/many"]["hashes"]) >= {"scorer", "metrics", "generation", "prompt"}


def test_page_results_and_gate_say_the_same_difference(compared: Project) -> None:
    """Four rows came in since; the difference is over the twenty that both runs have."""
    compared.samples(24)
    app(compared, 3, 7, 8, 20, 21, 22, 23)
    compared.gates("metric: many.accuracy, max_drop: 0.02")
    compared.run(*BASE, "--trust-report=page.html")
    found = compared.results()
    (gate,) = found["gates"]
    for id_ in ("safety/many.accuracy", "safety/score"):
        entry = found["baseline"]["differences"][id_]
        assert (entry["old"], entry["new"], entry["shared"]) == (0.9, 0.85, 20)
        assert entry["worse_by"] == pytest.approx(gate["value"]) == pytest.approx(0.05)
    assert found["metrics"]["safety/many.accuracy"]["value"] == pytest.approx(17 / 24)
    page = (compared.path / "page.html").read_text(encoding="utf-8")
    assert page.count("−0.050</span>") == 4  # twice in the comparison, and beside score and metric
    assert "−0.192" not in page


def test_several_models_have_a_baseline_each(compared: Project) -> None:
    app(compared, 1, model="other")
    both = ("--trust-model=python:app:answer", "--trust-model=python:other:answer")
    assert compared.run(*both, "--trust-results=base.json", model=None).ret == OK
    app(compared, 3, 7, 8)
    compared.gates("metric: many.accuracy, max_drop: 0.02")
    result = compared.run(*both, "--trust-results=r.json", *BASE, model=None)
    assert statuses(result)["failed"] == 1
    outcomes = [compared.results(f"r.python-{name}-answer.json")["gates"][0]["outcome"] for name in ("app", "other")]
    assert outcomes == ["failed", "passed"]


MISTAKES: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    # name: (files to write, changes to the baseline's run, what the line says)
    "not there": ({"pytest.ini": "[pytest]\ntrust_builtin_suites = false\ntrust_baseline = none.json\n"}, {},
                  "--trust-baseline: *none.json: cannot be read: No such file or directory"),
    "not JSON": ({"base.json": "{"}, {}, "--trust-baseline: *base.json: not JSON: *"),
    "another schema": ({"base.json": '{"schema": "pytest-trustllm/results/9"}'}, {},
                       "--trust-baseline: *: expected a results file with schema pytest-trustllm/results/1, found *9'"),
    "no run in it": ({"base.json": '{"schema": "pytest-trustllm/results/1", "samples": "base.samples.jsonl"}'}, {},
                     "--trust-baseline: *base.json: not a complete results file: key 'run' is missing"),
    "without samples": ({"base.json": json.dumps(saved_run.results())}, {},
                        "--trust-baseline: *base.json: names no samples file; write one with --trust-results"),
    "another samples file": ({"base.samples.jsonl": "[]\n"}, {},
                             "--trust-baseline: *base.samples.jsonl:1: not a line of a samples file: expected *"),
    "another model": ({}, {"model": {"name": "gpt-2"}},
                      ("base.json: it is a run of 'gpt-2', this one of 'python:app:answer'; give a baseline of the "
                      "same model, or --trust-baseline-any-model to compare models")),
    "another task version": ({}, {"task_versions": {"safety/many": 2}},
                             ("thresholds/safety.yaml::many.accuracy[max_drop]: base.json has version 2 of "
                             "safety/many, the suite version 1: their scores cannot be compared; "
                             "record a new baseline")),
    "a metric that it lacks": (
        {"thresholds/safety.yaml": "dimension: safety\ngates: [{metric: \"other.accuracy\", max_drop: 0.1}]\n",
         "suites/other.yaml": "dimension: safety\ntasks:\n- {name: other, data: {samples: [{prompt: x, label: y}]}, "
                              "scorer: contains, metrics: [accuracy]}\n"}, {},
        ("thresholds/safety.yaml::other.accuracy[max_drop]: base.json has no value of safety/other.accuracy; record a "
        "baseline that has, or remove the gate")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_baseline_that_cannot_be_compared_stops_before_the_first_prompt(compared: Project, name: str) -> None:
    files, run, line = MISTAKES[name]
    compared.gates("metric: many.accuracy, max_drop: 0.02")
    for file, text in files.items():
        compared.write(file, text)
    if run:
        change(compared, **run)
    result = compared.run(*(BASE if name != "not there" else ()))
    assert result.ret == USAGE
    errors = [found for found in result.stderr.str().splitlines() if found.strip()]
    assert len(errors) == 1, errors
    result.stderr.fnmatch_lines([f"ERROR: {line.replace('[', '[[]')}"])
    assert compared.log() == []


def test_another_model_may_be_compared_on_purpose(compared: Project) -> None:
    change(compared, model={"name": "gpt-2"})
    assert compared.run(*BASE, "--trust-baseline-any-model").ret == OK
    assert compared.results()["baseline"]["model"] == "gpt-2"


def test_another_judge_is_an_error_for_the_metrics_that_it_scores(compared: Project) -> None:
    compared.samples(
        20,
    )
    suite = compared.path / "suites/mine.yaml"
    suite.write_text(
        suite.read_text().replace("scorer: contains\n    metrics: [accuracy]", "scorer: refusal\n    metrics: [mean]")
    )
    assert compared.run("--trust-results=base.json").ret == OK
    change(compared, roles={"refusal": {"name": "hf:somebody/classifier"}})
    compared.gates("metric: many.mean, max_drop: 0.02")
    result = compared.run(*BASE)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        [
            (
                "ERROR: thresholds/safety.yaml::many.mean[[]max_drop]: safety/many is scored by the refusal model "
                "'hf:somebody/classifier' in base.json and 'builtin' in this run; give the same, or record a new "
                "baseline"
            )
        ]
    )
    compared.gates("metric: many.mean, at_least: 0")
    result = compared.run(*BASE)
    assert result.ret == OK
    result.stdout.fnmatch_lines(["  WARNING: the refusal model is not the baseline's"])


def test_scores_that_were_lost_are_told_from_verdicts_that_turned(compared: Project) -> None:
    compared.write("app.py", "def answer(prompt):\n    return None if prompt.endswith('4') else prompt\n")
    result = compared.run(*BASE)
    result.stdout.fnmatch_lines(["  20 shared samples: * got worse, * better; 2 lost their score, 0 gained one"])
    result.stdout.fnmatch_lines(["  lost: many[[]0004], many[[]0014]"])
    assert compared.results()["baseline"]["scored_once"] == {
        "lost": ["safety/many[0004]", "safety/many[0014]"],
        "gained": [],
    }
