"""Crashes, signals and full disks: the run ends, says why, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from user_project import MAYBE_TWO, WORD, Project, statuses, wait_for

SLOW = """
import pathlib, time
def answer(prompt):
    with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as f:
        f.write(prompt + "\\n")
    time.sleep(SECONDS)
    return "good"
"""
LOADS_FOREVER = """
import pathlib, time
pathlib.Path(__file__).with_name("calls.txt").write_text("loading\\n")
time.sleep(120)
"""
CRASH = "import os\ndef test_crash(): os._exit(3)\n"


def test_a_crashed_worker_costs_its_test_alone(project: Project) -> None:
    project.samples(8)
    project.write("tests/test_crash.py", CRASH)
    project.gates("metric: many.accuracy, at_least: 1.0")
    result = project.run("-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED tests/test_crash.py::test_crash*", "*1 failed, 9 passed*"])
    results = project.results()
    assert results["gates"][0]["outcome"] == "passed"
    assert results["metrics"]["safety/many.accuracy"]["scored"] == 8


OWN = """
import os, pathlib, pytest
from pytest_trustllm import TrustModel

@pytest.fixture(scope="session")
def trust_model():
    crashed = pathlib.Path(__file__).with_name("crashed")

    def answer(prompt):
        if prompt == "good 3" and not crashed.exists():
            crashed.touch()
            os._exit(3)
        return prompt
    return TrustModel.from_callable(answer, name="own", max_concurrency=4)
"""


def test_an_app_that_crashed_once_is_asked_again_and_costs_no_test(project: Project) -> None:
    project.samples(8)
    project.write("conftest.py", OWN)
    project.gates("metric: many.accuracy, at_least: 0.5")
    result = project.run("-n", "2")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*node down: Not properly terminated*"])
    assert statuses(result) == {"passed": 8 + 1}


def test_samples_that_a_dead_worker_took_along_fail_the_gate(project: Project) -> None:
    project.samples(30)
    project.write("atests/test_crash.py", CRASH)
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntestpaths = atests\n")
    project.gates("metric: many.accuracy, at_least: 0.1")
    result = project.run("-n", "1", "--max-worker-restart=0", "--junitxml=j.xml")
    assert result.ret != pytest.ExitCode.OK
    results = project.results()
    metric = results["metrics"]["safety/many.accuracy"]
    assert metric["expected"] == 30
    assert metric["scored"] < 30
    assert results["gates"][0]["outcome"] == "failed"
    assert [v for k, v in project.junit().items() if "accuracy" in k] == ["failure"]


def test_a_killed_host_ends_the_run_with_one_line(project: Project, mode: tuple[str, ...], temporary: Path) -> None:
    project.samples(40)
    project.write("app.py", SLOW.replace("SECONDS", "0.2"))
    project.gates("metric: many.accuracy, at_least: 0.1")
    pytest_ = project.start(*mode)
    assert wait_for(lambda: len(project.log()) >= 2)
    host = project.host()
    assert host is not None
    os.kill(host, signal.SIGKILL)
    assert pytest_.wait(30) not in (pytest.ExitCode.OK, -signal.SIGKILL)
    assert "the model host ended during the run" in project.output
    assert "INTERNALERROR" not in project.output
    assert project.output.count("FAILED suites") <= 2  # not one line for each of forty samples
    assert wait_for(lambda: not project.processes(), 5)
    assert not list(temporary.glob("trustllm-*"))


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def stop(request: pytest.FixtureRequest) -> signal.Signals:
    found: signal.Signals = request.param
    return found


SAID = {signal.SIGINT: "KeyboardInterrupt", signal.SIGTERM: "Interrupted: ended by SIGTERM"}


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_a_signal_leaves_no_process(project: Project, stop: signal.Signals, workers: str, temporary: Path) -> None:
    project.samples(40)
    project.write("app.py", SLOW.replace("SECONDS", "0.3"))
    pytest_ = project.start("-n", workers, "--junitxml=j.xml")
    assert wait_for(lambda: len(project.log()) >= 2)
    (os.killpg if stop == signal.SIGINT else os.kill)(pytest_.pid, stop)  # a terminal sends Ctrl-C to the whole group
    pytest_.wait(20)
    assert wait_for(lambda: not project.processes(), 3)
    assert not list(temporary.glob("trustllm-*"))
    assert "INTERNALERROR" not in project.output
    if stop == signal.SIGKILL:
        assert pytest_.returncode == -signal.SIGKILL
    else:
        assert pytest_.returncode == pytest.ExitCode.INTERRUPTED
        assert SAID[stop] in project.output
        assert "Traceback" not in project.output
        assert (project.path / "j.xml").exists()
        results = project.results()
        assert results["metrics"]["safety/many.accuracy"]["expected"] == 40
        assert results["gates"] == []


ENDS = {
    "SIGINT": (pytest.ExitCode.INTERRUPTED, "KeyboardInterrupt"),
    "SIGINT to all": (pytest.ExitCode.INTERRUPTED, "KeyboardInterrupt"),  # what a terminal sends at Ctrl-C
    "SIGTERM": (pytest.ExitCode.INTERRUPTED, "Interrupted: ended by SIGTERM"),
    "SIGTERM to all": (pytest.ExitCode.INTERRUPTED, "Interrupted: ended by SIGTERM"),
    "SIGKILL to all": (-signal.SIGKILL, ""),
    "host killed": (pytest.ExitCode.INTERRUPTED, "the model host ended during the run (signal SIGKILL)"),
    "worker killed": (pytest.ExitCode.TESTS_FAILED, "crashed while running"),
}
"""What ends a run -> its exit status, and what it says."""


def end(project: Project, how: str, pid: int) -> None:
    """End a run that pytest's process ``pid`` leads."""
    if how == "host killed":
        host = project.host()
        assert host is not None
        os.kill(host, signal.SIGKILL)
    elif how == "worker killed":
        workers = [p for p in project.processes() if p not in (pid, project.host())]
        os.kill(workers[0], signal.SIGKILL)
    else:
        name, _, to_all = how.partition(" ")
        (os.killpg if to_all else os.kill)(pid, signal.Signals[name])


ENDED_RUNS = [(how, workers) for how in ENDS for workers in ("0", "2") if (how, workers) != ("worker killed", "0")]
OFTEN = {("SIGKILL to all", "0"), ("SIGINT", "2"), ("worker killed", "2")}
"""Ends that the fast tests bring about, too."""


@pytest.mark.parametrize(
    ("how", "workers"),
    [pytest.param(*run, marks=() if run in OFTEN else pytest.mark.slow) for run in ENDED_RUNS],
)
def test_what_was_answered_stays_answered(project: Project, how: str, workers: str) -> None:
    project.samples(30)
    project.write("app.py", SLOW.replace("SECONDS", "0.1"))
    project.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: '1'}\n")
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    pytest_ = project.start("-n", workers, model="bot")
    assert wait_for(lambda: len(project.log()) >= 6)
    end(project, how, pytest_.pid)
    status, said = ENDS[how]
    assert pytest_.wait(30) == status
    assert wait_for(lambda: not project.processes(), 5)
    assert said in project.output
    assert "INTERNALERROR" not in project.output
    assert "Traceback" not in project.output
    if status == pytest.ExitCode.INTERRUPTED and how != "host killed":
        assert project.results()["metrics"]["safety/many.accuracy"]["expected"] == 30
    first = len(project.log())
    project.write("app.py", SLOW.replace("SECONDS", "0"))
    assert statuses(project.run("-n", workers, model="bot")) == {"passed": 30}
    assert set(project.log()) == {f"good {i}" for i in range(30)}
    again = len(project.log()) - 30  # the call that was under way is made once more, unless the end let it finish
    assert again <= (0 if how == "worker killed" else 1)
    assert first == 30 if how == "worker killed" else first < 30


HOLDS_UP = """
import pathlib, pytest, time
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        pathlib.Path(__file__).with_name("ends").touch()
        time.sleep(120)
"""


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_a_second_sigterm_ends_the_run_at_once(project: Project, workers: str) -> None:
    project.samples(40)
    project.write("app.py", SLOW.replace("SECONDS", "0.3"))
    project.write("conftest.py", HOLDS_UP)
    pytest_ = project.start("-n", workers)
    assert wait_for(lambda: len(project.log()) >= 2)
    os.kill(pytest_.pid, signal.SIGTERM)
    assert wait_for((project.path / "ends").exists)
    os.kill(pytest_.pid, signal.SIGTERM)
    assert pytest_.wait(20) == -signal.SIGTERM
    assert wait_for(lambda: not project.processes(), 5)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_signal_while_the_model_loads_leaves_no_process(project: Project, stop: signal.Signals) -> None:
    project.write("app.py", LOADS_FOREVER)
    pytest_ = project.start()
    assert wait_for(lambda: project.log() == ["loading"])
    os.kill(pytest_.pid, stop)
    pytest_.wait(10)
    assert wait_for(lambda: not project.processes(), 4)


def test_a_model_that_cannot_be_imported_is_one_failing_item(project: Project, mode: tuple[str, ...]) -> None:
    project.write("app.py", "import no_such_module\n")
    result = project.run(*mode)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    line = "models: 'python:app:answer': importing 'app' failed: ModuleNotFoundError: No module named 'no_such_module'"
    result.stdout.fnmatch_lines([line, f"*the model cannot be asked: {line}*"])
    assert "Traceback" not in result.stdout.str()
    assert statuses(result)["failed"] <= 2


PROVIDER = """
import sys

class Provider:
    form = ""
    kinds = frozenset({"chat"})
    options = {}

    def locate(self, target, base):
        return target

    def check(self, spec):
        pass

    def load(self, spec, settings):
        WHAT

def pytest_trustllm_register(registry):
    registry.providers.add("own", Provider)
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("sys.exit(3)", "SystemExit: 3"),
        ("next(iter(()))", "StopIteration: "),
        ("return None", "AttributeError: 'NoneType' object has no attribute 'stored'"),
    ],
)
def test_a_provider_that_does_not_load_is_one_line(project: Project, what: str, said: str) -> None:
    project.samples(3)
    project.write("conftest.py", PROVIDER.replace("WHAT", what))
    result = project.run(model="own", timeout=30)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*the model cannot be asked: model 'own' cannot be loaded: {said}*"])
    assert "Traceback" not in result.stdout.str()


def test_a_results_file_is_replaced_whole(project: Project) -> None:
    project.write("r.json", "{}")
    project.run()
    assert project.results()["schema"] == "pytest-trustllm/results/1"
    assert not list(project.path.glob(".r.*"))


def test_a_scorer_that_raises_fails_its_items_and_says_where(project: Project) -> None:
    project.prompts("good", "boom")
    project.write("conftest.py", WORD.replace('if "mumble"', 'if "boom" in text: 1 / 0\n        if "mumble"'))
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text().replace("        right =", '        print("read", text)\n        right ='))
    conftest.write_text(conftest.read_text().replace("1 / 0", "print('near') or 1 / 0"))
    result = project.run("-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert statuses(result) == {"failed": 1, "passed": 1}
    result.stdout.fnmatch_lines(
        [
            "scorer 'word' raised ZeroDivisionError: division by zero (conftest.py:*, in score)",
            "prompt:   boom",
            "response: you said boom",
            "printed:  near",
        ]
    )
    assert [line.get("printed") for line in project.lines()] == ["read you said good\n", "near\n"]


@pytest.mark.parametrize(
    ("raises", "reason"), [("raise SystemExit(3)", "SystemExit: 3"), ("__import__('pytest').fail('no')", "Failed: no")]
)
def test_nothing_that_a_scorer_raises_ends_the_host(project: Project, raises: str, reason: str) -> None:
    project.prompts("good", "boom")
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text().replace('if "mumble"', f'if "boom" in text: {raises}\n        if "mumble"')
    )
    result = project.run()
    assert statuses(result) == {"failed": 1, "passed": 1}
    result.stdout.fnmatch_lines([f"scorer 'word' raised {reason} (conftest.py:*, in score)"])
