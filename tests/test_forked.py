"""A forked pytest does what a started one does; most tests of the plugin rely on that."""

from __future__ import annotations

import re
import sys

import pytest
from forked import NOT_OURS

OWN = """
import os, sys, pytest

def test_where(tmp_path):
    assert sys.path[0] == os.getcwd()
    print("argv", sys.argv[1:], "environment", os.environ.get("MINE"), os.environ.get("PYTHONPATH"))
    print("path", sys.path)

def test_fails():
    assert 1 == 2

def test_warns():
    import warnings
    warnings.warn("loud")

@pytest.fixture
def broken():
    raise SystemExit(3)

def test_error(broken):
    pass
"""


def lines(result: pytest.RunResult) -> list[str]:
    """Return what a run printed, without what differs from run to run."""
    return [re.sub(r"in [\d.]+s|runpytest-\d+|=", "", line) for line in (*result.outlines, *result.errlines)]


@pytest.mark.parametrize("arguments", [("-rA", "-v"), ("--nonsense",), ("-k", "nothing")], ids=" ".join)
def test_a_forked_run_is_like_a_started_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MINE", "set for this test")
    pytester.makepyfile(OWN)
    given = ("-p", "no:cacheprovider", f"--basetemp={pytester.path / 'base'}", *arguments)
    forked = pytester.runpytest_subprocess(*given)
    started = pytester.run(
        *(sys.executable, "-m", "pytest", *NOT_OURS, f"--basetemp={pytester.path / 'runpytest-0'}", *given)
    )
    assert forked.ret == started.ret
    assert lines(forked) == lines(started)


def test_a_forked_run_that_lasts_too_long_is_ended(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import time\ndef test_sleeps(): time.sleep(60)\n")
    with pytest.raises(pytester.TimeoutExpired):
        pytester.runpytest_subprocess(timeout=2)


def test_a_forked_run_that_is_killed_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import os, signal\ndef test_dies(): os.kill(os.getpid(), signal.SIGKILL)\n")
    assert pytester.runpytest_subprocess().ret == -9
