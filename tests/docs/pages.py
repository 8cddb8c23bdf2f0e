"""The pages of the documentation as their reader sees them: blocks of code, headings, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (\w+): (\S[^>]*?) -->\n\Z")
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:    .*\n|\n(?=    ))+")
_CODE = re.compile(r"`+[^`]*`+")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: The file, relative to the repository.
        language: Of the fence; ``indented`` for a block without one.
        text: What is in it.
        kind: What the comment before it says that it is, such as ``file``; empty without one.
        name: The rest of that comment.
    """

    page: str
    language: str
    text: str
    kind: str = ""
    name: str = ""

    @property
    def id(self) -> str:
        """Page and first line, for messages."""
        return f"{self.page}: {self.text.strip().splitlines()[0][:70]}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield all blocks of a page, fenced ones first."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    for found in _FENCE.finditer(text):
        mark = _MARK.search(text[: found.start()])
        kind, about = mark.groups() if mark else ("", "")
        yield Block(name, found[1], found[2], kind, about)
    for found in _INDENTED.finditer(without_fences(text)):
        yield Block(name, "indented", re.sub(r"^    ", "", found[0], flags=re.MULTILINE))


def without_fences(text: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def links_of(page: Path) -> list[str]:
    """Return the targets of all links and pictures; what stands in code is none."""
    text = _CODE.sub("", without_fences(page.read_text(encoding="utf-8")))
    return re.findall(r"\]\(\s*([^)\s]+)\s*\)", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = without_fences(page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")
        found.add(slug)
    return found


def inline_code(page: Path) -> list[str]:
    """Return what stands between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", without_fences(page.read_text(encoding="utf-8")))


def pattern(message: str) -> re.Pattern[str]:
    """Return what finds a message however lines are broken; an ellipsis stands for anything."""
    words = [re.escape(word).replace("…", ".*?") for word in message.split()]
    return re.compile(r"\s+".join(words), re.DOTALL)
