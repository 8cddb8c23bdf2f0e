"""What a scorer is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import ClassVar, Protocol

from pytest_trustllm.records import Question, Response, Role, Sample, Score

Asking = Generator[Sequence[Question], Sequence[Response], Score]
"""A scorer that needs a judge, a classifier or an embedder: it yields questions, is sent as many responses in the same
order, may yield again, and returns the score. A response with ``error`` set was not given: score it as unscored."""


class Scorer(Protocol):
    """Reads the responses to one sample.

    A scorer is a frozen dataclass; its fields are the parameters that a suite may give (``scorer: {name: ..., ...}``).
    It asks, it does not call: questions to a role are yielded, so that they are batched and stored like any other.
    """

    roles: ClassVar[tuple[Role, ...]]
    """Roles it may ask; without a model for one of them the sample is unscored, unless the scorer gets by."""

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score | Asking:
        """Return the score, or a generator that asks and returns it.

        Args:
            sample: The sample with its data rows.
            replies: One response per prompt of the sample. ``text`` is None for a missing response; a response with
                ``error`` never gets here.
        """
        ...
