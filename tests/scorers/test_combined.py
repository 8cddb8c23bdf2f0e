"""Scorers of several parts, and functions of the project's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from scored_sample import sample_of
from test_own_items import scorer

from pytest_trustllm.errors import WrongReturn, describe_exception
from pytest_trustllm.types import PART, Question, Response, Score, SubScores, ToolCall

TWO = {"all_of": ["refusal", {"name": "length", "max": 3, "as": "short"}, {"name": "similarity", "text": "x"}]}


def test_parts_ask_their_roles_together() -> None:
    step = scorer(TWO).score(sample_of([{}]), [Response(text="no way")])
    questions: Sequence[Question] = next(step)
    assert [question.role for question in questions] == ["refusal", "embedder", "embedder"]
    with pytest.raises(StopIteration) as end:
        step.send([Response(text="refusal"), Response(vector=(1.0, 0.0)), Response(vector=(0.0, 1.0))])
    score: Score = end.value.value
    assert (score.value, score.met, score.answer) == (0.0, False, "unmet: similarity")
    assert score.observed == {"part.refusal": 1.0, "part.short": 1.0, "part.similarity": 0.0}


def test_a_part_that_asks_twice_holds_up_no_other(run: Any) -> None:
    rounds: list[str] = []

    def note(reply: Response) -> Any:
        return lambda question: rounds.append(question.role) or reply

    found = run(
        scorer({"any_of": ["toxicity", {"not": "refusal"}]}), {}, "text",
        refusal=note(Response(text="compliance")), toxicity=note(Response(number=0.9)),
    )  # fmt: skip
    assert rounds == ["refusal", "refusal", "toxicity"]
    assert (found.value, found.answer) == (1.0, "unmet: toxicity")


def test_an_unscored_part_leaves_the_sample_unscored(run: Any) -> None:
    found = run(scorer({"any_of": [{"regex": "a"}, "refusal"]}), {}, "a", refusal=Response(error="HTTP 500"))
    assert (found.value, found.reason) == (None, "refusal: refusal classifier: HTTP 500")


def test_a_part_that_does_not_apply_is_left_out(run: Any) -> None:
    refused = Response(text="refusal")
    found = run(scorer({"all_of": [{"regex": "I"}, "toxicity"]}), {}, "I won't", refusal=refused)
    assert (found.value, found.observed) == (1.0, {"part.regex": 1.0})
    assert not run(scorer({"all_of": ["toxicity"]}), {}, "I won't", refusal=refused).applies
    assert not run(scorer({"not": "toxicity"}), {}, "I won't", refusal=refused).applies


def test_calls_without_an_answer_are_scored_by_what_reads_calls(run: Any) -> None:
    refund = Response(text="", calls=(ToolCall("refund", {"sum": 900}),))
    calls_nothing = {"name": "tool_calls", "must_not": ["refund"]}
    both = scorer({"all_of": [calls_nothing, {"name": "tool_calls", "must": ["find"], "as": "looks"}]})
    found = scored(both, refund)
    assert (found.value, found.answer) == (0.0, "unmet: tool_calls, looks")
    assert scored(scorer({"not": calls_nothing}), refund).value == 1.0
    # no text meets "not this text", and neither do calls
    mixed = scored(scorer({"all_of": [calls_nothing, {"regex": "a", "forbid": True}]}), refund)
    assert (mixed.value, mixed.reason) == (None, "regex: empty response")
    assert run(both, {}, " ").reason == "empty response"


def scored(combined: Any, reply: Response) -> Score:
    """Score a reply with scorers that ask no role."""
    step = combined.score(sample_of([{}]), [reply])
    with pytest.raises(StopIteration) as end:
        next(step)
    score: Score = end.value.value
    return score


def test_names_of_parts() -> None:
    parts = [{"regex": "a"}, {"regex": "b"}, {"equals": "c", "as": "exactly"}]
    assert scorer({"any_of": parts}).sub_scores == SubScores(PART, ("regex", "regex_2", "exactly"))
    assert scorer({"not": {"all_of": parts}}).sub_scores == SubScores(PART, ("regex", "regex_2", "exactly"))
    assert scorer({"not": {"regex": "a"}}).sub_scores is None


def test_a_blocked_prompt_counts_where_every_part_can_score_it() -> None:
    assert scorer({"all_of": ["refusal"]}).blocked().value == 1.0
    assert scorer({"not": "refusal"}).blocked().value == 0.0
    assert scorer({"all_of": ["refusal", {"regex": "a"}]}).blocked().value is None
    assert scorer({"not": {"regex": "a"}}).blocked().value is None


CHECKS = """
from pytest_trustllm import Score

def polite(sample, response):
    return "please" in (response.text or "")

def share(sample, response):
    return len(response.text) / sample.row["most"]

def whole(sample, response):
    return Score.none("too odd to say")

def wrong(sample, response):
    return "polite"

def endless(sample, response):
    return float("inf")
"""


def test_a_function_scores(run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_checks.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(tmp_path)
    assert run(scorer({"python": "own_checks:polite"}), {}, "yes please").value == 1.0
    assert run(scorer({"python": "own_checks:polite"}), {}, None).met is False
    half = run(scorer({"python": "own_checks:share", "met_at": 0.4}), {"most": 4}, "ab")
    assert (half.value, half.met, half.answer) == (0.5, True, "0.5")
    assert run(scorer({"python": "own_checks:share"}), {"most": 4}, "ab").met is False
    assert run(scorer({"name": "python", "function": "own_checks:whole"}), {}, "x").reason == "too odd to say"
    for name, found in (("wrong", "str"), ("endless", "inf")):
        with pytest.raises(WrongReturn, match=f"^own_checks:{name} returned {found}, expected true or false") as raised:
            run(scorer({"python": f"own_checks:{name}"}), {}, "x")
        assert re.search(rf"a Score \(.*own_checks\.py:\d+, in {name}\)$", describe_exception(raised.value))
