"""A time limit for templates: they are code of whoever wrote the suite, or of whoever published the model."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

SECONDS = 5.0
"""How long a template may take to render; ordinary ones take less than a millisecond."""


class _Expired(BaseException):  # not an Exception: no "except Exception" on the way may swallow it
    pass


@contextlib.contextmanager
def time_limit(error: Exception, seconds: float = SECONDS) -> Iterator[None]:
    """Stop Python code in the block that takes too long, in whatever thread it runs.

    An exception is raised in it between two of its instructions; a single one that takes for ever is not stopped.

    Args:
        error: What to raise then.
        seconds: The limit.
    """
    thread = threading.get_ident()
    lock = threading.Lock()
    is_over = False

    def expire() -> None:
        with lock:
            if not is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Expired))

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    try:
        timer.start()
        try:
            yield
        finally:
            with lock:
                is_over = True
            timer.cancel()
    except _Expired:
        raise error from None
