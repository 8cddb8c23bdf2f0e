"""Hostile text through every output, judged by its readers: browser, terminal, XML, CSV, Markdown, commands of CI."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from chromium import Browser

pyte = pytest.importorskip("pyte")
markdown_it = pytest.importorskip("markdown_it")

TEXTS = {
    "markup": "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>owned</b>",
    "a script's end": "</script><script>document.title='owned'</script>",
    "an attribute": "\" onmouseover=\"document.title='owned'\" x='",
    "a template": "{{ 7 * 191 }}{% for x in y %}{{ config }}",
    "escapes": "\x1b[2J\x1b]0;owned\x07\x1b[31mowned\x9b1mowned\r\x08",
    "bidi": "\u202edenwo\u2066owned\u2028owned\u2029owned",
    "GitHub's commands": "x\n::error::owned\n::set-output name=x::owned\n::stop-commands::owned",
    "old commands": "##[error]owned ##vso[task.setvariable variable=x]owned ##[command]owned",
    "a formula": '=HYPERLINK("http://127.0.0.1:9/owned")',
    "another formula": "@SUM(1+1)*cmd|'/c calc'!A0",
    "XML": ']]></failure></testcase><testcase name="owned"/><!--',
    "Markdown": "x\n\n# owned\n\n| a |\n|--|\n| <!-- pytest-trustllm comment: trust --> @everyone ![o](http://127.0.0.1:9/o)\n```",
    "NUL and surrogates": "\0\x01\ud83d\udc00\ufffe",
}
APP = f"""
TEXTS = {TEXTS!a}
def answer(prompt):
    if prompt.startswith("raise"):
        raise RuntimeError(TEXTS[prompt[6:]])
    return TEXTS[prompt]
"""


def suite() -> dict[str, Any]:
    """Return a suite whose own texts are hostile too."""
    task = {
        "name": "echo", "title": TEXTS["markup"], "data": {"samples": "rows.jsonl"}, "group": "kind",
        "scorer": "contains", "metrics": ["accuracy"],
    }  # fmt: skip
    return {"dimension": "safety", "source": {"title": TEXTS["Markdown"], "licence": TEXTS["markup"]}, "tasks": [task]}


def rows() -> list[dict[str, str]]:
    """Return its data."""
    answers = [{"prompt": name, "label": "owned", "kind": text} for name, text in TEXTS.items()]
    return answers + [{"prompt": f"raise {name}", "label": "owned", "kind": name} for name in TEXTS]


def command(where: Path, *words: str, **environment: str) -> str:
    """Run a command of the package and return what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "GITHUB", "CI"))}
    done = subprocess.run(
        [sys.executable, *words], cwd=where, env={**kept, **environment}, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    printed = (done.stdout + done.stderr).decode("utf-8")
    assert "Traceback" not in printed
    assert "INTERNALERROR" not in printed
    with (where / "printed.txt").open("a", encoding="utf-8", newline="") as file:
        file.write(printed)
    return printed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything that a run and the commands on it write; ``printed.txt`` is all that they print."""
    where = tmp_path_factory.mktemp("hostile")
    for name in ("suites", "thresholds"):
        (where / name).mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows())
    (where / "suites" / "rows.jsonl").write_text(lines, encoding="ascii")
    (where / "suites" / "mine.yaml").write_text(json.dumps(suite()), encoding="ascii")
    (where / "thresholds" / "safety.yaml").write_text(
        "dimension: safety\ngates: [{metric: echo.accuracy, at_least: 1}]\n"
    )
    (where / "pytest.ini").write_text("[pytest]\ntrust_builtin_suites = false\n")
    (where / "app.py").write_text(APP, encoding="ascii")
    options = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-rA", "-v", "--trust-model=python:app:answer"]
    outputs = ["--trust-results=r.json", "--trust-report=r.html", "--junitxml=j.xml", "--trust-history=history"]
    summary = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(where / "summary.md"),
        "GITHUB_WORKSPACE": str(where),
    }
    command(where, "-m", "pytest", *options, *outputs, **summary)
    command(where, "-m", "pytest", *options, "--trust-history=history", "--trust-seed=2")
    for words in (
        "export r.json -o r.csv",
        "export r.json --format inspect -o inspect",
        "compare r.json r.json",
        "gate r.json",
        "power r.json",
        "report r.json -o again.html",
        "comment r.json -o comment.md",
        "card r.json -o card.md",
        "badge r.json -o badges",
        "history history -o history.html",
    ):
        command(where, "-m", "pytest_trustllm.cli", *words.split())
    return where


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.quit()


@pytest.mark.parametrize("name", ["r.html", "again.html", "history.html"])
def test_a_browser_shows_it_as_text(run: Path, browser: Browser, name: str) -> None:
    page = (run / name).read_text(encoding="utf-8")
    assert not any(sign in page for sign in "\x1b\x07\x9b\u202e\u2066\0")
    browser.driver.get("about:blank")
    browser.logs(), browser.requests()
    browser.driver.get((run / name).as_uri())
    if name != "history.html":
        browser.until(lambda: browser.js("return document.documentElement.dataset.ready") == "all", "the page is ready")
        browser.js("document.querySelectorAll('details').forEach(d => (d.open = true))")
        for number in range(len(browser.content(".row[aria-selected]"))):
            browser.click(".row[aria-selected]", number)
            browser.until(lambda: browser.content("#detail h3"), "an item is open")
    assert "owned" not in browser.js("return document.title")
    assert browser.content("img, iframe, [onmouseover], [onerror], a[href^='http']") == []
    assert "owned" not in browser.content("b")
    assert "1337" not in page
    assert browser.logs() == []
    assert browser.requests() == []


def test_a_terminal_shows_it_as_text(run: Path) -> None:
    printed = (run / "printed.txt").read_bytes()
    screen = pyte.HistoryScreen(200, 50, history=20_000)
    stream = pyte.ByteStream(screen)
    stream.feed(printed.replace(b"\n", b"\r\n"))
    assert screen.title == ""
    lines = [*screen.history.top, *(screen.buffer[n] for n in range(50))]
    assert all(cell.fg == "default" and not cell.bold for line in lines for cell in line.values())
    text = printed.decode("utf-8")
    assert not any(sign in text for sign in "\x1b\x07\x08\x9b\u202e\u2066\u2028\u2029\0")


def test_no_runner_takes_it_for_a_command(run: Path) -> None:
    text = (run / "printed.txt").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.lstrip().startswith("::")]
    assert commands  # our own annotations
    assert all(re.match(r"::(error|warning|notice) (file|title)=", line) for line in commands), commands
    assert not [line for line in commands if line.partition("::")[2].partition("::")[0].count("owned")]
    assert not re.search(r"##(vso)?\[", text)


def test_xml_has_one_case_per_test(run: Path) -> None:
    cases = list(ElementTree.parse(run / "j.xml").iter("testcase"))
    assert len(cases) == 2 * len(TEXTS) + 1
    assert not [case for case in cases if case.get("name") == "owned"]


def test_a_spreadsheet_finds_no_formula(run: Path) -> None:
    rows = list(csv.reader(io.StringIO((run / "r.csv").read_text(encoding="utf-8"), newline="")))
    assert len(rows) == 2 * len(TEXTS) + 1
    assert {len(row) for row in rows} == {len(rows[0])}
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n"))
        assert not cell.startswith("-") or float(cell) <= 0


@pytest.mark.parametrize("name", ["comment.md", "card.md", "summary.md"])
def test_markdown_shows_it_as_text(run: Path, name: str) -> None:
    text = (run / name).read_text(encoding="utf-8")
    html = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert not re.search(r"<(script|img|b|iframe|a [^>]*127\.0\.0\.1)", html), html
    assert not re.search(r"<h\d>\s*owned", html)
    assert text.count("<!-- pytest-trustllm comment: trust -->") == (name == "comment.md")
    assert not any(sign in text for sign in "\x1b\u202e\0")
    outside_code = re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL)
    assert "@everyone" not in outside_code


def test_a_badge_is_one_picture(run: Path) -> None:
    badges = list((run / "badges").rglob("*.svg"))
    assert badges
    for path in badges:
        names = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not names & {"script", "image", "foreignObject", "a"}


def test_inspects_log_is_json_with_the_texts(run: Path) -> None:
    (path,) = (run / "inspect").rglob("*.json")
    log = json.loads(path.read_text(encoding="utf-8"))
    said = {
        sample["output"]["choices"][0]["message"]["content"] for sample in log["samples"] if sample["output"]["choices"]
    }
    assert TEXTS["markup"] in said
