"""Templates over the fields of a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pytest_trustllm.documents import Place
from pytest_trustllm.errors import one_line
from pytest_trustllm.shapes import Text


@dataclass(frozen=True, slots=True)
class Template:
    """A Jinja2 template over the row's fields."""

    def __call__(self, place: Place) -> str:
        """Return it, after compiling it once."""
        text = place.text()
        if "{" in text:  # else there is nothing to compile, and Jinja2 stays unloaded
            from jinja2 import TemplateError

            try:
                compiled(text)
            except TemplateError as e:
                raise place.fail(f"broken template: {one_line(e)}") from None
        return text

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return Text().schema()


@cache
def compiled(template: str) -> Any:
    """Return a Jinja2 template that can reach nothing but its fields, and in which an unknown field is an error.

    Raises:
        TemplateError: Of Jinja2: it is no template.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # prompts are plain text for a model, not HTML: escaping would change what is asked
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    return environment.from_string(template)
