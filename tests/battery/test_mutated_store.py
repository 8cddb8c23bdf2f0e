"""Lines of the store with the right checksum and the wrong content are not believed, and end no run."""

from __future__ import annotations

import json
import os
import random
import zlib
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.engine import store
from pytest_trustllm.engine.batch_record import BatchRecord
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.errors import GenerationError
from pytest_trustllm.formats import StoredResponse
from pytest_trustllm.types import Request, Response

INFO = {"provider": "python", "id": "m", "revision": "1"}
ASKED = Request((("user", "question"),))
JUNK: list[Any] = [
    *(None, True, -1, 1.5, 10**400, float("nan"), float("inf"), "x", [], {}, [[]], {"a": {}}, "9" * 5000),
    "\x1b[2J\u202e",
    [None],
    ["x"],
    {"text": "believed"},
]


def line(entry: Any) -> bytes:
    payload = entry if isinstance(entry, bytes) else json.dumps(entry, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def filled(directory: Path) -> tuple[Path, str, dict[str, Any]]:
    """Return the file of a store with one answer, its key, and the answer's line."""
    shelf = Shelf(directory, INFO)
    key = shelf.key(ASKED)
    shelf.put(key, Response(text="answer", input_tokens=1, output_tokens=2, seconds=0.5, finish="stop", revision="r"))
    shelf.close()
    entry: dict[str, Any] = json.loads(shelf.path.read_bytes().splitlines()[-1][9:])
    return shelf.path, key, entry


def found(path: Path, key: str, *lines: bytes) -> Response | None:
    """Return what a store with these lines has for a key, and check that it can be written to."""
    path.write_bytes(line({"model": INFO}) + b"".join(lines))
    shelf = Shelf(path.parent, INFO)
    response = shelf.get(key)
    other = shelf.key(Request((("user", "another"),)))
    shelf.put(other, Response(text="new"))
    shelf.close()
    shelf = Shelf(path.parent, INFO)
    assert shelf.get(other) == Response(text="new", cached=True)
    shelf.close()
    return response


def test_every_stored_field_has_a_type() -> None:
    assert set(store._STORED_FIELDS) == set(StoredResponse.__annotations__)


def test_a_field_of_a_later_version_is_ignored(tmp_path: Path) -> None:
    path, key, entry = filled(tmp_path)
    entry["response"]["logprobs"] = [0.1]
    entry["since"] = "2030"
    response = found(path, key, line(entry))
    assert response is not None
    assert (response.text, response.input_tokens) == ("answer", 1)


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:20])
def test_a_line_of_another_shape_is_as_if_it_were_not_there(tmp_path: Path, junk: Any) -> None:
    path, key, entry = filled(tmp_path)
    whole = line({**entry, "response": junk})
    if junk != {"text": "believed"}:
        assert found(path, key, whole) is None
    for name in entry["response"]:
        changed = {**entry, "response": {**entry["response"], name: junk}}
        response = found(path, key, line(changed))
        if response is not None:
            assert isinstance(junk, float | int | str)
            assert type(getattr(response, name)) is type(junk)
    assert found(path, key, line(json.dumps(junk).encode())) is None
    for bare in (b'{"key":"' + key.encode() + b'"', b'{"key":"' + key.encode() + b'"}', b"[" * 100_000):
        assert found(path, key, line(bare)) is None


def test_an_answer_to_another_request_is_none_to_this_one(tmp_path: Path) -> None:
    path, key, entry = filled(tmp_path)
    payload = json.dumps({**entry}, separators=(",", ":"))
    assert found(path, key, line((payload[:-1] + f',"key":"{"0" * 64}"}}').encode())) is None


@pytest.mark.slow
def test_mutations_of_a_store(tmp_path: Path) -> None:
    path, key, entry = filled(tmp_path)
    good = json.dumps(entry, separators=(",", ":")).encode()
    dice = random.Random(7)
    for _ in range(500):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(data))
            data[place : place + dice.randint(0, 3)] = bytes(dice.choices(b'0{}[]",:x\\u-e.', k=dice.randint(0, 3)))
        response = found(path, key, line(bytes(data).replace(b"\n", b"")))
        assert response is None or isinstance(response, Response)


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:20])
def test_the_record_of_batches_takes_no_line_of_another_shape(tmp_path: Path, junk: Any) -> None:
    path = tmp_path / "m.batches.jsonl"
    steps = [
        {"submitted": "a", "requests": {"r": 0}, "parameters": [["stop"]]},
        {"created": "a", "batch": "b1"},
        {"collected": "a"},
        {"dropped": "a"},
        {"forgotten": ["r"]},
        {"key": "0" * 64, "status": 200, "body": "{}", "final": True, "sent": ["stop"]},
    ]
    lines = [line({"model": INFO})]
    for step in steps:
        lines += [line({**step, name: junk}) for name in step]
        lines += [line({name: value for name, value in step.items() if name != left_out}) for left_out in step]
    path.write_bytes(b"".join(lines))
    record = BatchRecord(path, INFO)
    record.collected("0" * 64)
    record.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_pipe_in_the_stores_place_is_told(tmp_path: Path, read_only: bool) -> None:
    path, _, _ = filled(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(GenerationError, match=r"cannot be used: (not a regular file|No such device or address)"):
        Shelf(tmp_path, INFO, read_only=read_only)
