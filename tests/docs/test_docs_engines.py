"""What docs/engines.md shows is what a run prints."""

from __future__ import annotations

import json
import re
import sys

import pytest
from pages import BLOCKS

from pytest_trustllm.plugin.progress import Meter

pytest.importorskip("openai")
ENTRIES = {
    "nope": {"provider": "vllm", "model": "m"},
    "wrong": {"provider": "vllm", "model": "m", "executable": "/bin/ls"},
    "never": {"provider": "server", "model": "m", "command": "sleep 60{port}", "startup_timeout": 1},
}


def shown(name: str) -> list[str]:
    (block,) = [block for block in BLOCKS if block.kind == "engine" and block.name == name]
    return block.text.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="the texts are those of GNU ls")
def test_failures_are_shown_as_they_are_printed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("LC_ALL", "C")
    (pytester.path / "models.yaml").write_text(json.dumps(ENTRIES))
    lines = shown("failures")
    assert len(lines) == len(ENTRIES)
    for name, line in zip(ENTRIES, lines, strict=True):
        arguments = [f"--trust-model={name}", "--trust-limit=1", "-o", "trust_models=models.yaml", "-p", "no:anyio"]
        result = pytester.runpytest_subprocess(*arguments, timeout=90)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        (printed,) = [text for text in result.errlines if text.strip()]
        printed = printed.replace(f"{pytester.path}/", "")
        assert re.sub(r"-0-\w+\.log", "-0.log", printed) == line


def test_the_line_of_a_model_that_loads_is_shown_as_it_is_printed() -> None:
    meter = Meter()
    status = {
        "planned": 15,
        "done": 0,
        "requests": 0,
        "cached": 0,
        "tokens": 0,
        "cost_usd": None,
        "estimate": None,
        "batches": [0, 0, 0],
        "loading": "vLLM loads real",
    }
    meter.line(100.0, status)  # type: ignore[arg-type]
    assert shown("loading") == [meter.line(142.0, status)]  # type: ignore[arg-type]
