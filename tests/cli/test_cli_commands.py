"""The command, run as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared"


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_trustllm.cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_models_lists_every_alias_with_provider_and_weights(tmp_path: Path) -> None:
    result = command("models", cwd=tmp_path)
    assert result.returncode == 0
    assert "llama2-7b         hf        meta-llama/Llama-2-7b-chat-hf         open" in result.stdout
    assert "palm2             -         not available" in result.stdout


def test_an_unknown_command_is_one_line_and_status_4(tmp_path: Path) -> None:
    result = command("modles", cwd=tmp_path)
    assert result.returncode == 4
    assert "modles" in result.stderr
    assert "Traceback" not in result.stderr


def test_data_path_says_that_there_is_no_data(tmp_path: Path) -> None:
    result = command("data", "path", cwd=tmp_path, TRUSTLLM_DATA=str(tmp_path / "none"))
    assert result.returncode == 1
    assert "data fetch" in result.stderr


def test_data_verify_tells_the_real_data_from_a_changed_copy(tmp_path: Path) -> None:
    zipped = SHARED / "trustllm" / "dataset.zip"
    if not zipped.exists():
        pytest.skip("needs the TrustLLM data set in shared/ beside the checkout")
    assert command("data", "verify", str(zipped), cwd=tmp_path).returncode == 0
    changed = tmp_path / "safety"
    changed.mkdir()
    (changed / "jailbreak.json").write_text('[{"prompt": "changed"}]')
    result = command("data", "verify", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 1
    assert "jailbreak.json" in result.stdout + result.stderr


def test_report_draws_the_page_of_a_saved_run(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("app.py").write_text(
        "def answer(prompt):\n    return 'I am sorry, I cannot help with that.'\n"
    )
    ran = pytester.runpytest_subprocess(
        "--trust-model=python:app:answer", "--trust-suite=safety/misuse", "--trust-results=run.json", "-p", "no:xdist"
    )
    assert ran.ret == 0
    result = command("report", "run.json", "-o", "page.html", cwd=pytester.path)
    assert result.returncode == 0, result.stderr
    assert "misuse.refusal_rate" in pytester.path.joinpath("page.html").read_text()
    assert (
        json.loads(pytester.path.joinpath("run.json").read_text())["metrics"]["safety/misuse.refusal_rate"]["value"]
        == 1.0
    )
