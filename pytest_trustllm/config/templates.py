"""Jinja2 templates, in a sandbox: over the fields of a row, or the variables of a rubric."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Text
from pytest_trustllm.config.sandbox import sandbox
from pytest_trustllm.config.time_limit import SECONDS, time_limit
from pytest_trustllm.errors import TrustLLMError, one_line

_PLAIN = re.compile(r"\{\{-?\s*[\w.]+\s*-?\}\}")
"""An expression that is a field, or a part of one: the time limit costs more than rendering it."""


@dataclass(frozen=True, slots=True)
class Template:
    """The text of a template over the row's fields."""

    def __call__(self, place: Place) -> str:
        """Return the text, which can be compiled."""
        text = place.text()
        if "{" not in text:  # nothing to compile: Jinja2 need not be loaded
            return text
        try:
            check_template(text)
        except TrustLLMError as e:
            raise place.fail(str(e)) from None
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
        if not place.list():
            raise place.fail("expected at least one text; leave the key out if there is none")
        return tuple(each(entry) for entry in place.list())

    def schema(self) -> dict[str, Any]:
        """Describe them."""
        text = Text().schema()
        return {"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]}


def is_template(text: str) -> bool:
    """Return whether a text has something that a template engine would replace."""
    return "{{" in text or "{%" in text


def check_template(text: str) -> None:
    """Refuse what cannot be compiled.

    Raises:
        TrustLLMError: It is not a template.
    """
    from jinja2 import TemplateError

    try:
        compiled(text)
    except TemplateError as e:
        raise TrustLLMError(f"broken template: {one_line(e)}") from None


def rendered(template: str, row: Mapping[str, Any]) -> str:
    """Return a template filled with the fields of a row, such as TrustLLM's "modified knowledge".

    Raises:
        TrustLLMError: The row does not have a field that the template needs, or the template raises something else.
    """
    return _rendered(compiled, template, row)


def rendered_pattern(template: str, row: Mapping[str, Any]) -> str:
    """Return a regular expression filled with the fields of a row, in which no sign of theirs has a special meaning.

    Raises:
        TrustLLMError: The row does not have a field that the template needs, or the template raises something else.
    """
    return _rendered(_compiled_pattern, template, row)


def _rendered(compile_: Callable[[str], Any], template: str, row: Mapping[str, Any]) -> str:
    try:
        return rendered_in_time(compile_(template), fields_of(row))
    except Exception as e:  # noqa: BLE001 - a template is code of the suite's author; only its sample fails
        raise TrustLLMError(f"template {one_line(template, 80)!r}: {one_line(e)}") from None


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a template over a row: in their names, an underscore replaces a space or hyphen."""
    return {str(key).replace(" ", "_").replace("-", "_"): value for key, value in row.items()}


def rendered_in_time(template: Any, *mappings: Mapping[str, Any], **fields: Any) -> str:
    """Return a compiled template filled with fields.

    A template that took too long once is not tried again: a suite may have thousands of rows.

    Raises:
        TimeoutError: It takes too long.
        Exception: Whatever else the template raises.
    """
    if not getattr(template, "may_loop", True):
        return str(template.render(*mappings, **fields))
    expired = TimeoutError(f"not rendered within {SECONDS:g} s")
    if getattr(template, "took_too_long", False):
        raise expired
    try:
        with time_limit(expired):
            return str(template.render(*mappings, **fields))
    except TimeoutError:
        template.took_too_long = True
        raise


@cache
def compiled(template: str, *, trim_blocks: bool = False) -> Any:
    """Return a Jinja2 template that can reach nothing but its fields, and in which an unknown field is an error.

    Args:
        template: Its text.
        trim_blocks: A line break after a block tag is removed, so that the tag can have a line to itself.

    Raises:
        TemplateError: Of Jinja2: the text is not a template.
    """
    return compiled_in(sandbox(trim_blocks=trim_blocks), template)


@cache
def _compiled_pattern(template: str) -> Any:
    return compiled_in(sandbox(finalize=lambda value: re.escape(str(value))), template)


def compiled_in(environment: Any, template: str) -> Any:
    """Return a template of a sandbox, marked if rendering it could take long.

    Raises:
        TemplateError: Of Jinja2: the text is not a template.
    """
    from jinja2 import TemplateSyntaxError

    try:
        made = environment.from_string(template)
    except (RecursionError, MemoryError, SyntaxError):  # of Jinja2's own parser, and of Python's behind it
        raise TemplateSyntaxError("nested too deeply", 1) from None
    made.may_loop = is_template(_PLAIN.sub("", template))
    return made


@cache
def free_names(template: str) -> frozenset[str]:
    """Return the variables that a template needs; one that it asks for with ``is defined`` may be absent."""
    from jinja2 import Environment, meta, nodes

    tree = Environment(autoescape=False).parse(template)  # noqa: S701 - nothing is rendered with it
    asked = {
        test.node.name
        for test in tree.find_all(nodes.Test)
        if test.name in ("defined", "undefined") and isinstance(test.node, nodes.Name)
    }
    return frozenset(meta.find_undeclared_variables(tree) - asked)


@cache
def items_of(template: str, name: str) -> frozenset[int]:
    """Return the numbers ``n`` for which a template has ``name[n]``."""
    from jinja2 import Environment, nodes

    tree = Environment(autoescape=False).parse(template)  # noqa: S701 - nothing is rendered with it
    numbers = set()
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.node, nodes.Name) and item.node.name == name:
            try:
                number = item.arg.as_const()
            except nodes.Impossible:  # a loop's variable
                continue
            if type(number) is int:
                numbers.add(number)
    return frozenset(numbers)
