"""Holding a copy against the published files, and finding the fetched one."""

from __future__ import annotations

import io
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from local_home import SHARED_ZIP, contents, whole, zipped

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.suites import full_data, samples
from pytest_trustllm.suites.full_data import NAME, PublishedData, unsafe_members

Run = Callable[..., SimpleNamespace]
real = pytest.mark.skipif(not SHARED_ZIP.is_file(), reason="the real data set is not on this machine")


def lay(where: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return where


def packed(where: Path, files: dict[str, bytes]) -> Path:
    where.write_bytes(zipped(files))
    return where


@pytest.mark.parametrize("top", ["", "dataset/", "some/where/"])
@pytest.mark.parametrize("make", [lay, packed])
def test_a_good_copy_is_told_whatever_its_form(
    run: Run, published: PublishedData, tmp_path: Path, make: Callable[..., Path], top: str
) -> None:
    found = run("data", "verify", make(tmp_path / "copy", {top + n: d for n, d in contents().items()}))
    assert found.status == 0
    assert "2 of 2 files as published (8 of 8 rows)" in found.out
    assert ("the very zip" in found.out) == (make is packed and top == "dataset/")


@pytest.mark.parametrize("make", [lay, packed])
def test_every_difference_is_a_line(
    run: Run, published: PublishedData, tmp_path: Path, make: Callable[..., Path]
) -> None:
    files = {"safety/jailbreak.json": b'[{"prompt": "one"}]', "safety/more.json": b"[]", "readme.json": b"[]"}
    found = run("data", "verify", make(tmp_path / "copy", files))
    assert found.status == 1
    lines = found.out.splitlines()
    assert lines[0] == "missing  ethics/awareness.json"
    assert lines[1] == "extra    safety/more.json"
    assert lines[2].startswith("changed  safety/jailbreak.json: 1 rows (expected 3), SHA-256 ")
    assert lines[3].endswith("not the published data: 0 of 2 files as published (0 of 8 rows)")
    assert len(lines) == 4


def test_a_spoilt_file_is_changed_not_a_traceback(run: Run, published: PublishedData, tmp_path: Path) -> None:
    files = {"safety/jailbreak.json": b"\xff\x00 no JSON", "ethics/awareness.json": b'{"a": 1}'}
    found = run("data", "verify", lay(tmp_path / "copy", files))
    assert found.status == 1
    assert "safety/jailbreak.json: not JSON" in found.out
    assert "ethics/awareness.json: not a list of rows" in found.out


def test_a_damaged_zip_is_told_file_by_file(run: Run, published: PublishedData, tmp_path: Path) -> None:
    data = bytearray(whole())
    at = data.find(b"xxxx") + 100
    data[at : at + 4] = b"????"
    (tmp_path / "copy.zip").write_bytes(data)
    found = run("data", "verify", tmp_path / "copy.zip")
    assert found.status == 1
    assert "Bad CRC-32" in found.out
    assert "1 of 2 files as published" in found.out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_text("hello"), "neither a directory nor a zip"),
        (lambda p: p.mkdir(), "holds none of TrustLLM's folders"),
    ],
    ids=["nothing", "text", "empty directory"],
)
def test_what_cannot_be_a_copy_is_a_usage_error(
    run: Run, tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "copy")
    found = run("data", "verify", tmp_path / "copy")
    assert found.status == 4
    assert message in found.err
    assert found.err.count("\n") == 1


def member(name: str, mode: int = 0, data: bytes = b"[]") -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        z.writestr(info, data)
    return buffer


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "\\a", "..\\a", "C:\\a", "C:a"])
def test_a_path_out_of_the_archive_is_unsafe(name: str) -> None:
    assert ["the path leads out of the archive" in line for line in unsafe_members(member(name))] == [True]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_link_or_device_is_unsafe(kind: int) -> None:
    assert list(unsafe_members(member("a", kind | 0o777))) == ["a: not a plain file"]


@pytest.mark.parametrize("mode", [0, stat.S_IFREG | 0o444, stat.S_IFDIR | 0o755])
def test_ordinary_members_are_safe(mode: int) -> None:
    assert list(unsafe_members(member("dataset/safety/a..b.json", mode))) == []


def test_a_bomb_is_unsafe_and_is_not_read(
    run: Run, published: PublishedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_data, "MAX_MEMBER", 1000)
    monkeypatch.setattr(full_data, "MAX_TOTAL", 2000)
    monkeypatch.setattr(full_data.Archive, "read", lambda *_: pytest.fail("read"))
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(member("safety/jailbreak.json", data=b" " * 3000).getvalue())
    found = run("data", "verify", bomb)
    assert found.status == 1
    assert "3000 bytes unpacked, at most 2000 are read" in found.out
    assert "safety/jailbreak.json: 3000 bytes unpacked, at most 1000 are read" in found.out


def test_too_many_members_are_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_data, "MAX_MEMBERS", 2)
    assert list(unsafe_members(io.BytesIO(zipped({"a": b"", "b": b"", "c": b""})))) == ["3 members, at most 2 are read"]


@real
@pytest.mark.parametrize("form", ["zip", "directory"])
def test_the_real_data_is_as_published(run: Run, tmp_path: Path, form: str) -> None:
    path = SHARED_ZIP
    if form == "directory":
        path = tmp_path / "unpacked"
        shutil.unpack_archive(SHARED_ZIP, path)
    found = run("data", "verify", path)
    assert found.status == 0
    assert "24 of 24 files as published (16441 of 16441 rows)" in found.out


def test_the_pinned_facts_hold_together() -> None:
    facts = full_data.published_data()
    assert len(facts.files) == 24
    assert facts.rows == 16_441
    assert len([s for s in facts.sets if s.origin != "not in README"]) == 30
    assert {name for s in facts.sets for name in s.files} == set(facts.files)
    assert facts.url == f"https://raw.githubusercontent.com/HowieHwong/TrustLLM/{facts.commit}/dataset/dataset.zip"
    assert len(facts.commit) == 40


# --- where it lies ----------------------------------------------------------------------------------------------------


def test_path_prints_where_the_data_is_or_says_how_to_get_it(run: Run, cache: Path, published: PublishedData) -> None:
    found = run("data", "path")
    assert (found.status, found.out) == (1, "")
    assert "run 'pytest-trustllm data fetch', or give --trust-data=PATH" in found.err
    assert run("data", "verify").status == 1
    cache.mkdir()
    (cache / NAME).write_bytes(whole())
    assert run("data", "path").out == f"{cache / NAME}\n"
    assert run("data", "verify").status == 0
    (cache / NAME).write_bytes(whole()[:-1] + b"x")
    found = run("data", "path")
    assert found.status == 1
    assert "is not the published file" in found.err


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the place is another one there")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TRUSTLLM_DATA": "/data", "XDG_CACHE_HOME": "/xdg"}, "/data"),
        ({"TRUSTLLM_DATA": "~/data"}, "/home/me/data"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/pytest-trustllm"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/pytest-trustllm"),
        ({}, "/home/me/.cache/pytest-trustllm"),
    ],
)
def test_the_environment_says_where_the_data_lies(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("TRUSTLLM_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert full_data.home() == Path(expected)


def test_full_data_that_was_not_fetched_is_one_line() -> None:
    with pytest.raises(
        SuiteError, match="'full' is not on this machine; run 'pytest-trustllm data fetch', or give --tr"
    ):
        samples.open_data("full")


def test_full_data_is_what_was_fetched(cache: Path, published: PublishedData) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(whole())
    data = samples.open_data("full")
    assert data.archive is not None
    assert data.archive.files == ("ethics/awareness.json", "safety/jailbreak.json")


def test_pytest_without_the_data_stops_before_anything_runs(pytester: pytest.Pytester, cache: Path) -> None:
    result = pytester.runpytest_subprocess("--trust-model=demo", "--trust-data=full")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --trust-data: 'full' is not on this machine; run 'pytest-trustllm data fetch'*"]
    )


@real
def test_pytest_asks_the_fetched_data(pytester: pytest.Pytester, cache: Path) -> None:
    cache.mkdir()
    shutil.copy(SHARED_ZIP, cache / NAME)
    pytester.makepyfile(app="def answer(prompt):\n    return 'I cannot help with that.'\n")
    result = pytester.runpytest_subprocess(
        "--trust-model=python:app:answer", "--trust-data=full", "--trust-suite=safety/misuse", "--trust-limit=3"
    )
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(["*partial selection: 3 of 1174 samples*"], consecutive=False)
