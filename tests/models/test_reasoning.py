"""Thoughts and answers told apart: every way in which models mark them, and what is no mark."""

from __future__ import annotations

import pytest

from pytest_trustllm.models.generation_settings import GenerationOverrides
from pytest_trustllm.models.reasoning import (
    AUTOMATIC,
    WELL_KNOWN,
    Reasoning,
    SplitText,
    ends_inside_thought,
    without_reasoning,
)
from pytest_trustllm.types import REASONING_CUT, Generation, Request, Response

HARMONY = (
    "<|channel|>analysis<|message|>They ask.<|end|><|start|>assistant<|channel|>final<|message|>I'm sorry.<|return|>"
)
APART = {
    "tags": ("<think>They ask.</think>I'm sorry.", "They ask.", "I'm sorry."),
    "blank lines": ("\n<think>\nThey ask.\n</think>\n\nI'm sorry.", "They ask.", "I'm sorry."),
    "no opening tag": ("They ask.\n</think>\n\nI'm sorry.", "They ask.", "I'm sorry."),
    "empty thought": ("<think>\n\n</think>\n\nI'm sorry.", "", "I'm sorry."),
    "case": ("<Think>They ask.</THINK>I'm sorry.", "They ask.", "I'm sorry."),
    "thought quotes its end": ("They ask about </think> tags.</think>I'm sorry.", None, "I'm sorry."),
    "thought quotes its start": ("<think>A <think> tag?</think>I'm sorry.", "A <think> tag?", "I'm sorry."),
    "thought in a thought": ("<think>A <think>deep</think> one.</think>I'm sorry.", None, "I'm sorry."),
    "thought quotes both": ("<think>Write </think> last.</think>I'm sorry.", None, "I'm sorry."),
    "thought after thought": ("<think>One.</think><think>Two.</think>I'm sorry.", "One.\n\nTwo.", "I'm sorry."),
    "two thoughts": ("<think>One.</think>I'm <think>Two.</think>sorry.", "One.\n\nTwo.", "I'm sorry."),
    "after a word": ("Okay. <think>They ask.</think>I'm sorry.", "They ask.", "Okay. I'm sorry."),
    "wrapped answer": ("<think>They ask.</think>\n<answer>\nI'm sorry.\n</answer>", "They ask.", "I'm sorry."),
    "channels": (HARMONY, "They ask.", "I'm sorry."),
    "channels in words": (HARMONY.replace("<|", " <|").replace("|>", "|> "), "They ask.", "I'm sorry. "),
    "channel with a format": (HARMONY.replace("final", "final <|constrain|>json"), "They ask.", "I'm sorry."),
    "channel of tools": (HARMONY.replace("analysis", "commentary to=browser"), "They ask.", "I'm sorry."),
    "only final": ("<|channel|>final<|message|>I'm sorry.", "", "I'm sorry."),
    "channels without special tokens": ("analysisThey ask.assistantfinalI'm sorry.", "They ask.", "I'm sorry."),
    "the same before a small letter": ("analysisThey ask.assistantfinalsorry", "They ask.", "sorry"),
    "the same in words": ("analysis They ask. assistant final I'm sorry.", "They ask.", "I'm sorry."),
}


@pytest.mark.parametrize(("text", "reasoning", "answer"), APART.values(), ids=APART)
def test_the_answer_is_what_follows_the_thought(text: str, reasoning: str | None, answer: str) -> None:
    parts = AUTOMATIC.split(text)
    assert parts.answer == answer
    if reasoning is not None:
        assert parts.reasoning == reasoning


@pytest.mark.parametrize("tags", WELL_KNOWN, ids=lambda tags: tags.end)
def test_every_known_pair_of_tags_is_recognised(tags: object) -> None:
    start, end = tags.start, tags.end  # type: ignore[attr-defined]
    assert AUTOMATIC.split(f"{start}They ask.{end} No.") == SplitText("They ask.", "No.")
    assert AUTOMATIC.split(f"{start}They ask.") == SplitText("They ask.", None)


NO_THOUGHT = [
    "",
    "I'm sorry.",
    "Analysis of the question: B",
    "analysis of the question: B",
    "Write your plan as <reasoning>...</reasoning> and the rest as <answer>...</answer>.",
    "Use the tag <think> for thoughts.",
    "The word assistantfinal means nothing.",
    "analysis shows B. The assistant finally says so.",
]


@pytest.mark.parametrize("text", NO_THOUGHT)
def test_an_answer_without_thought_stays_as_it_is(text: str) -> None:
    assert AUTOMATIC.split(text) == SplitText(None, text)


CUT = [
    "<think>They ask and ask",
    "Okay. <think>They ask and ask",
    "<think>They ask.</think>\n\n",
    "<|channel|>analysis<|message|>They ask and",
    "<|channel|>analysis",
    "analysisWe need to look at",
    "[THINK]They ask",
]


@pytest.mark.parametrize("text", CUT)
def test_a_thought_that_was_cut_is_no_answer(text: str) -> None:
    response = without_reasoning(Response(text=text, finish="length"), AUTOMATIC, Generation())
    assert response.text is None
    assert response.unanswered == REASONING_CUT
    assert response.reasoning is not None
    assert response.error is None


def test_a_thought_that_never_ends_is_no_answer_however_the_model_stopped() -> None:
    assert (
        without_reasoning(Response(text="<think>Hm.", finish="stop"), AUTOMATIC, Generation()).unanswered
        == REASONING_CUT
    )


def test_an_answer_cut_after_its_thought_is_an_answer() -> None:
    response = without_reasoning(Response(text="<think>Hm.</think>Take the", finish="length"), AUTOMATIC, Generation())
    assert (response.text, response.reasoning, response.unanswered) == ("Take the", "Hm.", None)


def test_a_thought_opened_by_the_prompt_ends_at_its_tag() -> None:
    assert ends_inside_thought("<user>Hi<assistant><think>\n", AUTOMATIC.tags)
    assert not ends_inside_thought("<user>What is <think> for?<assistant>", AUTOMATIC.tags)
    assert AUTOMATIC.split("They ask.</think>No.", opened=True) == SplitText("They ask.", "No.")
    assert AUTOMATIC.split("<think>They ask.</think>No.", opened=True) == SplitText("They ask.", "No.")
    assert AUTOMATIC.split("No.", opened=True) == SplitText("No.", None)


def test_an_entry_says_how_thoughts_are_marked() -> None:
    own = Reasoning.of({"start": "<<", "end": ">>"})
    assert own.split("<<They ask.>>No.") == SplitText("They ask.", "No.")
    assert own.split("<think>They ask.</think>No.") == SplitText(None, "<think>They ask.</think>No.")
    opened = Reasoning.of({"start": "", "end": "[END]"})
    assert opened.split("They ask.[END]No.") == SplitText("They ask.", "No.")
    assert opened.split("They ask") == SplitText("They ask", None)
    assert own.split("They ask", cut=True) == SplitText("They ask", None)
    assert own.split("They ask") == SplitText(None, "They ask")
    none = Reasoning.of("none")
    assert none.split("They ask", cut=True) == SplitText(None, "They ask")
    assert none.split(HARMONY) == SplitText(None, HARMONY)
    assert Reasoning.of({"field": "thoughts"}).field == "thoughts"


def test_stop_texts_end_the_answer_and_not_the_thought() -> None:
    text = "<think>First. Second.</think>Third. Fourth."
    response = without_reasoning(Response(text=text, finish="stop"), AUTOMATIC, Generation(stop=(".",)))
    assert (response.reasoning, response.text) == ("First. Second.", "Third")


def test_what_a_provider_took_apart_stays() -> None:
    told = Response(text="I </think> B", reasoning="Hm.")
    assert without_reasoning(told, AUTOMATIC, Generation()) is told


@pytest.mark.parametrize("text", ["<think>Hm.</think>B", "<think>Ah.</think>B", "</think>\n\nB", HARMONY])
def test_a_thought_that_a_server_also_leaves_in_the_text_is_no_answer(text: str) -> None:
    response = without_reasoning(Response(text=text, reasoning="Hm.", finish="stop"), AUTOMATIC, Generation())
    assert response.text in ("B", "I'm sorry.")
    assert response.reasoning in ("Hm.", "Hm.\n\nAh.", "Hm.\n\nThey ask.")
    cut = without_reasoning(Response(text="<think>Hm", reasoning="Hm", finish="length"), AUTOMATIC, Generation())
    assert (cut.text, cut.unanswered) == (None, REASONING_CUT)


def request(**settings: object) -> Request:
    return Request((("user", "Hi"),), Generation(**settings), seed=7)  # type: ignore[arg-type]


def test_an_entry_grants_tokens_for_thoughts() -> None:
    tuning = GenerationOverrides.of({"thinking_tokens": 100})
    asked = tuning.applied(request(max_new_tokens=20))
    assert asked.generation.most_tokens == 120
    assert asked.key() != request(max_new_tokens=20).key()
    assert GenerationOverrides.of({}).applied(request()) == request()


@pytest.mark.parametrize("setting", [{"start": "<a>", "end": "</a>"}, {"field": "reasoning"}])
def test_a_model_that_is_known_to_reason_gets_room_for_it(setting: dict[str, str]) -> None:
    assert GenerationOverrides.of({"reasoning": setting}).thinking_tokens == 4096
    assert GenerationOverrides.of({"reasoning": setting, "thinking_tokens": 0}).thinking_tokens == 0
    assert GenerationOverrides.of({"reasoning": "none"}).thinking_tokens == 0


def test_generation_settings_of_an_entry_win_over_those_of_the_suite() -> None:
    tuning = GenerationOverrides.of({"generation": {"temperature": 1.0, "stop": ["\n"], "seed": 5}})
    asked = tuning.applied(request(temperature=0.0, max_new_tokens=20, stop=("x",)))
    assert asked.generation == Generation(1.0, 20, ("\n",))
    assert asked.seed == 5
    assert tuning.recorded == {"generation": {"temperature": 1.0, "stop": ["\n"], "seed": 5}}


@pytest.mark.parametrize("text", ["</think>", "<think>", "<think></think>", "<|channel|>", "analysis"])
def test_a_text_of_nothing_but_marks_is_read_in_linear_time(text: str) -> None:
    parts = AUTOMATIC.split(text * 100_000, cut=True)
    assert parts.answer in (None, "", text * 100_000)


def test_an_answer_after_a_thought_may_mention_the_tag() -> None:
    assert AUTOMATIC.split("They ask.</think>Write <think> first.", opened=True).answer == "Write <think> first."
    assert AUTOMATIC.split("<think>They ask.</think>Write <think> first.").answer == "Write <think> first."
