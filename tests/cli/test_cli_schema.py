"""``pytest-trustllm schema``: printed, or written where editors look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pytest_trustllm.cli import json_schemas, main


def test_all_of_them_in_a_process_of_its_own(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest_trustllm.cli", "schema"],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert list(found) == ["suite", "thresholds", "models", "results", "samples"]
    for schema in found.values():
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        Draft202012Validator.check_schema(schema)


def test_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "thresholds"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"dimension", "gates", "extends"} <= set(found["properties"])


def test_files_are_written_over_older_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trustllm-suite.schema.json").write_text("old")
    assert main(["schema", "-o", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    for kind in (*json_schemas.KINDS, *json_schemas.WRITTEN):
        Draft202012Validator.check_schema(json.loads((tmp_path / json_schemas.file_name(kind)).read_text()))


def test_help_shows_the_line_for_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--help"]) == 0
    said = capsys.readouterr().out
    for kind, folder in (("suite", "../schemas"), ("thresholds", "../schemas"), ("models", "schemas")):
        assert json_schemas.editor_line(kind, folder) in said


def test_what_a_conftest_registers_is_proposed(tmp_path: Path) -> None:
    """In a process of its own: it imports the file."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_trustllm_register(registry):\n"
        "    registry.scorers.add('polite', 'pytest_trustllm.scorers.contains:Contains')\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest_trustllm.cli", "schema", "suite", "--conftest", "conftest.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert '"polite"' in result.stdout


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "suit"]) == 4
    assert capsys.readouterr().err.startswith("ERROR: schema: no kind of file 'suit' (did you mean 'suite'?); known: ")
    (tmp_path / "file").write_text("")
    assert main(["schema", "-o", str(tmp_path / "file")]) == 4
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert len(said.splitlines()) == 1
