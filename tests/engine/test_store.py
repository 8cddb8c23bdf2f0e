"""Stored answers: never another model's, never half a line, never lost once they were acknowledged."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_trustllm.engine import store
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.errors import GenerationError
from pytest_trustllm.types import Generation, Request, Response

INFO: dict[str, Any] = {
    "provider": "hf",
    "id": "org/model",
    "revision": "abc",
    "template": "0123",
    "dtype": "float32",
    "about": {"licence": "MIT", "batch_size": 8},
}


def ask(text: str, **changes: Any) -> Request:
    return Request((("user", text),), **changes)


def shelf_of(directory: Path, **changes: Any) -> Shelf:
    return Shelf(directory, {**INFO, **changes})


def filled(directory: Path, texts: tuple[str, ...]) -> Path:
    shelf = shelf_of(directory)
    for text in texts:
        shelf.put(shelf.key(ask(text)), Response(text=f"re: {text}"))
    shelf.close()
    return shelf.path


def found(directory: Path, texts: tuple[str, ...]) -> list[str]:
    shelf = shelf_of(directory)
    got = [text for text in texts if shelf.get(shelf.key(ask(text))) is not None]
    shelf.close()
    return got


def test_an_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    response = Response(
        text="a\ud800\u2028\x00\n",
        vector=(0.1, -2.5e-300),
        number=1 / 3,
        input_tokens=3,
        output_tokens=0,
        finish="stop",
        seconds=0.25,
        revision="gpt-x-0613",
    )
    shelf = shelf_of(tmp_path)
    key = shelf.key(ask("q"))
    shelf.put(key, response)
    assert shelf.get(key) == dataclasses.replace(response, cached=True)
    shelf.close()
    again = shelf_of(tmp_path)
    assert again.get(key) == dataclasses.replace(response, cached=True)
    assert again.get(again.key(ask("another"))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "org/other"},
        {"provider": "openai"},
        {"revision": "abd"},
        {"revision": None},
        {"template": "0124"},
        {"dtype": "bfloat16"},
        {"system_prompt": "Be kind."},
        {"base_url": "http://elsewhere/v1"},
    ],
    ids=str,
)
def test_two_models_never_share_an_answer(tmp_path: Path, changes: dict[str, Any]) -> None:
    one, other = shelf_of(tmp_path), shelf_of(tmp_path, **changes)
    one.put(one.key(ask("q")), Response(text="mine"))
    assert one.path != other.path
    assert one.key(ask("q")) != other.key(ask("q"))
    assert other.get(other.key(ask("q"))) is None
    assert other.get(one.key(ask("q"))) is None


def test_models_whose_names_look_alike_as_file_names_have_files_of_their_own(tmp_path: Path) -> None:
    names = ("a/b", "a b", "a:b", "a\\b", "../../a/b", "x" * 300 + "a/b", "", "...", "名")
    paths = {shelf_of(tmp_path, id=name).path for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path for path in paths)


def test_another_generation_version_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, ("q",))
    monkeypatch.setattr(store, "GENERATION_VERSION", store.GENERATION_VERSION + 1)
    assert found(tmp_path, ("q",)) == []


def test_what_cannot_change_an_answer_does_not_part_them(tmp_path: Path) -> None:
    filled(tmp_path, ("q",))
    shelf = shelf_of(tmp_path, about={"licence": "other", "batch_size": 64})
    assert shelf.get(shelf.key(ask("q"))) is not None
    assert shelf.key(ask("q", origin=("safety/jailbreak.json", 3))) == shelf.key(ask("q"))
    assert shelf.key(ask("q", fresh=True)) == shelf.key(ask("q"))
    assert shelf.key(ask("q", seed=5)) == shelf.key(ask("q"))  # greedy: there is nothing to draw


SAMPLED = Generation(temperature=1.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ask("q"), ask("q ")),
        (ask("q"), Request((("system", "q"),))),
        (ask("q"), Request((("user", "q"), ("user", "")))),
        (Request((("user", "a\n\nb"),)), Request((("user", "a"), ("user", "b")))),
        (ask("q"), ask("q", generation=Generation(max_new_tokens=513))),
        (ask("q"), ask("q", generation=Generation(stop=("\n",)))),
        (ask("q", generation=Generation(stop=("a", "b"))), ask("q", generation=Generation(stop=("a b",)))),
        (ask("q"), ask("q", generation=SAMPLED)),
        (ask("q", generation=SAMPLED, seed=1), ask("q", generation=SAMPLED, seed=2)),
        (ask("q", generation=SAMPLED), ask("q", generation=Generation(temperature=0.9))),
    ],
    ids=str,
)
def test_what_changes_an_answer_changes_its_key(tmp_path: Path, one: Request, other: Request) -> None:
    shelf = shelf_of(tmp_path)
    assert shelf.key(one) != shelf.key(other)


TEXTS = ("first", "zwei \u00e4\u2028", "\ud83d half", "")


def test_a_kill_at_any_byte_loses_at_most_the_line_that_was_written(tmp_path: Path) -> None:
    path = filled(tmp_path / "whole", TEXTS)
    whole, name = path.read_bytes(), path.name
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]  # the first line says which model it is
    assert len(ends) == len(TEXTS) + 1
    for cut in range(len(whole) + 1):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / name).write_bytes(whole[:cut])
        acknowledged = TEXTS[: sum(end <= cut for end in ends[1:])]
        # the line whose last byte alone is missing can be read and may be found: its checksum is right
        allowed = TEXTS[: sum(end <= cut + 1 for end in ends[1:])]
        assert found(directory, TEXTS) in (list(acknowledged), list(allowed)), cut

        shelf = shelf_of(directory)
        shelf.put(shelf.key(ask("after")), Response(text="the kill"))
        shelf.put(shelf.key(ask("later")), Response(text="too"))
        shelf.close()
        assert found(directory, (*TEXTS, "after", "later"))[-2:] == ["after", "later"], cut
        assert set(acknowledged) <= set(found(directory, TEXTS)), cut


@given(st.binary(max_size=60), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_damage_in_the_middle_costs_no_other_line(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, at: int
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    path = filled(directory, TEXTS)
    lines = path.read_bytes().split(b"\n")
    middle = lines[2]
    at %= len(middle)
    lines[2] = middle[:at] + damage + middle[at + len(damage) :]
    path.write_bytes(b"\n".join(lines))
    wanted = [text for text in TEXTS if text != TEXTS[1]]
    assert [text for text in found(directory, TEXTS) if text != TEXTS[1]] == wanted
    shelf = shelf_of(directory)
    shelf.put(shelf.key(ask("after")), Response(text="damage"))
    assert "after" in found(directory, ("after",))


def test_a_line_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    path = filled(tmp_path, TEXTS)
    path.write_bytes(path.read_bytes().replace(b"re: first", b"re: fyrst"))
    assert found(tmp_path, TEXTS) == list(TEXTS[1:])


def test_a_file_of_something_else_is_kept_and_appended_to(tmp_path: Path) -> None:
    path = shelf_of(tmp_path).path
    path.write_bytes(b"\x00\xff not ours, no line end")
    assert found(tmp_path, ("q",)) == []
    filled(tmp_path, ("q",))
    assert found(tmp_path, ("q",)) == ["q"]


WRITER = """
import sys
from pathlib import Path
from pytest_trustllm.types import Request, Response
from pytest_trustllm.engine.store import Shelf
shelf = Shelf(Path(sys.argv[1]), {"id": "m"})
for i in range(int(sys.argv[3])):
    text = f"{sys.argv[2]} {i}"
    shelf.put(shelf.key(Request((("user", text),))), Response(text="x" * (i % 7 * 1000)))
    print(text, flush=True)
"""


def test_what_a_killed_process_acknowledged_is_found(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), "a", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(200)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    whole = [line.rstrip("\n") for line in acknowledged if line.endswith("\n")]
    shelf = Shelf(tmp_path, {"id": "m"})
    assert len(whole) >= 200
    assert [text for text in whole if shelf.get(shelf.key(ask(text))) is None] == []


def test_runs_side_by_side_share_a_store(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name, "300"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for name in ("a", "b", "c")
    ]
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, err.decode()
    shelf = Shelf(tmp_path, {"id": "m"})
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    assert len(shelf) == 900
    assert all(shelf.get(shelf.key(ask(f"{name} {i}"))) is not None for name in ("a", "b", "c") for i in range(300))


def test_the_last_answer_to_a_question_wins(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    key = shelf.key(ask("q"))
    shelf.put(key, Response(text="old"))
    shelf.put(key, Response(text="new"))
    for at in (shelf, shelf_of(tmp_path)):
        response = at.get(key)
        assert response is not None
        assert response.text == "new"


def test_the_file_says_which_model_it_is_about_and_git_ignores_it(tmp_path: Path) -> None:
    path = filled(tmp_path / "a" / "b", ("q",))
    assert json.loads(path.read_text().splitlines()[0][9:]) == {"model": INFO}
    assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "a" / "b" / ".gitignore").read_text() == "*\n"


def test_a_directory_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for where in (taken, taken / "below"):
        with pytest.raises(GenerationError, match=rf"^--trust-store: {where} cannot be used: [A-Z]"):
            shelf_of(where)


def test_a_store_file_that_is_a_directory_is_one_line(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    shelf.close()
    shelf.path.unlink()
    shelf.path.mkdir()
    with pytest.raises(GenerationError, match="cannot be used: Is a directory"):
        shelf_of(tmp_path)


def test_a_full_disk_is_one_line_and_half_a_line_is_not_believed_later(tmp_path: Path) -> None:
    path = filled(tmp_path, TEXTS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    shelf = shelf_of(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))  # twenty more bytes fit
        with pytest.raises(GenerationError, match=rf"^--trust-store: {path} cannot be written: File too large$"):
            shelf.put(shelf.key(ask("q")), Response(text="x"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert shelf.get(shelf.key(ask("q"))) is None
    shelf.put(shelf.key(ask("later")), Response(text="there is room again"))
    assert found(tmp_path, (*TEXTS, "q", "later")) == [*TEXTS, "later"]


def test_answers_of_any_length_come_back(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    texts = ["", "x" * 1900, "y" * 2048, "z" * 100_000, "short"]
    for number, text in enumerate(texts):
        shelf.put(shelf.key(ask(str(number))), Response(text=text))
    again = shelf_of(tmp_path)
    for one in (shelf, again):
        answers = [one.get(one.key(ask(str(number)))) for number in range(len(texts))]
        assert [answer and answer.text for answer in answers] == texts
        one.close()


def test_two_that_append_in_turn_find_their_own_answers(tmp_path: Path) -> None:
    shelves = [shelf_of(tmp_path), shelf_of(tmp_path)]
    for number in range(20):
        shelf = shelves[number % 2]
        shelf.put(shelf.key(ask(str(number))), Response(text=f"{number}" * (1 + number * 200)))
    for number in range(20):
        answer = shelves[number % 2].get(shelves[number % 2].key(ask(str(number))))
        assert answer is not None
        assert answer.text == f"{number}" * (1 + number * 200)
    for shelf in shelves:
        shelf.close()


def test_an_answer_whose_line_is_damaged_later_is_requested_again(tmp_path: Path) -> None:
    path = filled(tmp_path, ("a",))
    shelf = shelf_of(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"re: a", b"re: b"))
    assert shelf.get(shelf.key(ask("a"))) is None
    shelf.close()
