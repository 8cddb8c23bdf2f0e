from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_trustllm.config import reading
from pytest_trustllm.errors import ResultsError

CONTENTS: dict[str, tuple[bytes, str]] = {
    "broken": (b"{", "not JSON: Expecting property name"),
    "empty": (b"", "not JSON: "),
    "not UTF-8": (b"\xff", "is not UTF-8 text (byte 0)"),
    "UTF-16": ("{}".encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "zeros": (b"\0" * 1000, "not JSON: "),
    "100,000 levels": (b"[" * 100_000, "not JSON: "),
    "900 levels": (b"[" * 900 + b"]" * 900, "not JSON that can be read: nested more than 64 levels deep"),
    "900 levels of mappings": (b'{"a":' * 900 + b"1" + b"}" * 900, "not JSON that can be read: nested"),
    "NaN": (b'{"a": NaN}', "not JSON: NaN is not a number in JSON"),
    "-Infinity": (b"[-Infinity]", "not JSON: -Infinity is not a number in JSON"),
    "a number of 5,000 digits": (b"9" * 5000, "not JSON: "),
    "hostile": (b'{"\x1b[2J', "not JSON: "),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_json_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    content, problem = CONTENTS[name]
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError) as e:
        reading.read_json(path, "--flag: x.json", ResultsError)
    assert str(e.value).startswith(f"--flag: x.json: {problem}")
    assert str(e.value).isprintable()
    path.write_bytes(b"{}\n" + content.replace(b"\n", b"") + b"\n")
    lines = reading.json_lines(path, "x.jsonl", ResultsError)
    assert next(lines) == ("x.jsonl:1", {})
    with pytest.raises(ResultsError, match=r"^x\.jsonl:2: "):
        list(lines)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file or directory"),
    "a directory": (lambda path: path.mkdir(), "Is a directory"),
    "a pipe": (os.mkfifo, "not a regular file"),
    "a device that never ends": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a socket": (_socket, "No such device or address"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("name", FILES)
def test_only_a_regular_file_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, problem = FILES[name]
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    make(Path("x"))
    with pytest.raises(ResultsError, match=f"^x: cannot be read: {problem}$"):
        reading.read_bytes(Path("x"), "x", ResultsError)
    with pytest.raises(ResultsError, match=f"^x: cannot be read: {problem}$"):
        list(reading.json_lines(Path("x"), "x", ResultsError))


def test_a_name_with_a_nul_is_no_file() -> None:
    with pytest.raises(ResultsError, match=r"^x: cannot be read: not the name of a file$"):
        reading.read_bytes(Path("a\0b"), "x", ResultsError)


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 2**20)
    assert len(reading.read_bytes(path, "x", ResultsError, most=2**20)) == 2**20
    with pytest.raises(ResultsError, match=r"^x: is longer than 1 MiB"):
        reading.read_bytes(path, "x", ResultsError, most=2**20 - 1)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'\xef\xbb\xbf{"a": [[[[[1]]]]]}')
    assert reading.read_json(path, "x", ResultsError) == {"a": [[[[[1]]]]]}
