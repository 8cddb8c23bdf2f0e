"""The environment of Jinja2 in which templates of suites and rubrics are rendered.

Templates come from suites, which may be somebody else's; values come from models. Neither may run code here, and
neither may fill the memory: a time limit (:mod:`~pytest_trustllm.config.time_limit`) ends loops, but not a single
operation that makes a text of a billion characters. What can make a long text out of short ones is therefore limited.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

MOST_CHARACTERS = 10_000_000
"""Longest text that a template may make, and most entries of a list."""
_MOST_DIGITS = 4000
"""Of a power: Python writes out no whole number of more than 4,300."""
_UNUSED = ("lipsum", "cycler", "joiner")
"""Globals of Jinja2 that are made for web pages; the first one can write without an end."""
_OF_PERCENT = re.compile(r"%(?:\(\w*\))?[#0\- +]*(\d*)(?:\.(\d*))?")
_OF_FORMAT = re.compile(r"\{[^{}]*:([^{}]*)")
"""Width and precision in a text that is formatted."""
_GIVEN_TO_PERCENT = re.compile(r"%[^a-zA-Z%]*\*")
_GIVEN_TO_FORMAT = re.compile(r"\{[^{}]*\{")
"""A width that is one of the values."""
_WIDENING = frozenset(("center", "ljust", "rjust", "zfill", "to_bytes", "batch", "slice", "wordwrap"))
"""Methods and filters that make a result of the size that they are given."""


def sandbox(**options: Any) -> Any:
    """Return an environment in which templates can reach nothing but their fields, and make no text of any size.

    Args:
        options: Of the environment, besides those that keep it closed.
    """
    from jinja2 import StrictUndefined
    from jinja2.compiler import CodeGenerator
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generator(CodeGenerator):
        def visit_Concat(self, node: Any, frame: Any) -> None:
            self.write("environment.joined((")
            for part in node.nodes:
                self.visit(part, frame)
                self.write(", ")
            self.write("))")

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("**", "*", "+", "%"))
        code_generator_class = Generator
        # of a whole template, a macro, and a block that becomes a variable
        concat = staticmethod(_joined)

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for name in _UNUSED:
                del self.globals[name]
            self.filters = {name: _limited(name, function) for name, function in self.filters.items()}

        @staticmethod
        def joined(values: Iterable[Any]) -> str:
            return _joined(map(str, values))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check(_size_of_operation(operator, left, right), f"the result of {operator}")
            return super().call_binop(context, operator, left, right)

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
            method = getattr(__obj, "__wrapped__", __obj)
            owner = getattr(method, "__self__", None)
            if isinstance(owner, str | bytes | int):
                _check(_size_of_call(method.__name__, owner, args, kwargs), f"the result of {method.__name__}()")
            return super().call(__context, __obj, *args, **kwargs)

    # A prompt is plain text, not HTML: escaping would change what the model reads.
    return Environment(undefined=StrictUndefined, autoescape=False, **options)


def _check(size: float, what: str) -> None:
    """Refuse a result of too many characters.

    Raises:
        SecurityError: Of Jinja2.
    """
    if size > MOST_CHARACTERS:
        from jinja2.exceptions import SecurityError

        raise SecurityError(f"{what} is too large")


def _joined(parts: Iterable[str]) -> str:
    texts: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        _check(size, "the text")
        texts.append(part)
    return "".join(texts)


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that refuses to make too long a text."""
    skipped = int(hasattr(function, "jinja_pass_arg"))  # the context, or the environment, comes before the value

    @functools.wraps(function)  # with Jinja2's own marks
    def limited(*args: Any, **kwargs: Any) -> Any:
        value, given = args[skipped], args[skipped + 1 :]
        if name == "join":
            value, given = kwargs.get("d", given[0] if given else ""), (value,)
        _check(_size_of_call(name, value, given, kwargs), f"the result of the filter {name}")
        return function(*args, **kwargs)

    return limited


def _size_of_operation(operator: str, left: Any, right: Any) -> float:
    """Return about how many characters or entries the result of an operation has; 0: it cannot be large."""
    try:
        if operator == "**":
            digits = float(abs(right)) * math.log10(abs(left) + 1)
            return math.inf if digits > _MOST_DIGITS else digits
        if operator == "%":
            return _size_of_formatted(left) if isinstance(left, str) else 0.0
        if isinstance(left, int | float) and isinstance(right, int | float):
            return 0.0
        if operator == "+":
            return float(len(left) + len(right))
        counts = [part if isinstance(part, int) else len(part) for part in (left, right)]
        return float(counts[0]) * float(counts[1])
    except (TypeError, ValueError, OverflowError):
        return math.inf if operator == "**" else 0.0


def _size_of_formatted(text: str) -> float:
    if _GIVEN_TO_PERCENT.search(text):
        return math.inf
    return max((float(number) for widths in _OF_PERCENT.findall(text) for number in widths if number), default=0.0)


def _size_of_call(name: str, value: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> float:
    """Return about how many characters a method or filter makes; 0: not many more than it is given.

    Args:
        name: Its name.
        value: What it is called on; for ``join`` the text between the parts.
        args: Its arguments.
        kwargs: Its named arguments.
    """
    given = [*args, *kwargs.values()]
    largest = max((float(abs(number)) for number in given if isinstance(number, int)), default=0.0)
    length = len(str(value))
    size = 0.0
    if name in _WIDENING:
        size = largest
    elif name in ("indent", "expandtabs", "tojson"):
        widest = max(largest, *(len(text) for text in given if isinstance(text, str)), 0)
        size = widest * length
    elif name in ("format", "format_map"):
        size = _size_of_fields(str(value), given)
    elif name == "replace" and len(given) > 1:
        size = float(str(value).count(str(given[0])) + 1) * len(str(given[1]))
    elif name == "translate" and given and isinstance(given[0], Mapping):
        size = float(length) * max((len(str(text)) for text in given[0].values()), default=0)
    elif name == "join" and given and isinstance(given[0], Sized):
        size = float(len(given[0])) * length
    return size


def _size_of_fields(text: str, given: Iterable[Any]) -> float:
    widths = [number for spec in _OF_FORMAT.findall(text) for number in re.findall(r"\d+", spec)]
    if _GIVEN_TO_FORMAT.search(text):
        widths += [number for values in given for value in _each(values) for number in re.findall(r"\d+", str(value))]
    return max(map(float, widths), default=0.0)


def _each(values: Any) -> list[Any]:
    if isinstance(values, Mapping):
        return list(values.values())
    return list(values) if isinstance(values, tuple | list) else [values]
