from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from pytest_trustllm.models.api.embeddings import InvalidEmbeddings, read


def body(*entries: Any, **more: Any) -> str:
    return json.dumps({"data": list(entries), **more})


def entry(embedding: Any, index: Any = None) -> dict[str, Any]:
    return {"embedding": embedding, **({} if index is None else {"index": index})}


def test_vectors_come_as_lists_or_packed() -> None:
    packed = base64.b64encode(struct.pack("<2f", 1.0, 0.5)).decode()
    found = read(body(entry([1, 0.5], 0), entry(packed, 1), model="e", usage={"prompt_tokens": 3}), 2)
    assert found.vectors == ((1.0, 0.5), (1.0, 0.5))
    assert (found.tokens, found.model) == (3, "e")
    assert read(body(entry([[1.0]]), usage=None), 1).vectors == ((1.0,),)  # llama.cpp


@pytest.mark.parametrize(
    ("indices", "order"),
    [((0, 1, 2), (0, 1, 2)), ((2, 0, 1), (1, 2, 0)), ((None, None, None), (0, 1, 2)), ((0, 0, 0), (0, 1, 2))],
)
def test_vectors_come_in_the_order_of_the_texts(indices: Any, order: Any) -> None:
    found = read(body(*(entry([float(i)], index) for i, index in enumerate(indices))), 3)
    assert found.vectors == tuple((float(i),) for i in order)


@pytest.mark.parametrize(
    ("text", "reason", "miscounted"),
    [
        (body(entry([1.0])), "1 vectors for 2 texts", True),
        (body(), "0 vectors for 2 texts", True),
        (body(entry([1.0], 0), entry([1.0], 5)), "vectors whose 'index' does not say which text they belong to", True),
        (body(entry([1.0], 0), entry([1.0])), "vectors whose 'index' does not say which text they belong to", True),
        (body(entry([None, 1.0]), entry([1.0])), "a vector with entries that are not numbers", False),
        (body(entry([True]), entry([1.0])), "a vector with entries that are not numbers", False),
        (body(entry([]), entry([1.0])), "an empty or missing vector", False),
        (body(entry(None), entry([1.0])), "an empty or missing vector", False),
        (body(entry("??"), entry([1.0])), "a vector that is not base64 of 32-bit numbers", False),
        ("<h1>Sign in</h1>", "Sign in", False),
        ("[]", "", False),
        ("{}", "", False),
    ],
)
def test_anything_else_is_said(text: str, reason: str, miscounted: bool) -> None:
    with pytest.raises(InvalidEmbeddings) as caught:
        read(text, 2)
    assert (str(caught.value), caught.value.miscounted) == (reason, miscounted)


def test_an_error_within_a_good_status_is_found() -> None:
    with pytest.raises(InvalidEmbeddings) as caught:
        read(json.dumps({"error": {"message": "loading"}}), 1)
    assert caught.value.error is not None
    assert caught.value.error.message == "loading"
