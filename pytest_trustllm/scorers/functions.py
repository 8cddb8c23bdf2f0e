"""A function of the project's own as a scorer."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Text
from pytest_trustllm.config.parameters import shaped
from pytest_trustllm.errors import TrustLLMError, WrongReturn, describe_exception, place_of
from pytest_trustllm.types import Response, Role, Sample, Score

Check = Callable[[Sample, Response], bool | float | Score]


@cache
def function_at(target: str) -> Check:
    """Import a function that scores.

    Args:
        target: As for :func:`imported`.

    Raises:
        TrustLLMError: It cannot be imported, or cannot be called with a sample and a response.
    """
    check: Check = imported(target)
    _check_signature(check, target)
    return check


def imported(target: str) -> Any:
    """Import an object of the project's, with the current directory on the import path.

    Args:
        target: ``module:function``; the function may be an attribute of something, ``module:Class.method``.

    Raises:
        TrustLLMError: It cannot be imported.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise TrustLLMError(f"{target!r} is not a function; write 'module:function'")
    directory = str(Path.cwd())
    if directory not in sys.path:  # as for a model that is a function: pytest itself does not always add it
        sys.path.insert(0, directory)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        raise TrustLLMError(f"{target!r} cannot be imported: {e} in {directory} or on Python's path") from None
    except (Exception, SystemExit) as e:  # noqa: BLE001 - a user's module may raise anything when it is imported
        raise TrustLLMError(f"{target!r} cannot be imported: {describe_exception(e)}") from None
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise TrustLLMError(f"module {module_name!r} has no {name!r}") from None
    return found


def _check_signature(found: Any, target: str) -> None:
    if not callable(found):
        raise TrustLLMError(f"{target!r} is {type(found).__name__}, which cannot be called")
    if inspect.iscoroutinefunction(found):
        raise TrustLLMError(f"{target!r} is async; a scorer's function is a plain one")
    try:
        inspect.signature(found).bind(None, None)
    except TypeError:
        raise TrustLLMError(f"{target!r} cannot be called with two arguments, sample and response") from None
    except ValueError:  # a function in C does not tell
        return


@dataclass(frozen=True, slots=True)
class _FunctionShape:
    """``module:function``, which can be imported."""

    def __call__(self, place: Place) -> str:
        target = place.text()
        try:
            function_at(target)
        except TrustLLMError as e:
            raise place.fail(str(e)) from None
        return target

    def schema(self) -> dict[str, Any]:
        return {**Text().schema(), "pattern": "^[^:]+:[^:]+$"}


@dataclass(frozen=True, slots=True)
class FunctionScore:
    """What a function of the project's own makes of the response.

    The function gets the sample and the response. True or false is 1 or 0; a number is the score, and from ``met_at``
    on the target is met; a ``Score`` is taken as it is. An exception fails the item with its place in the code.

    Attributes:
        function: ``module:function``.
        met_at: Score from which the target is met.
    """

    function: str = field(metadata=shaped(lambda _: _FunctionShape()))
    met_at: float = 1.0
    roles: ClassVar[tuple[Role, ...]] = ()
    main: ClassVar[str] = "function"

    @property
    def code(self) -> Check:
        """The function, whose code is a part of the task's definition."""
        return function_at(self.function)

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
        """Call it; a missing response is its business, too."""
        function = function_at(self.function)
        result: object = function(sample, replies[0])
        if isinstance(result, Score):
            return result
        if isinstance(result, bool):
            return Score(float(result), result)
        if isinstance(result, int | float) and math.isfinite(result):
            return Score(float(result), float(result) >= self.met_at, f"{result:g}")
        found = repr(result) if isinstance(result, float) else type(result).__name__
        raise WrongReturn(
            f"{self.function} returned {found}, expected true or false, a number or a Score", place_of(function)
        )
