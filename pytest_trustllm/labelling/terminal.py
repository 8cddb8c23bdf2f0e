"""Labelling in the terminal: one response after the other, one key for a label."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from pytest_trustllm.errors import one_line
from pytest_trustllm.labelling.session import LabelItem, LabelSession

Say = Callable[[str], None]
_WIDTH = 100
_LONGEST_LINE = 1_000_000
_LABEL_KEYS = "123456789acdefghijklmnop"
"""One per label; without the keys that mean something else."""
_CANNOT_SAY, _BACK, _QUIT = "s", "b", "q"
_ESCAPE = b"\x1b"
_LONGEST_KEY = 32
_END = "\x04"
"""What Ctrl-D sends where keys are read one by one."""


def label_in_terminal(session: LabelSession, say: Say, keyboard: TextIO) -> None:
    """Show every response that has no label yet, until all have one or the person quits.

    Args:
        session: What to label.
        say: Prints a text.
        keyboard: A terminal, or lines of one key each.

    Raises:
        ResultsError: A label cannot be written.
    """
    number = session.next_open()
    previous: list[int] = []
    with _single_keys(keyboard) as read_key:
        while number is not None:
            _show(session, number, say)
            key = _known_key(session, read_key, say)
            if key == _QUIT:
                return
            if key == _BACK:
                number = previous.pop() if previous else number
                continue
            label = None if key == _CANNOT_SAY else session.labels[_LABEL_KEYS.index(key)]
            session.give(number, label)
            previous.append(number)
            number = session.next_open(number)


def _known_key(session: LabelSession, read_key: Callable[[], str], say: Say) -> str:
    """Wait for a key that means something; the end of the input means to quit."""
    known = {*_LABEL_KEYS[: len(session.labels)], _CANNOT_SAY, _BACK, _QUIT}
    while True:
        key = read_key().lower()
        if key in ("", _END):
            return _QUIT
        if key in known:
            return key
        if key.strip():
            say(f"{one_line(key, 10)!r} means nothing here; {_keys(session)}")


def _keys(session: LabelSession) -> str:
    labels = [f"{key}: {one_line(label, 60)}" for key, label in zip(_LABEL_KEYS, session.labels, strict=False)]
    return "   ".join([*labels, f"{_CANNOT_SAY}: cannot say", f"{_BACK}: back", f"{_QUIT}: quit"])


def _show(session: LabelSession, number: int, say: Say) -> None:
    item = session.items[number]
    # not the id of the sample: this is about the text alone
    say("")
    say(f"=== {session.done + 1 - session.is_given(number)} of {len(session.items)}   {session.title} ===")
    for text in _paragraphs(item):
        say(text)
    if session.is_given(number):
        say(f"labelled: {one_line(session.label_of(number) or 'cannot say', 60)}")
    say(_keys(session))


def _paragraphs(item: LabelItem) -> Iterator[str]:
    for number, exchange in enumerate(item.exchanges, 1):
        which = f" {number}" if len(item.exchanges) > 1 else ""
        for role, content in exchange.prompt:
            name = f"PROMPT{which}" if role == "user" else f"PROMPT{which}, {one_line(role, 20)}"
            yield f"--- {name}\n{shown_text(content)}"
        yield f"--- RESPONSE{which}\n{shown_text(exchange.response)}"
    if item.expected is not None:
        yield f"--- EXPECTED\n{shown_text(item.expected)}"
    if item.question is not None:
        yield f"--- WHAT THE JUDGE IS ASKED\n{shown_text(item.question)}"


def shown_text(text: str) -> str:
    """Return a text as a terminal may show it: lines are wrapped and marked, control characters become escapes."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        safe = one_line(line.replace("\t", "    "), _LONGEST_LINE)
        lines += textwrap.wrap(safe, _WIDTH, drop_whitespace=False, break_on_hyphens=False) or [""]
    # nothing that a response contains can pass for a line of ours
    return "\n".join(f"  | {line}" for line in lines)


@contextmanager
def _single_keys(keyboard: TextIO) -> Iterator[Callable[[], str]]:
    """Yield what reads a key: without Enter on a terminal, else the first character of a line."""
    if sys.platform == "win32" or not keyboard.isatty():
        yield lambda: keyboard.readline()[:1]
        return
    import termios
    import tty

    descriptor = keyboard.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield lambda: _key(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key(descriptor: int) -> str:
    """Wait for a key. Of one that sends several bytes, such as an arrow, no later byte may pass for a label."""
    import select

    key = os.read(descriptor, 1)
    if key == _ESCAPE and select.select([descriptor], [], [], 0.05)[0]:
        os.read(descriptor, _LONGEST_KEY)
    return key.decode("ascii", "replace")
