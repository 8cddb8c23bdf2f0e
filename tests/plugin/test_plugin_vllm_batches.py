"""The file that a run submits, answered by the real ``vllm run-batch``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server import BatchServer
from user_project import Project

SUITE = """
dimension: safety
tasks:
  - name: words
    data:
      samples:
        - {prompt: "Say hello to the world.", label: "[a-z]"}
        - {prompt: "What is the capital of France?", label: Paris}
        - {prompt: "Name a colour.", label: "[a-z]"}
        - {prompt: "LONG", label: "[a-z]"}
    scorer: word
    metrics: [accuracy]
    generation: {temperature: 0, max_new_tokens: 24, stop: ["###"]}
"""
WORD = """
import re
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score

@dataclass(frozen=True)
class Word:
    roles: ClassVar = ()

    def score(self, sample, replies):
        found = re.search("[a-z]{3}", replies[0].text)
        return Score(float(found is not None), found is not None, answer=replies[0].text)

def pytest_trustllm_register(registry):
    registry.scorers.add("word", Word)
"""


@pytest.fixture
def real() -> Path:
    """The directory with a vLLM of its own and a small instruct model."""
    directory = os.environ.get("TRUSTLLM_REAL")
    if not directory:
        pytest.skip("TRUSTLLM_REAL names no directory with vllm/bin/vllm and SmolLM2-135M-Instruct")
    for name in ("vllm/bin/vllm", "SmolLM2-135M-Instruct"):
        if not Path(directory, name).exists():
            pytest.skip(f"TRUSTLLM_REAL: {directory} has no {name}")
    return Path(directory)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    made = BatchServer()
    yield made
    made.close()


def run_batch(real: Path, directory: Path, content: str) -> str:
    """Return what ``vllm run-batch`` writes for a file of requests."""
    source, target = directory / "in.jsonl", directory / "out.jsonl"
    source.write_text(content, encoding="ascii")
    model = real / "SmolLM2-135M-Instruct"
    options = ["--model", str(model), "--dtype", "float32", "--max-model-len", "2048", "--enforce-eager"]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }
    environment.pop("PYTHONPATH", None)
    log = directory / "vllm.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [str(real / "vllm/bin/vllm"), "run-batch", "-i", str(source), "-o", str(target), *options],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=900,
            check=False,
        )
    assert done.returncode == 0, log.read_text(encoding="utf-8", errors="replace")[-3000:]
    return target.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_submitted_file_is_one_for_vllm(
    project: Project, server: BatchServer, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "none")
    project.write("conftest.py", WORD)
    project.write("suites/mine.yaml", SUITE.replace("LONG", "word " * 3000))
    model = real / "SmolLM2-135M-Instruct"
    project.write(
        "models.yaml", f"smol: {{provider: openai, model: {model}, base_url: '{server.url}', api_key_env: KEY}}\n"
    )
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    project.gates("metric: words.accuracy, at_least: 0.9", more="coverage: {min_scored: 0.7}")

    assert project.run("--trust-batch=submit", model="smol").ret == pytest.ExitCode.OK
    answers = run_batch(real, project.path, server.files["file-0"])
    server.process = lambda _: answers
    result = project.run("--trust-batch=submit", model="smol")

    assert result.ret == pytest.ExitCode.OK
    lines = project.lines()
    assert [line["status"] for line in lines] == ["passed", "passed", "passed", "unscored"]
    assert "HTTP 400 from 127.0.0.1: " in lines[3]["reason"]
    assert "2048" in lines[3]["reason"]
    replies = {
        json.loads(line)["custom_id"]: json.loads(line) for line in answers.splitlines() if '"status_code":200' in line
    }
    texts = {reply["response"]["body"]["choices"][0]["message"]["content"] for reply in replies.values()}
    assert {line["responses"][0]["text"] for line in lines[:3]} == texts
    assert all(line["responses"][0]["output_tokens"] for line in lines[:3])
    assert project.results()["gates"][0]["outcome"] == "passed"
