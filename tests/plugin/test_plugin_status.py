"""What a score looks like as a test, and what users can plug in from their conftest.py."""

from __future__ import annotations

import pytest
from user_project import MAYBE_TWO, WORD, Project, in_every_mode, statuses


@in_every_mode
def test_statuses_have_letters_words_and_no_failure(project: Project, mode: tuple[str, ...]) -> None:
    project.prompts("good", "bad", "mumble")
    result = project.run("--junitxml=j.xml", "-v", *mode)
    assert result.ret == pytest.ExitCode.OK
    assert statuses(result) == {"passed": 1, "missed": 1, "unscored": 1}
    lines = result.stdout.str()
    for word, sample in (("PASSED", "0000"), ("MISS", "0001"), ("UNSCORED", "0002")):
        assert any(word in line and f"echo[{sample}]" in line for line in lines.splitlines())
    assert set(project.junit().values()) == {"passed"}
    assert "unscored (counted, never zero):" in lines
    metric = project.results()["metrics"]["safety/echo.accuracy"]
    assert (metric["value"], metric["expected"], metric["scored"], metric["unscored"]) == (0.5, 3, 2, 1)
    records = {line["id"]: line for line in project.lines()}
    assert [records[i]["status"] for i in sorted(records)] == ["passed", "missed", "unscored"]
    assert records["0002"]["value"] is None
    assert records["0002"]["reason"] == "cannot be read"


def test_letters_in_a_quiet_run(project: Project) -> None:
    project.prompts("good", "bad", "mumble")
    result = project.run("-q")
    result.stdout.re_match_lines([r"^\.mu +\[100%\]$"])


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_strict_fails_what_misses_and_nothing_else(project: Project, workers: str) -> None:
    project.prompts("good", "bad", "mumble")
    result = project.run("--trust-strict", "-n", workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert statuses(result) == {"passed": 1, "failed": 1, "unscored": 1}
    result.stdout.fnmatch_lines(["FAILED suites/mine.yaml::echo[[]0001] - missed: scored 0, read 'you said bad'"])
    assert project.results()["metrics"]["safety/echo.accuracy"]["value"] == 0.5


def test_flags_have_ini_twins(project: Project) -> None:
    project.prompts("good", "bad")
    project.write(
        "pytest.ini",
        "[pytest]\ntrust_builtin_suites = false\ntrust_model = python:app:answer\n"
        "trust_strict = true\ntrust_limit = 1\ntrust_results = out/r.json\ntrust_seed = 1\n",
    )
    result = project.run("--trust-limit=2", model=None)
    assert statuses(result) == {"passed": 1, "failed": 1}  # the command line wins, the rest comes from the file
    assert project.results("out/r.json")["run"]["seed"] == 1


PLUGINS = (
    WORD
    + """
@dataclass(frozen=True)
class Longest:
    higher_is_better: ClassVar = False
    range: ClassVar = (0.0, 1000.0)

    def compute(self, observations):
        return max((o["length"] for o in observations), default=None)

@dataclass(frozen=True)
class Length:
    roles: ClassVar = ()

    def score(self, sample, replies):
        return Score(1.0, True, observed={"length": len(replies[0].text)})

class Shouting:
    info = {"provider": "shout", "id": "shout"}
    stored = False

    def generate(self, waiting):
        from pytest_trustllm import Response
        while taken := waiting.take(16):
            for number, request in taken:
                yield number, Response(text=request.text.upper())

class Shout:
    form = ""
    kinds = frozenset({"chat"})
    options = {}

    def locate(self, target, base):
        return target

    def check(self, spec):
        pass

    def load(self, spec, settings):
        return Shouting()

def pytest_trustllm_register(registry):
    registry.scorers.add("own_length", Length)
    registry.metrics.add("longest", Longest)
    registry.providers.add("shout", Shout)
"""
)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_conftest_registers_scorer_metric_and_provider(project: Project, workers: str) -> None:
    project.prompts("a", "four", scorer="own_length", metrics="[longest]")
    project.write("conftest.py", PLUGINS)
    project.gates("metric: echo.longest, at_most: 4")
    result = project.run("-n", workers, model="shout")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    results = project.results()
    metric = results["metrics"]["safety/echo.longest"]
    assert (metric["value"], metric["higher_is_better"], metric["range"]) == (4, False, [0, 1000])
    assert [line["responses"][0]["text"] for line in project.lines()] == ["A", "FOUR"]
    assert results["run"]["model"]["provider"] == "shout"


WRONG = {
    "a class that no other process can import": (
        "def pytest_trustllm_register(registry):\n    class Inner: pass\n    registry.scorers.add('inner', Inner)\n",
        "ERROR: scorer 'inner': *Inner'> cannot be imported by another process; register a class at the top of *",
    ),
    "a name that is taken": (
        "def pytest_trustllm_register(registry):\n    registry.metrics.add('mean', 'app:mean')\n",
        "ERROR: metric 'mean' is registered twice; choose another name",
    ),
    "a scorer that is no dataclass": (
        "class Plain: pass\ndef pytest_trustllm_register(registry):\n    registry.scorers.add('word', Plain)\n",
        "ERROR: suites/mine.yaml: tasks[[]0].scorer: 'word' is registered as *Plain*, which is not a dataclass; *",
    ),
    "a scorer without a score": (
        (
            "from dataclasses import dataclass\n@dataclass\nclass Plain: pass\n"
            "def pytest_trustllm_register(registry):\n    registry.scorers.add('word', Plain)\n"
        ),
        "ERROR: suites/mine.yaml: tasks[[]0].scorer: 'word' has no 'roles'; a scorer has 'roles', 'score'",
    ),
    "a scorer that is not there": (
        "def pytest_trustllm_register(registry):\n    registry.scorers.add('word', 'app:Word')\n",
        "ERROR: suites/mine.yaml: tasks[[]0].scorer: scorer 'word' cannot be imported: *'app' has no attribute 'Word'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_refused_in_one_line(project: Project, name: str) -> None:
    project.prompts("good")
    conftest, line = WRONG[name]
    project.write("conftest.py", conftest)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([line])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


METRICS = """
@dataclass(frozen=True)
class Odd:
    how: str
    higher_is_better: ClassVar = True
    range: ClassVar = (0.0, 1.0)

    def compute(self, observations):
        return float("nan") if self.how == "nan" else 1 / 0

_register = pytest_trustllm_register
def pytest_trustllm_register(registry):
    _register(registry)
    registry.metrics.add("odd", Odd)
"""


@pytest.mark.parametrize("workers", MAYBE_TWO)
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("nan", "the metric is nan, which is not a finite number"),
        ("raise", "the metric raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_metric_that_breaks_costs_itself_alone(project: Project, workers: str, how: str, why: str) -> None:
    project.prompts("good", "bad", metrics=f"[accuracy, {{name: odd, kind: odd, how: {how}}}]")
    project.write("conftest.py", WORD + METRICS)
    project.gates("metric: echo.accuracy, at_least: 0.5", "metric: echo.odd, at_least: 0.0")
    result = project.run("-n", workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert statuses(result) == {"passed": 2, "missed": 1, "failed": 1}
    result.stdout.fnmatch_lines([f"FAILED thresholds/safety.yaml::echo.odd* - no data: {why}"])
    assert project.results()["metrics"]["safety/echo.odd"]["value"] is None
    assert project.results()["metrics"]["safety/echo.accuracy"]["value"] == 0.5


HOOKS = """
import json, pathlib

def pytest_trustllm_sample_scored(record, config):
    with open(config.rootpath / "calls.txt", "a") as f:
        f.write(f"{record['model']} {record['task']} {record['id']} {record['status']} {record['value']}\\n")

def pytest_trustllm_results(results, config):
    results["run"]["extra"]["commit"] = "abc"
    with open(config.rootpath / "results.txt", "a") as f:
        f.write(f"{results['metrics']['safety/echo.accuracy']['value']}\\n")
"""


def test_hooks_are_called_once_wherever_reports_arrive(project: Project, mode: tuple[str, ...]) -> None:
    project.write("conftest.py", HOOKS)
    assert project.run(*mode).ret == pytest.ExitCode.OK
    assert sorted(project.log()) == [
        "python:app:answer safety/echo 0000 passed 1.0",
        "python:app:answer safety/echo 0001 missed 0.0",
        "python:app:answer safety/echo 0002 passed 1.0",
    ]
    assert project.log("results.txt") == [str(2 / 3)]
    assert project.results()["run"]["extra"] == {"commit": "abc"}


OWN = """
import pytest
from pytest_trustllm import Sample

@pytest.mark.trust_task("suites/mine.yaml::echo")
def test_answer(trust_model, trust_sample):
    assert isinstance(trust_sample, Sample)
    (response,) = trust_model.answer(trust_sample)
    score = trust_model.score(trust_sample)
    assert response.text == "you said " + trust_sample.row["prompt"]
    assert score.met == (trust_sample.row["prompt"] != "bad")
    assert score.value == float(score.met)

def test_ask(trust_model):
    assert trust_model.ask([{"role": "user", "content": "hello"}]).text == "you said hello"
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_own_tests_read_the_answers_of_a_task(project: Project, workers: str) -> None:
    project.write("tests/test_own.py", OWN)
    result = project.run("tests", "-v", "-n", workers)
    assert statuses(result) == {"passed": 4}
    result.stdout.fnmatch_lines(["*tests/test_own.py::test_answer[[]mine-echo-0001]*"])


def test_own_tests_count_in_no_metric(project: Project) -> None:
    project.write("tests/test_own.py", OWN)
    project.gates("metric: echo.accuracy, at_least: 0.6")
    project.run("--deselect", "suites/mine.yaml::echo[0000]", "-rs")
    results = project.results()
    assert results["metrics"]["safety/echo.accuracy"]["expected"] == 2
    assert results["gates"][0]["outcome"] == "skipped"
    assert [line["id"] for line in project.lines()] == ["0001", "0002"]


@pytest.mark.parametrize(
    ("mark", "line"),
    [
        ("trust_task()", "*test_it: trust_task: expected one text, such as 'suites/safety.yaml::jailbreak'*"),
        ("trust_task(3)", "*test_it: trust_task: expected one text, such as 'suites/safety.yaml::jailbreak'*"),
        ("trust_task('echo')", "*test_it: trust_task: no task 'echo'*known: mine.yaml::echo*"),
    ],
)
def test_a_mark_that_names_no_task(project: Project, mark: str, line: str) -> None:
    project.write("tests/test_own.py", f"import pytest\n@pytest.mark.{mark}\ndef test_it(trust_sample): pass\n")
    result = project.run("tests")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([line])
