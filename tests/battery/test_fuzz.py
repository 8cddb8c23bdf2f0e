"""Whatever text comes, what reads it returns or refuses; found by hypothesis.

``TRUSTLLM_FUZZ=100 pytest tests/battery/test_fuzz.py`` tries a hundred times as many texts.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_trustllm.config.documents import read_document
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.models import frames
from pytest_trustllm.scorers.answers import read_answer
from pytest_trustllm.scorers.numbers import read_number
from pytest_trustllm.scorers.options import lettered
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.types import Request, Response

fuzzed = settings(
    max_examples=60 * int(os.environ.get("TRUSTLLM_FUZZ", "1")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SIGNS = st.sampled_from(
    ["a", "b: ", "- ", "\n", "  ", "{", "}", "[", "]", "&x ", "*x", "!!int ", "|", ">-", "#", '"', "'", "? ", "%"]
)
YAML = st.lists(SIGNS | st.text(max_size=5), max_size=40).map("".join)
WORDS = st.sampled_from(
    ["YES", "no", "not", "Verdict:", "**", "\n", '{"verdict": "', '"}', "```", "\\boxed{", "}", ".", "/"]
)
REPLIES = st.lists(WORDS | st.text(max_size=8), max_size=25).map(" ".join)
QUESTION = Request((("user", "q"),))


@fuzzed
@given(st.text(max_size=300) | YAML | JSON.map(json.dumps))
def test_a_yaml_file_is_read_or_refused_in_one_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        said = "x.yaml"
        try:
            read_document(path, "x.yaml", SuiteError)
        except SuiteError as e:
            said = str(e)
        assert said.startswith("x.yaml")
        assert said.isprintable()


def a_line(payload: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


LINES = st.binary(max_size=80) | JSON.map(lambda value: a_line(json.dumps(value).encode()))
FIELDS = st.dictionaries(
    st.sampled_from(["text", "vector", "number", "unanswered", "calls", "input_tokens", "x"]), JSON
)


@fuzzed
@given(st.lists(LINES, max_size=6), JSON | FIELDS)
def test_a_store_is_opened_whatever_is_in_it(lines: list[bytes], response: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        shelf = Shelf(Path(name), {"id": "m"})
        key = shelf.key(QUESTION)
        line = a_line(json.dumps({"key": key, "response": response}, separators=(",", ":")).encode())
        shelf.path.write_bytes(shelf.path.read_bytes() + b"".join([*lines, line]))
        shelf.close()
        shelf = Shelf(Path(name), {"id": "m"})
        found = shelf.get(key)
        assert found is None or isinstance(found, Response)
        shelf.put(key, Response(text="later"))
        shelf.close()
        found = Shelf(Path(name), {"id": "m"}).get(key)
        assert found is not None
        assert found.text == "later"


async def _read(data: bytes, limit: int = frames.MAX_FRAME) -> Any:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await frames.read_frame(reader, limit)


@fuzzed
@given(JSON)
def test_a_frame_comes_out_as_it_went_in(message: Any) -> None:
    sent = json.loads(json.dumps(message))
    assert repr(asyncio.run(_read(frames.encode(message)))) == repr(sent)


@fuzzed
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_the_end_of_the_stream(head: bytes, body: bytes) -> None:
    asyncio.run(_read(head + body))
    asyncio.run(_read(frames.LENGTH.pack(len(body)) + body))
    assert asyncio.run(_read(frames.LENGTH.pack(len(body) + 1) + body)) is None
    assert asyncio.run(_read(frames.LENGTH.pack(frames.MAX_HELLO + 1) + b"1" * 5000, frames.MAX_HELLO)) is None


@fuzzed
@given(REPLIES)
def test_a_verdict_is_a_label_that_the_reply_contains(text: str) -> None:
    for last_line in (False, True):
        label = Vocabulary(("YES", "NO"), last_line=last_line).read_text(text)
        assert label in ("YES", "NO", None)
        if label is not None:
            words = re.findall(r"\w+", text.casefold())
            assert label.casefold() in words
            other = "no" if label == "YES" else "yes"
            lines = [line for line in text.casefold().splitlines() if line.strip()]
            assert not (re.search(rf"\b{other}\b", lines[0]) and re.search(rf"\b{label.casefold()}\b", lines[0]))


@fuzzed
@given(REPLIES | st.text(max_size=200), st.text(max_size=50))
def test_an_answer_is_a_label_or_none_with_a_reason(text: str, prompt: str) -> None:
    answer = read_answer(text, lettered({"A": "yes", "B": "no"}), prompt)
    assert answer.name in ("A", "B", None)
    assert (answer.name is None) == (answer.why is not None)


@fuzzed
@given(st.text(max_size=60) | st.floats().map(str) | st.lists(st.floats().map(str), max_size=4).map(", ".join))
def test_a_number_is_finite(text: str) -> None:
    value, _ = read_number(text)
    assert value is None or math.isfinite(value)
