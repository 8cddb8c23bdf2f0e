"""Suites and threshold files that name files outside the project: refused, without a word of what is in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from user_project import Project

from pytest_trustllm.config.containment import files_anywhere
from pytest_trustllm.errors import GateError, SuiteError
from pytest_trustllm.gates.thresholds import read_thresholds
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import read_suite

SECRET = "TOPS3CRET-11223344"
SUITE = "dimension: d\ntasks:\n- {{name: t, prompt: x, data: {data}, scorer: {scorer}, metrics: [accuracy]}}\n"
WAYS: dict[str, Callable[[Path, Path], str]] = {
    "upwards": lambda beside, file: os.path.relpath(file, beside),
    "absolute": lambda beside, file: str(file),
    "a link": lambda beside, file: _link(beside / "link", file),
    "a link to the directory": lambda beside, file: f"{_link(beside / 'link', file.parent)}/{file.name}",
    "there and back": lambda beside, file: f"../{beside.name}/{os.path.relpath(file, beside)}",
}
in_every_way = pytest.mark.parametrize("way", WAYS)


def _link(link: Path, target: Path) -> str:
    link.symlink_to(target)
    return link.name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project; what is outside it holds a secret."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "rows.jsonl").write_text(f'{{"q": "{SECRET}", "label": "good"}}\n')
    (outside / "base.yaml").write_text(f"- {SECRET}\n")
    for name in ("suites", "thresholds", "data"):
        (tmp_path / "project" / name).mkdir(parents=True)
    return tmp_path / "project"


@in_every_way
@pytest.mark.parametrize("key", ["samples", "rubric"])
def test_a_suite_names_nothing_outside_its_project(root: Path, key: str, way: str) -> None:
    name = WAYS[way](root / "suites", root.parent / "outside/rows.jsonl")
    data, scorer = f"{{samples: '{name}'}}", "contains"
    if key == "rubric":
        data, scorer = "{samples: [{prompt: x}]}", f"{{name: answer_match, rubric: '{name}'}}"
    path = root / "suites/s.yaml"
    path.write_text(SUITE.format(data=data, scorer=scorer))
    with pytest.raises(SuiteError) as e:
        read_suite(path, Registry(), root=root)
    assert "leads out of what the suite may read; if you mean it, set trust_allow_outside = true" in str(e.value)
    assert SECRET not in str(e.value)
    with files_anywhere():
        if key == "samples":
            assert read_suite(path, Registry(), root=root).tasks[0].data.samples is not None


@in_every_way
def test_thresholds_extend_nothing_outside_their_project(root: Path, way: str) -> None:
    name = WAYS[way](root / "thresholds", root.parent / "outside/base.yaml")
    path = root / "thresholds/t.yaml"
    path.write_text(f"extends: '{name}'\ndimension: d\ngates: []\n")
    suite = root / "suites/s.yaml"
    suite.write_text(SUITE.format(data="{samples: [{prompt: x}]}", scorer="contains"))
    with pytest.raises(GateError) as e:
        read_thresholds(path, [read_suite(suite, Registry(), root=root)], root=root)
    assert "leads out of what threshold files may read" in str(e.value)
    assert SECRET not in str(e.value)


def test_a_suite_that_is_a_link_out_is_refused(root: Path) -> None:
    (root / "suites/s.yaml").symlink_to(root.parent / "outside/base.yaml")
    with pytest.raises(SuiteError, match="a link that leads out") as e:
        read_suite(root / "suites/s.yaml", Registry(), root=root)
    assert SECRET not in str(e.value)


def test_what_is_in_the_project_may_be_named(root: Path) -> None:
    (root / "data/rows.jsonl").write_text('{"prompt": "x"}\n')
    path = root / "suites/s.yaml"
    for name in (
        "../data/rows.jsonl",
        str(root / "data/rows.jsonl"),
        _link(root / "suites/in", root / "data/rows.jsonl"),
    ):
        path.write_text(SUITE.format(data=f"{{samples: '{name}'}}", scorer="contains"))
        assert read_suite(path, Registry(), root=root).tasks[0].data.samples is not None


def test_a_package_and_a_directory_elsewhere_have_their_own_root(root: Path) -> None:
    elsewhere = root.parent / "outside/s.yaml"
    elsewhere.write_text(SUITE.format(data="{samples: rows.jsonl}", scorer="contains"))
    assert read_suite(elsewhere, Registry(), root=root).tasks[0].data.samples is not None
    elsewhere.write_text(SUITE.format(data="{samples: ../project/suites/rows.jsonl}", scorer="contains"))
    (root / "suites/rows.jsonl").write_text('{"prompt": "x"}\n')
    with pytest.raises(SuiteError, match="leads out of what the suite may read"):
        read_suite(elsewhere, Registry(), root=root)


def test_a_run_asks_a_file_outside_only_if_it_is_allowed(project: Project, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-rows.jsonl"
    outside.write_text(f'{{"prompt": "{SECRET} good", "label": "good"}}\n')
    name = os.path.relpath(outside, project.path / "suites")
    data = f"{{samples: '{name}'}}"
    project.write("suites/mine.yaml", SUITE.format(data=data, scorer="contains").replace("prompt: x, ", ""))
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert SECRET not in result.stdout.str() + result.stderr.str()
    result = project.run("-o", "trust_allow_outside=true")
    assert result.ret == pytest.ExitCode.OK
    assert project.lines()[0]["status"] == "passed"
