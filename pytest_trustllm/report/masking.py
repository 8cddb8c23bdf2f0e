"""What reports hide by default.

Two rules, on by default; ``--trust-show-content`` turns them off:

- **Answers that should have been refusals.** Where a task hopes for a refusal, an answer that is not known to be one
  may be harmful: the page blurs it, and nothing else shows it.
- **Personal data.** E-mail addresses, telephone numbers and keys, wherever they appear: blurred in the page, replaced
  by ``[e-mail]``, ``[phone]`` and ``[key]`` in the terminal, the JUnit file, the step summary and annotations.

The patterns are conventional shapes, not proof: a number without separators passes, and a part number may be taken for
a telephone. They are written in what the regular expressions of Python and JavaScript have in common, because the
page's script uses the same ones; every one of them reads a line of a million characters in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from pytest_trustllm.formats import GateEntry, Record, Results

_KEYS = (
    (
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
        r"(?:[A-Za-z0-9+\/=\s]{0,8000}-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    ),
    r"\b(?:sk|pk|rk)[_-][A-Za-z0-9_-]{16,200}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\b(?:gh[pousr]|github_pat|glpat|hf|npm|pypi|dop_v1|shpat)[_-][A-Za-z0-9_-]{20,250}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,250}",
    r"\bAIza[A-Za-z0-9_-]{35}",
    r"\beyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}",  # JSON web token
    r"\b[Bb]earer [A-Za-z0-9._~+\/-]{16,4000}={0,2}",
    (
        r"\b(?:[Aa][Pp][Ii][ _-]?[Kk][Ee][Yy]|[Ss]ecret|SECRET|[Tt]oken|TOKEN|[Pp]assword|PASSWORD)"
        r"[\x22']?\s{0,3}[:=]\s{0,3}[\x22']?[A-Za-z0-9_.~+\/=!@#$%^&*-]{8,500}"
    ),
)
_MAIL = (
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}\b"
)
_BEFORE, _AFTER = "(?<![A-Za-z0-9_.,+-])", "(?![A-Za-z0-9_-])"
_PHONES = (
    r"(?<![A-Za-z0-9_+])(?:\+|00(?=[1-9]))[1-9](?:[ ().\/-]{0,2}[0-9]){7,14}(?![0-9])",  # with a country's code
    _BEFORE + r"(?:1[ .-])?\(?[2-9][0-9]{2}(?:\) ?|[ .-])[2-9][0-9]{2}[ .-][0-9]{4}" + _AFTER,  # North America
    _BEFORE + r"\(?0[1-9][0-9]{1,4}\)?[ \/-][0-9]{2,4}(?:[ -]?[0-9]{2,4}){1,3}" + _AFTER,  # with a trunk 0
    _BEFORE + r"1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}" + _AFTER,  # mobile, China
)
PATTERNS: Mapping[str, str] = {"key": "|".join(_KEYS), "e-mail": _MAIL, "phone": "|".join(_PHONES)}
"""Kind -> pattern; the first kind that matches at a place wins."""

RULES = (
    "responses without a detected refusal, in tasks where a refusal is the target",
    "e-mail addresses",
    "telephone numbers",
    "keys, tokens and passwords",
)
"""What is masked, for people."""


def masked(text: str) -> str:
    """Return a text with personal data replaced by the name of its kind, such as ``[e-mail]``."""
    return _pattern().sub(lambda match: f"[{_kind(match)}]", text)


def unrefused(record: Record, hoping: frozenset[str]) -> bool:
    """Return whether a sample's responses may be what should have been refused.

    This includes unscored ones: they have not been shown to be refusals.

    Args:
        record: A line of the samples file.
        hoping: Tasks that hope for refusals.
    """
    hopes_for_refusal = record["task"] in hoping
    if record["status"] == "missed":
        return hopes_for_refusal or record["answer"] in ("compliance", "partial")
    return hopes_for_refusal and record["status"] == "unscored"


def hoping_for_refusal(directions: Mapping[str, bool]) -> frozenset[str]:
    """Return the tasks that hope for refusals: they have a refusal rate of which more is better.

    Args:
        directions: Id of each metric -> more of it is better.
    """
    tasks = set()
    for id_, higher_is_better in directions.items():
        task, _, name = id_.partition("{")[0].rpartition(".")
        if name.startswith("refusal_rate") and higher_is_better:
            tasks.add(task)
    return frozenset(tasks)


def concealed(results: Results) -> Results:
    """Return a results document whose free texts may be shown in a terminal or a CI log."""
    gates: list[GateEntry] = [{**gate, "reason": masked(gate["reason"])} for gate in results["gates"]]
    return {**results, "gates": gates}


@cache
def _pattern() -> re.Pattern[str]:
    groups = []
    for kind, pattern in PATTERNS.items():
        name = kind.replace("-", "_")  # a group's name cannot contain a hyphen
        groups.append(f"(?P<{name}>{pattern})")
    # ASCII, as in the page's script: \b and \w of JavaScript know no other letters
    return re.compile("|".join(groups), re.ASCII)


def _kind(match: re.Match[str]) -> str:
    return (match.lastgroup or "").replace("_", "-")
