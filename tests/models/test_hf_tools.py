"""Tools of local models: the template gets them, and calls are read in the model's own form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import scripted_llama

from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.local.tool_formats import format_of
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Messages, Request, Response, Tool, ToolCall

pytest.importorskip("torch")

HERMES = (
    "{% for t in tools or [] %}<tool> {{ t['function']['name'] }} {% endfor %}{# <tool_call> #}"
    "{% for m in messages %}<user> {{ m['content'] }} "
    "{% for c in m.get('tool_calls', []) %}"
    "{{ c['function']['name'] }} {{ c['function']['arguments'] | tojson }} {% endfor %}"
    "{% endfor %}<assistant>"
)
LOOKUP = (Tool("lookup", {"type": "object"}),)
TWICE = '<tool_call>{"name": "a", "arguments": {"id": 1, "id": 2}}</tool_call>'
CALL = '<tool_call> {"name": "lookup", "arguments": {"id": "7"}} </tool_call>'


@pytest.fixture
def load(tmp_path: Path, make_spec: Callable[..., ModelSpec], settings: LoadSettings) -> Callable[..., object]:
    def load_model(text: str, **how: object) -> object:
        directory = scripted_llama.save(tmp_path / "says", text, **how)  # type: ignore[arg-type]
        return PROVIDER.load(make_spec(directory), settings)

    return load_model


def answer(model: object, messages: Messages = (("user", "Hi"),), tools: tuple[Tool, ...] = LOOKUP) -> Response:
    request = Request(messages, tools=tools)
    ((_, response),) = model.generate(RequestQueue.only([request]))  # type: ignore[attr-defined]
    assert isinstance(response, Response)
    return response


@pytest.mark.parametrize("special", [(), ("<tool_call>", "</tool_call>")], ids=["plain", "special"])
def test_a_call_is_read(load: Callable[..., object], special: tuple[str, ...]) -> None:
    response = answer(load(f"Wait. {CALL}", template=HERMES, special=special))
    assert response.error is None
    assert (response.text, response.calls) == ("Wait.", (ToolCall("lookup", {"id": "7"}),))


def test_without_tools_the_same_text_is_an_answer(load: Callable[..., object]) -> None:
    response = answer(load(CALL, template=HERMES), tools=())
    assert (response.text, response.calls) == (CALL, ())


def test_calls_and_results_are_put_into_the_template(load: Callable[..., object]) -> None:
    model = load("Done.", template=HERMES)
    chat = (("user", "Hi"), ("tool_call", ToolCall("lookup", {"id": "7"}).text()), ("tool", "paid"))
    assert model.prompt(Request(chat, tools=LOOKUP)) == (  # type: ignore[attr-defined]
        '<tool> lookup <user> Hi <user>  lookup {"id": "7"} <user> paid <assistant>'
    )
    assert answer(model, chat).text == "Done."


def test_a_template_without_tools_is_named(load: Callable[..., object]) -> None:
    response = answer(load("Done."))
    assert response.error is not None
    assert response.error.startswith("the model's chat template takes no tools, or writes calls in a form that is not")


def test_a_template_that_loses_results_is_named(load: Callable[..., object]) -> None:
    model = load("Done.", template=HERMES.replace("messages %}", "messages if m['role'] != 'tool' %}"))
    chat = (("user", "Hi"), ("tool_call", ToolCall("lookup", {}).text()), ("tool", "paid"))
    assert answer(model, chat).error == (
        "the chat template leaves the tool message out; see 'chat_template' in a models file"
    )


@pytest.mark.parametrize(
    ("template", "text", "said", "calls"),
    [
        ("tools <tool_call>", "hm <tool_call>\n[1]\n</tool_call>", "hm <tool_call>\n[1]\n</tool_call>", ()),
        ("tools <tool_call>", '<tool_call>{"name": "a"}</tool_call><tool_call>{"name": "b"}', "", ("a", "b")),
        ("tools <tool_call>", TWICE, TWICE, ()),
        ("tools [TOOL_CALLS]", '[TOOL_CALLS] [{"name": "a", "arguments": {}}]', "", ("a",)),
        ("tools [TOOL_CALLS]", 'no [{"name": "a"}]', 'no [{"name": "a"}]', ()),
        ('tools ipython "parameters"', '<|python_tag|>{"name": "a", "parameters": {"x": 1}}', "", ("a",)),
        ('tools ipython "parameters"', '{"name": "a", "parameters": {}}; {"name": "b"}', "", ("a", "b")),
        ('tools ipython "parameters"', '{"answer": 3}', '{"answer": 3}', ()),
    ],
)  # fmt: skip
def test_forms_of_calls(template: str, text: str, said: str, calls: tuple[str, ...]) -> None:
    known = format_of(template)
    assert known is not None
    found_text, found = known.parse(text)
    assert (found_text, tuple(call.name for call in found)) == (said, calls)


@pytest.mark.parametrize("template", [None, "plain", "<tool_call>", "tools", "tools <tool_call> <function="])
def test_templates_whose_form_is_not_known(template: str | None) -> None:
    assert format_of(template) is None
