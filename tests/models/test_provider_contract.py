"""What every registered provider promises."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.registry import PROVIDERS, Registry
from pytest_trustllm.types import Request, Response


@pytest.fixture
def working(
    llama_directory: Path, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> Any:
    """Return a model of the provider that works on this machine, alone."""
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"prompt": "hi", "response": "hello"}\n')
    for name in ("OPENAI_API_KEY", "PERSPECTIVE_API_KEY"):
        monkeypatch.setenv(name, "secret-of-the-test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("PERSPECTIVE_BASE_URL", server.url)
    message = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    chat = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [message]}
    rating = {"attributeScores": {"TOXICITY": {"spanScores": [{"score": {"value": 0.5}}]}}}
    server.reply(lambda path, *_: (200, {}, rating if "analyze" in path else chat))
    names: dict[str, tuple[str, ModelKind]] = {
        "hf": (f"hf:{llama_directory}", "chat"),
        "openai": ("openai:m", "chat"),
        "replay": (f"replay:{answers}", "chat"),
        "python": ("python:builtins:str", "chat"),
        "demo": ("demo", "chat"),
        "builtin": ("builtin", "classifier"),
        "rules": ("rules", "classifier"),
        "perspective": ("perspective", "rater"),
    }

    engine = tmp_path / "engine"
    script = Path(__file__).parent.parent / "scripted_engine.py"
    engine.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    engine.chmod(0o755)
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"GGUF")
    entry = {"executable": str(engine), "environment": {"ENGINE_DIRECTORY": str(tmp_path)}}
    own = {**entry, "command": "{executable} serve {model} --port {port}", "environment": entry["environment"]}
    own["environment"] = {**entry["environment"], "ENGINE_KEY": "{key}"}
    entries = {
        "vllm": {"provider": "vllm", "model": "org/m", **entry},
        "sglang": {"provider": "sglang", "model": "org/m", **entry},
        "llamacpp": {"provider": "llamacpp", "model": str(weights), **entry},
        "server": {"provider": "server", "model": "m", **own},
    }
    models_file = tmp_path / "models.yaml"
    models_file.write_text(json.dumps(entries))
    names.update({name: (name, "chat") for name in entries})

    def make(provider: str) -> tuple[ModelSpec, Any]:
        name, kind = names[provider]
        spec = catalogue.resolve(name, user_file=models_file, registry=registry, kind=kind)
        found = catalogue.provider_of(spec, registry)
        try:
            found.check(spec)
        except ModelError as e:
            if provider == "demo":
                pytest.skip(f"the packaged weights are not in this checkout: {e}")
            raise
        return spec, found.load(spec, LoadSettings(device="cpu", max_concurrency=2, batch_size=2, logs=str(tmp_path)))

    return make


def answers_of(model: Any, requests: list[Request]) -> list[Response]:
    if hasattr(model, "generate"):
        found = dict(model.generate(RequestQueue.only(requests)))
        assert sorted(found) == list(range(len(requests)))
        return [found[i] for i in range(len(requests))]

    async def run() -> list[Response]:
        try:
            if hasattr(model, "start"):
                await model.start()
            return list(await asyncio.gather(*map(model.answer, requests)))
        finally:
            await model.close()

    return asyncio.run(run())


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_loaded_model_keeps_the_contract(provider: str, working: Any) -> None:
    spec, model = working(provider)
    assert spec.provider == provider
    info = dict(model.info)
    assert json.loads(json.dumps(info)) == info
    assert info["provider"] == provider
    assert isinstance(info["id"], str)
    assert "revision" in info
    assert "secret-of-the-test" not in repr(info)
    assert str(Path.home()) not in json.dumps(info)
    assert isinstance(model.stored, bool)
    if not hasattr(model, "generate"):
        assert model.max_concurrency >= 1
    for found in answers_of(model, [Request((("user", "hi"),))] * 3):
        assert isinstance(found, Response)
        assert found.error is None
        assert found.text is not None or found.number is not None


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_provider_says_what_it_is(provider: str, registry: Registry) -> None:
    found = registry.providers.get(provider)
    assert found.kinds <= set(get_args(ModelKind))
    assert found.kinds
    assert isinstance(found.form, str)
    assert all(callable(reader) for reader in found.options.values())


def test_naming_models_loads_no_model_library() -> None:
    code = """
import sys
from pytest_trustllm.models import catalogue
from pytest_trustllm.registry import Registry
registry = Registry()
catalogue.list_entries(None, registry)
for name in registry.providers:
    registry.providers.get(name)
print(sorted({"torch", "transformers", "openai", "aiohttp", "numpy", "huggingface_hub"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
