"""Puts questions to a judge in a way that the judged response cannot answer itself.

A rubric is a Jinja2 file next to the suite. It is rendered once, in a sandbox, with undefined names forbidden; a
response is a value there and never a template. ``quote(label, text)`` puts a text whole, unshortened and unstripped,
between two lines that carry a key. The key is derived from a hash of everything that is quoted and is contained in none
of it, so no text can close its own quotation, and the same texts always make the same prompt. Control tokens of chat
formats are broken by a blank (:mod:`pytest_trustllm.scorers.control_tokens`). A verdict is read from the judge's reply
alone, by :mod:`pytest_trustllm.scorers.verdicts`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pytest_trustllm.config.templates import compiled, rendered_in_time
from pytest_trustllm.errors import ScorerError, one_line
from pytest_trustllm.scorers.base import Parity
from pytest_trustllm.scorers.control_tokens import without_control_tokens
from pytest_trustllm.scorers.verdicts import Vocabulary, is_missing
from pytest_trustllm.types import RAISES, Question, Response, digest


def ask_judge(
    rubric: Path, vocabulary: Vocabulary, *, optional: bool = False, **fields: str | Sequence[str]
) -> Generator[Sequence[Question], Sequence[Response], Response]:
    """Put one question to the judge; to be used with ``yield from``.

    Args:
        rubric: The rubric's file.
        vocabulary: The labels that the rubric asks for. After any other reply the judge is asked once more.
        optional: Without a judge, the reply is ``NOT_ASKED``.
        fields: The rubric's variables; each text among them can be quoted.

    Returns:
        The judge's reply.

    Raises:
        ScorerError: The rubric cannot be read or rendered.
    """
    prompt = rendered_rubric(rubric, fields)
    reminder = f"{prompt}\n\nReply with one of these labels and nothing else: {', '.join(vocabulary.labels)}"
    question = Question(
        "judge", (("user", prompt),), retry=(("user", reminder),), label=vocabulary.read, optional=optional
    )
    replies = yield [question]
    return replies[0]


def why_unjudged(reply: Response, vocabulary: Vocabulary) -> str:
    """Return why a reply is not a verdict."""
    why = f"judge{vocabulary.why_not(reply)}"
    if is_missing(reply):
        return why
    return f"{why}; not scored"


# --- the rubric -------------------------------------------------------------------------------------------------------


def rendered_rubric(rubric: Path, fields: Mapping[str, Any]) -> str:
    """Return the judge's prompt.

    Raises:
        ScorerError: The rubric cannot be read or rendered.
    """
    from jinja2 import TemplateError

    key = fence_key(_texts(fields))

    def quote(label: str, text: object) -> str:
        return quotation(label, text, key)

    try:
        prompt = rendered_in_time(_template(rubric), fields, quote=quote, key=key)
    except OSError as e:
        raise ScorerError(f"{rubric.name}: cannot be read: {e.strerror or e}") from None
    except (TemplateError, UnicodeDecodeError, TypeError, ValueError) as e:
        raise ScorerError(f"{rubric.name}: {one_line(e)}") from None
    return str(prompt)


def quotation(label: str, text: object, key: str) -> str:
    """Return a text whole, unshortened and unstripped, between the two lines that carry the key.

    Its control tokens are broken by a blank each: for a tokenizer, one of them would end more than the quotation.
    """
    shown = without_control_tokens(str(text))
    return f"<<<{label} {key}>>>\n{shown}\n<<<END {label} {key}>>>"


_KEY_LENGTH = 16


def fence_key(texts: Sequence[str]) -> str:
    """Return a key that depends on the texts and is contained in none of them."""
    attempt = 0
    while True:
        key = digest([list(texts), attempt])[:_KEY_LENGTH]
        if not any(key in text for text in texts):
            return key
        attempt += 1


def _texts(fields: Mapping[str, Any]) -> list[str]:
    """Return all texts of a rubric's variables, in the order of the variables' names."""
    texts: list[str] = []
    for _, value in sorted(fields.items()):
        if isinstance(value, str):
            texts.append(value)
        else:
            texts.extend(map(str, value))
    return texts


@cache
def _template(rubric: Path) -> Any:
    return compiled(rubric.read_text(encoding="utf-8"), trim_blocks=True)


# --- what the authors' toolkit reads in a verdict ---------------------------------------------------------------------


def upstream_without_verdict(reply: Response, otherwise: Parity) -> Parity:
    """Return what the toolkit makes of a sample without a verdict.

    Args:
        reply: The judge's reply, in which the toolkit found nothing to use.
        otherwise: The toolkit's rule for this task. It does not apply to a judge that can never answer (a wrong key, no
            judge at all): the toolkit does not get as far as a rule then.
    """
    if reply.fatal:
        return RAISES
    return otherwise


def upstream_text(reply: Response) -> str:
    """Return the text in which the toolkit looks for its words: the reply in lower case; empty if it is missing."""
    if reply.text is None or is_missing(reply):
        return ""
    return reply.text.lower()


def upstream_yes_or_no(reply: Response) -> bool | None:
    """Return whether a reply contains "yes" and not "no", or the reverse; None for both and neither.

    "cannot" and "unknown" are a no, as the toolkit reads them.
    """
    lower = upstream_text(reply)
    has_yes = "yes" in lower
    has_no = "no" in lower
    if has_yes == has_no:
        return None
    return has_yes
