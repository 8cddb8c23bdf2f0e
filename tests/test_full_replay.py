"""All 16,441 recorded responses as a user scores them: one command, every role in place, both readings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import recorded
from recorded import needs_recorded

pytestmark = [needs_recorded, pytest.mark.slow]
SHUFFLE = """
import random
def pytest_collection_modifyitems(items):
    random.Random(20240215).shuffle(items)
"""


def replay(where: Path, url: str, *arguments: str) -> dict[str, Any]:
    """Run everything once, in a directory of its own, and return the results file."""
    (where / "pytest.ini").write_text("[pytest]\n")
    roles = {
        "judge": "openai:judge",
        "embedder": "openai:embedder",
        "toxicity": "perspective",
        "refusal-classifier": f"hf:{recorded.CLASSIFIER}",
    }
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        f"--trust-model=replay:{recorded.RESPONSES}",
        f"--trust-data={recorded.DATA}",
        *(f"--trust-{role}={model}" for role, model in roles.items()),
        "--trust-results=r.json",
        *arguments,
    ]
    unset = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST")
    kept = {k: v for k, v in os.environ.items() if k not in unset}
    result = subprocess.run(
        command, cwd=where, env={**kept, **recorded.environment(url)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout[-3000:] + result.stderr  # gates fail
    assert "Traceback" not in result.stdout + result.stderr
    found: dict[str, Any] = json.loads((where / "r.json").read_text())
    with (where / found["samples"]).open(encoding="ascii") as lines:
        return {**found, "lines": sum(1 for _ in lines)}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    pytest.importorskip("transformers", reason="the refusal classifier needs transformers")
    pytest.importorskip("openai", reason="judge and embedder need openai")
    with recorded.serving() as url:
        results = replay(tmp_path_factory.mktemp("plain"), url, "-p", "no:xdist")
        return {**results, "server": recorded.stats(url)}


@pytest.mark.parametrize("key", recorded.KEYS)
def test_value_and_parity(key: str, first: Mapping[str, Any]) -> None:
    recorded.check(key, lambda id_, reading: first["metrics"][id_][reading])


def test_every_item_ran_and_no_judge_guessed(first: Mapping[str, Any]) -> None:
    assert first["run"]["selection"] == "full"
    assert first["lines"] == 15_815
    assert first["server"]["chat"] > 0
    assert first["server"]["chat_fallback"] == 0
    assert first["server"]["bad_request"] == 0


def test_order_workers_and_batch_size_change_no_bit(
    first: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = tmp_path_factory.mktemp("shuffled")
    (where / "conftest.py").write_text(SHUFFLE)
    with recorded.serving() as url:
        second = replay(where, url, "-n", "2", "--trust-batch-size=7")
    for part in ("metrics", "scores", "gates"):
        assert json.dumps(second[part]) == json.dumps(first[part]), part


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("stop", ["exact", "0.05"])
def test_gates_that_stop_early_have_the_verdicts_of_the_full_run(
    first: Mapping[str, Any], tmp_path: Path, stop: str, workers: str
) -> None:
    with recorded.serving() as url:
        results = replay(tmp_path, url, f"--trust-stop={stop}", "-n", workers)
    assert _verdicts(results) == _verdicts(first)
    asked, planned = results["run"]["stop"]["asked"], results["run"]["stop"]["planned"]
    assert planned == 15_815
    assert results["lines"] == asked < planned
    early = [gate["id"] for gate in results["gates"] if "early" in gate]
    assert len(early) >= results["run"]["stop"]["decided"] > 10


def _verdicts(results: Mapping[str, Any]) -> dict[str, str]:
    return {gate["id"]: gate["outcome"] for gate in results["gates"]}
