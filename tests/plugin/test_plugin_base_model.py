"""The bare model behind an app: asked the same, compared sample by sample, judged by gates."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from user_project import Project, statuses

from pytest_trustllm.report.formatting import signed

APP = """
def answer(prompt):
    return "good" if int(prompt.split()[1]) % 4 else "bad"

def bare(prompt):
    return "good" if int(prompt.split()[1]) % 2 else "bad"
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.samples(40)
    suite = (project.path / "suites/mine.yaml").read_text().replace("prompt: good", "prompt: say")
    project.write("suites/mine.yaml", suite)
    project.write("app.py", APP)
    return project


def test_what_the_app_changes_is_shown_and_judged(shop: Project, mode: tuple[str, ...]) -> None:
    shop.gates(
        "metric: many.accuracy, max_drop: 0.1, against: base, confidence: 0.95",
        "metric: many.accuracy, at_least: 0.7",
    )
    result = shop.run("--trust-base-model=python:app:bare", "--trust-report=r.html", *mode)
    assert result.ret == 0
    assert statuses(result) == {"passed": 32, "missed": 10}
    result.stdout.fnmatch_lines(
        [
            "base model python:app:bare, asked the same samples",
            "  safety/many.accuracy: +0.250 (+0.*), 0.500 to 0.750 on 40 samples",
            "gates: 2 passed, 0 failed, 0 skipped",
        ]
    )
    results = shop.results()
    base = results["base"]
    assert (base["model"]["id"], base["usage"]["requests"], results["usage"]["requests"]) == ("app:bare", 40, 40)
    difference = base["differences"]["safety/many.accuracy"]
    page = (shop.path / "r.html").read_text(encoding="utf-8")
    section = page.partition('<section id="base"')[2].partition("</section>")[0]
    assert "Compared with the bare model python:app:bare" in section
    assert '<a href="#base">Bare model</a>' in page
    low, high = difference["ci"]
    row = section.partition("many")[2].partition("</tr>")[0]
    for shown in (">0.500<", ">0.750<", f"95 % interval {signed(low)} to {signed(high)}", ">40<", "▲ +0.250"):
        assert shown in row, shown
    assert (difference["old"], difference["new"], difference["shared"]) == (0.5, 0.75, 40)
    assert difference["ci"][0] > 0
    assert {gate["id"] for gate in results["gates"]} == {
        "thresholds/safety.yaml::many.accuracy[max_drop-base]",
        "thresholds/safety.yaml::many.accuracy[at_least]",
    }
    # the bare model's own results are those of a run of its own
    own = shop.results("r.base.json")
    assert own["metrics"]["safety/many.accuracy"]["value"] == 0.5
    assert own["run"]["model"]["id"] == "app:bare"
    assert [line["responses"][0]["text"] for line in shop.lines("r.base.samples.jsonl")[:2]] == ["bad", "good"]


def test_an_app_that_loses_too_much_fails(shop: Project) -> None:
    shop.gates("metric: many.accuracy, max_drop: 0.1, against: base")
    result = shop.run("--trust-base-model=python:app:answer", model="python:app:bare")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*many.accuracy: drop 0.250 > 0.1, 0.750 to 0.500 on 40 shared samples*"])
    # a saved run is judged in the same way, with the bare model's results beside it
    command = [sys.executable, "-m", "pytest_trustllm.cli", "gate", "r.json", "--thresholds", "thresholds"]
    done = subprocess.run(command, cwd=shop.path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "drop 0.250 > 0.1" in done.stdout


def test_the_app_of_a_fixture_is_compared_with_a_model_of_the_run(shop: Project) -> None:
    shop.write(
        "conftest.py",
        "import pytest, app\nfrom pytest_trustllm import TrustModel\n"
        "@pytest.fixture(scope='session')\ndef trust_model():\n"
        "    return TrustModel.from_callable(app.answer, name='bot')\n",
    )
    shop.gates("metric: many.accuracy, max_drop: 0.0, against: base")
    result = shop.run("--trust-base-model=python:app:bare", model="bot")
    assert result.ret == 0
    results = shop.results()
    assert (results["run"]["model"]["name"], results["base"]["model"]["name"]) == ("bot", "python:app:bare")
    assert results["base"]["differences"]["safety/many.accuracy"]["difference"] == 0.25


def test_without_a_base_model_its_gate_has_no_data(shop: Project) -> None:
    shop.gates("metric: many.accuracy, max_drop: 0.1, against: base")
    result = shop.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*there is no base model; give one with --trust-base-model=NAME*"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--trust-base-model=python:app:answer",),
            "*--trust-base-model: 'python:app:answer' is the model under test*",
        ),
        (("--trust-base-model=nobody",), "*'nobody'*"),
        (("--trust-base-model=demo", "--trust-stop=exact"), "*both are asked the same samples*leave out --trust-stop*"),
        (("--trust-base-model=demo", "--trust-model=demo"), "*--trust-base-model: give one --trust-model*"),
        (("--trust-base-model=demo", "--trust-shard=1/2"), "*leave out --trust-shard or this option*"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(shop: Project, flags: tuple[str, ...], message: str) -> None:
    result = shop.run(*flags)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])


def test_against_belongs_to_a_drop(shop: Project) -> None:
    shop.gates("metric: many.accuracy, at_least: 0.1, against: base")
    result = shop.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*gates[[]0].against: 'at_least' compares with a number; write 'max_drop', or remove*"]
    )
    assert not json.loads(json.dumps(shop.log()))
