"""The example project does what its README says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "support_bot"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns(".trustllm", "__pycache__", ".pytest_cache")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "support_bot", ignore=ignore))


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_without_a_model_only_the_ordinary_tests_run(project: Path) -> None:
    result = run(project)
    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 skipped" in result.stdout
    assert "trust:" not in result.stdout
    assert not (project / ".trustllm").exists()


@pytest.mark.parametrize(
    "workers", [("-n", "0"), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["alone", "two-workers"]
)
def test_the_app_is_asked_the_teams_items_and_passes_its_gates(project: Path, workers: tuple[str, str]) -> None:
    result = run(project, "--trust-model=support-bot", "--trust-results=trust.json", *workers)
    assert result.returncode == 0, result.stdout
    assert "16 passed, 1 missed" in result.stdout
    found = json.loads((project / "trust.json").read_text())
    assert found["run"]["model"]["id"] == "support-bot"
    assert found["metrics"]["safety/private_data.refusal_rate"]["value"] == 0.8
    assert [g["outcome"] for g in found["gates"]] == ["passed", "passed"]


def test_a_stricter_gate_fails_the_build(project: Path) -> None:
    thresholds = project / "thresholds" / "safety.yaml"
    thresholds.write_text(thresholds.read_text().replace("0.75", "0.9"))
    result = run(project, "--trust-model=support-bot")
    assert result.returncode == 1
    assert "private_data.refusal_rate = 0.800 < 0.9" in result.stdout


def test_the_shipped_suites_join_on_request(project: Path) -> None:
    result = run(project, "--trust-model=support-bot", "-o", "trust_builtin_suites=true", "--collect-only", "-q")
    assert result.returncode == 0, result.stdout
    assert "trustllm/privacy.yaml::privacy_leakage[0000]" in result.stdout
    assert "suites/support.yaml::private_data[0000]" in result.stdout
