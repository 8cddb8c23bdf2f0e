"""Every exception that is raised on purpose."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable

_MOST_NAMES = 30
"""Names that a message lists at most."""
_MOST_CHARACTERS = 2000
"""Of a message; a value that it quotes may be longer than anybody can read."""


class TrustLLMError(Exception):
    """Base of all errors; the message is one line: where, what was found, what is accepted, what to do."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message if len(message) <= _MOST_CHARACTERS else shortened(message, _MOST_CHARACTERS))


class SuiteError(TrustLLMError):
    """A suite file, its data or a selection of tasks cannot be used."""


class GateError(TrustLLMError):
    """A threshold file cannot be used."""


class ModelError(TrustLLMError):
    """A model cannot be found, configured or loaded."""


class GenerationError(TrustLLMError):
    """A model that was loaded could not answer."""


class ScorerError(TrustLLMError):
    """A scorer is unknown, wrongly configured, or broke its own contract."""


class BudgetError(TrustLLMError):
    """A budget cannot be read."""


class ResultsError(TrustLLMError):
    """A results file cannot be read or written."""


class HostError(TrustLLMError):
    """The model host ended or does not respond."""


class WrongReturn(TypeError):
    """A function of the project returned something of no use.

    Args:
        message: What it returned, and what is expected.
        place: File, line and name of the function: no frame of the traceback is in its code any more.
    """

    def __init__(self, message: str, place: str | None) -> None:
        super().__init__(message)
        self.place = place


_RUNNER_COMMAND = re.compile(r"##(?=vso\[|\[)")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?); known: a, b, c"`` for an unknown name, shortened when there are many."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    shown = ", ".join(names[:_MOST_NAMES]) or "none"
    if len(names) > _MOST_NAMES:
        shown += f", ... ({len(names)} in all)"
    return f"{hint}; known: {shown}"


def one_line(text: object, limit: int = 300) -> str:
    """Return ``text`` on one printable line of at most ``limit`` characters, safe for a terminal.

    Control characters, line breaks, bidi overrides and lone surrogates become escapes. What runners of GitHub and Azure
    take for a command anywhere in a line, ``##[error]`` and ``##vso[...]``, is broken up.
    """
    # Twice the limit is enough to see that something is cut, and keeps a text of megabytes from being walked through.
    flat = "".join(map(_printable, str(text)[: limit * 2]))
    if "##" in flat:
        flat = _RUNNER_COMMAND.sub("# #", flat)
    if len(flat) <= limit:
        return flat
    return flat[: limit - 1] + "…"


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def shortened(text: object, limit: int = 300) -> str:
    """Return ``text`` as ``one_line`` does, but cut in the middle if it is too long: the point may be at its end."""
    whole = str(text)
    is_long = len(whole) > 2 * limit
    if is_long:
        whole = whole[:limit] + whole[-limit:]
    flat = one_line(whole, 24 * limit)  # room for an escape of ten characters in place of every one
    if len(flat) <= limit and not is_long:
        return flat
    end = (limit - 1) // 2
    start = limit - 1 - end
    return f"{flat[:start]}…{flat[-end:]}"


def describe_exception(error: BaseException) -> str:
    """Return what somebody else's code raised, and where in that code, on one line.

    The place is the last one that is neither in an installed package nor in Python itself: that is what its author
    can change.
    """
    if isinstance(error, WrongReturn):
        return one_line(error) if error.place is None else f"{one_line(error)} ({error.place})"
    description = f"{type(error).__name__}: {one_line(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return description
    own_frames = [frame for frame in frames if not _is_installed(frame.filename)]
    frame = (own_frames or frames)[-1]
    return f"{description} ({_place(frame.filename, frame.lineno, frame.name)})"


def place_of(function: object) -> str | None:
    """Return where a function of the project is written; None if it has no code of its own."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    if code is None:
        code = getattr(type(function).__dict__.get("__call__"), "__code__", None)  # an object that can be called
    return None if code is None else _place(code.co_filename, code.co_firstlineno, code.co_name)


def _place(file: str, line: int | None, name: str) -> str:
    return f"{one_line(_relative(file))}:{line}, in {one_line(name, 80)}"


def _is_installed(file: str) -> bool:
    """Return whether a file of code is this package's, that of an installed package or Python's."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - no heavy import in every pytest run
    python = sysconfig.get_paths()
    # "<": code without a file, such as <string> or <frozen importlib>
    return file.startswith((here, python["stdlib"], python["purelib"], python["platlib"], "<"))


def _relative(file: str) -> str:
    """Return a file's name relative to the current directory if it is below."""
    here = os.getcwd() + os.sep  # noqa: PTH109
    return file.removeprefix(here)
