"""Every block of code of the documentation is read by the code that it is for."""

from __future__ import annotations

import argparse
import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import BLOCKS, PAGES, ROOT, Block, inline_code, without_fences

from pytest_trustllm import extensions
from pytest_trustllm.cli import parser
from pytest_trustllm.config import paths
from pytest_trustllm.gates.thresholds import read_thresholds
from pytest_trustllm.models import catalogue
from pytest_trustllm.plugin import options, settings
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.task import Suite

ELSEWHERE = {
    # what the comment before a block says that it is -> the test that checks it
    "output": "tests/docs/test_docs_gates.py",
    "message": "tests/docs/test_docs_messages.py",
    "labels": "tests/docs/test_docs_judges.py",
    "engine": "tests/docs/test_docs_engines.py",
    "command": "tests/cli/test_cli_history.py",
    **dict.fromkeys(("file", "prints", "wrote"), "tests/docs/test_docs_examples.py"),
}
UNCHECKED = {
    "docs/accountability.md: ok  model revision: 0cfd7a3f9b83786609afa2f518767b7f": "tests/results/test_accountability",
    "docs/accountability.md: dimension        score      interval  metrics    scored  unscored": "numbers of one run; "
    "tests/plugin/test_plugin_audit.py runs audits",
    # block -> why nothing reads it
    "docs/engines.md: srun --nodes=1 --ntasks=1 ray start --head --port=6379 --block &": "commands of Slurm",
    "docs/gates.md: expected  = collected + deselected": "two sums, checked in tests/results/test_coverage.py",
}
SETUP = re.compile(
    r"python3 -m venv |[.\w/-]*pip install |echo |jq |gh |curl |id=\$\((?:gh|curl) |if \[ |page=1 |\[ -z "
)
"""Commands of others; those of the README are run by tests/test_readme.py."""
GATED = """
dimension: safety
tasks:
  - name: refunds
    data: {samples: [{prompt: x, label: x, language: fr}]}
    group: language
    scorer: contains
    metrics: [accuracy]
"""
"""The suite that the examples of docs/gates.md are about."""
Commands = Callable[[str], None]


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> list[Suite]:
    """The shipped suites, and the one of docs/gates.md."""
    gated = tmp_path_factory.mktemp("suites") / "gated.yaml"
    gated.write_text(GATED)
    shipped = sorted(paths.shipped("suites").glob("*.yaml"))
    return [read_suite(gated, Registry()), *(read_suite(path, Registry(), builtin=True) for path in shipped)]


@pytest.fixture
def check_command(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Let pytest with the plugin, or the command's parser, read a command line, without starting anything."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("CI_NODE_INDEX", "1")
    monkeypatch.setenv("CI_NODE_TOTAL", "4")

    def check(line: str) -> None:
        for part in re.split(r"\s*(?:&&|\|\|)\s*", line):
            if SETUP.match(part):
                continue
            program, *args = shlex.split(re.sub(r"\[(--[^\]]*)\]", r"\1", part), comments=True)
            try:
                if Path(program).name == "pytest":
                    settings.read_settings(pytester.parseconfig(*args))
                else:
                    assert program == "pytest-trustllm", f"{part}: neither pytest nor pytest-trustllm"
                    assert hasattr(parser().parse_args(args), "run")
            except (pytest.UsageError, SystemExit) as e:
                pytest.fail(f"{part}: {e}")

    return check


def check_suite(text: str, directory: Path) -> None:
    """Load a suite; its data file holds a row with every field that a template names."""
    fields = dict.fromkeys(re.findall(r"\{\{ (\w+)", text), "x") | {"prompt": "x"}
    for name in re.findall(r"samples: ([\w.-]+\.jsonl)", text):
        (directory / name).write_text(json.dumps(fields) + "\n")
    (directory / "suite.yaml").write_text(text)
    assert read_suite(directory / "suite.yaml", Registry()).tasks


def check_thresholds(text: str, directory: Path, suites: list[Suite]) -> None:
    (directory / "thresholds.yaml").write_text(text)
    assert read_thresholds(directory / "thresholds.yaml", suites).gates("any model")


def check_models(text: str, directory: Path) -> None:
    (directory / "models.yaml").write_text(text)
    listed = {alias.name for alias in catalogue.list_entries(directory / "models.yaml", Registry())}
    assert set(yaml.safe_load(text)) <= listed


def check_recipe(text: str, check_command: Commands) -> None:
    """Check all commands of a CI recipe, with numbers in place of the runner's variables."""
    commands = list(scripts(yaml.safe_load(text)))
    assert any("pytest" in command for command in commands)
    for command in commands:
        plain = re.sub(r"\$\{\{[^}]*\}\}|\$CI_NODE_INDEX", "1", command)
        plain = plain.replace("$CI_PIPELINE_URL", "https://ci.example/1")
        check_command(plain.strip())


def scripts(node: Any) -> Iterator[str]:
    """Yield the command lines of GitHub's and GitLab's jobs."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("run", "script", "after_script"):
                yield from ([value] if isinstance(value, str) else value)
            else:
                yield from scripts(value)
    elif isinstance(node, list):
        for value in node:
            yield from scripts(value)


def check_json(text: str) -> None:
    """Read one document, or one per line."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        for line in text.splitlines():
            json.loads(line)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.id)
def test_a_block_is_what_it_seems(block: Block, tmp_path: Path, suites: list[Suite], check_command: Commands) -> None:
    text, recipe = block.text, block.page == "docs/ci.md"
    if block.kind in ELSEWHERE:
        assert (ROOT / ELSEWHERE[block.kind]).is_file()
    elif block.id in UNCHECKED:
        pytest.skip(UNCHECKED[block.id])
    elif block.language == "yaml" and recipe:
        check_recipe(text, check_command)
    elif block.language == "yaml" and "tasks" in yaml.safe_load(text):
        check_suite(text, tmp_path)
    elif block.language == "yaml" and "dimension" in yaml.safe_load(text):
        check_thresholds(text, tmp_path, suites)
    elif block.language == "yaml":
        check_models(text, tmp_path)
    elif block.language == "json":
        check_json(text)
    elif block.language == "toml":
        entries = tomllib.loads(text)["project"]["entry-points"]
        assert set(entries) == {extensions.MODULES, extensions.SUITES}
    elif block.language == "ini":
        keys = configparser.ConfigParser()
        keys.read_string(text)
        declared = (ROOT / "pytest_trustllm/plugin/options.py").read_text(encoding="utf-8")
        assert all(f'"{key}"' in declared for key in keys["pytest"])
    elif block.language == "python":
        compile(text, block.id, "exec")
    elif block.language in ("sh", "console", "indented"):
        for line in text.strip().splitlines():
            check_command(line.removeprefix("$ "))
    else:
        pytest.fail(f"{block.id}: a block of {block.language or 'no language'} that nothing checks")


def test_what_is_not_checked_is_still_there() -> None:
    assert set(UNCHECKED) <= {block.id for block in BLOCKS}
    assert {b.kind for b in BLOCKS} - {""} == {*ELSEWHERE, "run", "thresholds"}


def test_every_fence_is_found() -> None:
    for page in PAGES:
        fences = len(re.findall(r"^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE))
        fenced = sum(b.page == page.relative_to(ROOT).as_posix() and b.language != "indented" for b in BLOCKS)
        assert fences == 2 * fenced, page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_flags_keys_and_commands_in_the_text_exist(page: Path, pytestconfig: pytest.Config) -> None:
    text = without_fences(page.read_text(encoding="utf-8"))
    assert set(re.findall(r"--trust-[a-z-]*[a-z]", text)) <= {f"--trust-{name}" for name, _, _ in options._FLAGS}
    others = {"trust_model", "trust_sample", "trust_task", "trust_warned", "trust_remote_code"}
    for key in set(re.findall(r"`(trust_[a-z_]*[a-z])\b", text)) - others:
        pytestconfig.getini(key)
    for code in inline_code(page):
        program, *words = code.split()
        if program == "pytest-trustllm":
            check_words(words, code)


def check_words(words: list[str], code: str) -> None:
    """Check names of commands and flags of a command that the text only mentions, such as ``data fetch|path``."""
    known = parser()
    for word in words:
        word = word.strip("[]")
        commands = next((a.choices for a in known._actions if isinstance(a, argparse._SubParsersAction)), None)
        if word.startswith("-"):
            assert word in {flag for action in known._actions for flag in action.option_strings}, code
        elif commands is not None:
            assert set(word.split("|")) <= set(commands), code
            known = commands[word.split("|")[0]]
