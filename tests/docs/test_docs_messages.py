"""docs/troubleshooting.md quotes what the code prints: every message of the page is brought about here."""

from __future__ import annotations

import importlib.util
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pages import BLOCKS, pattern

import pytest_trustllm.plugin.hooks  # noqa: F401 - pytester forgets what a test imports
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.api import openai
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.local import huggingface

MESSAGES = {b.name: b.text for b in BLOCKS if b.page == "docs/troubleshooting.md" and b.kind == "message"}
APP = "def answer(prompt):\n    return 'you said ' + prompt\n"
SUITE = """
dimension: safety
tasks:
  - name: echo
    version: 1
    data:
      samples:
        - {prompt: good world, label: good}
        - {prompt: good, label: good}
        - {prompt: bad, label: good}
    scorer: contains
    metrics: [accuracy]
"""
BROKEN = """
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Broken:
    roles: ClassVar = ()

    def score(self, sample, replies):
        return {"country": "de"}["city"]

def pytest_trustllm_register(registry):
    registry.scorers.add("broken", Broken)
"""
JUDGED = """
dimension: safety
tasks:
  - name: judged
    data: {samples: [{prompt: x, source: squad, question: q, answer: a}]}
    scorer: {name: answer_match, rubric: rubric.j2}
    metrics: [accuracy]
"""
FIXTURE = """
import pytest
from pytest_trustllm import TrustModel

@pytest.fixture(scope="session")
def trust_model():
    return MODEL
"""
ROWS = """
dimension: safety
tasks:
  - name: echo
    data: {samples: rows.jsonl}
    scorer: contains
    metrics: [accuracy]
"""
SCARCE = """
from pytest_trustllm.models.local.demo import DemoProvider

class Scarce(DemoProvider):
    def load(self, spec, settings):
        import torch, transformers

        def full(*args, **options):
            raise torch.OutOfMemoryError("CUDA out of memory")

        model = super().load(spec, settings)
        transformers.LlamaForCausalLM.forward = full
        return model

def pytest_trustllm_register(registry):
    registry.providers.add("scarce", Scarce)
"""
_QUIET = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio")


class Run:
    """A small project in a temporary directory.

    Attributes:
        path: The directory.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = pytester.path
        self.env = monkeypatch.setenv
        self._pytester = pytester
        self.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\n")
        self.write("app.py", APP)
        self.write("suites/mine.yaml", SUITE)

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def gate(self, text: str) -> None:
        """Write the threshold file."""
        self.write("thresholds/safety.yaml", f"dimension: safety\ngates:\n  - {{{text}}}\n")

    def pytest(self, *args: str, status: int, model: str = "python:app:answer", cache: bool = False) -> str:
        """Run pytest and return what it printed, after checking its exit status."""
        given = (*(_QUIET[2:] if cache else _QUIET), f"--trust-model={model}", *args)
        if status == pytest.ExitCode.USAGE_ERROR:  # nothing is started then, so this process will do
            result = self._pytester.runpytest_inprocess(*given)
        else:
            result = self._pytester.runpytest_subprocess(*given, timeout=120)
        output = result.stdout.str() + result.stderr.str()
        assert result.ret == status, output
        return output

    def command(self, *args: str, status: int) -> str:
        """Run pytest-trustllm."""
        result = self._pytester.run(sys.executable, "-m", "pytest_trustllm.cli", *args)
        assert result.ret == status
        return result.stderr.str()


SCENARIOS: dict[str, Callable[[Run], str]] = {}


def brings(name: str) -> Callable[[Callable[[Run], str]], Callable[[Run], str]]:
    """Say which message of the page a scenario brings about."""

    def add(scenario: Callable[[Run], str]) -> Callable[[Run], str]:
        SCENARIOS[name] = scenario
        return scenario

    return add


@brings("scorer")
def _(run: Run) -> str:
    run.write("suites/mine.yaml", SUITE.replace("contains", "contain"))
    return run.pytest(status=4)


@brings("metric")
def _(run: Run) -> str:
    run.gate("metric: echo.accuracyy, at_least: 0.5")
    return run.pytest(status=4)


@brings("direction")
def _(run: Run) -> str:
    run.gate("metric: echo.accuracy, at_most: 0.5")
    return run.pytest(status=4)


@brings("model")
def _(run: Run) -> str:
    return run.pytest(status=4, model="llama2-7")


@brings("key")
def _(run: Run) -> str:
    return run.pytest(status=4, model="openai:gpt-4o")


def _without_packages(provider: object, name: str, target: str) -> str:
    """Return what a provider says in an environment without the packages that it needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(ModelError) as caught:
            provider.check(ModelSpec(name, "", target))  # type: ignore[attr-defined]
    return str(caught.value)


@brings("torch")
def _(run: Run) -> str:
    return _without_packages(huggingface.PROVIDER, "llama2-7b", "meta-llama/Llama-2-7b-chat-hf")


@brings("openai")
def _(run: Run) -> str:
    return _without_packages(openai.PROVIDER, "openai:gpt-4o", "gpt-4o")


@brings("device")
def _(run: Run) -> str:
    run.env("CUDA_VISIBLE_DEVICES", "")
    return run.pytest("--trust-device=cuda", status=2, model="demo")


@brings("data")
def _(run: Run) -> str:
    run.env("TRUSTLLM_DATA", str(run.path / "none"))
    return run.pytest("--trust-data=full", status=4)


@brings("no baseline")
def _(run: Run) -> str:
    return run.pytest("--trust-baseline=baselines/bot.json", status=4)


def _baseline(run: Run) -> None:
    run.pytest("--trust-results=baselines/bot.json", status=0)


@brings("own baseline")
def _(run: Run) -> str:
    _baseline(run)
    return run.pytest("--trust-baseline=baselines/bot.json", "--trust-results=baselines/bot.json", status=4)


@brings("score of a part")
def _(run: Run) -> str:
    run.write("app.py", "def answer(prompt):\n    return None if prompt == 'bad' else 'good'\n")
    run.gate("metric: score, at_least: 0.5")
    return run.pytest(status=1)


@brings("nothing judged")
def _(run: Run) -> str:
    run.write("conftest.py", "def pytest_collection_modifyitems(items):\n    del items[1:]\n")
    run.gate("metric: echo.accuracy, at_least: 0.5")
    return run.pytest(status=1)


@brings("ungated")
def _(run: Run) -> str:
    run.write("suites/more.yaml", SUITE.replace("echo", "other"))
    run.gate("metric: echo.accuracy, at_least: 0.5")
    return run.pytest(status=0)


@brings("other model")
def _(run: Run) -> str:
    _baseline(run)
    return run.pytest("--trust-baseline=baselines/bot.json", status=4, model="demo")


@brings("other version")
def _(run: Run) -> str:
    _baseline(run)
    run.gate("metric: echo.accuracy, max_drop: 0.1")
    run.write("suites/mine.yaml", SUITE.replace("version: 1", "version: 2"))
    return run.pytest("--trust-baseline=baselines/bot.json", status=4)


@brings("rows")
def _(run: Run) -> str:
    run.write("suites/rows.jsonl", '{"prompt": "good", "label": "good"}\n{"prompt": good}\n')
    run.write("suites/mine.yaml", ROWS)
    return run.pytest(status=4)


@brings("field")
def _(run: Run) -> str:
    run.write("suites/rows.jsonl", '{"word": "good", "label": "good"}\n{"words": "good", "label": "good"}\n')
    run.write("suites/mine.yaml", ROWS + "    prompt: 'Say {{ word }}'\n")
    return run.pytest(status=1)


@brings("refused")
def _(run: Run) -> str:
    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b'{"error": {"message": "wrong key"}}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        run.env("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        run.env("OPENAI_API_KEY", "not the key")
        try:
            output = run.pytest("--trust-results=trust.json", status=2, model="openai:gpt-4o")
        finally:
            server.shutdown()
    assert (run.path / "trust.json").exists()
    return output


@brings("gone")
def _(run: Run) -> str:
    run.write("app.py", f"import os\ndef answer(prompt):\n    os.kill(os.getpid(), {int(signal.SIGKILL)})\n")
    output = run.pytest("--trust-results=trust.json", status=2)
    assert not (run.path / "trust.json").exists()
    return output


@brings("memory")
def _(run: Run) -> str:
    run.write("conftest.py", SCARCE)
    return run.pytest(status=0, model="scarce")


@brings("offline")
def _(run: Run) -> str:
    run.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: '1'}\n")
    return run.pytest("--trust-offline", "-o", "trust_models=models.yaml", status=1, model="bot")


@brings("fixture")
def _(run: Run) -> str:
    run.write("conftest.py", FIXTURE.replace("MODEL", "'my bot'"))
    return run.pytest(status=2, model="bot")


@brings("hidden fixture")
def _(run: Run) -> str:
    run.write("suites/conftest.py", FIXTURE.replace("MODEL", "TrustModel.from_callable(str.upper, name='bot')"))
    return run.pytest(status=2)


@brings("raised")
def _(run: Run) -> str:
    run.write("app.py", "def answer(prompt):\n    raise ValueError('no such customer')\n")
    return run.pytest(status=1)


@brings("disk")
def _(run: Run) -> str:
    limit = (
        "import resource\ndef answer(prompt):\n    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))\n    return 'x'\n"
    )
    run.write("app.py", limit)
    return run.pytest(status=2)


@brings("no judge")
def _(run: Run) -> str:
    run.write("suites/rubric.j2", "{{ quote('response', response) }}")
    run.write("suites/mine.yaml", JUDGED)
    return run.pytest(status=0)


@brings("unreadable")
def _(run: Run) -> str:
    run.write("app.py", APP + "def judge(prompt):\n    return 'Maybe.'\n")
    run.write("suites/rubric.j2", "Is it right?")
    run.write("suites/mine.yaml", JUDGED)
    return run.pytest("--trust-judge=python:app:judge", status=0)


@brings("too long")
def _(run: Run) -> str:
    run.write("suites/mine.yaml", SUITE.replace("prompt: bad", f"prompt: '{'a b ' * 5000}'"))
    return run.pytest(status=0, model="demo")


@brings("no batches")
def _(run: Run) -> str:
    return run.pytest("--trust-batch=submit", status=4)


@brings("budget")
def _(run: Run) -> str:
    return run.pytest("--trust-budget=1 tokens", status=0)


@brings("raising scorer")
def _(run: Run) -> str:
    run.write("conftest.py", BROKEN)
    run.write("suites/mine.yaml", SUITE.replace("contains", "broken"))
    return run.pytest(status=1)


@brings("not needed")
def _(run: Run) -> str:
    run.gate("metric: echo.accuracy, at_least: 0.5")
    run.write("suites/more.yaml", SUITE.replace("echo", "other"))
    return run.pytest("--trust-stop=exact", "--trust-stop-ungated", "-rs", status=0)


@brings("partial")
def _(run: Run) -> str:
    run.gate("metric: echo.accuracy, at_least: 0.5")
    return run.pytest("--trust-limit=1", status=0)


@brings("carried")
def _(run: Run) -> str:
    run.gate("metric: echo.accuracy, at_least: 0.9")
    run.pytest("--trust-strict", status=1, cache=True)
    return run.pytest("--trust-strict", "--lf", status=1, cache=True)


@brings("inconclusive")
def _(run: Run) -> str:
    run.gate("metric: echo.accuracy, at_least: 0.5, confidence: 0.95")
    return run.pytest(status=1)


@brings("coverage")
def _(run: Run) -> str:
    run.write("app.py", "def answer(prompt):\n    return None if prompt == 'bad' else 'you said ' + prompt\n")
    run.write("suites/mine.yaml", SUITE.replace("contains", "moral_word").replace("label: good", "label: 1"))
    run.gate("metric: echo.accuracy, at_least: 0.5")
    return run.pytest(status=1)


@brings("first drop")
def _(run: Run) -> str:
    run.gate("metric: echo.accuracy, max_drop: 0.1")
    return run.pytest(status=1)


def _shard(run: Run, part: int, *args: str) -> None:
    run.pytest(f"--trust-shard={part}/2", f"--trust-results=s{part}.json", *args, status=0)


@brings("missing shard")
def _(run: Run) -> str:
    _shard(run, 1)
    return run.command("merge", "s1.json", "-o", "all.json", status=4)


@brings("other seed")
def _(run: Run) -> str:
    _shard(run, 1)
    _shard(run, 2, "--trust-seed=1")
    return run.command("merge", "s1.json", "s2.json", "-o", "all.json", status=4)


@brings("no shard")
def _(run: Run) -> str:
    run.pytest("--trust-results=whole.json", status=0)
    return run.command("merge", "whole.json", "-o", "all.json", status=4)


@brings("file name")
def _(run: Run) -> str:
    return run.pytest("--trust-report=report.pdf", status=4)


@brings("no directory")
def _(run: Run) -> str:
    run.write("file", "")
    return run.pytest("--trust-results=file/trust.json", status=4)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    return Run(pytester, monkeypatch)


LOADING = {"memory", "device", "too long"}
"""Messages that need a local model."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LOADING else ()) for name in SCENARIOS]
)
def test_a_message_is_what_the_code_prints(run: Run, name: str) -> None:
    output = SCENARIOS[name](run)
    assert pattern(MESSAGES[name]).search(output), f"{MESSAGES[name]}\nis not in\n{output}"


def test_every_message_of_the_page_is_brought_about() -> None:
    assert set(MESSAGES) == set(SCENARIOS)
    assert all(set(text.split()) - {"…"} for text in MESSAGES.values())


def test_no_test_selected_is_a_status_of_its_own(run: Run) -> None:
    run.pytest("-k", "nothing", status=5)
