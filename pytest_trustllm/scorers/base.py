"""What a scorer is, and what all scorers need."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pytest_trustllm.config.templates import rendered
from pytest_trustllm.errors import ScorerError, TrustLLMError, one_line
from pytest_trustllm.types import NOTHING, RAISES, Question, Response, Role, Sample, Score, SubScores

ScoreAfterQuestions = Generator[Sequence[Question], Sequence[Response], Score]
"""Scoring that needs a judge, a classifier or an embedder: it yields questions, is sent one response per question in
the same order, may yield again, and returns the score. A response with ``error`` set holds no answer: leave the sample
unscored."""

Parity = Mapping[str, Any] | None | str
"""What the authors' toolkit makes of one sample, as in :class:`~pytest_trustllm.types.Score`."""

_T = TypeVar("_T")


class Scorer(Protocol):
    """Reads the responses to one sample.

    A scorer is a frozen dataclass; its fields are the parameters that a suite may set (``scorer: {name: ..., ...}``).
    It never calls a model: it yields questions to a role, so that they are batched and stored like any other request.

    These members are optional:

    - ``expected(sample)`` returns what a right answer looks like; see :func:`expected_of`.
    - ``check_sample(sample)`` is called before the model gets the sample. It raises a
      :class:`~pytest_trustllm.errors.ScorerError` if the row cannot be scored; the item fails with that line.
    - ``sub_scores`` names the parts of its score that become sub-metrics; see
      :class:`~pytest_trustllm.types.SubScores`.
    - ``asks = False``: it reads the row alone. The model is not asked, and ``replies`` is empty.
    - ``main`` names the parameter that a suite may give with the name: ``{regex: "^yes"}``.
    """

    roles: ClassVar[tuple[Role, ...]]
    """Roles that it may put questions to. Without a model for one of them the sample is unscored, unless the scorer can
    do without."""

    def score(self, sample: Sample, replies: Sequence[Response]) -> Score | ScoreAfterQuestions:
        """Return the score, or a generator that yields questions and returns it.

        Args:
            sample: The sample with its data rows.
            replies: One response per prompt of the sample. ``text`` is None for a missing response. Responses with
                ``error`` or ``unanswered`` are never passed to a scorer.
        """
        ...


@runtime_checkable
class ScoresBlocked(Protocol):
    """A scorer that can score a prompt which the provider's filter blocked: the user got no answer."""

    def blocked(self) -> Score:
        """Return the score of a sample that was blocked."""
        ...


def expected_of(scorer: object, sample: Sample) -> str | None:
    """Return what a right answer to a sample looks like, for people; None if the scorer does not tell.

    The scorer's method ``expected(sample)`` returns it. Without that method it is the row's field that the scorer's
    parameter ``target`` names.
    """
    expected: object = None
    describe = getattr(scorer, "expected", None)
    target = getattr(scorer, "target", None)
    if callable(describe):
        expected = describe(sample)
    elif isinstance(target, str):
        expected = sample.row.get(target)
    if expected is None:
        return None
    return str(expected)


def sub_scores_of(scorer: object) -> SubScores | None:
    """Return the parts of a scorer's score that become sub-metrics; None if it has none."""
    sub_scores = getattr(scorer, "sub_scores", None)
    return sub_scores if isinstance(sub_scores, SubScores) else None


# --- fields of the row ------------------------------------------------------------------------------------------------


def required_field(sample: Sample, name: str) -> Any:
    """Return a field of the sample's row that scoring needs.

    Raises:
        ScorerError: The row does not have the field, or has NaN there.
    """
    if name not in sample.row:
        fields = ", ".join(sorted(sample.row))
        raise ScorerError(
            f"{sample.task}[{sample.id}]: the row has no field {name!r}, which its scorer needs; it has {fields}"
        )
    value = sample.row[name]
    # Only NaN differs from itself; it would compare as false with everything, and so score every answer as wrong
    if value != value:
        raise ScorerError(f"{sample.task}[{sample.id}]: the row has no value in {name!r} (NaN), which its scorer needs")
    return value


def label_of(sample: Sample, name: str) -> str:
    """Return a field of the row that holds a label: a text or a whole number, without blanks around it.

    Raises:
        ScorerError: The label is missing, empty, a truth value or a list. Nearly every response, or none, would match.
    """
    value = required_field(sample, name)
    where = f"{sample.task}[{sample.id}]: the row's {name!r}"
    if isinstance(value, bool):
        truth = str(value).lower()
        raise ScorerError(
            f"{where} is {truth}, not a label (YAML reads an unquoted yes or no as true or false); quote it"
        )
    # JSON from pandas writes 1 as 1.0 where the column has gaps
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        kind = "null" if value is None else f"a {type(value).__name__}"
        raise ScorerError(f"{where} is {kind}, expected a label (a text or a number); without one nothing can be right")
    label = str(value).strip()
    if not label:
        raise ScorerError(f"{where} is empty, expected a label; without one nothing can be right")
    return label


def texts_of(sample: Sample, name: str) -> list[str]:
    """Return a field of the row that holds a text, or a list of texts of which any will do.

    Raises:
        ScorerError: It is missing, or one of the texts is empty or no text.
    """
    value = required_field(sample, name)
    if not isinstance(value, list):
        return [label_of(sample, name)]
    texts = [entry for entry in value if isinstance(entry, str) and entry.strip()]
    if not texts or len(texts) < len(value):
        where = f"{sample.task}[{sample.id}]: the row's {name!r}"
        raise ScorerError(f"{where} has an entry that is not a text; expected a text, or a list of texts")
    return texts


def filled(sample: Sample, template: str) -> str:
    """Return a parameter that is a template over the row's fields, such as "{{ days }} days".

    Raises:
        ScorerError: The row lacks a field, or nothing is left to look for.
    """
    text = filled_or_blank(sample, template)
    if not text.strip():
        shown = one_line(repr(template), 80)
        raise ScorerError(f"{sample.task}[{sample.id}]: the scorer's text {shown} is empty for this row")
    return text


def filled_or_blank(sample: Sample, template: str) -> str:
    """Return a parameter that is a template over the row's fields, and may be empty for a row.

    Raises:
        ScorerError: The row lacks a field.
    """
    try:
        return rendered(template, sample.row)
    except TrustLLMError as e:
        raise ScorerError(f"{sample.task}[{sample.id}]: {e}") from None


def number_of(sample: Sample, name: str) -> float:
    """Return a field of the row that holds a number, as a number or as text.

    Raises:
        ScorerError: The field does not hold a finite number.
    """
    value = required_field(sample, name)
    number = _as_number(value)
    if not math.isfinite(number):
        where = f"{sample.task}[{sample.id}]: the row's {name!r}"
        raise ScorerError(f"{where} is {one_line(repr(value), 60)}, expected a number")
    return number


def _as_number(value: Any) -> float:
    """Return a value as a number; NaN if it is not one."""
    # float(True) would be 1.0
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


# --- scores -----------------------------------------------------------------------------------------------------------


def why_missing(text: str | None) -> str | None:
    """Return why there is nothing to read in a response; None if there is something.

    This is the one rule for what leaves a sample without a response: null, or nothing but white space.
    """
    if text is None:
        return "no response"
    if not text.strip():
        return "empty response"
    return None


def met_or_not(met: bool, answer: str | None, observed: Mapping[str, Any] = NOTHING) -> Score:
    """Return the score of a response that meets what a team asks of it (1), or does not (0).

    For items of one's own, which the authors' toolkit does not know: both readings are the same.
    """
    return Score(float(met), met, answer, observed=observed)


def right_or_wrong(
    right: bool,
    answer: str | None,
    why: str | None,
    parity: Parity,
    observed: Mapping[str, Any] = NOTHING,
) -> Score:
    """Return the score of an answer that is right (1) or wrong (0).

    Args:
        right: The answer is what the task hopes for.
        answer: What was read from the response.
        why: Why nothing was read, so that a missing response that counts as wrong can be told from a wrong one.
        parity: What the authors' toolkit makes of it.
        observed: What metrics need in addition.
    """
    return Score(float(right), right, answer, why, observed, parity)


def parity_reading(value: float, **observed: Any) -> dict[str, Any]:
    """Return a value that the authors' toolkit reads, with what its metric needs in addition."""
    return {"value": float(value), **observed}


def raises_if_missing(text: str | None, otherwise: _T) -> _T | str:
    """Return the parity of a rule of the toolkit that raises on a missing (null) response."""
    if text is None:
        return RAISES
    return otherwise
