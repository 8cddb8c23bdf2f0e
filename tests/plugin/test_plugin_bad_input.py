"""What a user gets for a mistake: one line that says where, what, what is accepted, and exit status 4."""

from __future__ import annotations

import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from user_project import MAYBE_TWO, SUITE, Project

LATIN = "a: \xe9\n".encode("latin-1")
TASK = "dimension: safety\ntasks:\n- {name: a, scorer: contains, metrics: [mean], %s}\n"
GATES = "dimension: safety\ngates:\n  - {%s}\n"

MISTAKES: dict[str, tuple[dict[str, str | bytes], tuple[str, ...], str]] = {
    # name: (files to write, arguments, what the line says; * stands for anything)
    "unknown model": (
        {},
        ("--trust-model=llama2-7",),
        "models: no model named 'llama2-7' (did you mean 'llama2-7b'?)*accepted: *hf:*python:*",
    ),
    "unknown provider": ({}, ("--trust-model=openia:gpt-4o",), "models: no model named 'openia:gpt-4o'*openai:*"),
    "the same model twice": ({}, ("--trust-model=python:app:answer",), "--trust-model: the same model is given twice"),
    "unknown meaning of a block": (
        {},
        ("--trust-blocked=miss",),
        "--trust-blocked: 'miss' is not known; write refusal or unscored",
    ),
    "more epochs than anybody needs": (
        {},
        ("--trust-epochs=99999999",),
        "--trust-epochs: expected at most 1,000, found 99,999,999",
    ),
    "requests that are sent again and forbidden": (
        {},
        ("--trust-fresh", "--trust-offline"),
        "--trust-fresh: --trust-offline forbids the requests that it sends again; leave one of them out",
    ),
    "no licence": ({}, ("--trust-licences=",), "--trust-licences: expected licences, such as *, found nothing"),
    "no licence but a comma": ({}, ("--trust-licences= ,",), "--trust-licences: expected licences, such as *"),
    "suite of a pack that is not installed": (
        {},
        ("--trust-suite=xstest/safe",),
        "--trust-suite: no suite or task 'xstest/safe'; it is in *: pip install pytest-trustllm-packs",
    ),
    "simulator that is none": (
        {},
        ("--trust-simulator=rulez",),
        "models: no model named 'rulez'; accepted: a name that 'pytest-trustllm models' lists, *hf:*, demo",
    ),
    "unknown suite": (
        {},
        ("--trust-suite=main",),
        "--trust-suite: no suite or task 'main' (did you mean 'mine'?); known: mine, mine/echo",
    ),
    "unknown task": ({}, ("--trust-suite=mine/eco",), "--trust-suite: no suite or task 'mine/eco'*'mine/echo'*"),
    "suite directory that is not there": (
        {"pytest.ini": "[pytest]\ntrust_builtin_suites = false\ntrust_suites = none\n"},
        (),
        "trust_suites: none is not a directory",
    ),
    "unknown key of a suite": (
        {"suites/mine.yaml": "dimension: safety\ntask: []\ntasks: []\n"},
        (),
        (
            "suites/mine.yaml: unknown key 'task' (did you mean 'tasks'?); "
            "known: dimension, files, languages, source, tags, tasks"
        ),
    ),
    "unknown scorer": (
        {"suites/mine.yaml": "dimension: safety\ntasks:\n- {name: a, data: {samples: [{prompt: x}]}, scorer: refussal, "
                             "metrics: [mean]}\n"},
        (),
        "suites/mine.yaml: tasks[0].scorer: no scorer named 'refussal' (did you mean 'refusal'?); known: *",
    ),
    "unknown metric of a suite": (
        {"suites/mine.yaml": "dimension: safety\ntasks:\n- {name: a, data: {samples: [{prompt: x}]}, scorer: refusal, "
                             "metrics: [meen]}\n"},
        (),
        "suites/mine.yaml: tasks[0].metrics[0]*: no metric named 'meen' (did you mean 'mean'?); known: *",
    ),
    "broken YAML": (
        {"suites/mine.yaml": "dimension: safety\ntasks:\n  - name: [oops\n"},
        (),
        "suites/mine.yaml:4:1: broken YAML: *",
    ),
    "a tab in YAML": (
        {"thresholds/safety.yaml": "dimension: safety\n\tgates: []\n"},
        (),
        "thresholds/safety.yaml:2:1: broken YAML: *",
    ),
    "a suite that is empty": ({"suites/mine.yaml": ""}, (), "suites/mine.yaml: expected a mapping, found None"),
    "a row without a prompt": (
        {"suites/mine.yaml": "dimension: safety\ntasks:\n- {name: a, data: {samples: here.jsonl}, scorer: refusal, "
                             "metrics: [mean]}\n"},
        (),
        "suites/mine.yaml: tasks[0].data.samples: no such file beside the suite: here.jsonl",
    ),
    "unknown dimension": (
        {"thresholds/safety.yaml": "dimension: safty\ngates: []\n"},
        (),
        "thresholds/safety.yaml: dimension: 'safty' is not accepted (did you mean 'safety'?); known: safety",
    ),
    "unknown metric of a gate": (
        {"thresholds/safety.yaml": GATES % "metric: echo.acuracy, at_least: 0.5"},
        (),
        "thresholds/safety.yaml: gates[0].metric: no suite of 'safety' defines the metric 'echo.acuracy' (did you *",
    ),
    "unknown group of a gate": (
        {"thresholds/safety.yaml": GATES % '''metric: "echo.accuracy{knd=a}", at_least: 0.5'''},
        (),
        "thresholds/safety.yaml: gates[0].metric: safety/echo has no group 'knd' (did you mean 'kind'?); known: kind",
    ),
    "unknown key of a gate": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, at_leest: 0.5"},
        (),
        "thresholds/safety.yaml: gates[0]: unknown key 'at_leest' (did you mean 'at_least'?); known: *",
    ),
    "a percent for a share": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, at_least: 92"},
        (),
        "thresholds/safety.yaml: gates[0].at_least: 92 is outside [0, 1]; write 0.92",
    ),
    "a threshold below the range": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, at_least: -0.1"},
        (),
        "thresholds/safety.yaml: gates[0].at_least: -0.1 is outside [0, 1]",
    ),
    "the wrong direction": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, at_most: 0.5"},
        (),
        "thresholds/safety.yaml: gates[0].at_most: higher is better for 'echo.accuracy'; write 'at_least', or *force*",
    ),
    "two bounds in a gate": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, at_least: 0.5, at_most: 0.9"},
        (),
        "thresholds/safety.yaml: gates[0]: expected exactly one of at_least, at_most, max_drop",
    ),
    "an unknown tag": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, at_least: 0.5, tags: [nightly]"},
        ("--trust-gate-tags=nigtly",),
        "--trust-gate-tags: no gate has the tag 'nigtly' (did you mean 'nightly'?); known: nightly",
    ),
    "a confidence in percent": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, at_least: 0.5, confidence: 95"},
        (),
        "thresholds/safety.yaml: gates[0].confidence: 95 is outside [0.5, 0.9999]; write 0.95",
    ),
    "a drop below nothing": (
        {"thresholds/safety.yaml": GATES % "metric: echo.accuracy, max_drop: -0.02"},
        (),
        "thresholds/safety.yaml: gates[0].max_drop: -0.02 is outside [0, 1]",
    ),
    "a shipped file that does not exist": (
        {"thresholds/safety.yaml": "dimension: safety\nextends: builtin:safty\n"},
        (),
        "thresholds/safety.yaml: extends: 'builtin:safty' is not accepted (did you mean 'builtin:safety'?); known: *",
    ),
    "a shipped file about other suites": (
        {"thresholds/safety.yaml": "dimension: safety\nextends: builtin:safety\n"},
        (),
        "trustllm/thresholds/sample/safety.yaml: gates[0].metric: no suite of 'safety' defines the metric '*'*",
    ),
    "a policy that is none": (
        {"thresholds/safety.yaml": "dimension: safety\ngates: []\non_inconclusive: pass\n"},
        (),
        "thresholds/safety.yaml: on_inconclusive: 'pass' is not accepted; known: fail, warn",
    ),
    "thresholds that are not there": ({}, ("--trust-thresholds=none",), "--trust-thresholds: *none does not exist"),
    "thresholds without a gate": (
        {"empty/safety.yaml": "dimension: safety\ngates: []\n"},
        ("--trust-thresholds=empty",),
        "empty/safety.yaml: gates: an empty list judges nothing and removes no inherited gate; *",
    ),
    "data that is not there": ({}, ("--trust-data=none.zip",), "--trust-data: *none.zip does not exist"),
    "data that is no zip": (
        {"data.zip": "not a zip"},
        ("--trust-data=data.zip",),
        "--trust-data: *data.zip is neither a directory nor a zip file",
    ),
    "data that is not TrustLLM's": (
        {"data/other/file.json": "[]"},
        ("--trust-data=data",),
        "--trust-data: *data holds none of TrustLLM's folders (truthfulness, *) with .json files; give the directory *",
    ),
    "a limit that is no number": ({}, ("--trust-limit=few",), "--trust-limit: expected a whole number, found 'few'"),
    "a limit of nothing": ({}, ("--trust-limit=0",), "--trust-limit: expected at least 1, found 0"),
    "results that are no .json": ({}, ("--trust-results=r.txt",), "--trust-results: expected a file name*.json*r.txt"),
    "a report that is no .html": ({}, ("--trust-report=r.pdf",), "--trust-report: expected a file name*.html*r.pdf"),
    "an unknown judge": ({}, ("--trust-judge=gpt-9",), "models: no model named 'gpt-9'*"),
    "a judge that only classifies": (
        {},
        ("--trust-judge=rules",),
        "models: 'rules' is a classifier; expected a chat model",
    ),
    "a models file that is not there": (
        {"pytest.ini": "[pytest]\ntrust_builtin_suites = false\ntrust_models = m.yaml\n"},
        (),
        "m.yaml: cannot be read: No such file or directory",
    ),
    "a broken models file": (
        {"pytest.ini": "[pytest]\ntrust_builtin_suites = false\ntrust_models = m.yaml\n",
         "m.yaml": "bot: {provider: openai, model: x, base_uri: y}\n"},
        (),
        "m.yaml: bot: unknown key 'base_uri' (did you mean 'base_url'?); known: *",
    ),
    "a models file that is no text": (
        {"pytest.ini": "[pytest]\ntrust_builtin_suites = false\ntrust_models = m.yaml\n", "m.yaml": LATIN},
        (),
        "m.yaml: is not UTF-8 text (byte 3)",
    ),
    "a suite that is no text": ({"suites/mine.yaml": LATIN}, (), "suites/mine.yaml: is not UTF-8 text (byte 3)"),
    "a directory for a suite": ({"suites/a.yaml/x": ""}, (), "suites/a.yaml: cannot be read: Is a directory"),
    "a suite of another ending": ({"suites/a.yml": ""}, (), "suites/a.yml: a suite file ends in .yaml; rename it"),
    "a suite without a task": (
        {"suites/mine.yaml": "dimension: safety\ntasks: []\n"}, (), "suites/mine.yaml: tasks: a suite needs at least *",
    ),
    "a task twice": ({"suites/b.yaml": SUITE}, (), "suites/mine.yaml: task 'safety/echo' is defined in suites/b.*"),
    "a broken template": (
        {"suites/mine.yaml": TASK % 'data: {samples: [{prompt: x}]}, prompt: "{{ x "'},
        (),
        "suites/mine.yaml: tasks[0].prompt: broken template: unexpected end of template*",
    ),
    "a set in a row": (
        {"suites/mine.yaml": TASK % "data: {samples: [{prompt: !!set {a}}]}"},
        (),
        "suites/mine.yaml:*: broken YAML: !!set is not accepted; write plain data",
    ),
    "thresholds that are no text": (
        {"thresholds/safety.yaml": LATIN}, (), "thresholds/safety.yaml: is not UTF-8 text (byte 3)",
    ),
    "a directory for thresholds": (
        {"thresholds/safety.yaml/x": ""}, (), "thresholds/safety.yaml: cannot be read: Is a directory",
    ),
    "a directory for results": (
        {"r2.json/x": ""}, ("--trust-results=r2.json",), "--trust-results: expected a file name*found *r2.json",
    ),
    "a file for the store": (
        {"store": ""}, ("--trust-store=store",), "--trust-store: *store is not a directory",
    ),
    "a seed below zero": ({}, ("--trust-seed=-1",), "--trust-seed: expected at least 0, found -1"),
    "a batch of nothing": ({}, ("--trust-batch-size=0",), "--trust-batch-size: expected at least 1, found 0"),
    "a flag that is neither true nor false": (
        {"pytest.ini": "[pytest]\ntrust_builtin_suites = false\ntrust_strict = maybe\n"},
        (),
        "trust_strict: expected true or false: invalid truth value 'maybe'",
    ),
    "no name at all": ({}, ("--trust-model=",), "models: no model named ''; accepted: *"),
    "no key for perspective": (
        {}, ("--trust-toxicity=perspective",), "models: 'perspective' needs an API key; *PERSPECTIVE_API_KEY",
    ),
    "an embedder that classifies": (
        {}, ("--trust-embedder=rules",), "models: 'rules' is a classifier; expected an embedder",
    ),
    "no name for python": ({}, ("--trust-model=python:app",), "models: 'python:app' is not 'python:<module>:<*>'*"),
}  # fmt: skip


MODELS: dict[str, tuple[dict[str, str], str, str]] = {
    # name: (files to write, model, what the line says)
    "hf directory that is not there": ({}, "hf:./weights", "models: 'hf:./weights': *weights is not a directory"),
    "hf directory without a model": (
        {"weights/readme.txt": ""}, "hf:weights", "models: 'hf:weights': *weights has no config.json; *",
    ),
    "hf directory without a tokenizer": (
        {"weights/config.json": "{}"}, "hf:weights", "models: 'hf:weights': *weights has no tokenizer (*",
    ),
    "replay of nothing": ({}, "replay:answers", "models: 'replay:answers'*answers*"),
    "missing API key": ({}, "openai:gpt-4o", "models: 'openai:gpt-4o' needs an API key; *OPENAI_API_KEY*"),
    "missing torch": (
        {"conftest.py": "import importlib.util as u\nfind = u.find_spec\n"
                        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"},
        "hf:gpt2",
        "models: 'hf:gpt2' needs torch; run: pip install 'pytest-trustllm[hf]'",
    ),
    "missing openai": (
        {"conftest.py": "import importlib.util as u\nfind = u.find_spec\n"
                        "u.find_spec = lambda name, *a: None if name == 'openai' else find(name, *a)\n"},
        "openai:gpt-4o",
        "models: 'openai:gpt-4o' needs openai; run: pip install 'pytest-trustllm[openai]'",
    ),
}  # fmt: skip


def _refused(project: Any, result: pytest.RunResult, line: str, files: set[str]) -> None:
    errors = [found for found in result.stderr.str().splitlines() if found.strip()]
    assert len(errors) == 1, result.stderr.str()
    result.stderr.fnmatch_lines([f"ERROR: {line.replace('[', '[[]')}"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not (project.path / "r.json").exists()
    assert not (project.path / ".trustllm").exists()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_4(project: Any, name: str) -> None:
    files, args, line = MISTAKES[name]
    for file, text in files.items():
        project.write(file, text)
    given = dict(arg.partition("=")[::2] for arg in args)
    named = "--trust-model" in given and "twice" not in name
    result = project.run(*args, *(() if named else ("--trust-model=python:app:answer",)), model=None)
    _refused(project, result, line, set(files))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_work_is_refused_before_anything_runs(project: Any, name: str) -> None:
    files, model, line = MODELS[name]
    for file, text in files.items():
        project.write(file, text)
    _refused(project, project.run(model=model), line, set(files))


def test_a_mistake_is_found_before_any_worker_starts(project: Any) -> None:
    project.gates("metric: echo.accuracy, at_least: 92")
    result = project.run("-n", "2")
    _refused(project, result, "thresholds/safety.yaml: gates[0].at_least: 92 is outside [0, 1]; write 0.92", set())


def test_an_unknown_task_in_a_mark_is_one_line(project: Any) -> None:
    project.write(
        "tests/test_own.py",
        "import pytest\n@pytest.mark.trust_task('suites/mine.yaml::ecco')\ndef test_it(trust_sample): pass\n",
    )
    result = project.run("tests")
    result.stdout.fnmatch_lines(
        ["*test_it: trust_task: no task 'suites/mine.yaml::ecco' (did you mean 'mine.yaml::echo'?)*"]
    )
    assert "hooks.py" not in result.stdout.str()  # no traceback, which pytest prints without that word
    assert result.ret == pytest.ExitCode.INTERRUPTED


ROWS: dict[str, tuple[bytes, str, str]] = {
    # name: (rows.jsonl, what the task says besides, what the line says)
    "a line that is no JSON": (b'{"prompt": "x"}\n{oops\n', "", "suites/rows.jsonl:2: not JSON: *"),
    "a line that is no text": (b'{"prompt": "\xe9"}\n', "", "suites/rows.jsonl: is not UTF-8 text (byte 12)"),
    "no line": (b"\n\n", "", "safety/a: suites/rows.jsonl has no row"),
    "no line that belongs here": (b'{"k": 1}\n', ", where: {k: 2}", "safety/a: suites/rows.jsonl has no row with *"),
    "half a pair": (
        b'{"prompt": "x", "i": 1, "t": "x"}\n', ", pair: {by: i, first: {t: original}}",
        "safety/a: suites/rows.jsonl: row 0 has no partner with 'i' = 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("workers", MAYBE_TWO)
@pytest.mark.parametrize("name", ROWS)
def test_rows_that_cannot_be_asked_stop_the_run_before_the_first_prompt(project: Any, name: str, workers: str) -> None:
    content, more, line = ROWS[name]
    project.write("suites/mine.yaml", TASK % f"data: {{samples: rows.jsonl{more}}}")
    project.write("suites/rows.jsonl", content)
    project.write("app.py", "import pathlib\npathlib.Path('calls.txt').write_text('loaded')\n")
    result = project.run("-n", workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {line}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert project.log() == []
    assert not (project.path / "r.json").exists()


def test_a_row_that_cannot_be_asked_fails_its_own_item(project: Any) -> None:
    project.write(
        "suites/mine.yaml",
        TASK
        % 'data: {samples: [{q: x, label: a}, {z: x, label: a}, {q: "y", label: a}]}, prompt: "Q: {{ q }}", group: q',
    )
    project.write("conftest.py", "")
    result = project.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["FAILED suites/mine.yaml::a[[]0001] - safety/a[[]0001]: template 'Q: {{ q }}': 'q' is und*"]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv: root may read everything")
@pytest.mark.parametrize(
    ("directory", "arguments", "named"),
    [
        ("suites", ["pytest", "--trust-model=python:app:answer"], "suites"),
        ("thresholds", ["pytest", "--trust-model=python:app:answer"], "thresholds"),
        ("data/safety", ["pytest", "--trust-model=demo", "--trust-data=data"], "--trust-data: *data: safety"),
        ("old/safety", ["pytest", "--trust-model=replay:old", "--trust-results=r.json"], "old: safety"),
        ("runs/june", ["pytest_trustllm.cli", "history", "runs"], "runs: june"),
        ("suites", ["pytest_trustllm.cli", "suites"], "suites"),
    ],
)
def test_a_directory_that_cannot_be_read_is_one_line(
    project: Project, directory: str, arguments: list[str], named: str
) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.1")
    for name in (directory, f"{Path(directory).parent}/privacy"):
        project.write(f"{name}/one.json", "[]")
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    (project.path / directory).chmod(0)
    done = subprocess.run(
        [*drop, sys.executable, "-m", *arguments], cwd=project.path, capture_output=True, text=True, check=False
    )
    (project.path / directory).chmod(0o700)
    assert done.returncode != 0, done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert fnmatch(line, f"*{named}: cannot be read: Permission denied"), line
