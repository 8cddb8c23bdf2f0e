"""Every exception that is raised on purpose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrustLLMError(Exception):
    """Base of all errors; the message is one line that says where, what, what is accepted and what to do."""


class SuiteError(TrustLLMError):
    """A suite file, its data or a selection of tasks is not usable."""


class GateError(TrustLLMError):
    """A threshold file is not usable."""


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
    """The model host ended or does not answer."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?); known: a, b, c"`` for an unknown name, shortened when there are many."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    shown = ", ".join(names[:30]) + (f", ... ({len(names)} in all)" if len(names) > 30 else "")
    return f"{hint}; known: {shown or 'none'}"


def one_line(text: object, limit: int = 300) -> str:
    """Return ``text`` on one printable line of at most ``limit`` characters, safe for a terminal.

    Control characters, line breaks, bidi overrides and lone surrogates come out as escapes.
    """
    flat = "".join(
        ch if ch.isprintable() else ch.encode("unicode_escape").decode("ascii") for ch in str(text)[: limit * 2]
    )
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
