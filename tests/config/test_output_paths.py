"""Whether a file could be written, without making it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_trustllm.config.files import write_whole
from pytest_trustllm.config.output_paths import check_directory, check_openable, check_replaceable
from pytest_trustllm.errors import GenerationError, ResultsError

LONGEST = 255


def test_what_passes_can_be_written_and_what_does_not_cannot(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "file").write_text("")
    names = ["new", "file", "a/b/c", "full", "file/a", "x" * LONGEST, "x" * (LONGEST - 10), "x" * (LONGEST - 9)]
    names += [f"{'y' * (LONGEST + 1)}/a", f"new/{'y' * (LONGEST + 1)}/a", "/".join(["z" * 200] * 30)]
    for number, name in enumerate(names):
        path = tmp_path / f"{number}" / name if "/" in name and "file" not in name else tmp_path / name
        before = sorted(tmp_path.rglob("*"))
        passes = _passes(check_replaceable, path)
        assert sorted(tmp_path.rglob("*")) == before
        assert passes == _passes(write_to, path), name


def write_to(path: Path, flag: str) -> None:
    write_whole(path, ["text"], flag)


def _passes(check: Callable[[Path, str], None], path: Path) -> bool:
    try:
        check(path, "-o")
    except ResultsError:
        return False
    return True


def test_a_file_that_is_opened_where_it_is_needs_no_second_name(tmp_path: Path) -> None:
    check_openable(tmp_path / ("x" * LONGEST), "--junitxml")
    with pytest.raises(ResultsError, match=r"^--junitxml: .* its name is too long; give another path$"):
        check_openable(tmp_path / ("x" * (LONGEST + 1)), "--junitxml")
    with pytest.raises(ResultsError, match=r"it is a directory"):
        check_openable(tmp_path, "--junitxml")


def test_a_pipe_may_be_anywhere(tmp_path: Path) -> None:
    pipe = tmp_path / ("p" * LONGEST)
    os.mkfifo(pipe)
    check_replaceable(pipe, "-o")
    check_openable(pipe, "--html")


def test_the_error_is_of_the_class_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GenerationError, match=r"^--x: .*file/a cannot be made: .*file is no directory; give another"):
        check_directory(tmp_path / "file" / "a", tmp_path / "file" / "a", "--x", GenerationError)
