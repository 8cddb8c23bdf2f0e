"""Downloads over HTTP."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from pytest_trustllm.errors import SuiteError, one_line

HEADERS = {"User-Agent": "pytest-trustllm", "Accept-Encoding": "identity"}
"""Compressed on the way, the announced size would be another one."""


def download(url: str, most: int, timeout: float) -> bytes:
    """Return the bytes of a file; urllib takes proxies from the environment.

    Args:
        url: Of http or https.
        most: Greatest number of bytes that is accepted.
        timeout: Seconds without a byte after which the download is given up.

    Raises:
        SuiteError: They did not arrive, or are too many.
    """
    request = urllib.request.Request(url, headers=HEADERS)  # noqa: S310 - http and https only, the suite was checked
    shown = one_line(urlsplit(url)._replace(query="", fragment="").geturl())  # the query may contain a secret
    try:
        # A new opener: that of urlopen keeps the proxies of its first call.
        with urllib.request.build_opener().open(request, timeout=timeout) as response:
            data: bytes = response.read(most + 1)
    except (http.client.HTTPException, OSError, ValueError) as e:
        raise SuiteError(f"data fetch: {shown}: {network_problem(e, timeout)}") from None
    if len(data) > most:
        raise SuiteError(f"data fetch: {shown}: more than {most} bytes")
    return data


def network_problem(error: Exception, timeout: float) -> str:
    """Return in a few words why a request failed."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP {error.code} {one_line(error.reason, 60)}"
    if isinstance(error, urllib.error.URLError):
        reason = error.reason
        if isinstance(reason, OSError):
            reason = reason.strerror or reason
        return f"no connection: {one_line(reason, 120)}"
    if isinstance(error, TimeoutError):
        return f"no byte for {timeout:g} s"
    return one_line(f"{type(error).__name__}: {error}", 120)
