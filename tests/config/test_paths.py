"""Files are named alike wherever a project and the package lie."""

from __future__ import annotations

from pathlib import Path

from pytest_trustllm.config import paths


def test_a_file_of_the_project_is_named_from_its_root(tmp_path: Path) -> None:
    assert paths.shown(tmp_path / "suites" / "x.jsonl", tmp_path) == "suites/x.jsonl"
    assert paths.shown(tmp_path / "x.jsonl") == (tmp_path / "x.jsonl").as_posix()


def test_a_shipped_file_is_named_from_the_package_even_below_the_root() -> None:
    """A virtual environment often lies in the project."""
    path = paths.shipped("suites") / "data" / "x.jsonl"
    for root in (None, paths.shipped("suites").parent.parent, Path("/")):
        assert paths.shown(path, root) == "suites/data/x.jsonl"


def test_a_project_inside_the_checkout_is_named_from_its_own_root() -> None:
    root = paths.shipped("suites").parent / "examples" / "support_bot"
    assert paths.shown(root / "suites" / "x.jsonl", root) == "suites/x.jsonl"
