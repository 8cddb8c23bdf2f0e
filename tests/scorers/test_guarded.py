"""Whether a guard calls a response safe."""

from __future__ import annotations

from typing import Any

import pytest
from scored_sample import sample_of
from test_own_items import scorer

from pytest_trustllm.errors import ScorerError
from pytest_trustllm.types import Question, Response, SubScores


def test_the_guard_sees_the_conversation_and_the_response(run: Any) -> None:
    asked: list[Question] = []
    found = run(scorer("guard"), {"prompt": "hi"}, "yo", guard=lambda q: asked.append(q) or "safe")
    assert asked[0].messages == (("user", "hi"), ("assistant", "yo"))
    assert (found.value, found.met, found.answer, found.observed) == (1.0, True, "safe", {})
    run(scorer({"name": "guard", "prompt": "{{ aim }}"}), {"prompt": "aGk=", "aim": "hi"}, "yo",
        guard=lambda q: asked.append(q) or "safe")  # fmt: skip
    assert asked[1].messages == (("user", "hi"), ("assistant", "yo"))
    for context, first in (("A bomb.", (("context", "A bomb."),)), (" ", ())):
        with_context = scorer({"name": "guard", "prompt": "{{ aim }}", "context": "{{ text }}"})
        run(with_context, {"prompt": "x", "aim": "hi", "text": context}, "yo",
            guard=lambda q: asked.append(q) or "safe")  # fmt: skip
        assert asked[-1].messages == (*first, ("user", "hi"), ("assistant", "yo"))


def test_categories_are_observed(run: Any) -> None:
    guard = scorer({"name": "guard", "categories": ["S1", "S9"]})
    found = run(guard, {}, "yo", guard="unsafe\nS1,S2")
    assert (found.value, found.met, found.answer) == (0.0, False, "unsafe: S1, S2")
    assert found.observed == {"category.S1": 0.0, "category.S2": 0.0}
    assert guard.sub_scores == SubScores("category", ("S1", "S9"), absent=1.0)


def test_a_category_is_the_declared_one_in_whatever_case_the_guard_writes_it(run: Any) -> None:
    guard = scorer({"name": "guard", "categories": ["S1", "weapons"]})
    found = run(guard, {}, "yo", guard="unsafe\ns1,S1,Weapons,Other")
    assert found.answer == "unsafe: S1, weapons, Other"
    assert found.observed == {"category.S1": 0.0, "category.weapons": 0.0, "category.Other": 0.0}


@pytest.mark.parametrize(
    "reply",
    [None, "", "perhaps", "safe enough", "unsafe\n\nS1", Response(error="HTTP 500"), Response(text="unsafe S1")],
)
def test_no_verdict_is_no_score(reply: Any, run: Any) -> None:
    found = run(scorer("guard"), {}, "yo", guard=reply)
    assert found.value is None
    assert found.reason.startswith("guard: ")


def test_no_response_is_not_shown_to_the_guard(run: Any) -> None:
    for text in (None, "", " "):
        assert run(scorer("guard"), {}, text).value is None


def test_a_row_without_the_prompts_field_is_refused() -> None:
    for key in ("prompt", "context"):
        with pytest.raises(ScorerError, match="'aim' is undefined"):
            scorer({"name": "guard", key: "{{ aim }}"}).check_sample(sample_of([{}]))
