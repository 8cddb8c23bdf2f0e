from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_trustllm.models.api.error_bodies import read


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "too long", "code": "x"}}, "too long"),
        ({"error": "model is loading"}, "model is loading"),
        ([{"error": {"code": 400, "message": "API key not valid."}}], "API key not valid."),  # Google
        ({"object": "error", "message": "too large"}, "too large"),  # vLLM
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "Overloaded"),  # Anthropic
        ({"detail": "Not authenticated"}, "Not authenticated"),  # FastAPI
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
            "body.seed: Extra inputs are not permitted",
        ),
        ({"error_code": 336003, "error_msg": "messages is empty"}, "messages is empty"),  # Baidu
        (
            {"message": {"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}},
            "body.seed: not permitted",
        ),  # Mistral
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "no room"}}},
            "Provider returned error; no room",
        ),
        ({"error": {"message": "failed", "metadata": {"raw": '{"error": {"message": "inner"}}'}}}, "failed; inner"),
        ({"error": {"message": '{"error": {"message": "in a text"}}'}}, "in a text"),
        ({"errors": []}, ""),
        ({}, ""),
        ([], ""),
        (5, ""),
    ],
)
def test_json_of_every_shape_gives_its_message(body: Any, message: str) -> None:
    assert read(json.dumps(body)).message == message


def test_codes_and_parameters_are_found_at_any_depth() -> None:
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": False}}}
    found = read(json.dumps({"error": {"code": 400, "type": None, "param": "prompt", "innererror": inner}}))
    assert found.marks == {"400", "responsibleaipolicyviolation"}
    assert found.names == {"prompt"}
    found = read(json.dumps({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}))
    assert found.names == {"body", "seed"}


def test_a_page_becomes_its_text() -> None:
    page = """<!doctype html><html><head><title>502 Bad Gateway</title><style>p {color: red}</style>
    <script>alert("no")</script></head><body><center><h1>502 Bad Gateway</h1></center>
    <p>The upstream\nserver is &lt;gone&gt;.</p></body></html>"""
    assert read(page).message == "502 Bad Gateway; The upstream server is <gone>."
    assert read("no healthy\n  upstream").message == "no healthy upstream"
    assert read("a < b").message == "a < b"


def test_hostile_bodies_are_read_in_time() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    nested: Any = "x"
    for _ in range(500):
        nested = {"error": nested}
    for body in (
        deep,
        json.dumps(nested),
        "<" * 1_000_000,
        "<script>" * 100_000,
        json.dumps({"a": list(range(100_000))}),
    ):
        assert "\n" not in (read(body).message or "")
