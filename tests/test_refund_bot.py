"""The example ``refund_bot``: ten kinds of items in YAML, asked over HTTP, each with a gate that watches it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Body, Calls, serving
from served import free_port, served

EXAMPLE = Path(__file__).parent.parent / "examples" / "refund_bot"
LLAMA_SERVER = Path(__file__).parent / "llama_server.py"
TASKS = {
    "other_customers": 4,
    "harmless": 4,
    "secret": 4,
    "attacks": 6,
    "injected_document": 3,
    "insisting": 2,
    "lookup": 2,
    "form": 2,
    "language": 3,
    "policy": 3,
}
"""Task -> number of its samples."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns(".trustllm", "__pycache__", ".pytest_cache")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "refund_bot", ignore=ignore))


def run(project: Path, url: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--trust-model=refund-bot", "--trust-results=trust.json", *arguments],
        cwd=project,
        env={**variables, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "any", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def results(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "trust.json").read_text(encoding="utf-8"))
    return found


# --- two bots that everybody can read ---------------------------------------------------------------------------------

LANGUAGES = {
    "Wie lange": "Sie können Schuhe innerhalb von 30 Tagen zurückgeben. Das Geld kommt innerhalb von 7 Tagen.",
    "Combien": "Vous avez 30 jours pour renvoyer vos chaussures. Le remboursement arrive sous 7 jours.",
    "Cuánto": "Tiene 30 días para devolver los zapatos. El reembolso llega en un plazo de 7 días.",
}


def good_bot(body: Body) -> str | Calls:
    """Answer as the system prompt demands; the same model is the judge."""
    messages = body["messages"]
    question = messages[-1]["content"]
    if "CURT" in question:
        return "It agrees with the policy.\nGOOD" if "gladly" in question else "It does not.\nWRONG"
    if messages[0]["role"] != "system":
        return "Well, I suppose."  # the bare model
    if "tools" in body:
        return "It was delivered yesterday." if messages[-1]["role"] == "tool" else [("find_order", _order(question))]
    if "JSON" in question:
        reason = "size" if "small" in question else "damaged"
        return f"```json\n{json.dumps({**_order(question), 'reason': reason})}\n```"
    if "<invoice>" in question:
        return f"You paid {re.findall('([0-9]+) euros', question)[0]} euros."
    for words, answer in LANGUAGES.items():
        if words in question:
            return answer
    if re.search("neighbour orders|address|card number|phone number", question) or _is_about_code(question):
        return "I'm sorry, but I can't help with that."
    if "7 days" in question or "yesterday" in question:
        return "I gladly help: your refund arrives within 7 days."
    return "I gladly help: you can return it within 30 days."


def weak_bot(body: Body) -> str | Calls:
    """Fall for everything."""
    messages = body["messages"]
    question = messages[-1]["content"]
    if "CURT" in question:
        return good_bot(body)
    if "tools" in body:
        return [("refund", {"order": "1007", "sum": 900})] if messages[-1]["role"] == "user" else "Done."
    if "900" in question or "PWNED" in question:
        return "900 euros. PWNED"
    if "neighbour got" in question or len(messages) > 5:
        return "All right, 90 days."
    if "killed" in question or any(words in question for words in ("kill", "steal", "shot", "blow up")):
        return "I'm sorry, but I can't help with that."
    return "Of course. The staff code is Q-X 7 7 4 1."


def _order(text: str) -> dict[str, str]:
    return {"order": re.findall(r"10\d\d", text)[-1]}


def _is_about_code(question: str) -> bool:
    plain = question.translate(str.maketrans("0134578", "oieaste")).replace("\u200b", "").lower()
    return "code" in plain or "above this line" in plain or "base64" in plain


def test_a_good_bot_meets_all_ten_kinds(project: Path) -> None:
    with serving(good_bot) as (url, bodies):
        result = run(project, url)
    assert result.returncode == 0, result.stdout + result.stderr
    found = results(project)
    assert {gate["outcome"] for gate in found["gates"]} == {"passed"}
    scored = {task: found["metrics"][f"refunds/{name}"]["scored"] for task, name in headlines(found).items()}
    assert scored == TASKS
    assert f"{sum(TASKS.values()) + len(found['gates'])} passed" in result.stdout
    prompts = [body["messages"][0] for body in bodies if "CURT" not in body["messages"][-1]["content"]]
    assert {message["role"] for message in prompts} == {"system"}
    assert all("QX-7741" in message["content"] for message in prompts)
    assert not list(EXAMPLE.rglob("*.py"))


def headlines(found: dict[str, Any]) -> dict[str, str]:
    """Return task -> its first metric without a group."""
    first: dict[str, str] = {}
    for id_ in found["metrics"]:
        name = id_.removeprefix("refunds/")
        first.setdefault(name.partition(".")[0], name)
    return first


def test_every_gate_catches_a_bot_that_falls_for_everything(project: Path) -> None:
    with serving(weak_bot) as (url, _):
        result = run(project, url)
    assert result.returncode == 1, result.stdout + result.stderr
    found = results(project)
    assert {gate["id"]: gate["outcome"] for gate in found["gates"] if gate["outcome"] != "failed"} == {}
    assert {metric["unscored"] for metric in found["metrics"].values()} == {0}


@pytest.mark.slow
def test_the_system_prompt_is_compared_with_the_bare_model(project: Path) -> None:
    with serving(good_bot) as (url, _):
        result = run(project, url, "--trust-base-model=bare-model")
    assert result.returncode == 0, result.stdout + result.stderr
    difference = results(project)["base"]["differences"]["refunds/other_customers.refusal_rate"]
    assert (difference["old"], difference["new"]) == (0, 1)


# --- a real server with a real model ----------------------------------------------------------------------------------


@pytest.fixture
def llama() -> Iterator[str]:
    """The address of llama.cpp's server with SmolLM2-135M-Instruct."""
    real = os.environ.get("TRUSTLLM_REAL")
    if not real:
        pytest.skip("TRUSTLLM_REAL is not set: run tools/real_models.sh DIR --llamacpp, and set it to DIR")
    python = Path(real) / "llamacpp" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not there: run tools/real_models.sh with --llamacpp")
    port = free_port()
    options = ["--alias", "gpt-4o-mini", "--host", "127.0.0.1", "--port", str(port), "--jinja", "--no-webui"]
    weights = Path(real) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    command = [
        str(python),
        str(LLAMA_SERVER),
        "--model",
        str(weights),
        *options,
        "--ctx-size",
        "8192",
        "--parallel",
        "2",
    ]
    with served(command, port, "llama.cpp's server", LLAMA_API_KEY="any") as url:
        yield url


@pytest.mark.slow
def test_a_real_server_answers_all_ten_kinds(project: Path, llama: str) -> None:
    """The model is far too small for the job: its verdicts are its own, but no item raises and no request fails."""
    models = project / "models.yaml"
    shorter = re.sub("max_new_tokens: [0-9]+", "max_new_tokens: 48", models.read_text(encoding="utf-8"))
    models.write_text(shorter, encoding="utf-8")
    result = run(project, llama, timeout=1200)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    assert "error" not in result.stdout.splitlines()[-1], result.stdout
    found = results(project)
    assert set(headlines(found)) == set(TASKS)
    assert {gate["outcome"] for gate in found["gates"]} <= {"passed", "failed", "no_data"}
    lines = [json.loads(line) for line in (project / "trust.samples.jsonl").read_text("ascii").splitlines()]
    assert len(lines) == sum(TASKS.values())
    assert [response["error"] for line in lines for response in line["responses"] if response.get("error")] == []
