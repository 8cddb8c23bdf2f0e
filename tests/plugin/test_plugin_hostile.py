"""What a model says is data: it breaks no process, no terminal and no file."""

from __future__ import annotations

import json

import pytest
from user_project import MAYBE_TWO, WORD, Project, statuses

ANSWERS = {
    "ansi": "\x1b[2J\x1b[31mgood\x1b]0;title\x07",
    "bidi": "good \u202egnitset\u202c \u2066x\u2069",
    "surrogate": "good \ud83d alone \udc00",
    "nul": "good\x00\x01\x7f\x9b31m",
    "long": "good " + "x" * 1_000_000,
    "colons": "good ::echo[0001] ]]> </testcase> %s {0} \\",
    "lines": "good\r\nERROR: fake\u2028line\u2029\x85\x0b\x0c",
    "empty": "",
}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_hostile_answers(project: Project, workers: str) -> None:
    project.prompts(*ANSWERS)
    project.write("app.py", f"ANSWERS = {ANSWERS!a}\ndef answer(prompt): return ANSWERS[prompt]\n")
    project.gates("metric: echo.accuracy, at_least: 0.5")
    result = project.run("-n", workers, "--trust-strict", "-v", "-rA", "--junitxml=j.xml", "--trust-report=r.html")
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert statuses(result) == {"passed": len(ANSWERS) - 1, "unscored": 1, "failed": 1}
    result.stdout.fnmatch_lines(["FAILED *accuracy* - 7 of 8 samples have a score *"])
    for stream in (result.stdout.str(), result.stderr.str()):
        assert not any(sign in stream for sign in "\x1b\x07\x00\x9b\u202e\u2066")
    lines = project.lines()
    assert {line["prompts"][0][0][1]: line["responses"][0]["text"] for line in lines} == ANSWERS
    assert len(project.junit()) == len(ANSWERS) + 1
    page = (project.path / "r.html").read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_hostile_rows_and_errors(project: Project, workers: str) -> None:
    odd = "a\u202e\x1b[31m::[x]\ud800"
    project.write("suites/rows.jsonl", json.dumps({"prompt": odd, "label": "good", "kind": odd}) + "\n")
    project.write(
        "suites/mine.yaml",
        "dimension: safety\ntasks:\n- {name: echo, data: {samples: rows.jsonl}, group: kind, scorer: contains, "
        "metrics: [accuracy]}\n",
    )
    project.write("app.py", "def answer(prompt): raise RuntimeError(prompt + '\\n' * 3)\n")
    result = project.run("-n", workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*FAILED suites/mine.yaml::echo[[]0000] - no response: RuntimeError: a\\u202e\\x1b*"])
    assert not any(sign in result.stdout.str() for sign in "\x1b\u202e")
    assert list(project.results()["metrics"])[1] == f"safety/echo.accuracy{{kind={odd}}}"


def test_what_a_scorer_reads_is_shown_as_one_line(project: Project) -> None:
    project.prompts("good", scorer="{name: word, wanted: better}")
    project.write("conftest.py", WORD)
    project.write("app.py", "def answer(prompt): return 'bad\\x1b[31m\\n' * 100\n")
    result = project.run("--trust-strict")
    (line,) = (line for line in result.outlines if line.startswith("FAILED"))
    assert len(line) < 400
    assert "\x1b" not in result.stdout.str()


def test_an_answer_that_is_no_text_fails_its_item(project: Project) -> None:
    project.write("app.py", "def answer(prompt): return 42 if prompt == 'bad' else prompt\n")
    result = project.run()
    result.stdout.fnmatch_lines(["FAILED *echo[[]0001] - *TypeError: the callable returned int, expected text, None*"])
    assert statuses(result) == {"failed": 1, "passed": 2}


def test_a_model_that_prints_and_exits_does_not_disturb_the_run(project: Project) -> None:
    project.write(
        "app.py",
        "import sys\nprint('loading')\ndef answer(prompt):\n    print('x' * 100000, flush=True)\n"
        "    if prompt == 'bad': sys.exit(3)\n    return prompt\n",
    )
    result = project.run()
    assert statuses(result) == {"failed": 1, "passed": 2}
    result.stdout.fnmatch_lines(["FAILED *echo[[]0001] - no response: SystemExit: 3"])
    assert "xxxx" not in result.stdout.str() + result.stderr.str()
