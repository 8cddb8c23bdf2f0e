"""Chat templates: which one is used, on which day, and whether it passes on every message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError

from pytest_trustllm.config.time_limit import SECONDS, time_limit
from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.tool_messages import as_openai
from pytest_trustllm.types import Tool, ToolCall, digest

# Some templates put today's date into the prompt; a fixed one keeps prompts, answers and the store the same tomorrow.
_DATE = datetime(2024, 7, 26)  # noqa: DTZ001 - a day in a prompt has no time zone
_CLOCK = "strftime_now"
"""The function by which a template asks transformers for the time."""
_DIRECTIVES = "YymdBbAaHIMSpjF"
"""Letters of strftime that the fixed clock understands."""
_UNPADDED = "mdHIMS"
"""Those that ``%-`` writes without a leading zero."""
_MARK = "trustllmprobe"
"""A content that no template has a reason to change."""

Chat = Sequence[tuple[str, str]]
"""(role, content) of each message."""


class ChatTemplate:
    """Makes one text of a chat.

    Args:
        spec: Which model; its options name the template and its variables.
        tokenizer: Renders it, and may have templates of its own.

    Attributes:
        text: The template, Jinja2; None: the model gets the bare contents.
        info: What the results file records of it.

    Raises:
        ModelError: There is no such template, or it leaves a user's question out.
    """

    def __init__(self, spec: ModelSpec, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.text = template_text(spec, tokenizer.chat_template)
        tells_time = self.text is not None and _CLOCK in self.text
        self._source = self.text
        if self.text is not None and tells_time:
            self._source = _stopped_clock() + self.text
        # Llama 3's templates take the date from this variable, and today's if there is none.
        variables = {"date_string": _DATE.strftime("%d %b %Y"), **spec.options.get("template_options", {})}
        self._variables: Mapping[str, Any] = variables
        self._in_parts = False
        self._lost: dict[tuple[str, ...], str | None] = {}
        if self.text is not None:
            self._in_parts = self._needs_parts(spec)
        info: dict[str, Any] = {
            "chat_template": digest(self.text)[:16] if self.text is not None else None,
            "template_options": variables,
        }
        if tells_time:
            info["template_date"] = _DATE.date().isoformat()
        if self._in_parts:
            info["content_parts"] = True
        self.info: Mapping[str, Any] = info

    def render(self, chat: Chat, tools: Sequence[Tool] = ()) -> str:
        """Return the text that the model continues.

        Args:
            chat: The messages.
            tools: What the model may call.

        Raises:
            TemplateError: The template does not take this chat.
        """
        if self.text is None:
            return "\n\n".join(content for _, content in chat)
        return self._rendered(chat, tools, in_parts=self._in_parts)

    def loss(self, chat: Chat) -> str | None:
        """Return the role of the first message whose content the template leaves out, None if there is none.

        Some templates ignore a system message, others all turns but the last. It is tried with marks in place of the
        contents, once for each sequence of roles.
        """
        roles = tuple(role for role, _ in chat)
        if self.text is not None and roles not in self._lost:
            tools = (Tool(_MARK, {"type": "object"}),) if "tool_call" in roles else ()
            self._lost[roles] = self._first_lost(roles, tools, in_parts=self._in_parts)
        return self._lost.get(roles)

    def _rendered(self, chat: Chat, tools: Sequence[Tool] = (), *, in_parts: bool) -> str:
        messages = as_openai(tuple(chat), parsed=True)
        if in_parts:
            for message in messages:
                message["content"] = _parts(message["content"])
        schemas = [tool.schema() for tool in tools] or None
        with time_limit(TemplateError(f"not rendered within {SECONDS:g} s")):
            text: str = self._tokenizer.apply_chat_template(
                messages,
                tools=schemas,
                chat_template=self._source,
                add_generation_prompt=True,
                tokenize=False,
                **self._variables,
            )
        return text

    def _first_lost(self, roles: Sequence[str], tools: Sequence[Tool] = (), *, in_parts: bool) -> str | None:
        marks = [f"{_MARK}{place}end" for place in range(len(roles))]
        chat = list(zip(roles, marks, strict=True))
        marked = [(role, ToolCall(mark, {}).text() if role == "tool_call" else mark) for role, mark in chat]
        text = self._rendered(marked, tools, in_parts=in_parts)
        for role, mark in chat:
            if mark not in text:
                return role
        return None

    def _needs_parts(self, spec: ModelSpec) -> bool:
        """Tell whether the template takes contents only as a list of parts, as those of multimodal models do.

        Raises:
            ModelError: It leaves a user's question out either way.
        """
        faults = []
        for in_parts in (False, True):
            try:
                if self._first_lost(["user"], in_parts=in_parts) is None:
                    return in_parts
                faults.append("leaves the user's question out")
            except (TemplateError, TypeError, ValueError) as e:
                faults.append(f"cannot be rendered: {one_line(e)}")
        raise ModelError(
            f"models: {spec.name!r}: the chat template {faults[0]}; "
            "give another with 'chat_template' in your models file"
        )


def template_text(spec: ModelSpec, own: Any) -> str | None:
    """Return the template of an entry, or the one of the tokenizer's that it names.

    Args:
        spec: Which model.
        own: The tokenizer's: one text, or name -> text (Command-R has one for tools and one for retrieval), or None.

    Raises:
        ModelError: There is no template of that name, or none of several is the default.
    """
    given = spec.options.get("chat_template")
    named: Mapping[str, str] = own if isinstance(own, Mapping) else {}
    if given is not None:
        return _chosen_template(spec, given, named)
    if not named:
        return own if isinstance(own, str) else None
    if "default" in named:
        return named["default"]
    if len(named) == 1:
        return next(iter(named.values()))
    raise ModelError(
        f"models: {spec.name!r}: none of its chat templates {', '.join(sorted(named))} is the default; "
        "name one with 'chat_template' in your models file"
    )


def _chosen_template(spec: ModelSpec, given: str, named: Mapping[str, str]) -> str:
    """Return the template that an entry gives, by its name or in full."""
    if given in named:
        return named[given]
    if "{" in given:
        return str(given)
    has = "the tokenizer has no named templates"
    if named:
        has = f"the tokenizer's are named {', '.join(sorted(named))}"
    raise ModelError(f"models: {spec.name!r}: 'chat_template: {given}' is neither Jinja nor a name; {has}")


def _stopped_clock() -> str:
    """Return a Jinja macro that takes the place of transformers' clock and knows one day.

    Transformers renders templates with its own clock, and only text can be handed over. The empty expression at the end
    of the macro keeps a line break with which the template may begin.
    """
    values = {f"%-{letter}": _DATE.strftime(f"%{letter}").lstrip("0") or "0" for letter in _UNPADDED}
    values |= {f"%{letter}": _DATE.strftime(f"%{letter}") for letter in _DIRECTIVES}
    replacements = "".join(f"|replace('{directive}', '{value}')" for directive, value in values.items())
    return f"{{%- macro {_CLOCK}(format) -%}}{{{{ format{replacements} }}}}{{%- endmacro %}}{{{{ '' }}}}"


def _parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]
