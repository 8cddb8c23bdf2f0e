"""TrustLLM's files in whatever form a user has them, and what everything else is told."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.suites.rows import SECTIONS, Archive, read_lines

ROWS = [{"prompt": "a"}, {"prompt": "b\u2028\ud83d"}]
FILES = {"safety/jailbreak.json": json.dumps(ROWS), "ethics/awareness.json": "[]"}


def directory(where: Path, files: Mapping[str, str | bytes], top: str = "") -> Path:
    for name, content in files.items():
        path = where / top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return where


def zipped(where: Path, files: Mapping[str, str | bytes], top: str = "") -> Path:
    path = where / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            z.writestr(top + name, content)
    return path


@pytest.mark.parametrize("make", [directory, zipped])
@pytest.mark.parametrize("top", ["", "dataset/", "a/b/dataset/"])
def test_section_folders_are_found_at_the_top_or_below(make: object, top: str, tmp_path: Path) -> None:
    archive = Archive(make(tmp_path, FILES, top), "--trust-data")  # type: ignore[operator]
    assert archive.files == ("ethics/awareness.json", "safety/jailbreak.json")
    assert archive.rows("safety/jailbreak.json") == ROWS
    assert archive.hashes == {
        "safety/jailbreak.json": hashlib.sha256(FILES["safety/jailbreak.json"].encode()).hexdigest()
    }
    assert "safety/jailbreak.json" in archive
    assert "safety/misuse.json" not in archive


def test_the_file_nearest_to_the_top_wins(tmp_path: Path) -> None:
    files = {"old/safety/jailbreak.json": "[]", "safety/jailbreak.json": json.dumps(ROWS)}
    for archive in (Archive(directory(tmp_path / "d", files), "x"), Archive(zipped(tmp_path, files), "x")):
        assert archive.rows("safety/jailbreak.json") == ROWS


def test_what_a_mac_adds_is_no_data(tmp_path: Path) -> None:
    path = zipped(tmp_path, {**FILES, "__MACOSX/safety/jailbreak.json": "\x00", "__MACOSX/privacy/x.json": "\x00"})
    assert Archive(path, "x").files == ("ethics/awareness.json", "safety/jailbreak.json")


def test_a_section_folder_itself_is_not_the_data_set(tmp_path: Path) -> None:
    where = directory(tmp_path, FILES) / "safety"
    with pytest.raises(SuiteError, match="holds none of TrustLLM's folders"):
        Archive(where, "--trust-data")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds none of TrustLLM's folders"),
        ({"other/jailbreak.json": "[]"}, "holds none of TrustLLM's folders"),
        ({"safety/jailbreak.csv": ""}, "holds none of TrustLLM's folders"),
        ({"jailbreak.json": "[]"}, "holds none of TrustLLM's folders"),
    ],
)
@pytest.mark.parametrize("make", [directory, zipped])
def test_what_is_not_trustllms(make: object, files: dict[str, str], message: str, tmp_path: Path) -> None:
    path = make(tmp_path, files)  # type: ignore[operator]
    with pytest.raises(SuiteError) as e:
        Archive(path, "--trust-data")
    assert str(e.value).startswith(f"--trust-data: {path} {message} ({', '.join(SECTIONS)})")
    assert str(e.value).endswith("give the directory or zip of the TrustLLM data set")


def test_paths_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=rf"^--trust-data: {tmp_path}/none does not exist$"):
        Archive(tmp_path / "none", "--trust-data")
    (tmp_path / "text.zip").write_text("PK? no")
    with pytest.raises(SuiteError, match=r"text\.zip is neither a directory nor a zip file$"):
        Archive(tmp_path / "text.zip", "--trust-data")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "safety/jailbreak.json cannot be read: Expecting property name"),
        ("", "safety/jailbreak.json cannot be read: Expecting value"),
        (b"\xff\xfe[", "safety/jailbreak.json cannot be read: "),
        (b'["\xe9"]', "safety/jailbreak.json cannot be read: 'utf-8' codec can't decode"),
        ("{}", "safety/jailbreak.json is not a JSON list of objects"),
        ('[{"prompt": "a"}, "b"]', "safety/jailbreak.json is not a JSON list of objects"),
        ("null", "safety/jailbreak.json is not a JSON list of objects"),
        ("[" * 100_000, "safety/jailbreak.json cannot be read: "),
        ('[{"label": ' + "9" * 5000 + "}]", "safety/jailbreak.json cannot be read: "),
    ],
)
def test_a_file_that_is_no_list_of_rows(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = zipped(tmp_path, {"safety/jailbreak.json": content}, "dataset/")
    archive = Archive(path, "--trust-data")
    with pytest.raises(SuiteError) as e:
        archive.rows("safety/jailbreak.json")
    assert str(e.value).startswith(f"--trust-data: {path}: dataset/{message}")
    assert "\n" not in str(e.value)


def test_bare_nan_which_trustllms_own_files_hold_is_read(tmp_path: Path) -> None:
    (row,) = Archive(zipped(tmp_path, {"ethics/a.json": '[{"legal": NaN}]'}), "x").rows("ethics/a.json")
    assert math.isnan(row["legal"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    archive = Archive(zipped(tmp_path, FILES), "--trust-data")
    with pytest.raises(SuiteError, match=r"data\.zip has no safety/misuse\.json$"):
        archive.rows("safety/misuse.json")


def test_a_broken_zip_is_one_line(tmp_path: Path) -> None:
    path = zipped(tmp_path, {**FILES, "safety/misuse.json": json.dumps([{"prompt": str(i)} for i in range(2000)])})
    data = bytearray(path.read_bytes())
    middle = data.index(b"safety/misuse.json") + 500
    data[middle : middle + 50] = bytes(50)
    path.write_bytes(data)
    archive = Archive(path, "--trust-data")
    with pytest.raises(SuiteError, match=rf"^--trust-data: {path}: safety/misuse\.json cannot be read: "):
        archive.rows("safety/misuse.json")
    assert archive.rows("safety/jailbreak.json") == ROWS


def test_a_zip_that_was_cut_off_is_no_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path, FILES)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SuiteError, match="is neither a directory nor a zip file"):
        Archive(path, "--trust-data")


def test_a_zip_whose_table_is_broken_is_one_line(tmp_path: Path) -> None:
    path = zipped(tmp_path, FILES)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\x01\x02", b"PK\x09\x09"))
    with pytest.raises(SuiteError, match=rf"^--trust-data: {path} is a broken zip file: "):
        Archive(path, "--trust-data")


def test_a_directory_in_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "safety" / "jailbreak.json").mkdir(parents=True)
    with pytest.raises(SuiteError, match=r"safety/jailbreak\.json: cannot be read: "):
        Archive(tmp_path, "--trust-data").rows("safety/jailbreak.json")


def lines(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_lines_are_rows(tmp_path: Path) -> None:
    # a line ends at a line feed alone: U+2028 and U+0085 stand in texts
    content = '{"prompt": "a\u2028\u0085b"}\r\n\n  \n{"prompt": "c"}'
    rows, sha = read_lines(lines(tmp_path, content), "rows.jsonl")
    assert rows == [{"prompt": "a\u2028\u0085b"}, {"prompt": "c"}]
    assert sha == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": }', r"^rows\.jsonl:2: not JSON: Expecting value \(column 7\)$"),
        ('{"a": 1}\n\n[1]', r"^rows\.jsonl:3: expected a JSON object, found list$"),
        ("7", r"^rows\.jsonl:1: expected a JSON object, found int$"),
        (b'{"a": "\xe9"}', r"^rows\.jsonl: is not UTF-8 text \(byte 7\)$"),
        ("[" * 100_000, r"^rows\.jsonl:1: not JSON: "),
        ('{"a": ' + "9" * 5000 + "}", r"^rows\.jsonl:1: not JSON: "),
    ],
)
def test_lines_that_are_no_rows(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=message):
        read_lines(lines(tmp_path, content), "rows.jsonl")


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    rows, _ = read_lines(lines(tmp_path, b'\xef\xbb\xbf{"prompt": "a"}\n'), "rows.jsonl")
    assert rows == [{"prompt": "a"}]


def test_lines_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"^here: cannot be read: No such file or directory$"):
        read_lines(tmp_path / "none.jsonl", "here")
    with pytest.raises(SuiteError, match=r"^here: cannot be read: Is a directory$"):
        read_lines(tmp_path, "here")
