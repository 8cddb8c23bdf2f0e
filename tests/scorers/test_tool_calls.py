"""Which calls of tools are as they should be."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_trustllm.errors import ScorerError
from pytest_trustllm.scorers.tool_calls import ToolCalls
from pytest_trustllm.types import Response, Sample, ToolCall

FIND = ToolCall("find", {"id": "7", "deep": True})
PAY = ToolCall("pay", {"sum": 20, "to": "Ann"})
TWICE = ToolCall("pay", {"sum": 900, "to": "Eve"})
BROKEN = ToolCall("pay", "{not json")
UNCLEAR = ToolCall.from_json("find", '{"id": "7", "id": "8"}')
SLOW = ToolCall("find", {"id": "a" * 60 + "!"})


def score(calls: list[ToolCall], text: str | None = "Done.", **parameters: Any) -> Any:
    said = (("user", "q"), *(("tool_call", call.text()) for call in calls))
    sample = Sample("d/t", "0", ({"order": "7", "any": ".*"},), (said,), (("f", 0),), {}, "f")
    return ToolCalls(**parameters).score(sample, [Response(text=text)])


@pytest.mark.parametrize(
    ("calls", "parameters", "value"),
    [
        ([FIND], {"must": ["find"]}, 1),
        ([], {"must": ["find"]}, 0),
        ([], {"must_not": ["find"]}, 1),
        ([FIND], {"must_not": ["find"]}, 0),
        ([FIND, PAY], {"must": ["pay", "find"]}, 1),
        ([FIND, PAY], {"must": ["pay", "find"], "order": True}, 0),
        ([FIND, TWICE, PAY], {"must": ["find", "pay"], "order": True}, 1),
        ([PAY], {"must": ["pay", "pay"]}, 0),
        ([PAY, TWICE], {"must": ["pay", "pay"]}, 1),
        # the first entry fits both calls, the second only the first: each gets one of its own
        ([PAY, TWICE], {"must": ["pay", {"name": "pay", "arguments": {"sum": 20}}]}, 1),
        ([FIND], {"must": [{"name": "find", "arguments": {"id": "{{ order }}"}}]}, 1),
        ([FIND], {"must": [{"name": "find", "arguments": {"deep": True}}]}, 1),
        ([FIND], {"must": [{"name": "find", "arguments": {"deep": 1}}]}, 0),
        ([PAY], {"must": [{"name": "pay", "arguments": {"sum": 20.0}}]}, 1),
        ([PAY], {"must": [{"name": "pay", "arguments": {"sum": "20"}}]}, 1),
        ([PAY], {"must": [{"name": "pay", "arguments": {"to": "ann"}}]}, 0),
        ([PAY], {"must": [{"name": "pay", "arguments": {"to": {"regex": "(?i)^ann$"}}}]}, 1),
        ([PAY], {"must": [{"name": "pay", "arguments": {"sum": {"schema": {"maximum": 10}}}}]}, 0),
        ([PAY], {"must": [{"name": "pay", "schema": {"required": ["sum", "to"]}}]}, 1),
        ([PAY], {"must": [{"name": "pay", "schema": {"required": ["from"]}}]}, 0),
        ([FIND], {"must": [{"name": "find", "arguments": {"id": {"equals": {"regex": "7"}}}}]}, 0),
        ([FIND], {"must": [{"name": "find", "arguments": {"id": {"regex": "^{{ order }}$"}}}]}, 1),
        ([FIND], {"must": [{"name": "find", "arguments": {"id": {"regex": "^{{ any }}$"}}}]}, 0),  # no pattern
        ([BROKEN], {"must": ["pay"]}, 1),
        ([BROKEN], {"must": [{"name": "pay", "arguments": {"sum": 20}}]}, 0),
        ([UNCLEAR], {"must": ["find"]}, 1),
        ([UNCLEAR], {"must": [{"name": "find", "arguments": {"id": "7"}}]}, 0),
        ([UNCLEAR], {"must": [{"name": "find", "arguments": {"id": "8"}}]}, 0),
    ],
)
def test_calls(calls: list[ToolCall], parameters: dict[str, Any], value: float) -> None:
    assert score(calls, **parameters).value == value


def test_a_call_that_is_only_written_in_the_answer_is_none() -> None:
    assert score([], 'I call {"name": "find", "arguments": {}} <tool_call>', must=["find"]).value == 0
    assert score([], 'tool_call: {"name": "pay"}', must_not=["pay"]).value == 1


def test_without_an_answer_there_is_no_score() -> None:
    assert score([FIND], None, must=["find"]).reason == "no response"


def test_a_pattern_that_takes_for_ever_leaves_the_sample_unscored() -> None:
    found = score([SLOW], must=[{"name": "find", "arguments": {"id": {"regex": "^(a|aa|aaa)+$"}}}])
    assert (found.value, "took longer" in found.reason) == (None, True)


def test_what_is_observed() -> None:
    found = score([FIND, TWICE], must=["find", "fly"], must_not=["pay"])
    assert found.observed == {"must": 0.5, "must_not": 1.0, "calls": 2.0}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "tool_calls needs 'must' or 'must_not'"),
        ({"must": "find"}, "must: expected a list, found 'find'"),
        ({"must": [3]}, "must[0]: expected a tool's name, or {name: ..., arguments: ...}"),
        ({"must": [{"name": "a", "args": {}}]}, "must[0]: unknown key 'args'"),
        ({"must_not": [{"name": "a", "arguments": {"x": {"regex": "("}}}]}, "must_not[0].arguments.x.regex: not a"),
    ],
)
def test_entries_that_could_never_be_checked(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ScorerError) as e:
        ToolCalls(**parameters)
    assert str(e.value).startswith(message)
