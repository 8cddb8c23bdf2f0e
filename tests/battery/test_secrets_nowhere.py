"""Secrets of an API and of the command line are in nothing that a run leaves, whatever the server does with them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from habits import Exchange, Habit, answer_to, good, replied, serving
from user_project import Project

pytest.importorskip("openai")

KEY = "K3Y-plain-4f9a8b7c6d5e"  # not of a shape that masking knows
HEADER = "H3ADER-plain-77aa66bb55cc"
PASSWORD = "passw0rd/ddeeff112233"
QUERY = "QU3RY-plain-0011223344"
OPTION = "t0ken-of-another-plugin-5566"
SECRETS = {"key": KEY, "header": HEADER, "password": PASSWORD, "query": QUERY, "option": OPTION}
ENCODED = base64.b64encode(KEY.encode()).decode()
SAID = f"{KEY} {HEADER} {PASSWORD} {quote(PASSWORD, safe='')} {QUERY} Bearer {ENCODED}"


def in_an_answer(exchange: Exchange) -> None:
    answer = answer_to(exchange.body)
    answer["choices"][0]["message"]["content"] = f"you sent {SAID}"
    answer["model"] = SAID
    exchange.reply(json.dumps(answer).encode())


def in_its_path(exchange: Exchange) -> None:
    exchange.reply(f'{{"error": {{"message": "no route {exchange.path} for {SAID}"}}}}'.encode(), status="404 No")


HABITS: dict[str, Habit] = {
    "a good answer": good,
    "an answer that repeats them": in_an_answer,
    "an error that repeats them": replied(f'{{"error": {{"message": "{SAID}"}}}}'.encode(), status="400 No"),
    "a page that repeats them": replied(f"<html><p>{SAID}</p></html>".encode(), status="500 No"),
    "a path that nobody knows": in_its_path,
    "no HTTP": lambda e: e.send(f"HTTP/1.1 {SAID}\r\n\r\n".encode()),
    "a bad header": lambda e: e.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SAID}\r\n\r\n".encode()),
    "a redirect": replied(b"", f"Location: http://u:{KEY}@127.0.0.1:9/?q={QUERY}", status="307 No"),
    "no JSON": replied(f"this is no JSON: {SAID}".encode()),
}
SHORT = ("an answer that repeats them", "an error that repeats them")


def look(project: Project, printed: str) -> dict[str, list[str]]:
    """Return secret -> where it is."""
    texts = {"terminal": printed}
    for path in project.path.rglob("*"):
        if path.is_file() and path.name not in ("models.yaml", "conftest.py") and "__pycache__" not in path.parts:
            texts[str(path.relative_to(project.path))] = path.read_bytes().decode("utf-8", "replace")
    found: dict[str, list[str]] = {}
    for name, secret in SECRETS.items():
        encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
        for place, text in texts.items():
            if any(form in text for form in (secret, quote(secret, safe=""), secret[4:-2], encoded)):
                found.setdefault(name, []).append(place)
    return found


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SHORT else pytest.mark.slow) for n in HABITS])
def test_no_secret_is_in_anything_that_a_run_leaves(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("MY_HEADER", HEADER)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    project.gates("metric: echo.accuracy, at_least: 0.5")
    project.write("conftest.py", "def pytest_addoption(parser):\n    parser.addoption('--db-password')\n")
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    with serving(HABITS[name]) as server:
        url = f"http://127.0.0.1:{server.port}/v1?version=1&sig={quote(QUERY)}&code={quote(PASSWORD, safe='')}"
        monkeypatch.setenv("MY_URL", url)
        options = "headers: {X-Secret: $MY_HEADER}, api_key_env: MY_KEY, retry_delay: 0.01, deadline: 4, timeout: 4"
        project.write("models.yaml", f"m: {{provider: openai, model: m, base_url_env: MY_URL, {options}}}\n")
        verbose = ("-vv", "--tb=long", "-rA", "--log-level=DEBUG", "--log-file=debug.log", "--junitxml=j.xml")
        result = project.run(*verbose, "--trust-report=r.html", f"--db-password={OPTION}", model="m")
        assert server.seen
    assert (project.path / "r.json").exists()
    assert look(project, result.stdout.str() + result.stderr.str()) == {}


def test_a_key_in_a_models_name_is_refused(project: Project) -> None:
    for name in (f"openai:m?api_key={KEY}", f"http://us3r:{KEY}@127.0.0.1:9/v1"):
        result = project.run(model=name)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert KEY not in result.stdout.str() + result.stderr.str()
