"""Jinja2 templates, in a sandbox: over the fields of a row, or the variables of a rubric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Text, Texts
from pytest_trustllm.errors import TrustLLMError, one_line


@dataclass(frozen=True, slots=True)
class Template:
    """The text of a template over the row's fields."""

    def __call__(self, place: Place) -> str:
        """Return the text, which can be compiled."""
        text = place.text()
        if "{" not in text:  # nothing to compile: Jinja2 need not be loaded
            return text
        from jinja2 import TemplateError

        try:
            compiled(text)
        except TemplateError as e:
            raise place.fail(f"broken template: {one_line(e)}") from None
        return text

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return Text().schema()


@dataclass(frozen=True, slots=True)
class Templates:
    """The texts of templates over the row's fields; a single text counts as a list of one."""

    def __call__(self, place: Place) -> tuple[str, ...]:
        """Return the texts, which can be compiled."""
        each = Template()
        if isinstance(place.value, str):
            return (each(place),)
        return tuple(each(entry) for entry in place.list())

    def schema(self) -> dict[str, Any]:
        """Describe them."""
        return Texts().schema()


def is_template(text: str) -> bool:
    """Return whether a text has something that a template engine would replace."""
    return "{{" in text or "{%" in text


def rendered(template: str, row: Mapping[str, Any]) -> str:
    """Return a template filled with the fields of a row.

    In names of fields, such as TrustLLM's "modified knowledge", an underscore replaces a space or hyphen.

    Raises:
        TrustLLMError: The row does not have a field that the template needs, or the template raises something else.
    """
    fields = {str(key).replace(" ", "_").replace("-", "_"): value for key, value in row.items()}
    try:
        return str(compiled(template).render(fields))
    except Exception as e:  # noqa: BLE001 - a template is code of the suite's author; only its sample fails
        raise TrustLLMError(f"template {one_line(template, 80)!r}: {one_line(e)}") from None


@cache
def compiled(template: str, *, trim_blocks: bool = False) -> Any:
    """Return a Jinja2 template that can reach nothing but its fields, and in which an unknown field is an error.

    Args:
        template: Its text.
        trim_blocks: A line break after a block tag is removed, so that the tag can have a line to itself.

    Raises:
        TemplateError: Of Jinja2: the text is not a template.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Templates come from suites, which may be somebody else's; values come from models. Neither may run code here.
    # A prompt is plain text, not HTML: escaping would change what the model reads.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=trim_blocks)
    return environment.from_string(template)
