"""What no file, message or report may show: keys, passwords, tokens, wherever they come from.

Two questions have one answer each for the whole package: whether a value is a secret judging by its name, and how known
secrets are taken out of a text.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit, urlunsplit

SECRET_NAME = re.compile(
    r"key|token$|secret|passw|pwd|auth|credential|signature|^-*sig$|^-*code$|session|cookie|bearer|dsn$",
    re.IGNORECASE,
)
"""Names of headers, parameters, options, variables and fields whose value may be a secret."""
_SECRET_OPTION = re.compile(
    rf"{SECRET_NAME.pattern}|pass$|passphrase|^-*(?:api|access|auth)?[-_]?tokens$|\bpw$|\bpat$|jwt|creds?$|login$|\botp$|web-?hook",
    re.IGNORECASE,
)
"""Names on a command line, where any other plugin's option may stand. What is a header or a parameter is judged by
``SECRET_NAME`` alone, because those that are no secrets are a part of the key of stored answers."""
MASK = "***"
_SHORTEST = 4
"""Characters of a secret; a shorter one would blank out ordinary letters all over a text."""
_LONGEST_HARMLESS = 11
"""Characters of a query's value beyond which it may be a secret whatever its name."""
_USERINFO = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)[^/?#\s@]+@")
_API_KEY = re.compile(
    r"\b(?:(?:sk|bce-v3|AIza)[-_/A-Za-z0-9*.]{6,}|(?:gh[opsu]_|github_pat_|glpat-|xox[abprs]-|hf_)[-_A-Za-z0-9]{12,}"
    r"|AKIA[A-Z0-9]{12,}|eyJ[-_A-Za-z0-9]{10,}\.[-_A-Za-z0-9.]+|hooks\.slack\.com/services/\S+)"
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE)
_NAME = re.compile(r"-*[\w.-]+")
_PAIR = re.compile(r"([A-Za-z][\w.-]*)(\"?'?(?:\s*=|:\s|[\"']\s*:)\s*[\"']?)([^\s\"',;&}]+)")
"""A name and a value inside an argument, such as ``password=x`` or ``"password": "x"``; no node id (``a.py::b``)."""


class Scrubber:
    """Takes known secrets out of texts, in whatever form a server or a library repeats them.

    Args:
        secrets: What nobody may see.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                forms.update(_forms(secret))
        # The longest first: one secret may be a part of another one
        self._forms = sorted(forms, key=len, reverse=True)
        self._certain = [form for form in self._forms if _is_unlikely_text(form)]

    def __call__(self, text: str) -> str:
        """Return a message without the secrets and without what has the shape of an API key."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return _API_KEY.sub(MASK, text)

    def content(self, text: str) -> str:
        """Return a text that counts, such as a reply of a model, without those secrets that no text has by chance.

        The key of a local server may be a word such as 'none', which an answer may contain.
        """
        for form in self._certain:
            if form in text:
                text = text.replace(form, MASK)
        return text


def _forms(secret: str) -> Iterator[str]:
    """Yield how a secret may be written in a text."""
    plain = unquote(secret)
    for text in {secret, plain}:
        yield text
        yield quote(text, safe="")
        yield quote(text)
        yield quote_plus(text)
        yield json.dumps(text)[1:-1]
        yield repr(text)[1:-1]
        yield base64.b64encode(text.encode("utf-8", "replace")).decode().rstrip("=")


def _is_unlikely_text(form: str) -> bool:
    """Return whether no ordinary text contains this."""
    return len(form) > _LONGEST_HARMLESS and any(c.isdigit() for c in form) and any(c.isalpha() for c in form)


def of_url(url: str) -> list[str]:
    """Return the secrets in an address: user, password, and values of its query that may be some."""
    parts = urlsplit(url)
    secrets = [parts.username or "", parts.password or ""]
    if parts.username and parts.password:
        # As sent in the header of basic authentication
        pair = f"{unquote(parts.username)}:{unquote(parts.password)}"
        secrets.append(base64.b64encode(pair.encode()).decode())
    for name, value in parse_qsl(parts.query):
        if SECRET_NAME.search(name) or len(value) > _LONGEST_HARMLESS:
            secrets.append(value)
    return [secret for secret in secrets if secret]


def public_url(url: str) -> str:
    """Return an address without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def named_secret(text: str) -> str | None:
    """Return the name under which a text holds a secret, such as ``key`` in ``m?key=1``; None if it holds none.

    A user and password before ``@`` have the name ``password``.
    """
    if _USERINFO.search(text):
        return "password"
    for name, value in re.findall(r"[?&;,]([^?&;,=\s]+)=([^?&;,\s]*)", text):
        if value and SECRET_NAME.search(name):
            return str(name)
    return None


def shown_command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command as they may be recorded.

    ``***`` is in place of what follows an option, or a setting such as ``-o name=value``, whose name is that of a
    secret; of user and password in addresses; of secret values in their queries; and of the values of secrets in the
    environment.
    """
    scrub = Scrubber(environment_secrets())
    shown: list[str] = []
    follows_secret = False
    for argument in arguments:
        is_option = argument.startswith("-")
        name, equals, _ = argument.partition("=")
        if is_option:
            follows_secret = not equals and _SECRET_OPTION.search(argument) is not None
        # An option may take several values; what a test is called is none
        if follows_secret and not is_option and not os.path.lexists(argument.partition("::")[0]):
            shown.append(MASK)
        elif equals and _NAME.fullmatch(name) and _SECRET_OPTION.search(name):
            shown.append(f"{name}={MASK}")
        else:
            shown.append(scrub(_without_pairs(without_url_secrets(argument))))
    return shown


def _without_pairs(argument: str) -> str:
    def masked(match: re.Match[str]) -> str:
        name, between, _ = match.groups()
        return f"{name}{between}{MASK}" if _SECRET_OPTION.search(name) else match[0]

    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    # Bearer first: 'Authorization: Bearer x' would lose that word alone
    value = _PAIR.sub(masked, _BEARER.sub(rf"\1 {MASK}", value))
    return f"{option}{equals}{value}"


def without_url_secrets(text: str) -> str:
    """Return a text with ``***`` in place of users, passwords and secret parameters of the addresses in it."""
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    return re.sub(r"([?&;,])([^?&;,=\s]+)=([^?&;,\s]+)", _masked_parameter, text)


def _masked_parameter(match: re.Match[str]) -> str:
    separator, name, _ = match.groups()
    return f"{separator}{name}={MASK}" if SECRET_NAME.search(name) else match[0]


def environment_secrets() -> list[str]:
    """Return the values of secrets in the environment that no option has by chance."""
    values = [value.strip() for name, value in os.environ.items() if SECRET_NAME.search(name)]
    return [value for value in values if _is_unlikely_text(value)]


def without_secrets(value: Any, name: str = "") -> Any:
    """Return JSON with ``***`` in place of texts whose key is the name of a secret."""
    if isinstance(value, Mapping):
        return {key: without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner, name) for inner in value]
    if isinstance(value, str) and SECRET_NAME.search(name):
        return MASK
    return value
