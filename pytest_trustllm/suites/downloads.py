"""Downloads over HTTP that go on where they were interrupted."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from pytest_trustllm.config.reading import descriptor_of
from pytest_trustllm.errors import one_line

MOST_TRIES = 3
"""In a row that bring no further byte."""
PATIENCE = 60.0
"""Seconds until a download must be faster than ``LEAST_PACE``."""
LEAST_PACE = 10_000
"""Bytes per second on average; what a server sends byte by byte never ends."""

_HEADERS = {"User-Agent": "pytest-trustllm", "Accept-Encoding": "identity"}  # the announced size is that of the file
_PIECE = 1 << 16
_PASSING = frozenset({429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-")


class Undelivered(Exception):
    """A file did not arrive; the message says why in a few words."""


class _Unusable(Undelivered):
    """What arrived cannot be continued."""


class _Interrupted(Exception):
    """The connection ended early, or the server is busy: to try again may help."""


def download(url: str, most: int, timeout: float, part: Path) -> bytes:
    """Return the bytes of a file; urllib takes proxies from the environment.

    Args:
        url: Of http or https.
        most: Greatest number of bytes that is accepted.
        timeout: Seconds without a byte after which the download is given up.
        part: Keeps what arrived of a download that was interrupted, for the next one.

    Raises:
        Undelivered: The bytes did not arrive, or are too many.
    """
    received = _kept(part)
    try:
        _receive_all(url, received, most, timeout)
    except _Unusable:
        _forget(part)
        raise
    except BaseException:  # Ctrl-C too
        _keep(part, received)
        raise
    _forget(part)
    return bytes(received)


def _receive_all(url: str, received: bytearray, most: int, timeout: float) -> None:
    began, tries = time.monotonic(), 0
    while True:
        before = len(received)
        try:
            _receive(url, received, most, timeout, began)
            return
        except _Interrupted as e:
            tries = tries + 1 if len(received) == before else 1
            if tries == MOST_TRIES:
                raise Undelivered(str(e)) from None
            time.sleep(0.2 * 2**tries)


def _receive(url: str, received: bytearray, most: int, timeout: float, began: float) -> None:
    """Append the rest of a file to what was received.

    Raises:
        _Interrupted: Not all of it came.
        Undelivered: It never will.
    """
    ranged = {"Range": f"bytes={len(received)}-"} if received else {}
    request = urllib.request.Request(url, headers={**_HEADERS, **ranged})  # noqa: S310 - callers accept http(s) only
    try:
        # A new opener: that of urlopen keeps the proxies of its first call.
        with urllib.request.build_opener().open(request, timeout=timeout) as response:
            _check_begins(response, received)
            announced = response.length
            start = len(received)
            if announced is not None and start + announced > most:
                raise _Unusable(f"the file there has {start + announced} bytes; expected at most {most}")
            while len(received) <= most and (piece := response.read1(_PIECE)):
                received += piece
                _check_pace(len(received) - start, time.monotonic() - began)
    except urllib.error.HTTPError as e:
        if e.code in _PASSING:
            raise _Interrupted(_problem(e, timeout)) from None
        raise Undelivered(_problem(e, timeout)) from None
    except (http.client.IncompleteRead, ConnectionError) as e:
        raise _Interrupted(_problem(e, timeout)) from None
    except (http.client.HTTPException, OSError, ValueError) as e:  # ValueError: a redirect to an invalid address
        raise Undelivered(_problem(e, timeout)) from None
    if len(received) > most:
        raise _Unusable(f"more than {most} bytes")
    if announced is not None and len(received) - start < announced:
        raise _Interrupted(f"the connection ended after {len(received)} of {start + announced} bytes")


def _check_begins(response: http.client.HTTPResponse, received: bytearray) -> None:
    """Check that a response continues what was received; one that begins anew replaces it."""
    if response.status != 206:
        received.clear()
        return
    begins = _RANGE.match(response.headers.get("Content-Range", ""))
    if begins is None or int(begins[1]) != len(received):
        raise _Unusable("the server sent another part of the file than was asked for")


def _check_pace(arrived: int, seconds: float) -> None:
    if seconds > PATIENCE and arrived < LEAST_PACE * seconds:
        raise Undelivered(f"{arrived} bytes in {seconds:.0f} s; expected {LEAST_PACE // 1000} kB per second")


def part_of(target: Path) -> Path:
    """Return where what arrived of a file is kept."""
    return target.with_name(f"{target.name}.part")


def _kept(part: Path) -> bytearray:
    with contextlib.suppress(OSError):  # there is none, or it is a link or no file
        descriptor = descriptor_of(part, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            return bytearray(file.read())
    return bytearray()


def _keep(part: Path, received: bytearray) -> None:
    _forget(part)
    if received:
        with contextlib.suppress(OSError):
            part.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(descriptor_of(part, flags), "wb") as file:
                file.write(received)


def _forget(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink()


def _problem(error: Exception, timeout: float) -> str:
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
