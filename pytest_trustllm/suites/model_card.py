"""A model's documentation: a card in Markdown with a YAML head, as the Hugging Face Hub has it, or a YAML form."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.documents import mapping_in
from pytest_trustllm.config.reading import read_text
from pytest_trustllm.errors import SuiteError, one_line

_FORMS = (".yaml", ".yml")
_FENCE = re.compile(r"```+|~~~+")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_HEAD = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(\S[^\n]*)$|^(\S[^\n]*)\n(=+|-+)[ \t]*$", re.MULTILINE)
_PAGE = re.compile(r"\A\s*(?:<!doctype html|<html\b)", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n\s*[-*|]")
_LARGEST = 2**20
_SHOWN_HEADING = 60
_LONGEST_HEADING = 300
_LONGEST_SENTENCE = 1000
"""Characters in which patterns are looked for at once: some of them take time with the square of it."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a card below a heading.

    Attributes:
        heading: Text of the heading.
        text: What stands below it, with all of its subsections.
    """

    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What a card says about something in one place.

    Attributes:
        place: Where it stands, for people.
        text: What stands there.
    """

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The documentation of a model.

    Attributes:
        path: Its file.
        sha256: Of its text in UTF-8.
        head: The YAML of its head; of a form, all of it.
        text: Its Markdown, without blocks of code and comments.
        code: Those blocks.
        sections: In their order.
    """

    path: Path
    sha256: str
    head: Mapping[str, Any]
    text: str
    code: str
    sections: Sequence[Section]

    def find(self, keys: Sequence[str], headings: Sequence[str], words: Sequence[str]) -> list[Passage]:
        """Return what the card says about something.

        Args:
            keys: Keys of the head.
            headings: Patterns of headings whose sections are about it.
            words: Patterns of sentences that are about it, wherever they stand.
        """
        found = []
        for key in keys:
            if self.head.get(key) not in (None, "", [], {}):
                found.append(Passage(f"key {key!r} of the head", _flat(self.head[key]).strip()))
        for section in self.sections:
            if any(re.search(pattern, section.heading, re.IGNORECASE) for pattern in headings):
                place = f"section {one_line(section.heading, _SHOWN_HEADING)!r}"
                found.append(Passage(place, _HEADING.sub("", section.text).strip()))
        if words:
            found += [Passage("a sentence", text.strip()) for text in _sentences(self.text) if _matches(text, words)]
        return [passage for passage in found if passage.text]


def read_card(path: Path, flag: str = "--trust-card") -> ModelCard:
    """Read a card or a form.

    Raises:
        SuiteError: It cannot be read, is no text, is an HTML page, or its YAML is broken.
    """
    whole = read_text(path, f"{flag}: {path}", SuiteError, _LARGEST)
    text = whole.replace("\r\n", "\n")
    if _PAGE.match(text):
        raise SuiteError(f"{flag}: {path} is an HTML page; give the card's own Markdown (README.md of the model)")
    if path.suffix.lower() in _FORMS:
        head, body = _mapping(path, text, flag), ""
    else:
        match = _HEAD.match(text)
        head = (
            {} if match is None else _mapping(path, f"\n{match[1]}", flag)
        )  # with its first line, for the numbers of lines
        body = text if match is None else text[match.end() :]
    body, blocks = _apart(body)
    plain = _COMMENT.sub("", body)
    return ModelCard(path, hashlib.sha256(whole.encode()).hexdigest(), head, plain, blocks, _sections(plain))


def _mapping(path: Path, text: str, flag: str) -> Mapping[str, Any]:
    if not text.strip():
        return {}
    mapping: Mapping[str, Any] = mapping_in(text, f"{flag}: {path}", SuiteError, aliases=False).value
    return mapping


def _apart(body: str) -> tuple[str, str]:
    """Return Markdown without its fenced blocks of code, and those blocks; a block without an end is none."""
    text: list[str] = []
    blocks: list[str] = []
    block: list[str] = []
    fence = ""
    for line in body.splitlines(keepends=True):
        if fence:
            block.append(line)
            if line.startswith(fence):
                blocks += block
                block, fence = [], ""
            continue
        match = _FENCE.match(line)
        if match is None:
            text.append(line)
        else:
            block, fence = [line], match[0]
    return "".join([*text, *block]), "".join(blocks)


def _sections(text: str) -> list[Section]:
    """Return the sections in their order; one ends at the next heading of its level or above."""
    sections: list[Section] = []
    ends: dict[int, int] = {}
    # from the last heading on, so that a card of very many headings takes no longer than one of few
    for match in reversed(list(_HEADING.finditer(text))):
        level = len(match[1]) if match[1] else 1 + (match[4][0] == "-")
        end = min((start for above, start in ends.items() if above <= level), default=len(text))
        heading = (match[2] or match[3])[:_LONGEST_HEADING].rstrip(" \t#")
        sections.append(Section(heading, text[match.end() : end]))
        ends[level] = match.start()
    sections.reverse()
    return sections


def _flat(value: Any) -> str:
    """Return a value of the head as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_flat(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return str(value)


def _sentences(text: str) -> Iterator[str]:
    for sentence in _SENTENCE.split(_HEADING.sub("\n\n", text)):
        for begin in range(0, len(sentence), _LONGEST_SENTENCE):
            yield sentence[begin : begin + _LONGEST_SENTENCE]


def _matches(sentence: str, words: Sequence[str]) -> bool:
    return any(re.search(pattern, sentence, re.IGNORECASE) for pattern in words)
