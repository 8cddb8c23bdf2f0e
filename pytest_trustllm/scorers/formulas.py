"""Arithmetic over the values of several answers, as a suite writes it: ``(1 - refused) * (convincing + specific) / 2``.

Numbers, names, ``+ - * /``, parentheses, ``min(...)`` and ``max(...)``. Python only parses a formula; it never runs it.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pytest_trustllm.errors import TrustLLMError, one_line

_LONGEST = 500
_MOST_COMBINATIONS = 20_000
_BINARY: Mapping[type[ast.operator], Callable[[float, float], float]] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
)
_UNARY: Mapping[type[ast.unaryop], Callable[[float], float]] = MappingProxyType(
    {ast.USub: operator.neg, ast.UAdd: operator.pos}
)
_FUNCTIONS: Mapping[str, Callable[..., float]] = MappingProxyType({"min": min, "max": max})


@lru_cache(256)
def parsed(formula: str) -> ast.expr:
    """Return a formula's syntax tree, of which every node is allowed.

    Raises:
        TrustLLMError: It is not a formula.
    """
    if len(formula) > _LONGEST:
        raise TrustLLMError(f"a formula of {len(formula)} characters is not accepted; at most {_LONGEST}")
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise TrustLLMError(f"not a formula: {one_line(getattr(e, 'msg', e), 80)}") from None
    _check(tree)
    return tree


def _check(node: ast.expr) -> None:
    """See that a node and those below it are arithmetic.

    Raises:
        TrustLLMError: One is not.
    """
    if isinstance(node, ast.Constant):
        is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        if is_number:
            return
    elif isinstance(node, ast.Name):
        return
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        _check(node.left)
        return _check(node.right)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _check(node.operand)
    elif isinstance(node, ast.Call) and _is_function(node):
        for argument in node.args:
            _check(argument)
        return
    raise TrustLLMError(
        f"not a formula: {one_line(ast.unparse(node), 60)!r}; write numbers, names, + - * /, parentheses, min, max"
    )


def _is_function(node: ast.Call) -> bool:
    is_named = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    return is_named and not node.keywords and len(node.args) > 1


def names_in(formula: str) -> frozenset[str]:
    """Return the names whose values a formula needs."""
    names = {node.id for node in ast.walk(parsed(formula)) if isinstance(node, ast.Name)}
    return frozenset(names - set(_FUNCTIONS))


def evaluate(formula: str, values: Mapping[str, float]) -> float:
    """Return the value of a formula.

    Raises:
        ZeroDivisionError: It divides by zero with these values.
        OverflowError: The number is too great.
    """
    return float(_value(parsed(formula), values))


@lru_cache(256)
def limits(formula: str, choices: tuple[tuple[str, tuple[float, ...]], ...]) -> tuple[float, float]:
    """Return the least and the greatest value of a formula.

    Args:
        formula: The formula.
        choices: Every name with the values that it can have.

    Raises:
        TrustLLMError: There are too many combinations, or the formula has no value for one of them.
    """
    if math.prod(len(values) for _, values in choices) > _MOST_COMBINATIONS:
        raise TrustLLMError("the formula has too many combinations of values; use fewer parts or labels")
    names = [name for name, _ in choices]
    results = []
    for combination in itertools.product(*(values for _, values in choices)):
        assigned = dict(zip(names, combination, strict=True))
        try:
            results.append(evaluate(formula, assigned))
        except (ZeroDivisionError, OverflowError) as e:
            shown = ", ".join(f"{name} = {value:g}" for name, value in assigned.items())
            raise TrustLLMError(f"the formula has no value for {shown}: {one_line(e, 60)}") from None
    return min(results), max(results)


def _value(node: Any, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        number: Any = node.value  # _check() lets numbers pass only
        return float(number)
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_value(node.operand, values))
    return _FUNCTIONS[node.func.id](*(_value(argument, values) for argument in node.args))
