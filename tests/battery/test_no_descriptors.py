"""A process that may open no more files ends with a line, and leaves nothing in the directory for temporary files."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_trustllm.engine import host_home
from pytest_trustllm.engine.host_home import HostHome


@contextlib.contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    """Leave so many descriptors in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 1 + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(lowest_free)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(host_home.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_a_directory_that_cannot_be_locked_is_not_left(temporary: Path, spare: int) -> None:
    with few_descriptors(spare), contextlib.suppress(OSError):
        HostHome().remove()
    assert list(temporary.iterdir()) == []


def test_a_directory_is_removed_without_a_descriptor_to_list_it(temporary: Path) -> None:
    home = HostHome()
    for name in ("transcript", "host.log"):
        (home.directory / name).write_text("x")
    with few_descriptors(0):
        home.remove()
    assert list(temporary.iterdir()) == []
