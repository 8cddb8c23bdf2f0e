"""What a task declares about its tools, against which the names and arguments in a suite are checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pytest_trustllm.errors import ScorerError, suggest
from pytest_trustllm.types import Tool

_OPEN = ("additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "if", "$ref")
"""Keywords of a JSON Schema that may allow arguments which ``properties`` does not list."""


def check_declared(tools: Sequence[Tool], name: str, arguments: Iterable[str]) -> None:
    """Refuse a call that no tool of the task can receive.

    Args:
        tools: Those of the task.
        name: Of the called tool.
        arguments: Names of the arguments.

    Raises:
        ScorerError: There is no such tool, or its schema does not list an argument.
    """
    names = [tool.name for tool in tools]
    if name not in names:
        raise ScorerError(f"there is no tool {name!r}{suggest(name, names)}")
    schema = tools[names.index(name)].parameters
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or any(schema.get(keyword) for keyword in _OPEN):
        return
    for argument in arguments:
        if argument not in properties:
            raise ScorerError(f"arguments: tool {name!r} has no argument {argument!r}{suggest(argument, properties)}")
