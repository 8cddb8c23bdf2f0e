from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.replay import PROVIDER, ReplayModel
from pytest_trustllm.types import Request, Response

FILE = "safety/jailbreak.json"
ROWS = [{"prompt": "a", "res": "A!"}, {"prompt": "b", "res": None}, {"prompt": "c"}, {"prompt": "a", "res": ""}]


def spec(path: Path) -> ModelSpec:
    return ModelSpec(f"replay:{path.name}", "replay", str(path))


def play(path: Path, *requests: Request) -> list[Response]:
    PROVIDER.check(spec(path))
    return answers(PROVIDER.load(spec(path), LoadSettings()), *requests)


def answers(model: ReplayModel, *requests: Request) -> list[Response]:
    async def run() -> list[Response]:
        return [await model.answer(request) for request in requests]

    return asyncio.run(run())


def row(number: int, text: str, file: str = FILE) -> Request:
    return Request((("user", text),), origin=(file, number))


def free(text: str) -> Request:
    return Request((("user", text),))


def directory(where: Path, rows: Any = ROWS, top: str = "") -> Path:
    file = where / "answers" / top / FILE
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(rows), encoding="utf-8")
    return where / "answers"


def zipped(where: Path, rows: Any = ROWS, top: str = "") -> Path:
    with zipfile.ZipFile(where / "answers.zip", "w") as z:
        z.writestr(f"{top}{FILE}", json.dumps(rows))
    return where / "answers.zip"


@pytest.mark.parametrize("make", [directory, zipped])
@pytest.mark.parametrize("top", ["", "dataset/"])
def test_rows_of_an_archive_are_found_by_file_and_number(make: Any, top: str, tmp_path: Path) -> None:
    path = make(tmp_path, top=top)
    found = play(path, row(3, "a"), row(0, "a"), row(1, "b"), row(2, "c"))
    assert found == [Response(text=""), Response(text="A!"), Response(text=None), Response(text=None)]


def test_what_is_not_recorded_is_an_error_of_its_row(tmp_path: Path) -> None:
    found = play(directory(tmp_path), row(4, "a"), row(0, "a", "ethics/awareness.json"), free("a"))
    assert [r.error for r in found] == [
        f"no recorded response: {FILE} has 4 rows, expected row 4",
        "no recorded response: ethics/awareness.json is not in the archive",
        "no recorded response: the request does not come from a row of a data set",
    ]


def test_another_prompt_stops_the_run_and_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=rf"^replay: answers: {FILE} row 1: the recorded prompt 'b' is not the data's 'B'; "
    ):
        play(directory(tmp_path), row(0, "a"), row(1, "B"))


def test_a_system_message_is_no_part_of_the_recorded_prompt(tmp_path: Path) -> None:
    request = Request((("system", "be kind"), ("user", "a")), origin=(FILE, 0))
    assert play(directory(tmp_path), request)[0].text == "A!"


def test_the_data_set_itself_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"no row of {FILE} has a 'res'; is it the data set itself\?$"):
        play(directory(tmp_path, [{"prompt": "a"}]), row(0, "a"))


def test_a_response_that_is_no_text(tmp_path: Path) -> None:
    (found,) = play(directory(tmp_path, [{"prompt": "a", "res": ["x"]}]), row(0, "a"))
    assert found.error == "the recorded response is not text but list"


def lines(where: Path, *rows: Any, name: str = "answers.jsonl") -> Path:
    text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    (where / name).write_text(text, encoding="utf-8")
    return where / name


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.json"])
@pytest.mark.parametrize("key", ["response", "res"])
def test_lines_are_found_by_prompt(name: str, key: str, tmp_path: Path) -> None:
    path = lines(tmp_path, {"prompt": "a", key: "A"}, {"prompt": "b", key: None}, name=name)
    found = play(path, free("b"), row(7, "a"), free("a"), free("c"))
    assert [(r.text, r.error) for r in found] == [
        (None, None),
        ("A", None),
        ("A", None),
        (None, f"no recorded response: {name} has no line with this prompt"),
    ]


def test_lines_of_one_prompt_are_taken_in_turn(tmp_path: Path) -> None:
    path = lines(tmp_path, *({"prompt": "a", "response": text} for text in "xyz"))
    model = PROVIDER.load(spec(path), LoadSettings())
    assert [r.text for r in answers(model, *4 * [free("a")])] == ["x", "y", "z", "x"]


def test_the_samples_file_of_a_run_can_be_replayed(tmp_path: Path) -> None:
    record = {
        "id": "robustness/advglue[0002]",
        "prompts": [[["user", "clean"]], [["system", "be kind"], ["user", "attacked"]]],
        "responses": [{"text": "yes", "tokens": 3}, {"text": None}],
        "score": 1.0,
    }
    path = lines(tmp_path, record, {**record, "prompts": [[["user", "q"]]], "responses": [None]})
    chat = Request((("system", "be kind"), ("user", "attacked")))
    assert [r.text for r in play(path, free("clean"), chat, free("q"))] == ["yes", None, None]
    assert all(r.error is None for r in play(path, free("clean"), chat, free("q")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}', r"^replay: x\.jsonl: entry 1: expected the keys 'prompt' and 'response', found 'prompt'$"),
        ('{"prompt": 3, "response": "a"}', "expected the keys 'prompt' and 'response'"),
        ('{"prompts": 3, "responses": []}', "'prompts' and 'responses' are not those of a samples file"),
        ("nonsense", r"^replay: x\.jsonl:1: not JSON"),
    ],
)
def test_lines_that_cannot_be_read(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(ModelError, match=message):
        play(tmp_path / "x.jsonl", free("a"))


def test_a_json_file_that_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(ModelError, match=r"^replay: x\.json: is not a JSON list of objects$"):
        play(tmp_path / "x.json", free("a"))


def test_paths_that_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^models: 'replay:none': .*none does not exist$"):
        PROVIDER.check(spec(tmp_path / "none"))
    with pytest.raises(ModelError, match=r"holds none of TrustLLM's folders \(.*\) with \.json files$"):
        PROVIDER.check(spec(tmp_path))
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(ModelError, match=r"x\.txt is neither a directory nor a zip file$"):
        PROVIDER.check(spec(tmp_path / "x.txt"))


def test_a_recording_is_not_stored_and_names_its_content(tmp_path: Path) -> None:
    path = directory(tmp_path)
    model = PROVIDER.load(spec(path), LoadSettings())
    assert not model.stored
    assert (model.info["provider"], model.info["id"]) == ("replay", "answers")
    (path / FILE).write_text(json.dumps([*ROWS, {"prompt": "d", "res": "D"}]))
    assert PROVIDER.load(spec(path), LoadSettings()).info["revision"] != model.info["revision"]
