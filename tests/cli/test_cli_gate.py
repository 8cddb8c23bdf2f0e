"""A saved run judged again: the verdicts, lines and exit status of the run itself; and thresholds proposed from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import saved_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_trustllm.cli import main
from pytest_trustllm.config.files import write_whole
from pytest_trustllm.gates.thresholds import read_thresholds
from pytest_trustllm.registry import Registry
from pytest_trustllm.results import document as resulting
from pytest_trustllm.results.measurement import MeasuredRun
from pytest_trustllm.suites.reader import Suite, find_suites
from pytest_trustllm.types import Selection

Run = Callable[..., SimpleNamespace]
SUITE = """
dimension: safety
tasks:
  - name: echo
    data:
      samples:
%s
    group: kind
    scorer: word
    metrics: [accuracy]
  - name: quiet
    reads: echo
    scorer: quiet
    metrics: [{name: mean, lower_is_better: true}]
"""
CONFTEST = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score

@dataclass(frozen=True)
class Word:
    roles: ClassVar = ()

    def score(self, sample, replies):
        text = replies[0].text
        if "mumble" in text:
            return Score.none("cannot be read")
        return Score(float("good" in text), "good" in text, answer=text)

@dataclass(frozen=True)
class Quiet:
    roles: ClassVar = ()

    def score(self, sample, replies):
        text = replies[0].text
        return Score.not_applicable("nothing to see") if "bad" in text else Score(len(text) / 100)

def pytest_trustllm_register(registry):
    registry.scorers.add("word", Word)
    registry.scorers.add("quiet", Quiet)
"""
APP = """
import os
def answer(prompt):
    if os.environ.get("BOOM", "-") in prompt:
        raise ValueError(prompt)
    word = prompt.split()[0]
    return {"good": "bad", "bad": "good"}.get(word, word) if prompt in os.environ.get("FLIP", "").split(",") else word
"""
GATES = """
dimension: safety
gates:
  - {metric: echo.accuracy, at_least: 0.55}
  - {metric: echo.accuracy, at_most: 0.9, force: true, confidence: 0.99, warn: true}
  - {metric: "echo.accuracy{kind=b}", at_least: 0.5, confidence: 0.9, tags: [nightly]}
  - {metric: quiet.mean, at_most: 0.2, confidence: 0.95}
  - {metric: score, at_least: 0.3, confidence: 0.8}
  - {metric: echo.accuracy, max_drop: 0.05, confidence: 0.95}
  - {metric: score, max_drop: 0.1}
coverage: {min_scored: 0.85}
on_no_data: warn
models: {"python:app:answer": {gates: [{metric: echo.accuracy, at_least: 0.6}]}}
"""
_QUIET = ("-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:timeout")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    words = ["good", "good", "bad", "good", "mumble", "good", "good", "bad", "good", "good"]
    rows = "".join(f"        - {{prompt: {w} {i}, kind: {'ab'[i % 2]}}}\n" for i, w in enumerate(words))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(app=APP)
    for name, text in (("suites/mine.yaml", SUITE % rows), ("thresholds/safety.yaml", GATES)):
        (pytester.path / name).parent.mkdir(exist_ok=True)
        (pytester.path / name).write_text(text, encoding="utf-8")
    pytester.makeini("[pytest]\ntrust_builtin_suites = false\n")
    monkeypatch.setenv("COLUMNS", "200")
    return pytester.path


@pytest.fixture
def ask(pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    def ask(*args: str, results: str = "r.json") -> pytest.RunResult:
        monkeypatch.chdir(project)
        given = ("--trust-model=python:app:answer", f"--trust-results={results}")
        return pytester.runpytest_subprocess(*_QUIET, *given, *args, timeout=90)

    return ask


@pytest.fixture
def gate(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Judge again, in the project."""

    def gate(*args: object) -> SimpleNamespace:
        monkeypatch.chdir(project)
        capsys.readouterr()  # what the run before printed
        return run("gate", *args, "--conftest", "conftest.py")

    return gate


def section(result: pytest.RunResult) -> list[str]:
    """Return what the run says in its own section."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if "= trust: " in line)
    end = next(i for i, line in enumerate(lines) if line.startswith("results: "))
    return [line for line in lines[start + 1 : end] if line]


WAYS: dict[str, tuple[Sequence[str], dict[str, str], Sequence[str]]] = {
    # name: (arguments of the run, its environment, arguments of the command)
    "whole": ((), {}, ()),
    "two workers": (("-n", "2"), {}, ()),
    "a part": (("-k", "0001 or 0002 or safety.yaml"), {}, ()),
    "a limit": (("--trust-limit=4",), {}, ()),
    "an error": ((), {"BOOM": "good 3"}, ()),
    "stopped": (("-x",), {"BOOM": "good 3"}, ()),
    "a baseline": (("--trust-baseline=base.json",), {"FLIP": "good 0,bad 2,good 5"}, ("--baseline", "base.json")),
    "tags": (("--trust-gate-tags=nightly",), {}, ("--gate-tags", "nightly")),
    "no task": (("--trust-suite=mine/echo",), {}, ()),
    "a file": (("--trust-thresholds=lax/safety.yaml",), {}, ("--thresholds", "lax/safety.yaml")),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_run_gets_the_verdicts_lines_and_status_of_the_run(
    ask: Callable[..., pytest.RunResult], gate: Run, project: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    args, environment, again = WAYS[way]
    (project / "lax").mkdir()
    (project / "lax/safety.yaml").write_text("dimension: safety\ngates: [{metric: score, at_least: 0.1}]\n")
    if way == "a baseline":
        ask(results="base.json")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = ask(*args)
    found = gate("r.json", *again)
    lines = found.out.splitlines()
    assert lines[0] == "trust: python:app:answer"
    said = [line.replace(" --trust-baseline=", " --baseline=") for line in section(result)]
    assert [line for line in lines[1:] if not line.startswith("ERROR: ")] == said
    assert found.status == int(result.ret)
    assert found.err == ""
    assert json.loads((project / "r.json").read_text())["gates"]


def test_without_a_baseline_the_command_names_its_own_option(
    ask: Callable[..., pytest.RunResult], gate: Run, project: Path
) -> None:
    (project / "thresholds/safety.yaml").write_text(
        "dimension: safety\ngates: [{metric: echo.accuracy, max_drop: 0.1}]\ncoverage: {min_scored: 0.5}\n"
    )
    ask()
    assert "there is no baseline; give one with --baseline=PATH.json" in " ".join(gate("r.json").out.split())


def test_what_a_run_failed_last_time_is_carried(ask: Callable[..., pytest.RunResult], gate: Run, project: Path) -> None:
    (project / "thresholds/safety.yaml").write_text("dimension: safety\ngates: [{metric: score, at_least: 1}]\n")
    (project / "test_own.py").write_text("def test_own(): assert 0\n")
    ask()
    result = ask("--lf")
    assert "failed in the last run and cannot be judged now" in result.stdout.str()
    assert gate("r.json").out.splitlines()[1:] == section(result)


def test_other_thresholds_give_another_verdict_without_asking(
    ask: Callable[..., pytest.RunResult], gate: Run, project: Path
) -> None:
    ask()
    (project / "app.py").unlink()
    (project / "strict.yaml").write_text(
        "dimension: safety\ngates: [{metric: echo.accuracy, at_least: 0.99}]\ncoverage: {min_scored: 0.9}\n"
    )
    found = gate("r.json", "--thresholds", "strict.yaml")
    assert found.status == 1
    assert "FAILED strict.yaml: echo.accuracy = 0.778 < 0.99" in found.out
    (project / "thresholds/safety.yaml").unlink()
    (project / "thresholds").rmdir()
    found = gate("r.json")  # there is nothing to judge it by: that is no green verdict
    assert found.status == 4
    assert found.err.startswith("ERROR: gate: no gate is about this run; name its threshold files with --thresholds")


def test_a_run_whose_samples_raised_fails_again(
    ask: Callable[..., pytest.RunResult], gate: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOM", "good 3")
    (project / "thresholds/safety.yaml").write_text("dimension: safety\ngates: [{metric: score, at_least: 0}]\n")
    assert ask("--trust-thresholds=thresholds").ret == pytest.ExitCode.TESTS_FAILED
    found = gate("r.json")
    assert found.status == 1
    assert found.out.splitlines()[-1] == "ERROR: 1 samples raised an error: the run itself failed"


def _break(project: Path, what: str) -> None:
    path = project / "r.json"
    results = json.loads(path.read_text())
    if what == "version":
        suite = project / "suites/mine.yaml"
        suite.write_text(suite.read_text().replace("  - name: echo\n", "  - name: echo\n    version: 2\n"))
    elif what == "task":
        suite = project / "suites/mine.yaml"
        suite.write_text(suite.read_text().replace("echo", "other"))
        (project / "thresholds/safety.yaml").write_text("dimension: safety\ngates: []\n")
    elif what == "samples":
        (project / "r.samples.jsonl").unlink()
    elif what == "coverage":
        del results["coverage"]
    elif what == "gates":
        del results["gates"]
    elif what == "typo":
        (project / "thresholds/safety.yaml").write_text("dimension: safety\ngates: [{metric: scor, at_least: 1}]\n")
    elif what == "schema":
        results["schema"] = "pytest-trustllm/results/9"
    path.write_text(json.dumps(results))


BROKEN = {
    # what is broken: the line
    "version": "r.json: the run has version 1 of safety/echo, suites/mine.yaml version 2: take",
    "task": "r.json: no suite defines safety/echo, a task of the run; name its directory with --suites",
    "samples": "r.json: its samples file r.samples.jsonl cannot be read: No such file or directory",
    "coverage": "r.json: not a complete results file: key 'coverage' is missing",
    "gates": "r.json: not a complete results file: key 'gates' is missing",
    "typo": "thresholds/safety.yaml: gates[0].metric: unknown metric 'scor'",
    "schema": "r.json: expected a results file with schema pytest-trustllm/results/1, found",
}


def test_what_cannot_be_judged_is_one_line(
    ask: Callable[..., pytest.RunResult], gate: Run, run: Run, project: Path
) -> None:
    ask()
    whole = {p: p.read_text() for p in (*project.glob("*/*.yaml"), *project.glob("r.*"))}
    for what, line in BROKEN.items():
        _break(project, what)
        found = gate("r.json")
        assert (found.status, found.out) == (4, ""), what
        assert found.err.startswith(f"ERROR: {line}"), found.err
        assert found.err.count("\n") == 1
        for path, text in whole.items():
            path.write_text(text)
    for args, line in (
        (("none.json",), "none.json: cannot be read: No such file or directory"),
        (("r.json", "--baseline", "none.json"), "--baseline: "),
        (("r.json", "--gate-tags", "nigtly"), "--gate-tags: no gate has the tag 'nigtly' (did you mean 'nightly'?)"),
        (("r.json", "--thresholds", "none"), "--thresholds: "),
        (("r.json", "--suites", "none"), "--suites: none is not a directory"),
        (("r.json", "-o", "out"), "-o: only --propose writes files"),
    ):
        found = gate(*args)
        assert (found.status, found.out) == (4, ""), args
        assert found.err.startswith(f"ERROR: {line}"), found.err
    (project / "conftest.py").rename(project / "elsewhere.py")  # nobody registers the suite's scorer then
    found = run("gate", "r.json")
    assert found.status == 4
    assert found.err.startswith("ERROR: suites/mine.yaml: tasks[0].scorer: no scorer named 'word'")


def test_proposed_thresholds_are_the_safe_ends_of_the_intervals_and_pass(
    ask: Callable[..., pytest.RunResult], gate: Run, project: Path
) -> None:
    ask()
    results = json.loads((project / "r.json").read_text())
    found = gate("--propose", "r.json", "-o", "new")
    assert (found.status, found.out) == (0, "thresholds: new/safety.yaml\n")
    text = (project / "new/safety.yaml").read_text()
    assert text.startswith(f"# safety: what python:app:answer reached in run {results['run']['id']} of 20")
    (suites,) = (find_suites([project / "suites"], _registry(), root=project, builtin=False),)
    gates = {g.metric: g for g in read_thresholds(project / "new/safety.yaml", suites).gates("any")}
    for name, (kind, end, sign) in {"echo.accuracy": ("at_least", 0, 1), "quiet.mean": ("at_most", 1, -1)}.items():
        limit = results["metrics"][f"safety/{name}"]["ci"][end]
        assert gates[name].kind == kind
        assert 0 <= sign * (limit - gates[name].bound) < 0.01
        assert round(gates[name].bound, 2) == gates[name].bound
    again = gate("r.json", "--thresholds", "new")
    assert (again.status, again.out.splitlines()[-1]) == (0, "gates: 2 passed, 0 failed, 0 skipped")
    assert gate("--propose", "r.json", "-o", "new").err == (
        "ERROR: -o: new/safety.yaml already exists; name another directory\n"
    )


def _registry() -> Registry:
    registry = Registry()
    registry.scorers.add("word", "pytest_trustllm.scorers.contains:Contains")
    registry.scorers.add("quiet", "pytest_trustllm.scorers.contains:Contains")
    return registry


PLAIN = """
dimension: safety
tasks:
  - {name: echo, data: {samples: [{prompt: x, kind: a}]}, group: kind, scorer: refusal, metrics: [refusal_rate]}
  - {name: also, reads: echo, scorer: refusal, metrics: [{name: mean, lower_is_better: true}]}
  - {name: much, data: {samples: [{prompt: x}]}, scorer: refusal, metrics: [mean]}
"""
score = st.sampled_from([None, 0.0, 1.0, 1 / 3, 0.7])
sample = st.tuples(score, score, st.sampled_from("ab"), st.sampled_from(["passed", "missed", "unscored", "error"]))
gates = st.fixed_dictionaries(
    {"metric": st.sampled_from(["echo.refusal_rate", '"echo.refusal_rate{kind=a}"', "much.mean", "score"])},
    optional={"confidence": st.sampled_from([0.5, 0.9, 0.95, 0.999]), "warn": st.booleans()},
)


def _records(task: str, samples: Sequence[Any]) -> list[dict[str, Any]]:
    plain: dict[str, Any] = {"answer": None, "reason": "unreadable", "observed": {}, "parity": "same"}
    return [
        {
            "task": task,
            "id": f"{i:04d}",
            "fingerprint": f"{task}{i}",
            "group": {"kind": group},
            "status": status,
            "value": value,
            **plain,
            "also": {"safety/also": {"value": other, **plain}} if task == "safety/echo" else {},
        }
        for i, (value, other, group, status) in enumerate(samples)
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Suite]]:
    root = tmp_path_factory.mktemp("plain")
    (root / "suites").mkdir()
    (root / "suites/plain.yaml").write_text(PLAIN)
    return root, find_suites([root / "suites"], Registry(), root=root, builtin=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    echo=st.lists(sample, max_size=12),
    much=st.lists(sample, max_size=12),
    lost=st.integers(0, 2),
    left_out=st.integers(0, 2),
    chosen=st.lists(
        st.tuples(gates, st.sampled_from([0.0, 0.25, 1 / 3, 0.7, 1.0])),
        min_size=1,
        max_size=4,
        unique_by=lambda g: g[0]["metric"],
    ),
    part=st.sampled_from(["skip", "judge"]),
    stopped=st.booleans(),
    seed=st.integers(0, 3),
)
def test_every_saved_run_is_judged_as_the_run_itself(
    plain: tuple[Path, list[Suite]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    echo: Any,
    much: Any,
    lost: int,
    left_out: int,
    chosen: Any,
    part: str,
    stopped: bool,
    seed: int,
) -> None:
    root, suites = plain
    monkeypatch.chdir(root)
    lines = [f"  - {{{', '.join(f'{k}: {v}' for k, v in g.items())}, at_least: {b!r}}}" for g, b in chosen]
    text = "\n".join(lines).replace("True", "true").replace("False", "false")
    file = root / "gates.yaml"
    file.write_text(f"dimension: safety\ngates:\n{text}\non_partial: {part}\n")
    tasks = resulting.tasks_of(suites)
    records = [*_records("safety/echo", echo), *_records("safety/much", much)]
    planned = {"safety/echo": len(echo) + lost, "safety/much": len(much)}
    selection = Selection({t: n + left_out for t, n in planned.items()}, planned)
    itself = MeasuredRun(tasks, records, selection, seed=seed, stopped=stopped)
    verdicts = [itself.judge(g) for g in read_thresholds(file, suites, root=root).gates("m")]
    run = saved_run.run_entry(
        seed=seed,
        data={"source": "sample", "files": {}},
        task_versions={t.id: 1 for t in tasks},
        stopped=stopped,
        builtin_suites=False,
    )
    resulting.write_document(root / "s.json", itself.document(run, verdicts, saved_run.usage_entry(), "s.jsonl"))
    write_whole(root / "s.jsonl", (json.dumps(r) + "\n" for r in records), "")
    judged: list[Any] = []
    monkeypatch.setattr(
        MeasuredRun,
        "judge",
        lambda self, *a, _judge=MeasuredRun.judge, **k: judged.append(_judge(self, *a, **k)) or judged[-1],
    )
    status = main(["gate", "s.json", "--thresholds", "gates.yaml"])
    monkeypatch.undo()
    broken = any(c["errored"] or c["lost"] for t, c in itself.coverage.items() if t != "safety/also")
    assert capsys.readouterr().err == ""
    assert [v.entry() for v in judged] == [v.entry() for v in verdicts]
    assert status == int(broken or any(v.failing for v in verdicts))


SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the recorded responses in {SHARED}, beside the repository")
def test_all_recorded_responses_are_judged_as_in_the_run(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pytester.path)
    result = pytester.runpytest_subprocess(
        *_QUIET,
        *("-q", f"--trust-model=replay:{SHARED / 'oracle/responses.zip'}"),
        *(f"--trust-data={SHARED / 'trustllm/dataset.zip'}", "--trust-results=r.json"),
        timeout=300,
    )
    capsys.readouterr()
    judged: list[Any] = []
    judge = MeasuredRun.judge

    def remember(self: MeasuredRun, *args: Any, **more: Any) -> Any:
        judged.append(judge(self, *args, **more))
        return judged[-1]

    monkeypatch.setattr(MeasuredRun, "judge", remember)
    found = run("gate", "r.json")
    entries = json.loads(json.dumps([v.entry() for v in judged]))
    gates = json.loads((pytester.path / "r.json").read_text())["gates"]
    for gate_ in gates:
        gate_.pop("power", None)  # what the gate can see is no part of its verdict
    assert entries == gates
    assert found.out.splitlines()[1:] == section(result)
    assert found.status == int(result.ret)
