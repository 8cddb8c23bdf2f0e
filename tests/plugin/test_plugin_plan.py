"""What a run would ask, cost and take, before it asks anything."""

from __future__ import annotations

import json
import re

import pytest
from test_plugin_stop import write
from user_project import Project

MODELS = """
priced: {provider: openai, model: some-model, base_url: "http://127.0.0.1:9/v1", price: {input: 1000000, output: 0}}
"""


def row(result: pytest.RunResult, name: str = "safety/many") -> list[str]:
    """Return the columns of a task: samples, input, output, price, time, at least, likely."""
    line = next(line for line in result.outlines if line.startswith(f"{name} "))
    return re.split(r" {2,}", line)[1:]


@pytest.mark.parametrize("mode", [(), ("-n", "2")])
def test_a_plan_asks_nothing_and_writes_nothing(project: Project, mode: tuple[str, ...]) -> None:
    write(project)
    project.gates("metric: many.accuracy, at_least: 0.8")
    result = project.run("--trust-plan", "--trust-report=r.html", *mode)
    assert result.ret == pytest.ExitCode.OK
    samples, _, received, price, time, least, likely = row(result)
    assert (samples, received, price, time, likely) == ("400", "<= 204,800", "-", "-", "-")
    assert 1 < int(least) < 400
    result.stdout.fnmatch_lines(["*plan for python:app:answer, nothing was asked*", "*it asks every sample"])
    for name in ("calls.txt", "r.json", "r.html", ".trustllm"):
        assert not (project.path / name).exists()


def test_a_plan_starts_no_model_and_knows_prices(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    write(project, count=10)
    project.write("models.yaml", MODELS)
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    result = project.run("--trust-plan", model="priced")
    assert result.ret == pytest.ExitCode.OK
    samples, sent, _, price, *_ = row(result)
    assert (samples, price) == ("10", f"{sent}.00 USD")


def test_it_tells_what_stopping_would_ask(project: Project) -> None:
    write(project, right=90)
    project.gates("metric: many.accuracy, at_least: 0.8")
    project.run("--trust-results=base.json", "--trust-stop=never")
    (project.path / "calls.txt").unlink()
    plan = project.run("--trust-plan", "--trust-stop=0.05", "--trust-baseline=base.json")
    assert not (project.path / "calls.txt").exists()
    *_, time, least, likely = row(plan)
    assert time.endswith(" s")
    assert int(least) < int(likely) < 400
    project.run("--trust-stop=0.05", "--trust-fresh")
    asked = len(project.log())
    # a few more are under way when the verdict is reached
    assert int(likely) <= asked <= int(likely) + 64


def test_the_last_run_tells_the_pace(project: Project) -> None:
    write(project, count=20)
    project.run()
    result = project.run("--trust-plan")
    result.stdout.fnmatch_lines(["*tokens and pace: as in the run in r.json*"])
    project.write("r.json", "{}")
    result = project.run("--trust-plan")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*no earlier run tells*"])
    assert (project.path / "r.json").read_text() == "{}"


def test_a_judge_is_counted_as_in_the_last_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    write(project, count=20)
    project.write("models.yaml", MODELS)
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    project.run("--trust-limit=10")
    verdict = {"text": "yes", "role": "judge", "input_tokens": 7, "output_tokens": 1}
    lines = [json.loads(line) for line in (project.path / "r.samples.jsonl").read_text().splitlines()]
    project.write("r.samples.jsonl", "".join(json.dumps({**line, "verdicts": [verdict]}) + "\n" for line in lines))
    result = project.run("--trust-plan", "--trust-judge=priced")
    result.stdout.fnmatch_lines(["judge: 140 + 20 tokens, 140.00 USD"])


def test_several_tasks_are_summed_and_long_names_leave_room(project: Project) -> None:
    long = "a_task_with_a_name_that_is_far_too_long_for_a_line_of_a_terminal"
    write(project, count=30, tasks=f"many {long}")
    result = project.run("--trust-plan", "-k", "many or 0001")
    assert row(result, "all")[0] == "31"
    assert max(len(line) for line in result.outlines if line.startswith(("safety/", "all"))) <= 80
