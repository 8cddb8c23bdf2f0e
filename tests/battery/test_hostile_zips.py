"""Archives for --trust-data that are traps: one line, within seconds, in little memory."""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.suites import rows
from pytest_trustllm.suites.rows import Archive

GOOD = json.dumps([{"prompt": "x"}]).encode()


def archive(members: dict[str, bytes], **options: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **{"compression": zipfile.ZIP_DEFLATED, **options}) as made:  # type: ignore[arg-type]
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


def many() -> bytes:
    """Return a zip of 200,000 empty files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for number in range(200_000):
            made.writestr(zipfile.ZipInfo(f"safety/{number}.json"), b"")
    return file.getvalue()


def encrypted(data: bytes) -> bytes:
    """Return a zip whose first member says that it is encrypted."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[data.index(signature) + offset] |= 1
    return bytes(changed)


def with_method(data: bytes, method: int) -> bytes:
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", changed, data.index(signature) + offset, method)
    return bytes(changed)


def read(path: Path) -> None:
    """Read all rows of an archive."""
    opened = Archive(path, "--trust-data")
    for file in opened.files:
        opened.rows(file)


ZIPS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (lambda: archive({"safety/x.json": b" " * (300 << 20)}), "has more than 256 MiB"),
    "encrypted": (lambda: encrypted(archive({"safety/x.json": GOOD})), "cannot be read: "),
    "an unknown method": (lambda: with_method(archive({"safety/x.json": GOOD}), 77), "cannot be read: "),
    "another method": (lambda: with_method(archive({"safety/x.json": GOOD}), 14), "cannot be read: "),
    "cut": (lambda: archive({"safety/x.json": GOOD * 50})[:-30], "is neither a directory nor a zip file"),
    "noise inside": (lambda: archive({"safety/x.json": GOOD * 50}).replace(b"\x03\x04", b"\x03\x05", 1), "cannot be"),
    "a hostile name": (lambda: archive({"safety/\x1b[2J\u202ex.json": b"{"}), r"safety/\x1b[2J\u202ex.json cannot"),
    "deep": (lambda: archive({"safety/x.json": b"[" * 200_000}), "cannot be read: "),
    "no file of a data set": (lambda: archive({"x.json": GOOD}), "holds none of TrustLLM's folders"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_that_is_a_trap_is_one_line(tmp_path: Path, name: str) -> None:
    make, problem = ZIPS[name]
    path = tmp_path / "d.zip"
    path.write_bytes(make())
    with pytest.raises(SuiteError) as e:
        read(path)
    assert problem in str(e.value)
    assert str(e.value).isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_500_000  # KiB


def test_a_zip_of_very_many_files_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_MOST_DIRECTORY_BYTES", 1000)
    path = tmp_path / "d.zip"
    path.write_bytes(archive({f"safety/{number}.json": GOOD for number in range(100)}))
    with pytest.raises(SuiteError, match="lists more files than a data set has"):
        Archive(path, "--trust-data")


@pytest.mark.slow
def test_a_zip_of_200000_files_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "d.zip"
    path.write_bytes(many())
    start = time.process_time()
    with pytest.raises(SuiteError, match="lists more files than a data set has"):
        Archive(path, "--trust-data")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("count", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_mutated_zips(tmp_path: Path, count: int) -> None:
    good = archive({"TrustLLM/safety/x.json": GOOD * 3, "privacy/y.json": GOOD, "readme.txt": b"hello"})
    dice = random.Random(count)
    path = tmp_path / "d.zip"
    for _ in range(count):
        data = bytearray(good)
        for _ in range(dice.randint(1, 5)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data[: dice.choice([len(data), dice.randrange(len(data))])])
        with contextlib.suppress(SuiteError):
            read(path)
