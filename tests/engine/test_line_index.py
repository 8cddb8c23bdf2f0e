"""A long store is opened by its index, which is never believed where it does not fit the file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pytest_trustllm.engine import appended_lines, line_index
from pytest_trustllm.engine.appended_lines import KeyedLines
from pytest_trustllm.engine.line_index import path_of_index, read_index

ENOUGH = 40


@pytest.fixture(autouse=True)
def _short_files_are_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appended_lines, "WORTH_INDEXING", ENOUGH)


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def opened(path: Path, *, read_only: bool = False) -> KeyedLines:
    lines = KeyedLines(path, {"model": "m"}, read_only=read_only)
    assert list(lines.news())[:1] == [{"model": "m"}]
    return lines


def filled(path: Path, numbers: range = range(100)) -> KeyedLines:
    lines = opened(path)
    for number in numbers:
        lines.put(key_of(number), {"answer": number})
    lines.append({"note": "between"})
    lines.close()
    return opened(path)  # this writes the index


def answers(lines: KeyedLines, numbers: range = range(100)) -> list[object]:
    return [(lines.get(key_of(number)) or {}).get("answer") for number in numbers]


def read_bytes_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record from where on the lines of a file are read."""
    begun: list[int] = []
    since = appended_lines.AppendedLines.since

    def recorded(self: appended_lines.AppendedLines, begin: int) -> object:
        begun.append(begin)
        return since(self, begin)

    monkeypatch.setattr(appended_lines.AppendedLines, "since", recorded)
    return begun


def test_what_the_index_covers_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    size = path.stat().st_size
    begun = read_bytes_of(path, monkeypatch)
    lines = KeyedLines(path, {"model": "m"})
    assert list(lines.news()) == [{"model": "m"}, {"note": "between"}]
    assert begun == [size]
    assert answers(lines) == list(range(100))
    assert len(lines) == 100
    assert key_of(100) not in lines
    assert oct(path_of_index(path).stat().st_mode)[-3:] == "600"


def test_what_was_appended_after_it_is_found_too(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    lines = filled(path)
    lines.put(key_of(3), {"answer": "later"})
    lines.put(key_of(100), {"answer": 100})
    lines.close()
    again = opened(path)
    assert answers(again, range(2, 5)) == [2, "later", 4]
    assert again.get(key_of(100)) == {"key": key_of(100), "answer": 100}
    assert len(again) == 101


def test_it_is_written_again_when_much_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    first = filled(path)
    covered = read_index(path)
    assert covered is not None
    for number in range(100, 100 + ENOUGH):
        first.put(key_of(number), {"answer": number})
    first.put(key_of(5), {"answer": "later"})
    first.close()
    again = opened(path)
    grown = read_index(path)
    assert grown is not None
    assert (len(covered), len(grown)) == (100, 100 + ENOUGH)
    assert grown.covered == path.stat().st_size
    assert answers(again, range(4, 7)) == [4, "later", 6]
    assert answers(again, range(100, 100 + ENOUGH)) == list(range(100, 100 + ENOUGH))


def test_a_short_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    filled(path, range(ENOUGH - 1)).close()
    assert not path_of_index(path).exists()


def test_where_nothing_may_be_written_none_is(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    path_of_index(path).unlink()
    assert answers(opened(path, read_only=True)) == list(range(100))
    assert not path_of_index(path).exists()


def line_out(path: Path, number: int) -> None:
    """Take a line out of a file, as someone with an editor would."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:number], *lines[number + 1 :]]))


@pytest.mark.parametrize("taken_out", [1, 50, 100])
def test_a_file_that_was_edited_is_read_whole(tmp_path: Path, taken_out: int) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    line_out(path, taken_out)
    header = path.read_bytes().splitlines(keepends=True)[0]
    with path.open("ab") as file:
        file.write(20 * header)  # longer than before, so that its length does not give it away
    assert read_index(path) is None
    lines = opened(path)
    expected: list[object] = list(range(100))
    expected[taken_out - 1] = None
    assert answers(lines) == expected


def test_an_index_that_points_to_another_line_gives_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1], lines[2] = lines[2], lines[1]  # of the same length; the blocks of a fingerprint may miss such a change
    path.write_bytes(b"".join(lines))
    kept = path_of_index(path).read_bytes()[24:56]
    monkeypatch.setattr(line_index, "_fingerprint", lambda path, covered: kept)
    assert answers(opened(path), range(4)) == [None, None, 2, 3]


@pytest.mark.parametrize("cut", [0, 10, 76, 77, 4000])
def test_an_index_that_is_cut_is_not_used(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    whole = path_of_index(path).read_bytes()
    path_of_index(path).write_bytes(whole[:cut])
    assert read_index(path) is None
    assert answers(opened(path)) == list(range(100))
    assert path_of_index(path).read_bytes() == whole  # made again


@pytest.mark.parametrize("place", range(0, 4100, 100))
def test_a_changed_byte_is_noticed(tmp_path: Path, place: int) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    whole = bytearray(path_of_index(path).read_bytes())
    whole[place] ^= 1
    path_of_index(path).write_bytes(whole)
    assert read_index(path) is None


def test_places_beyond_all_files_give_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    places = {bytes.fromhex(key_of(number)): 2**64 - 1 for number in range(100)}
    line_index.write_index(path, path.stat().st_size, places, [2**63])
    lines = KeyedLines(path, {"model": "m"})
    assert list(lines.news()) == []
    assert answers(lines) == [None] * 100


def test_an_index_that_says_that_there_is_nothing_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    head = bytearray(path_of_index(path).read_bytes()[:76])
    head[56:76] = bytes(20)  # no keys, no other lines, the checksum of nothing
    path_of_index(path).write_bytes(head)
    assert read_index(path) is None
    assert answers(opened(path)) == list(range(100))


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    path_of_index(path).unlink()
    os.mkfifo(path_of_index(path))
    assert answers(opened(path)) == list(range(100))


def test_where_it_cannot_be_written_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path_of_index(path).mkdir(parents=True)
    assert answers(filled(path)) == list(range(100))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".m")] == []


def test_a_torn_line_at_the_end_of_the_covered_part_stays_out(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    filled(path).close()
    path_of_index(path).unlink()
    with path.open("ab") as file:
        file.write(b'0123abcd {"key":"' + key_of(7).encode())  # a process was killed here
    lines = opened(path)
    lines.put(key_of(8), {"answer": "later"})
    lines.close()
    assert answers(opened(path), range(7, 10)) == [7, "later", 9]
