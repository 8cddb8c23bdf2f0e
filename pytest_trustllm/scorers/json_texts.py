"""Whether a response is JSON, and JSON that meets a schema."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import unquote

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.parameters import FileBeside, Scope, shaped
from pytest_trustllm.config.reading import read_json
from pytest_trustllm.errors import ScorerError, TrustLLMError, one_line
from pytest_trustllm.scorers.base import met_or_not, why_missing
from pytest_trustllm.scorers.patterns import PatternTimeout, compiled_pattern, search
from pytest_trustllm.types import Response, Role, Sample, Score

# --- reading ----------------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"[ \t]*```[ \t]*(json|JSON)?[ \t]*")


class NotJson(Exception):
    """A text is not JSON; the message says why."""


def json_in(text: str, *, fence: bool) -> Any:
    """Return the value that a text is in JSON.

    JSON here is that of RFC 8259, without NaN. An object with a key twice is not accepted: readers differ in which of
    the values they see.

    Args:
        text: All of it must be JSON.
        fence: Or it has exactly one block of code in backticks, and that is JSON.

    Raises:
        NotJson: It is not.
    """
    try:
        return _loaded(text)
    except NotJson:
        blocks = _fenced(text)
        if not fence or not blocks:
            raise
    if len(blocks) > 1:
        raise NotJson(f"{len(blocks)} blocks of code, expected one")
    return _loaded(blocks[0])


def _fenced(text: str) -> list[str]:
    """Return the blocks of code in backticks that are JSON or of no language; one without an end is none."""
    blocks: list[str] = []
    block: list[str] | None = None
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line)
        if block is None:
            block = None if fence is None else []
        elif fence is not None and fence[1] is None:
            blocks.append("\n".join(block))
            block = None
        else:
            block.append(line)
    return blocks


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refused_constant)
    except json.JSONDecodeError as e:
        raise NotJson(f"not JSON: {e.msg} (line {e.lineno}, column {e.colno})") from None
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, nested too deeply
        raise NotJson(f"not JSON: {one_line(e, 80)}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, _ in pairs if counts[key] > 1)
        raise NotJson(f"the key {one_line(twice, 40)!r} is given twice")
    return values


def _refused_constant(name: str) -> None:
    raise NotJson(f"{name} is not JSON")


# --- schemas ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SchemaShape:
    """A JSON Schema in the suite, or the name of a file beside it.

    Attributes:
        folder: Directory of the suite.
    """

    folder: Path

    def __call__(self, place: Place) -> str:
        """Return the schema as JSON text."""
        schema: Any = place.value
        if isinstance(schema, str):
            schema = read_json(FileBeside(self.folder)(place), schema, place.error)
        if not isinstance(schema, Mapping):
            raise place.fail(f"expected a JSON Schema or the name of its file, found {one_line(repr(schema), 60)}")
        try:
            text = json.dumps(schema, allow_nan=False)
            validator_of(text)
        except (TypeError, ValueError) as e:  # YAML also makes dates and bytes
            raise place.fail(f"the schema is not JSON: {one_line(e)}") from None
        except TrustLLMError as e:
            raise place.fail(str(e)) from None
        return text

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"anyOf": [{"type": "object"}, {"type": "string", "pattern": r"\S"}]}


@lru_cache(64)
def validator_of(schema: str) -> Any:
    """Return what validates values against a schema.

    Raises:
        TrustLLMError: It is not a schema, refers to another document, or the library ``jsonschema`` is missing.
    """
    try:
        from jsonschema import Draft202012Validator, SchemaError, validators
        from referencing import Registry
    except ImportError:
        raise TrustLLMError("a schema needs the package jsonschema; pip install 'pytest-trustllm[scorers]'") from None
    document = json.loads(schema)
    known: Any = validators.validator_for(document, default=Draft202012Validator)
    try:
        known.check_schema(document)
    except SchemaError as e:
        raise TrustLLMError(f"not a JSON Schema: {e.json_path}: {one_line(e.message, 120)}") from None
    for pattern in _patterns(document):
        compiled_pattern(pattern)
    if list(_values_of(document, ("unevaluatedProperties",))) and list(_values_of(document, ("patternProperties",))):
        raise TrustLLMError("'unevaluatedProperties' beside 'patternProperties' is not supported; spell the keys out")
    _check_references(document)
    return validators.extend(known, _LIMITED)(document, registry=Registry())


def _check_references(document: Mapping[str, Any]) -> None:
    """See that a schema refers to nothing but parts of itself.

    Raises:
        TrustLLMError: It refers to something else, or to a part that is not there.
    """
    for reference in _values_of(document, ("$ref", "$dynamicRef")):
        if not isinstance(reference, str):
            continue
        shown = one_line(repr(reference), 80)
        # jsonschema would fetch it, and a run must not depend on what is on the web today
        if not reference.startswith("#"):
            raise TrustLLMError(f"the schema refers to {shown}; only references to itself work")
        if reference.startswith("#/") and not _has_part(document, reference):
            raise TrustLLMError(f"the schema refers to {shown}, which it does not have")


def _has_part(document: Any, pointer: str) -> bool:
    """Return whether a JSON pointer such as ``#/$defs/item`` leads somewhere."""
    part = document
    for step in pointer.removeprefix("#/").split("/"):
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(part, Mapping) and key in part:
            part = part[key]
        elif isinstance(part, list) and key.isdecimal() and int(key) < len(part):
            part = part[int(key)]
        else:
            return False
    return True


def _patterns(schema: Any) -> Iterator[str]:
    """Yield the regular expressions of a schema."""
    for pattern in _values_of(schema, ("pattern",)):
        if isinstance(pattern, str):
            yield pattern
    for properties in _values_of(schema, ("patternProperties",)):
        if isinstance(properties, Mapping):
            yield from properties


def _values_of(value: Any, keys: Sequence[str]) -> Iterator[Any]:
    """Yield the values of these keys, however deep."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key in keys:
                yield entry
            yield from _values_of(entry, keys)
    elif isinstance(value, list):
        for entry in value:
            yield from _values_of(entry, keys)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    """Check ``pattern`` in limited time: the value comes from a model."""
    from jsonschema import ValidationError

    if validator.is_type(instance, "string") and search(pattern, instance) is None:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    """Check ``patternProperties`` in limited time."""
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for key, value in instance.items():
            if search(pattern, key) is not None:
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, rest: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Check ``additionalProperties``, which exempts the keys that ``patternProperties`` match, in limited time."""
    from jsonschema import ValidationError

    if not validator.is_type(instance, "object"):
        return
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for key, value in instance.items():
        if key in known or any(search(pattern, key) is not None for pattern in patterns):
            continue
        if rest is False:
            yield ValidationError(f"additional property {one_line(key, 60)!r} is not allowed")
        else:
            yield from validator.descend(value, rest, path=key)


_LIMITED = MappingProxyType(
    {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
)
"""Keywords of a schema that would search with a pattern for as long as it takes."""


# --- the scorer -------------------------------------------------------------------------------------------------------


def _schema_shape(scope: Scope) -> SchemaShape:
    return SchemaShape(scope.folder)


@dataclass(frozen=True, slots=True)
class JsonText:
    """The response is JSON and, if a schema is given, meets it.

    Attributes:
        schema: JSON Schema as JSON text; None: any JSON will do.
        fence: JSON in the only block of code of the response counts; false: the response must be JSON throughout.
    """

    schema: str | None = field(default=None, metadata=shaped(_schema_shape))
    fence: bool = True
    roles: ClassVar[tuple[Role, ...]] = ()
    main: ClassVar[str] = "schema"

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Parse and validate; a missing response is unscored."""
        text = replies[0].text
        nothing = why_missing(text)
        if text is None or nothing is not None:
            return Score.none(nothing or "")
        try:
            value = json_in(text, fence=self.fence)
        except NotJson as e:
            return met_or_not(False, str(e))
        if self.schema is None:
            return met_or_not(True, "JSON")
        try:
            problem = _problem(value, validator_of(self.schema))
        except PatternTimeout as e:
            return Score.none(str(e))
        return met_or_not(problem is None, problem or "meets the schema")

    def expected(self, sample: Sample) -> str:
        """Return what JSON is expected."""
        if self.schema is None:
            return "JSON"
        return f"JSON that meets {self.schema}"


def _problem(value: Any, validator: Any) -> str | None:
    """Return where a value does not meet a schema; None if it does.

    Raises:
        ScorerError: The schema refers to a part of itself that is not there.
    """
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(validator.iter_errors(value))
    except RecursionError:
        return "nested too deeply for the schema"
    except Unresolvable as e:
        raise ScorerError(f"the schema has no {one_line(e.ref, 80)!r}, to which it refers") from None
    if error is None:
        return None
    return f"{error.json_path}: {one_line(error.message, 150)}"
