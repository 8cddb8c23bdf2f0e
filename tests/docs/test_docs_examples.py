"""The example projects of the documentation run, and print what the page shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from pages import BLOCKS, Block, pattern

KINDS = ("file", "run", "prints", "wrote")
MARKED = [b for b in BLOCKS if b.kind in KINDS]


def project_of(block: Block) -> str:
    """Return the name of the project that a block belongs to."""
    return block.name.partition("/")[0]


PROJECTS = {project_of(b): b.page for b in MARKED}


@pytest.mark.parametrize("name", PROJECTS)
def test_an_example_runs_and_prints_what_its_page_shows(
    name: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    mine = [b for b in MARKED if project_of(b) == name]
    assert {b.page for b in mine} == {PROJECTS[name]}, "two pages name a project alike"
    for block in mine:
        if block.kind == "file":
            path = pytester.path / block.name.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if path.suffix != ".jsonl":  # which has no comments
                assert block.text.startswith(f"# {path.relative_to(pytester.path)}\n"), "the reader sees no file name"
    (command,) = (shlex.split(b.text) for b in mine if b.kind == "run")
    assert command[0] == "pytest"
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *command[1:], timeout=120)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    shown = [b for b in mine if b.kind in ("prints", "wrote")]
    assert shown, "nothing is compared"
    for block in shown:
        where = Path(pytester.path, block.name.partition("/")[2])
        found = where.read_text(encoding="utf-8") if block.kind == "wrote" else result.stdout.str()
        assert pattern(block.text).search(found), f"{block.text}\nis not in\n{found}"
