"""What a scorer is, and what all of them need."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from pytest_trustllm.errors import ScorerError
from pytest_trustllm.records import NOTHING, RAISES, Question, Response, Role, Sample, Score

Asking = Generator[Sequence[Question], Sequence[Response], Score]
"""A scorer that needs a judge, a classifier or an embedder: it yields questions, is sent as many responses in the same
order, may yield again, and returns the score. A response with ``error`` set was not given: score it as unscored."""

_T = TypeVar("_T")
Reading = Mapping[str, Any] | None | str
"""The authors' toolkit's reading of one sample, as in :class:`~pytest_trustllm.records.Score`."""


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


def field(sample: Sample, name: str) -> Any:
    """Return a field of the sample's row that scoring needs.

    Raises:
        ScorerError: The row does not have it, or has NaN there, which compares as false with everything.
    """
    if name not in sample.row:
        known = ", ".join(sorted(sample.row))
        raise ScorerError(
            f"{sample.task}[{sample.id}]: the row has no field {name!r}, which its scorer needs; it has {known}"
        )
    value = sample.row[name]
    if value != value:
        raise ScorerError(f"{sample.task}[{sample.id}]: the row has no value in {name!r} (NaN), which its scorer needs")
    return value


def missing(text: str | None) -> str | None:
    """Return why there is nothing to read in a response, or None if there is something."""
    if text is None:
        return "no response"
    return None if text.strip() else "empty response"


def graded(
    right: bool,
    answer: str | None,
    *,
    text: str | None = "-",
    upstream: bool | Reading = "same",
    observed: Mapping[str, Any] = NOTHING,
) -> Score:
    """Return the score of a right or wrong answer.

    Args:
        right: The answer is what the task hopes for.
        answer: What was read out of the response.
        text: The response, so that a missing one that counts as wrong is visible.
        upstream: What the authors' toolkit makes of it: right or wrong, or a reading.
        observed: What metrics need besides.
    """
    parity = reading(upstream, **observed) if isinstance(upstream, bool) else upstream
    same = isinstance(upstream, bool) and upstream is right
    return Score(float(right), right, answer, missing(text), observed, "same" if same else parity)


def reading(value: float, **observed: Any) -> dict[str, Any]:
    """Return a reading of the authors' toolkit."""
    return {"value": float(value), **observed}


def raises_without(text: str | None, otherwise: _T) -> _T | str:
    """Return the reading of a rule of the toolkit that raises on a missing (null) response."""
    return RAISES if text is None else otherwise
