"""The tools of a task, and what they return: results written in the suite, or a function of the project's."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Fields, Key, ListOf, Made, Table, Text
from pytest_trustllm.config.templates import Template, fields_of, free_names, is_template
from pytest_trustllm.errors import (
    ScorerError,
    SuiteError,
    TrustLLMError,
    WrongReturn,
    describe_exception,
    one_line,
    place_of,
    suggest,
)
from pytest_trustllm.scorers.declared_tools import check_declared
from pytest_trustllm.scorers.functions import imported
from pytest_trustllm.scorers.json_texts import validator_of
from pytest_trustllm.suites.rendering import rendered
from pytest_trustllm.types import Sample, Tool, ToolCall

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every API accepts as a tool's name."""
_MISSING = object()
MOST_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returns.

    Attributes:
        name: The tool's.
        result: A template over the row's fields; or anything else that JSON can represent.
        python: ``module:function`` instead of a result.
        arguments: Only for calls with these arguments, among others; None: for all calls. Texts are templates over the
            row's fields.
    """

    name: str
    result: Any = None
    python: str | None = None
    arguments: Mapping[str, Any] | None = None

    def fits(self, call: ToolCall, sample: Sample) -> bool:
        """Return whether it is the result of a call.

        Raises:
            SuiteError: A template of an argument cannot be rendered.
        """
        if self.name != call.name:
            return False
        if self.arguments is None:
            return True
        if isinstance(call.arguments, str):
            return False
        given = call.arguments
        return all(_is_same(wanted, given.get(name, _MISSING), sample) for name, wanted in self.arguments.items())

    def templates(self) -> dict[str, str]:
        """Return the templates, by the key that has them."""
        found = {f"arguments.{name}": value for name, value in (self.arguments or {}).items()}
        found["result"] = self.result
        return {key: value for key, value in found.items() if isinstance(value, str) and is_template(value)}


def _is_same(wanted: Any, given: Any, sample: Sample) -> bool:
    """Return whether an argument is the one wanted."""
    if not isinstance(wanted, str) or not is_template(wanted):
        return bool(given == wanted)
    text = rendered(wanted, sample.row, f"{sample.task}[{sample.id}]")
    # A template always makes text, and to Python true is 1
    return bool(given == text) or (isinstance(given, int | float) and type(given) is not bool and str(given) == text)


class NoResult(Exception):
    """A call of a known tool for which the suite has no result."""


class ToolRaised(Exception):
    """A function of the project's raised something."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What a model may call.

    Attributes:
        tools: Their descriptions.
        results: What they return; the first that fits a call counts.
        rounds: How often the model may call tools before it must answer.
    """

    tools: tuple[Tool, ...]
    results: tuple[ToolResult, ...]
    rounds: int = MOST_ROUNDS

    def is_scripted(self, call: ToolCall, sample: Sample) -> bool:
        """Return whether the result of a call is written in the suite, so that no code runs.

        Raises:
            SuiteError: A template cannot be rendered.
        """
        result = self._result(call, sample)
        return result is None or result.python is None

    async def result(self, call: ToolCall, sample: Sample) -> str:
        """Return what a tool returns to the model.

        Args:
            call: The model's.
            sample: Its row has the fields of templates.

        Raises:
            NoResult: The suite has no result for such a call.
            ToolRaised: The project's function raised something, or returned what JSON cannot represent.
            SuiteError: A template cannot be rendered.
        """
        if all(tool.name != call.name for tool in self.tools):  # as frameworks for agents answer it
            return f"error: there is no tool named {one_line(call.name, 80)}"
        result = self._result(call, sample)
        if result is None:
            raise NoResult(f"tool_results has no result for {one_line(call.text(), 200)}")
        if result.python is not None:
            return await _returned(result.python, call, sample)
        if isinstance(result.result, str):
            return rendered(result.result, sample.row, f"{sample.task}[{sample.id}]")
        return json.dumps(result.result, ensure_ascii=False)

    def _result(self, call: ToolCall, sample: Sample) -> ToolResult | None:
        return next((result for result in self.results if result.fits(call, sample)), None)


def check_results(toolbox: Toolbox, rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Look for a result that names a field which no row has; a result may be meant for the calls of some rows only.

    Args:
        toolbox: The task's.
        rows: Of all its samples.
        where: Names the task in messages.

    Raises:
        SuiteError: For the first such field.
    """
    fields = {field for row in rows for field in fields_of(row)}
    for number, result in enumerate(toolbox.results):
        for key, template in result.templates().items():
            for name in sorted(free_names(template) - fields):
                place = f"{where}: tool_results[{number}].{key}"
                raise SuiteError(f"{place}: no row has the field {name!r}{suggest(name, fields)}")


async def _returned(target: str, call: ToolCall, sample: Sample) -> str:
    """Return what the project's function returns for a call, as text.

    Raises:
        ToolRaised: It raised something, or returned what JSON cannot represent.
    """
    function = function_of(target)
    try:
        value = await asyncio.to_thread(function, sample, call.arguments)
        if inspect.isawaitable(value):
            value = await value
    except asyncio.CancelledError:
        raise
    except BaseException as e:  # noqa: BLE001 - the project's code may raise anything; its sample fails
        raise ToolRaised(f"tool {call.name!r} raised {describe_exception(e)}") from None
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as e:
        wrong = WrongReturn(f"{target} returned what is neither text nor JSON: {one_line(e, 120)}", place_of(function))
        raise ToolRaised(f"tool {call.name!r}: {describe_exception(wrong)}") from None


def function_of(target: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names.

    Raises:
        TrustLLMError: It cannot be imported, or is none.
    """
    function = imported(target)
    if not callable(function):
        raise SuiteError(f"{target!r} is {type(function).__name__}, which cannot be called")
    result: Callable[..., Any] = function
    return result


# --- the shape in a suite ---------------------------------------------------------------------------------------------


def _tool(place: Place, values: Mapping[str, Any]) -> Tool:
    if not _NAME.fullmatch(values["name"]):
        raise place["name"].fail(f"{values['name']!r} is not a name; use letters, digits, '_' and '-', at most 64")
    parameters = values["parameters"] or {"type": "object", "properties": {}}
    if parameters.get("type") != "object":
        raise place["parameters"].fail("expected a JSON Schema with 'type: object'")
    _check_schema(place["parameters"] if values["parameters"] else place, parameters)
    return Tool(values["name"], parameters, values["description"] or "")


def _check_schema(place: Place, schema: Mapping[str, Any]) -> None:
    """Refuse what is not a JSON Schema, if the library that knows is there."""
    if importlib.util.find_spec("jsonschema") is None:
        return
    try:
        validator_of(json.dumps(schema))
    except TrustLLMError as e:
        raise place.fail(str(e)) from None


def _result(place: Place, values: Mapping[str, Any]) -> ToolResult:
    python = values["python"]
    if (python is None) == (place.get("result") is None):
        raise place.fail("give either 'result' or 'python: module:function'")
    if python is not None:
        if not re.fullmatch(r"[\w.]+:[\w.]+", python):
            raise place["python"].fail(f"{python!r} is not 'module:function'")
        try:
            function_of(python)
        except TrustLLMError as e:
            raise place["python"].fail(str(e)) from None
    elif isinstance(values["result"], str) and values["result"]:
        Template()(place["result"])
    if values["arguments"]:
        _check_templates(place["arguments"], values["arguments"])
    return ToolResult(values["name"], values["result"], python, values["arguments"])


def _check_templates(place: Place, arguments: Mapping[str, Any]) -> None:
    """Refuse templates of arguments that cannot be compiled."""
    for name, value in arguments.items():
        if isinstance(value, str) and is_template(value):
            Template()(place[name])


def _anything(place: Place) -> Any:
    return place.value


def _unique(place: Place, tools: Sequence[Tool]) -> tuple[Tool, ...]:
    names = set()
    for entry, tool in zip(place.list(), tools, strict=True):
        if tool.name in names:
            raise entry.fail(f"tool {tool.name!r} is defined twice")
        names.add(tool.name)
    return tuple(tools)


_TOOL = Made(
    Table(
        {
            "name": Key(Text(), "What the model calls it.", required=True),
            "description": Key(Text(), "What the model is told about it."),
            "parameters": Key(Fields(), "JSON Schema of the arguments; absent: none."),
        }
    ),
    _tool,
)
TOOLS = Made(ListOf(_TOOL, "expected at least one tool"), _unique)
_RESULT = Made(
    Table(
        {
            "name": Key(Text(), "The tool's.", required=True),
            "arguments": Key(Fields(), "Only for calls with these arguments (templates); absent: for every call."),
            "result": Key(_anything, "What it returns: a template over the row's fields, or a value for JSON."),
            "python": Key(Text(), "'module:function' instead: it gets the sample and the arguments."),
        }
    ),
    _result,
)
TOOL_RESULTS = ListOf(_RESULT)


def toolbox_of(place: Place, values: Mapping[str, Any]) -> Toolbox | None:
    """Return the tools of a task; None if it has none.

    Args:
        place: The task.
        values: Of its keys.

    Raises:
        SuiteError: A tool has no result, or a result no tool.
    """
    if values["tools"] is None:
        for key in ("tool_results", "tool_rounds"):
            extra = place.get(key)
            if extra is not None:
                raise extra.fail("the task has no 'tools'")
        return None
    tools: tuple[Tool, ...] = values["tools"]
    results: tuple[ToolResult, ...] = values["tool_results"] or ()
    names = [tool.name for tool in tools]
    for number, result in enumerate(results):
        try:
            check_declared(tools, result.name, result.arguments or {})
        except ScorerError as e:
            raise place["tool_results"].list()[number].fail(str(e)) from None
    for number, name in enumerate(names):
        if all(result.name != name for result in results):
            raise place["tools"].list()[number].fail(f"tool {name!r} has no result; add one to 'tool_results'")
    return Toolbox(tools, results, values["tool_rounds"] or MOST_ROUNDS)
