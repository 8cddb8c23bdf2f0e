from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy  # noqa: F401 - pytester forgets what a test imports, and numpy cannot be loaded twice
import pytest
import scipy.special  # noqa: F401
import yaml  # noqa: F401 - likewise, its part in C
from local_home import ROWS, Home, contents, whole

from pytest_trustllm.cli import main
from pytest_trustllm.suites import full_data
from pytest_trustllm.suites.full_data import PublishedData, PublishedFile


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> PublishedData:
    """The pinned facts of a small data set of our own."""
    facts = replace(
        full_data.published_data(),
        url="http://127.0.0.1:9/pinned",
        size=len(whole()),
        sha256=hashlib.sha256(whole()).hexdigest(),
        files={n: PublishedFile(ROWS[n], len(d), hashlib.sha256(d).hexdigest()) for n, d in contents().items()},
    )
    monkeypatch.setattr(full_data, "published_data", lambda: facts)
    return facts


@pytest.fixture
def server(published: PublishedData) -> Iterator[Home]:
    home = Home(whole())
    yield home
    home.stop()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data directory of this test; and no proxy."""
    where = tmp_path / "cache"
    monkeypatch.setenv("TRUSTLLM_DATA", str(where))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return where


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., SimpleNamespace]:
    """Run the command in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def command(*args: object) -> SimpleNamespace:
        status = main([str(a) for a in args])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return command
