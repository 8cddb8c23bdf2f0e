"""Keys, addresses and headers from environment variables, where files leave line ends and CI leaves empty values."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

_REFERENCE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([^}]*)\})")


def value(name: str) -> str:
    """Return the value of a variable, stripped of blanks and line ends; empty if it is not set."""
    return os.environ.get(name, "").strip()


def missing(text: str) -> str | None:
    """Return the first variable that a text refers to and that is not set, or empty; None if there is none."""
    for plain, braced in _REFERENCE.findall(text):
        name = plain or braced
        if not value(name):
            return str(name)
    return None


def expanded(text: str) -> str:
    """Return a text with variables replaced by their values."""
    return _REFERENCE.sub(lambda match: value(match[1] or match[2]), text).strip()


def unfit_for_header(text: str) -> str | None:
    """Return what in a text an HTTP header cannot carry, for a message that must not show the text: it is a secret."""
    if re.search(r"[\r\n]", text):
        return "a line end"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        return "a control character"
    if not text.isascii():
        return "a character that is not ASCII"
    return None


def copied_scheme(key: str) -> str | None:
    """Return which word of the header was copied together with a key, as in 'Bearer sk-1', for a message."""
    if re.match(r"bearer\s", key, re.IGNORECASE):
        return "the word 'Bearer', which is added to it"
    return None


def has_completions_path(url: str) -> bool:
    """Return whether an address includes the path of chat completions, which is appended to every address."""
    return urlsplit(url).path.rstrip("/").endswith("/chat/completions")


def is_address(url: str) -> bool:
    """Return whether a text is an http(s) address with a host and without blanks."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return False
    has_blanks = re.search(r"[\s\x00-\x1f\x7f]", url) is not None
    return parts.scheme in ("http", "https") and has_host and not has_blanks
