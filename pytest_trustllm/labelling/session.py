"""What is to be labelled, and what has been; both ways of labelling share it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pytest_trustllm.formats import LabelLine
from pytest_trustllm.results.label_file import LabelWriter, UnitKey


class Exchange(NamedTuple):
    """A prompt and the response to it.

    Attributes:
        prompt: The chat, as (role, content) pairs.
        response: The text.
    """

    prompt: Sequence[tuple[str, str]]
    response: str


@dataclass(frozen=True, slots=True)
class LabelItem:
    """One response, or the responses of a pair, as people see it. It does not say what the judge's verdict was.

    Attributes:
        key: Sample and epoch.
        exchanges: One; two for a pair.
        expected: What a right answer looks like; None if the task does not say.
        question: What the judge was asked; None for a classifier, which sees the response alone.
        line: What the file gets, but for the label.
    """

    key: UnitKey
    exchanges: tuple[Exchange, ...]
    expected: str | None
    question: str | None
    line: LabelLine


class LabelSession:
    """Labels as they are given. A label is on the disk before it counts as given.

    Args:
        title: What is labelled, for people.
        items: In the order in which they are shown.
        labels: That may be given.
        given: Labels of earlier sessions; None: people could not say.
        writer: Of the file.
    """

    def __init__(
        self,
        title: str,
        items: Sequence[LabelItem],
        labels: Sequence[str],
        given: Mapping[UnitKey, str | None],
        writer: LabelWriter,
    ) -> None:
        self.title = title
        self.items = items
        self.labels = labels
        self._given = dict(given)
        self._writer = writer
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """How many items have been seen to, with or without a label."""
        return sum(item.key in self._given for item in self.items)

    def is_given(self, number: int) -> bool:
        """Return whether an item has been seen to."""
        return self.items[number].key in self._given

    def label_of(self, number: int) -> str | None:
        """Return the label of an item; None if it has none."""
        return self._given.get(self.items[number].key)

    def next_open(self, after: int = -1) -> int | None:
        """Return the number of the next item that nobody has seen to, from the beginning after the last; None: none."""
        count = len(self.items)
        for step in range(1, count + 1):
            number = (after + step) % count
            if not self.is_given(number):
                return number
        return None

    def give(self, number: int, label: str | None) -> None:
        """Label an item, or label it again.

        Args:
            number: Of the item.
            label: None: people cannot say.

        Raises:
            ResultsError: The label cannot be written; it does not count then.
            ValueError: There is no such item or label.
        """
        if not 0 <= number < len(self.items):
            raise ValueError(f"no response has the number {number}")
        if label is not None and label not in self.labels:
            raise ValueError("no such label")
        item = self.items[number]
        line: LabelLine = {**item.line, "label": label}
        with self._lock:
            self._writer.append(line)
            self._given[item.key] = label
