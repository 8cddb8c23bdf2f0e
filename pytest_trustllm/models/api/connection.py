"""The address, key and extra headers of an OpenAI-compatible API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models import environment
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.options import HEADER_NAME

DEFAULT_URL = "https://api.openai.com/v1"
CONCURRENCY = 32
TIMEOUT = 120.0
_DEFAULT_KEY = "OPENAI_API_KEY"
_ACCOUNT_HEADERS = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a model, as one client sees it.

    Attributes:
        url: The API's address, which may have a query.
        key: The API key.
        direct: The proxies of the environment are not for it: it runs on this machine.
        transport: Sends HTTP requests to it; None: over the network.
    """

    url: str
    key: str = field(repr=False)
    direct: bool = False
    transport: Any = field(default=None, repr=False)


def servers_of(spec: ModelSpec) -> tuple[Server, ...]:
    """Return the servers of a model: for each address with the one key, for the one address with each key, or in pairs.

    Raises:
        ModelError: An address or a key is missing or wrong, or their numbers do not match.
    """
    urls = base_urls(spec)
    keys = keys_of(spec, urlsplit(urls[0]).hostname or "")
    if len(keys) == 1:
        keys *= len(urls)
    elif len(urls) == 1:
        urls *= len(keys)
    if len(urls) != len(keys):
        raise ModelError(
            f"models: {spec.name!r}: {len(keys)} keys in {_key_variable(spec)} for {len(urls)} addresses; "
            f"give one key, or one for each address in the same order"
        )
    return tuple(Server(url, key) for url, key in zip(urls, keys, strict=True))


def base_urls(spec: ModelSpec) -> tuple[str, ...]:
    """Return the addresses.

    They come from the variable that the entry names under ``base_url_env``; else from the entry's ``base_urls`` or
    ``base_url``; else from OPENAI_BASE_URL; else the address is OpenAI's. A variable may hold several, separated by
    commas.

    Raises:
        ModelError: The variable is not set, a value is not an address, or an address is given twice.
    """
    if spec.options.get("base_url") and spec.options.get("base_urls"):
        raise ModelError(f"models: {spec.name!r} has both base_url and base_urls; keep one of them")
    variable = spec.options.get("base_url_env")
    if variable:
        text = environment.value(variable)
        if not text:
            raise ModelError(
                f"models: {spec.name!r} needs its server's address; set the environment variable {variable}"
            )
        urls = _listed(text)
    elif spec.options.get("base_urls"):
        variable = "base_urls"
        urls = tuple(spec.options["base_urls"])
    elif spec.options.get("base_url"):
        variable = "base_url"
        urls = (str(spec.options["base_url"]),)
    else:
        variable = "OPENAI_BASE_URL"
        urls = _listed(environment.value(variable)) or (DEFAULT_URL,)
    for url in urls:
        if not environment.is_address(url):
            raise ModelError(
                f"models: {spec.name!r}: {variable} is not an address that begins with http:// or https://"
            )
        if "@" in urlsplit(url).netloc:
            raise ModelError(
                f"models: {spec.name!r}: {variable} holds a user or a password, which cannot be sent together with a "
                f"key; put the key into {_key_variable(spec)} and leave them out"
            )
        if environment.has_completions_path(url):
            raise ModelError(f"models: {spec.name!r}: /chat/completions is appended to {variable}; leave it out there")
        if urls.count(url) > 1:
            raise ModelError(f"models: {spec.name!r}: {variable} holds the same address twice; give each once")
    return urls


def _listed(text: str) -> tuple[str, ...]:
    """Return the values that a variable holds, separated by commas."""
    values = (value.strip() for value in text.split(","))
    return tuple(value for value in values if value)


def _key_variable(spec: ModelSpec) -> str:
    return str(spec.options.get("api_key_env", _DEFAULT_KEY))


def keys_of(spec: ModelSpec, host: str) -> tuple[str, ...]:
    """Return the API keys; the variable may hold several, separated by commas.

    Args:
        spec: The model.
        host: The server that gets them, for the message.

    Raises:
        ModelError: The variable is not set, or an HTTP header cannot carry its value.
    """
    variable = _key_variable(spec)
    keys = _listed(environment.value(variable))
    if not keys:
        hint = f" (if the server at {host} requires no key, any text will do)"
        if host.endswith("openai.com"):
            hint = ""
        raise ModelError(f"models: {spec.name!r} needs an API key; set the environment variable {variable}{hint}")
    for key in keys:
        problem = environment.unfit_for_header(key) or environment.copied_scheme(key)
        if problem is not None:
            raise ModelError(f"models: {spec.name!r}: the API key in {variable} holds {problem}; set it again")
    return keys


def headers_of(spec: ModelSpec) -> dict[str, str]:
    """Return the extra headers, with the values of variables in place of their names.

    Raises:
        ModelError: A variable is not set, or an HTTP header cannot carry its value.
    """
    headers = {}
    for name, text in header_texts(spec.options).items():
        missing = environment.missing(text)
        if missing is not None:
            raise ModelError(
                f"models: {spec.name!r}: header {name!r} needs the environment variable {missing}, which is not set"
            )
        value = environment.expanded(text)
        problem = environment.unfit_for_header(value)
        if problem is not None:
            raise ModelError(f"models: {spec.name!r}: the value of header {name!r} holds {problem}; correct it")
        headers[name] = value
    return headers


def environment_headers(spec: ModelSpec) -> dict[str, str]:
    """Return the headers that the variables of OpenAI's client name: the account to charge, and any others.

    They are OPENAI_ORG_ID, OPENAI_PROJECT_ID, and OPENAI_CUSTOM_HEADERS with a ``name: value`` on each line. Like the
    key in OPENAI_API_KEY they belong to one account: a model with a key in another variable gets none. A header of the
    entry, in whatever case, comes before them.

    Raises:
        ModelError: A line is not a header, or an HTTP header cannot carry a value.
    """
    if _key_variable(spec) != _DEFAULT_KEY:
        return {}
    found = [(variable, name, environment.value(variable)) for variable, name in _ACCOUNT_HEADERS.items()]
    for i, line in enumerate(environment.value("OPENAI_CUSTOM_HEADERS").split("\n"), start=1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not HEADER_NAME.fullmatch(name.strip()):
            raise ModelError(
                f"models: {spec.name!r}: line {i} of OPENAI_CUSTOM_HEADERS is not a header; write 'name: value'"
            )
        found.append((f"line {i} of OPENAI_CUSTOM_HEADERS", name.strip(), value.strip()))
    for source, _, value in found:
        problem = environment.unfit_for_header(value)
        if problem is not None:
            raise ModelError(f"models: {spec.name!r}: {source} holds {problem}; correct it")
    headers = _merged((name, value) for source, name, value in found if value or source not in _ACCOUNT_HEADERS)
    of_entry = {name.lower() for name in header_texts(spec.options)}
    return {name: value for name, value in headers.items() if name.lower() not in of_entry}


def header_texts(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the extra headers of an entry as written, with variables by their names."""
    return _merged([*options.get("headers", {}).items(), *options.get("extra_headers", {}).items()])


def _merged(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the last value of each header: ``X-A`` and ``x-a`` are one."""
    last = {name.lower(): (name, value) for name, value in headers}
    return dict(last.values())
