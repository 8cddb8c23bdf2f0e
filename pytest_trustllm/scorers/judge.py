"""Asking a judge in a way that the judged response cannot answer itself.

A rubric is a Jinja2 file beside the suite. It is rendered once, in a sandbox, with undefined names forbidden; a
response is a value there and never a template. ``quote(label, text)`` puts a text whole, unshortened and unstripped,
between two lines that carry a key. The key is derived from a hash of everything that is quoted and is contained in none
of it, so no text can close its own quotation, and the same texts always make the same prompt. A verdict is read from
the judge's reply alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ScorerError, one_line
from pytest_trustllm.records import RAISES, Question, Response, digest
from pytest_trustllm.scorers.base import Reading

Verdict = Generator[Sequence[Question], Sequence[Response], Response]


def ask(
    rubric: Path, labels: Sequence[str], readable: Callable[[Response], bool], **fields: str | Sequence[str]
) -> Verdict:
    """Ask the judge one question; to be used with ``yield from``.

    Args:
        rubric: The rubric's file.
        labels: The replies that the rubric asks for.
        readable: Whether a reply can be read; it is asked once more if not.
        fields: The rubric's variables; every text among them can be quoted.

    Returns:
        The judge's reply.

    Raises:
        ScorerError: The rubric cannot be read or rendered.
    """
    prompt = render(rubric, fields)
    reminder = f"{prompt}\n\nReply with one of these labels and nothing else: {', '.join(labels)}"
    replies = yield [Question("judge", (("user", prompt),), accept=readable, retry=(("user", reminder),))]
    return replies[0]


def said(reply: Response) -> str | None:
    """Return the judge's reply, or None if there is none: an error or nothing but blanks."""
    if reply.error is not None or reply.text is None or not reply.text.strip():
        return None
    return reply.text


def unjudged(reply: Response, labels: Sequence[str]) -> str:
    """Return why a reply is no verdict."""
    if said(reply) is None:
        return f"judge: {reply.error or 'empty reply'}"
    return f"judge replied {one_line(reply.text, 60)!r}, expected one of {', '.join(labels)}; not scored"


def upstream_without(reply: Response, otherwise: Reading) -> Reading:
    """Return what the toolkit makes of a sample without a verdict.

    Args:
        reply: The judge's reply, without a usable verdict.
        otherwise: The toolkit's rule for this task. A judge that can never answer is another matter: no rule then.
    """
    return RAISES if reply.fatal else otherwise


def yes_or_no(text: str | None) -> bool | None:
    """Return whether a verdict contains "yes" and not "no", or the reverse; None for both and neither."""
    lower = (text or "").lower()
    yes, no = "yes" in lower, "no" in lower
    return None if yes == no else yes


def render(rubric: Path, fields: Mapping[str, Any]) -> str:
    """Return the judge's prompt.

    Raises:
        ScorerError: The rubric cannot be read or rendered.
    """
    from jinja2 import TemplateError

    key = fence_key(_texts(fields))

    def quote(label: str, text: object) -> str:
        return f"<<<{label} {key}>>>\n{text}\n<<<END {label} {key}>>>"

    try:
        prompt = _template(rubric).render(fields, quote=quote, key=key)
    except OSError as e:
        raise ScorerError(f"{rubric.name}: cannot be read: {e.strerror or e}") from None
    except (TemplateError, UnicodeDecodeError, TypeError, ValueError) as e:
        raise ScorerError(f"{rubric.name}: {one_line(e)}") from None
    return str(prompt)


def fence_key(texts: Sequence[str]) -> str:
    """Return a key that depends on the texts and is contained in none of them."""
    tried = 0
    while any((key := digest([list(texts), tried])[:16]) in text for text in texts):
        tried += 1
    return key


def _texts(fields: Mapping[str, Any]) -> list[str]:
    """Return all texts of a rubric's variables, in the order of their names."""
    found: list[str] = []
    for _, value in sorted(fields.items()):
        found.extend([value] if isinstance(value, str) else map(str, value))
    return found


@cache
def _template(rubric: Path) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # a prompt is plain text, not HTML: escaping would change what the judge reads
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    return environment.from_string(rubric.read_text(encoding="utf-8"))
