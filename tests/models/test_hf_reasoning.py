"""Local reasoning models: thoughts recognised in what they write, by what their template and tokenizer say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scripted_llama

from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import REASONING_CUT, Generation, Request, Response

pytest.importorskip("torch")

OPENING = "{% for m in messages %}<user> {{ m['content'] }} {% endfor %}<assistant> <think>"
THOUGHTFUL = "{# <think> ... </think> #}" + scripted_llama.PLAIN_TEMPLATE
HARMONY = (
    "<|channel|> analysis <|message|> They ask this. <|end|> "
    "<|start|> assistant <|channel|>\u200b final <|message|>\u200b I'm sorry."
)
MARKS = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|channel|>\u200b", "<|message|>\u200b")


@pytest.fixture
def answer(tmp_path: Path, make_spec: Callable[..., ModelSpec], settings: LoadSettings) -> Callable[..., Response]:
    """Load a model that says a text and return what becomes of it."""

    def ask(text: str, *, generation: Generation = Generation(), entry: Any = None, **how: Any) -> Response:  # noqa: B008
        directory = scripted_llama.save(tmp_path / "says", text, **how)
        model = PROVIDER.load(make_spec(directory, **(entry or {})), settings)
        ((_, response),) = model.generate(RequestQueue.only([Request((("user", "Hi"),), generation)]))
        return response

    return ask


def test_a_thought_between_tags(answer: Callable[..., Response]) -> None:
    response = answer("<think> They ask this. </think> I'm sorry.")
    assert (response.reasoning, response.text) == ("They ask this.", "I'm sorry.")
    assert response.reasoning_tokens == 3
    assert response.output_tokens == 8


def test_tags_that_are_special_tokens_are_seen_all_the_same(answer: Callable[..., Response]) -> None:
    response = answer("<think> They ask this. </think> I'm sorry.", special=("<think>", "</think>"))
    assert (response.reasoning, response.text) == ("They ask this.", "I'm sorry.")


def test_a_thought_that_the_template_opened(answer: Callable[..., Response]) -> None:
    response = answer("They ask this. </think> I'm sorry.", template=OPENING)
    assert (response.reasoning, response.text) == ("They ask this.", "I'm sorry.")


def test_a_thought_that_the_template_opened_and_the_limit_cut(answer: Callable[..., Response]) -> None:
    response = answer("They ask this. </think> I'm sorry.", template=OPENING, generation=Generation(max_new_tokens=3))
    assert (response.reasoning, response.text, response.unanswered) == ("They ask this.", None, REASONING_CUT)


def test_channels_whose_marks_are_special_tokens(answer: Callable[..., Response]) -> None:
    response = answer(HARMONY, special=MARKS)
    assert (response.reasoning, response.text) == ("They ask this.", "I'm sorry.")


def test_other_special_tokens_are_left_out_as_ever(answer: Callable[..., Response]) -> None:
    assert answer("<|end|> I'm sorry.", special=("<|end|>",)).text == "I'm sorry."


def test_a_stop_text_ends_the_answer_and_not_the_thought(answer: Callable[..., Response]) -> None:
    text = "<think> One. </think> Two. Three. Four."
    response = answer(text, generation=Generation(stop=("Three", "One")))
    assert (response.reasoning, response.text, response.finish) == ("One.", "Two. ", "stop")
    assert response.output_tokens == 5


def test_room_for_the_thought_comes_on_top_of_the_answers(answer: Callable[..., Response]) -> None:
    text = "<think> They ask this. </think> I'm sorry."
    cut = answer(text, generation=Generation(max_new_tokens=3))
    assert cut.unanswered == REASONING_CUT
    whole = answer(text, generation=Generation(max_new_tokens=3, thinking_tokens=5))
    assert whole.text == "I'm sorry."


def test_an_entry_can_turn_it_off_or_name_its_own_tags(answer: Callable[..., Response]) -> None:
    text = "<hm> They ask. </hm> I'm sorry."
    assert answer(text).text == text
    assert answer(text, entry={"reasoning": {"start": "<hm>", "end": "</hm>"}}).text == "I'm sorry."
    text = "<think> They ask. </think> I'm sorry."
    assert answer(text, entry={"reasoning": "none"}).text == text


def test_a_template_that_names_thoughts_makes_a_reasoning_model(
    tmp_path: Path, make_spec: Callable[..., ModelSpec], settings: LoadSettings
) -> None:
    for name, template, expected in (("a", THOUGHTFUL, True), ("b", scripted_llama.PLAIN_TEMPLATE, False)):
        directory = scripted_llama.save(tmp_path / name, "I'm sorry.", template=template)
        model: Any = PROVIDER.load(make_spec(directory), settings)
        assert model.reasoning.expected is expected
        assert model.info["about"].get("reasons", False) is expected
