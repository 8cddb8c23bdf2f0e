"""Plain words for metrics and dimensions, the harm they stand for, and references to lists that auditors use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("words.yaml")
LISTS = ("owasp", "nist", "eu_ai_act")


@dataclass(frozen=True, slots=True)
class Words:
    """What a metric or a dimension says.

    Attributes:
        plain: For somebody who is not a specialist.
        harm: What a bad value stands for.
    """

    plain: str
    harm: str


@dataclass(frozen=True, slots=True)
class Reference:
    """An entry of a list.

    Attributes:
        source: Title of the list.
        url: Of the list.
        entry: Such as ``LLM01``.
        title: Of the entry.
        tag: The entry with a short name of the list, such as ``OWASP LLM01``.
    """

    source: str
    url: str
    entry: str
    title: str
    tag: str


@cache
def _document() -> Mapping[str, Any]:
    import yaml

    document: Mapping[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return document


def words_of(metric: str) -> Words | None:
    """Return the words for a metric or one of its sub-metrics; None for a metric of somebody's own suite."""
    entry = _document()["metrics"].get(metric.partition("{")[0])
    return None if entry is None else Words(entry["plain"], entry["harm"])


def words_of_dimension(name: str) -> Words | None:
    """Return the words for a dimension; None for somebody's own."""
    entry = _document()["dimensions"].get(name)
    return None if entry is None else Words(entry["plain"], entry["harm"])


def references_of(dimension: str) -> Sequence[Reference]:
    """Return where a dimension's evidence belongs; none for somebody's own dimension."""
    document = _document()
    entry = document["dimensions"].get(dimension, {})
    references = []
    for name in LISTS:
        source = document["sources"][name]
        for id_ in entry.get(name, ()):
            tag = f"{source['short']} {id_}"
            references.append(Reference(source["title"], source["url"], id_, source["entries"][id_], tag))
    return references


def tags_of(tasks: Iterable[str], own: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return tag -> tasks: the places of their dimension in the lists, and the tags that suites give.

    Args:
        tasks: Ids, ``dimension/task``.
        own: Task -> tags of its suite.
    """
    by_tag: dict[str, list[str]] = {}
    for task in tasks:
        listed = [reference.tag for reference in references_of(task.partition("/")[0])]
        for tag in dict.fromkeys((*listed, *own.get(task, ()))):
            by_tag.setdefault(tag, []).append(task)
    return by_tag
