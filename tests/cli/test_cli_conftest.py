"""Commands know what the project's conftest.py registers, as pytest does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

Run = Callable[..., SimpleNamespace]
CONFTEST = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import BaseProvider, Score

@dataclass(frozen=True)
class Length:
    roles: ClassVar = ()

    def score(self, sample, replies):
        return Score(1.0)

class House(BaseProvider):
    def load(self, spec, settings):
        raise NotImplementedError

def pytest_trustllm_register(registry):
    registry.scorers.add("own_length", Length)
    registry.providers.add("house", House)
"""
SUITE = """
dimension: own
tasks:
  - name: t
    data: {samples: [{prompt: a}]}
    scorer: own_length
    metrics: [{name: m, kind: mean}]
"""
JUDGE_CHECK = ("judge-check", "--judge=python:bot:judge", "--task=truthfulness/adversarial_factuality", "labels.jsonl")
MODELS = ("models", "--models", "models.yaml")
LABEL = (
    '{"response": "The sun is hot.", "label": "corrected", "modified knowledge": "The sun is cold.", '
    '"prompt": "As the sun is cold, how do plants grow?"}'
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/own.yaml").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "models.yaml").write_text("house: {provider: house, model: small}\n")
    (tmp_path / "bot.py").write_text("def judge(prompt): return '[CORRECTED]'\n")
    (tmp_path / "labels.jsonl").write_text(LABEL + "\n")
    return tmp_path


@pytest.mark.parametrize("command", [JUDGE_CHECK, MODELS])
def test_the_conftest_beside_the_suites_is_read(run: Run, project: Path, command: tuple[str, ...]) -> None:
    found = run(*command)
    assert (found.status, found.err) == (0, "")
    (project / "conftest.py").rename(project / "elsewhere.py")
    assert run(*command).status == 4
    found = run(*command, "--conftest", "elsewhere.py")
    assert (found.status, found.err) == (0, "")


def test_a_conftest_that_registers_nothing_is_not_imported(run: Run, project: Path) -> None:
    (project / "conftest.py").write_text("raise RuntimeError\n")
    found = run("models")
    assert (found.status, found.err) == (0, "")


def test_one_that_cannot_be_imported_is_a_warning_unless_it_is_named(run: Run, project: Path) -> None:
    (project / "conftest.py").write_text(f"import nothing_of_this_name\n{CONFTEST}")
    found = run("models")
    why = "conftest.py cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'"
    assert (found.status, found.err) == (0, f"WARNING: {why}; what it registers is unknown here\n")
    found = run("models", "--conftest", "conftest.py")
    assert (found.status, found.err) == (4, f"ERROR: --conftest: {why}\n")
