"""What the README tells people to paste is what CI runs, and works from a wheel alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_readme_has_two_commands_of_one_line_each() -> None:
    first, second = commands()
    assert first.endswith("pytest --trust-model=demo --trust-report=trust.html")
    assert second.endswith("/pytest -n 4 --dist worksteal")


def test_ci_calls_the_readmes_test_command() -> None:
    assert commands()[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_the_main_job_runs_from_the_wheel_alone(tmp_path: Path) -> None:
    """Build the wheel, install it into a fresh environment outside the checkout, and run the main job there."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    bin_ = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    install = [bin_ / "pip", "install", "-q", "-c", ROOT / "constraints-cpu.txt", f"{wheel}[hf]"]
    subprocess.run([str(part) for part in install], check=True, capture_output=True, text=True, timeout=900)
    project = tmp_path / "project"
    project.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    result = subprocess.run(
        [str(bin_ / "pytest"), "--trust-model=demo", "--trust-results=trust.json", "--trust-report=trust.html"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == pytest.ExitCode.OK, result.stdout + result.stderr
    results = json.loads((project / "trust.json").read_text())
    assert {m.split("/")[0] for m in results["metrics"]} == {
        "truthfulness", "safety", "fairness", "robustness", "privacy", "ethics",
    }  # fmt: skip
    assert {g["outcome"] for g in results["gates"]} == {"passed"}
    assert all(g["id"].startswith("trustllm/thresholds/sample/") for g in results["gates"])
    assert (project / "trust.html").stat().st_size > 10_000
    assert sorted(p.name for p in project.iterdir() if not p.name.startswith(".")) == [
        "trust.html", "trust.json", "trust.samples.jsonl",
    ]  # fmt: skip


def test_pytest_is_configured_without_options_of_other_plugins() -> None:
    """The first command installs no plugin that only tests need, and pytest refuses options that it does not know."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        options = tomllib.load(file)["tool"]["pytest"]["ini_options"]
    known = {"addopts", "testpaths", "pythonpath", "xfail_strict", "filterwarnings", "markers", "norecursedirs"}
    assert {name for name in options if not name.startswith("trust_")} <= known


@pytest.mark.slow
def test_the_first_command_runs_in_a_checkout(tmp_path: Path) -> None:
    """This project's own conftest.py, configuration and suites meet nowhere else."""
    leave_out = shutil.ignore_patterns(".*", "__pycache__", "docs", "benchmarks")
    checkout = shutil.copytree(ROOT, tmp_path / "checkout", ignore=leave_out)
    options = commands()[0].partition("/pytest ")[2].split()
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", "-p", "no:timeout", "-p", "no:anyio"],
        cwd=checkout,
        env={k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONPATH", "TRUSTLLM"))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == pytest.ExitCode.OK, result.stdout[-2000:] + result.stderr
    assert " 288 passed" in result.stdout
    assert "gates: 21 passed, 0 failed" in result.stdout
    assert (checkout / "trust.html").stat().st_size > 10_000
