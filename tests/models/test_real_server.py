"""The OpenAI client against a real server that we did not write: ``transformers serve`` with the demo model."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import free_port, served

from pytest_trustllm.config.paths import packaged
from pytest_trustllm.models.api.openai import PROVIDER
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.types import Generation, Request, Response

pytestmark = pytest.mark.slow
SETTINGS = LoadSettings()
WEIGHTS = packaged("models", "demo_weights")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    for module in ("fastapi", "uvicorn", "torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"transformers serve needs {module}; pip install 'pytest-trustllm[test]'")
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with served([*command, str(WEIGHTS)], port, "transformers serve", HF_HUB_OFFLINE="1") as url:
        yield url


def test_a_real_openai_compatible_server_answers_a_suite(
    server: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    arguments = ["--trust-suite=safety/exaggerated_safety", "--trust-results=trust.json", "-p", "no:xdist"]
    result = pytester.runpytest_subprocess(f"--trust-model=openai:{WEIGHTS}", *arguments, timeout=240)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    found = json.loads((pytester.path / "trust.json").read_text())
    metric = found["metrics"]["safety/exaggerated_safety.refusal_rate"]
    assert metric["scored"] == metric["expected"] >= 8
    assert found["usage"]["requests"] == metric["expected"]
    assert found["usage"]["output_tokens"] > 0
    assert found["run"]["model"]["provider"] == "openai"


def test_a_real_stream_holds_the_same_answers(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    requests = [Request((("user", text),), Generation(max_new_tokens=12)) for text in ("How are you?", "Say a word.")]

    async def answers(**options: Any) -> list[Response]:
        model = PROVIDER.load(ModelSpec("m", "openai", str(WEIGHTS), options={"base_url": server, **options}), SETTINGS)
        found = [await model.answer(request) for request in requests]
        await model.close()
        return found

    whole, streamed = asyncio.run(answers()), asyncio.run(answers(extra_body={"stream": True}))
    assert [r.error for r in (*whole, *streamed)] == [None] * 4
    assert [(r.text, r.finish) for r in streamed] == [(r.text, r.finish) for r in whole]
