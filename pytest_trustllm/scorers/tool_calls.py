"""Which tools the model called, with which arguments, and in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pytest_trustllm.config.templates import check_template, is_template, rendered, rendered_pattern
from pytest_trustllm.errors import ScorerError, TrustLLMError, one_line, suggest
from pytest_trustllm.scorers.base import why_missing
from pytest_trustllm.scorers.declared_tools import check_declared
from pytest_trustllm.scorers.json_texts import validator_of
from pytest_trustllm.scorers.patterns import PatternTimeout, compiled_pattern, search
from pytest_trustllm.types import Response, Role, Sample, Score, Tool, ToolCall

_KEYS = ("name", "arguments", "schema")
_CONDITIONS = ("equals", "regex", "schema")


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """The model called what it must, and nothing that it must not.

    An entry of ``must`` and ``must_not`` is the name of a tool, or ``{name, arguments, schema}``. A call fits if it has
    all the ``arguments``, among others: a value must be equal, ``{regex: ...}`` searches it, ``{schema: ...}`` is its
    JSON Schema, and texts are templates over the row's fields. ``schema`` is the JSON Schema of all arguments together.

    Observed: ``must``, the share of the entries that a call fits; ``must_not``, the number of calls that fit an entry;
    ``calls``, the number of calls. In a conversation, all calls up to the scored answer count.

    Attributes:
        must: Each entry must fit a call of its own.
        must_not: No call may fit an entry.
        order: The calls of ``must`` must come in this order; others may come between them.
    """

    must: Sequence[Any] = ()
    must_not: Sequence[Any] = ()
    order: bool = False
    roles: ClassVar[tuple[Role, ...]] = ()
    reads_calls: ClassVar[bool] = True
    """It scores a response that only calls tools and has no text."""

    def __post_init__(self) -> None:
        """Refuse entries that could never be checked."""
        if not self.must and not self.must_not:
            raise ScorerError("tool_calls needs 'must' or 'must_not'")
        if self.order and not self.must:
            raise ScorerError("'order' is about the calls of 'must'; there are none")
        for key, entries in (("must", self.must), ("must_not", self.must_not)):
            if not isinstance(entries, list | tuple):
                raise ScorerError(f"{key}: expected a list, found {one_line(repr(entries), 60)}")
            for number, entry in enumerate(entries):
                _check_entry(entry, f"{key}[{number}]")
        required = [_name_of(entry) for entry in self.must]
        for number, entry in enumerate(self.must_not):
            if entry in self.must or (_is_any_call(entry) and _name_of(entry) in required):
                raise ScorerError(f"must_not[{number}]: {_name_of(entry)!r} is in 'must' too; remove one")

    def check_tools(self, tools: Sequence[Tool]) -> None:
        """Refuse entries that no call of the task's tools can fit.

        Args:
            tools: Those that the task declares; an app may have others of its own where a task declares none.
        """
        for key, entries in (("must", self.must), ("must_not", self.must_not)):
            for number, entry in enumerate(entries):
                try:
                    check_declared(tools, _name_of(entry), _arguments_of(entry))
                except ScorerError as e:
                    raise ScorerError(f"{key}[{number}]: {e}") from None

    def check_sample(self, sample: Sample) -> None:
        """Refuse a row without a field that a template of an argument names."""
        for entry in (*self.must, *self.must_not):
            _Expected(entry, sample)

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Return 1 if the calls are as they should be, otherwise 0."""
        calls = calls_of(sample, replies[-1])
        nothing = why_missing(replies[-1].text)
        if nothing is not None and not replies[-1].calls:
            return Score.none(nothing)
        try:
            missing, found = self._missing([_Expected(entry, sample) for entry in self.must], calls)
            forbidden = self._forbidden([_Expected(entry, sample) for entry in self.must_not], calls)
        except PatternTimeout as e:
            return Score.none(str(e))
        share = found / len(self.must) if self.must else 1.0
        observed = {"must": share, "must_not": float(len(forbidden)), "calls": float(len(calls))}
        met = missing is None and not forbidden
        if forbidden:
            answer = f"must not call {forbidden[0].text()}"
        elif missing is not None:
            answer = f"no call of {missing.shown} among: {_shown(calls)}"
        else:
            answer = _shown(calls)
        return Score(float(met), met, answer, observed=observed)

    def expected(self, sample: Sample) -> str:
        """Return what must be called, and what must not."""
        parts = []
        for words, entries in (("call", self.must), ("not call", self.must_not)):
            if entries:
                parts.append(f"{words} {', '.join(_Expected(entry, sample).shown for entry in entries)}")
        return "; ".join(parts)

    def _missing(self, expected: Sequence[_Expected], calls: Sequence[ToolCall]) -> tuple[_Expected | None, int]:
        """Return the first entry that no call is left for, and how many have one."""
        places = _in_order(expected, calls) if self.order else _matched(expected, calls)
        first = next((entry for entry, place in zip(expected, places, strict=True) if place is None), None)
        return first, sum(place is not None for place in places)

    def _forbidden(self, forbidden: Sequence[_Expected], calls: Sequence[ToolCall]) -> list[ToolCall]:
        return [call for call in calls if any(entry.fits(call) for entry in forbidden)]


def calls_of(sample: Sample, reply: Response) -> list[ToolCall]:
    """Return all calls that the model made up to a reply, those of an app's own tools included.

    Args:
        sample: Its last prompt is what was said before the reply; a suite cannot write calls into it.
        reply: The reply.
    """
    said = (*sample.prompts[-1], *reply.trace)
    made = [ToolCall.from_text(content) for role, content in said if role == "tool_call"]
    return [*made, *reply.calls]


class _Expected:
    """An entry of ``must`` or ``must_not``, for one sample.

    Attributes:
        shown: For people.
    """

    def __init__(self, entry: Any, sample: Sample) -> None:
        self._name = _name_of(entry)
        self._schema = None if isinstance(entry, str) else entry.get("schema")
        self._arguments = {name: _filled(value, sample) for name, value in _arguments_of(entry).items()}
        arguments = ", ".join(f"{name}={_described(value)}" for name, value in self._arguments.items())
        self.shown = f"{self._name}({arguments})" if arguments else self._name

    def fits(self, call: ToolCall) -> bool:
        if call.name != self._name:
            return False
        if isinstance(call.arguments, str):  # not a JSON object
            return not self._arguments and self._schema is None
        if self._schema is not None and not _meets(self._schema, dict(call.arguments)):
            return False
        for name, condition in self._arguments.items():
            if name not in call.arguments or not _holds(condition, call.arguments[name]):
                return False
        return True


def _matched(expected: Sequence[_Expected], calls: Sequence[ToolCall]) -> list[int | None]:
    """Return the call of each entry, such that as many as possible have one of their own (augmenting paths)."""
    fitting = [[place for place, call in enumerate(calls) if entry.fits(call)] for entry in expected]
    taken: dict[int, int] = {}

    def place(entry: int, tried: set[int]) -> bool:
        for call in fitting[entry]:
            if call in tried:
                continue
            tried.add(call)
            if call not in taken or place(taken[call], tried):
                taken[call] = entry
                return True
        return False

    for entry in range(len(expected)):
        place(entry, set())
    by_entry = {entry: call for call, entry in taken.items()}
    return [by_entry.get(entry) for entry in range(len(expected))]


def _in_order(expected: Sequence[_Expected], calls: Sequence[ToolCall]) -> list[int | None]:
    """Return the call of each entry, each after that of the entry before it; the earliest ones leave most room."""
    places: list[int | None] = []
    next_call = 0
    for entry in expected:
        found = next((place for place in range(next_call, len(calls)) if entry.fits(calls[place])), None)
        places.append(found)
        if found is not None:
            next_call = found + 1
    return places


def _shown(calls: Sequence[ToolCall]) -> str:
    if not calls:
        return "no call"
    return ", ".join(call.text() for call in calls)


# --- arguments --------------------------------------------------------------------------------------------------------


def _is_condition(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in _CONDITIONS


def _filled(value: Any, sample: Sample) -> Any:
    """Return a condition with its template filled with the row's fields; a schema stays as it is."""
    kind, wanted = next(iter(value.items())) if _is_condition(value) else ("equals", value)
    try:
        if kind == "equals" and isinstance(wanted, str) and "{" in wanted:
            wanted = rendered(wanted, sample.row)
        elif kind == "regex" and is_template(wanted):
            wanted = rendered_pattern(wanted, sample.row)
            compiled_pattern(wanted)
    except TrustLLMError as e:
        raise ScorerError(f"{sample.task}[{sample.id}]: {e}") from None
    return {kind: wanted}


def _described(condition: Mapping[str, Any]) -> str:
    return one_line(condition.get("equals", condition), 60)


def _holds(condition: Mapping[str, Any], value: Any) -> bool:
    """Return whether an argument meets a condition.

    Raises:
        PatternTimeout: A pattern took too long.
    """
    if "equals" in condition:
        wanted = condition["equals"]
        # A template always makes text, and to Python true is 1.
        if isinstance(wanted, str) and isinstance(value, int | float) and not isinstance(value, bool):
            return wanted == str(value)
        return bool(wanted == value) and isinstance(wanted, bool) == isinstance(value, bool)
    if "regex" in condition:
        text = value if isinstance(value, str) else str(value)
        return search(condition["regex"], text) is not None
    return _meets(condition["schema"], value)


def _meets(schema: Mapping[str, Any], value: Any) -> bool:
    return bool(validator_of(json.dumps(schema)).is_valid(value))


# --- what a suite may write -------------------------------------------------------------------------------------------


def _name_of(entry: Any) -> str:
    name: str = entry if isinstance(entry, str) else entry["name"]
    return name


def _arguments_of(entry: Any) -> Mapping[str, Any]:
    """Return argument -> condition of an entry."""
    return {} if isinstance(entry, str) else entry.get("arguments") or {}


def _is_any_call(entry: Any) -> bool:
    """Return whether every call of the entry's tool fits it."""
    return isinstance(entry, str) or not (entry.get("arguments") or entry.get("schema"))


def _check_entry(entry: Any, where: str) -> None:
    """Refuse an entry that is not a tool's name or a mapping of known keys.

    Raises:
        ScorerError: It is something else, a pattern does not compile, or a schema is none.
    """
    if isinstance(entry, str) and entry.strip():
        return
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ScorerError(f"{where}: expected a tool's name, or {{name: ..., arguments: ...}}")
    for key in entry:
        if key not in _KEYS:
            raise ScorerError(f"{where}: unknown key {key!r}{suggest(str(key), _KEYS)}")
    if "schema" in entry:
        _check_schema(entry["schema"], f"{where}.schema")
    arguments = entry.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        raise ScorerError(f"{where}.arguments: expected a mapping, found {one_line(repr(arguments), 60)}")
    for name, condition in arguments.items():
        if _is_condition(condition):
            _check_condition(condition, f"{where}.arguments.{name}")


def _check_condition(condition: Mapping[str, Any], where: str) -> None:
    if "schema" in condition:
        _check_schema(condition["schema"], f"{where}.schema")
    if "regex" in condition:
        _check_pattern(condition["regex"], f"{where}.regex")


def _check_pattern(pattern: Any, where: str) -> None:
    if not isinstance(pattern, str):
        raise ScorerError(f"{where}: expected a regular expression, found {one_line(repr(pattern), 60)}")
    try:
        if is_template(pattern):  # a pattern only with the fields of a row
            check_template(pattern)
        else:
            compiled_pattern(pattern)
    except TrustLLMError as e:
        raise ScorerError(f"{where}: {e}") from None


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, Mapping):
        raise ScorerError(f"{where}: expected a JSON Schema, found {one_line(repr(schema), 60)}")
    if is_template(json.dumps(schema)):
        raise ScorerError(f"{where}: a schema has no templates; write the value into 'arguments'")
    try:
        validator_of(json.dumps(schema))
    except TrustLLMError as e:
        raise ScorerError(f"{where}: {e}") from None
